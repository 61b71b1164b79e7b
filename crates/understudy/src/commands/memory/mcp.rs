//! The memory as tools of an agent, on standard input and output.

use std::io::{self, BufReader};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use understudy_ident::{Clock as _, SystemClock};
use understudy_mcp::{CallError, Server, Tool, Tools};
use understudy_memory::{HealRequest, HealSource, MemoryId, Query, Room, estimated_tokens};

use super::{Opened, apply::Serving};
use crate::{cli::MemoryMcpArgs, commands::Exit, config::Config};

const INSTRUCTIONS: &str = "Lessons of this deployment's agents. Call `plan` before you begin a task; \
    call `heal` when a tool has failed, follow the first candidate, and say with `heal_outcome` \
    whether it worked. Lessons are advice, not orders.";

pub(super) fn run(args: &MemoryMcpArgs, config: &Config) -> Result<Exit> {
    let mut desk = Desk { opened: Opened::open(&args.scope, config)? };
    let version = env!("CARGO_PKG_VERSION");
    let server = Server { name: "understudy-memory", version, instructions: INSTRUCTIONS };
    // Messages are all that may be written here; the log goes to standard error.
    let (input, output) = (BufReader::new(io::stdin().lock()), io::stdout().lock());
    server.serve(input, output, &mut desk).context("the agent's streams broke")?;
    Ok(Exit::Ok)
}

/// Reads what serves anew for every call: releases come and go while an agent works.
struct Desk {
    opened: Opened,
}

impl Tools for Desk {
    fn list(&self) -> Vec<Tool> {
        vec![
            Tool {
                name: "heal",
                description: "A tool has failed: what got other agents past a failure like it. \
                    Returns candidates, best first, and whether a person should look instead.",
                input: heal_schema(),
                reads_only: true,
            },
            Tool {
                name: "heal_outcome",
                description: "Whether what a candidate of `heal` said has worked.",
                input: json!({
                    "type": "object",
                    "properties": {
                        "id": {"type": "string", "description": "the candidate's id, mem_…"},
                        "worked": {"type": "boolean"},
                    },
                    "required": ["id", "worked"],
                    "additionalProperties": false,
                }),
                reads_only: false,
            },
            Tool {
                name: "plan",
                description: "The lessons for a task that is about to begin, with the tools to \
                    prefer and to avoid.",
                input: json!({
                    "type": "object",
                    "properties": {
                        "goal": {"type": "string", "description": "what is to be done"},
                        "agent": {"type": "string", "description": "the task's name at the gateway"},
                        "tools": {"type": "array", "items": {"type": "string"},
                            "description": "the names of the tools you can call"},
                        "session": {"type": "string",
                            "description": "the same for all calls of one conversation"},
                    },
                    "required": ["goal", "tools", "session"],
                    "additionalProperties": false,
                }),
                reads_only: true,
            },
        ]
    }

    fn call(&mut self, name: &str, arguments: &Value) -> Result<Value, CallError> {
        let answer = match name {
            "heal" => self.heal(arguments),
            "heal_outcome" => self.heal_outcome(arguments),
            "plan" => self.plan(arguments),
            _ => return Err(CallError::UnknownTool),
        };
        answer.map_err(|why| CallError::Failed(format!("{why:#}")))
    }
}

impl Desk {
    fn heal(&self, arguments: &Value) -> Result<Value> {
        let request: HealRequest =
            serde_json::from_value(arguments.clone()).context("the failure is not understood")?;
        let serving = Serving::load(&self.opened)?;
        let now = SystemClock.now();
        let reply = serving.library(&self.opened).heal(&request, now)?;
        self.opened.store.offered(&reply.ids(HealSource::Item), now)?;
        Ok(json!(reply))
    }

    fn heal_outcome(&self, arguments: &Value) -> Result<Value> {
        let id = arguments.get("id").and_then(Value::as_str).context("`id` is missing")?;
        let worked = arguments.get("worked").and_then(Value::as_bool);
        let worked = worked.context("`worked` must be true or false")?;
        let id: MemoryId = id.parse()?;
        self.opened.store.healed(&id, worked, SystemClock.now())?;
        Ok(json!({"noted": id}))
    }

    fn plan(&self, arguments: &Value) -> Result<Value> {
        let text = |name: &str| arguments.get(name).and_then(Value::as_str);
        let tools =
            arguments.get("tools").and_then(Value::as_array).context("`tools` is missing")?;
        let query = Query {
            goal: text("goal").context("`goal` is missing")?,
            agent: text("agent"),
            tools: tools.iter().filter_map(Value::as_str).collect(),
            session: text("session").context("`session` is missing")?,
            ..Query::default()
        };
        let serving = Serving::load(&self.opened)?;
        let room = Room { tokens: serving.tokens(&self.opened), count: &estimated_tokens };
        let retrieved = serving.library(&self.opened).retrieve(&query, room, SystemClock.now())?;
        Ok(json!(retrieved))
    }
}

fn heal_schema() -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    json!({
        "type": "object",
        "properties": {
            "goal": text("what you were doing"),
            "agent": text("the task's name at the gateway"),
            "target": {
                "type": "object",
                "properties": {
                    "kind": {"type": "string", "enum": ["site", "tool_server", "app"]},
                    "key": text("a URL, or the server's or the application's name"),
                },
                "required": ["kind", "key"],
                "additionalProperties": false,
            },
            "action": {
                "type": "object",
                "properties": {
                    "tool": text("the tool that failed"),
                    "arg_keys": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["tool"],
                "additionalProperties": false,
            },
            "error": {
                "type": "object",
                "properties": {
                    "class": text("such as timeout, not_found or denied, where it is known"),
                    "code": {"type": "integer", "minimum": 0, "maximum": 65_535},
                    "message": text("as the tool said it"),
                },
                "additionalProperties": false,
            },
            "tried": {
                "type": "array",
                "description": "what you did about this failure already",
                "items": {
                    "type": "object",
                    "properties": {
                        "tactic": {"type": "string", "enum": ["fallback_path", "retry_variation",
                            "alternative_tool", "escalate"]},
                        "tool": {"type": "string"},
                    },
                    "required": ["tactic", "tool"],
                    "additionalProperties": false,
                },
            },
            "limit": {"type": "integer", "minimum": 1},
        },
        "required": ["target", "action", "error"],
        "additionalProperties": false,
    })
}
