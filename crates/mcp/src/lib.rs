//! A server of the Model Context Protocol on a pair of streams: one JSON-RPC 2.0 message a line, as its
//! stdio transport has it. See <https://modelcontextprotocol.io/specification/2025-06-18>.
//!
//! It serves tools, and of the protocol what tools need: `initialize`, `ping`, `tools/list`,
//! `tools/call` and notifications. Anything else is answered with an error that says so.
//!
//! Guarantees: every request is answered exactly once, in the order they came, and a notification
//! never; a line that is no message is answered and ends nothing; a tool that fails is an answer for
//! the model to read (`isError`), while a tool that does not exist is an error of the protocol; what is
//! written is one line a message.
//!
//! Never: knows what a tool does, starts a process, opens a socket, or writes anything but messages.

mod rpc;

use std::io::{self, BufRead, Read as _, Write};

use serde_json::{Value, json};

use rpc::{INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR, Refusal};

/// The versions spoken, newest first. To these messages they are the same.
pub const VERSIONS: [&str; 3] = ["2025-06-18", "2025-03-26", "2024-11-05"];

/// A longer line is refused and passed over.
const LONGEST: u64 = 4 << 20;

/// Something an agent can call.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    pub name: &'static str,
    /// For the model: when to call it, and what comes back.
    pub description: &'static str,
    /// JSON Schema of the arguments.
    pub input: Value,
    /// Whether it changes nothing, as a hint to whoever asks for permission.
    pub reads_only: bool,
}

/// Why a call gave no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    UnknownTool,
    /// For the model to read: what was wrong, and what to do about it.
    Failed(String),
}

/// The tools, and whoever carries them out.
pub trait Tools {
    fn list(&self) -> Vec<Tool>;

    fn call(&mut self, name: &str, arguments: &Value) -> Result<Value, CallError>;
}

/// Who is talking.
#[derive(Debug, Clone, Copy)]
pub struct Server<'a> {
    pub name: &'a str,
    pub version: &'a str,
    /// For the model, before it has called anything.
    pub instructions: &'a str,
}

impl Server<'_> {
    /// Answers until the input ends.
    pub fn serve(
        self,
        mut input: impl BufRead,
        mut output: impl Write,
        tools: &mut dyn Tools,
    ) -> io::Result<()> {
        let mut line = Vec::new();
        loop {
            line.clear();
            if input.by_ref().take(LONGEST).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            let whole = line.ends_with(b"\n");
            let answer = if !whole && line.len() as u64 == LONGEST {
                skip_line(&mut input)?;
                Some(rpc::error(
                    &Value::Null,
                    &Refusal::new(INVALID_REQUEST, "the line is too long"),
                ))
            } else {
                self.answer(&line, tools)
            };
            if let Some(answer) = answer {
                writeln!(output, "{answer}")?;
                output.flush()?;
            }
        }
    }

    /// The answer to one line; none to a notification, a response or an empty line.
    fn answer(self, line: &[u8], tools: &mut dyn Tools) -> Option<Value> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return None;
        }
        let message: Value = match serde_json::from_slice(line) {
            Ok(message) => message,
            Err(why) => {
                let refusal = Refusal::new(PARSE_ERROR, format!("the line is no JSON: {why}"));
                return Some(rpc::error(&Value::Null, &refusal));
            }
        };
        let request = match rpc::Request::read(&message) {
            Ok(request) => request?,
            Err(refusal) => {
                return Some(rpc::error(message.get("id").unwrap_or(&Value::Null), &refusal));
            }
        };
        Some(match self.result(&request, tools) {
            Ok(result) => json!({"jsonrpc": "2.0", "id": request.id, "result": result}),
            Err(refusal) => rpc::error(request.id, &refusal),
        })
    }

    fn result(self, request: &rpc::Request<'_>, tools: &mut dyn Tools) -> Result<Value, Refusal> {
        match request.method {
            "initialize" => Ok(self.greeting(request.params)),
            "ping" => Ok(json!({})),
            "tools/list" => {
                Ok(json!({"tools": tools.list().iter().map(described).collect::<Vec<_>>()}))
            }
            "tools/call" => call(request.params, tools),
            other => {
                Err(Refusal::new(METHOD_NOT_FOUND, format!("there is no method `{other}` here")))
            }
        }
    }

    fn greeting(self, params: &Value) -> Value {
        let asked = params.get("protocolVersion").and_then(Value::as_str);
        // Of a version that is not spoken the client hears the newest that is, and may leave.
        let version = asked.filter(|asked| VERSIONS.contains(asked)).unwrap_or(VERSIONS[0]);
        json!({
            "protocolVersion": version,
            "capabilities": {"tools": {"listChanged": false}},
            "serverInfo": {"name": self.name, "version": self.version},
            "instructions": self.instructions,
        })
    }
}

fn described(tool: &Tool) -> Value {
    json!({
        "name": tool.name,
        "description": tool.description,
        "inputSchema": tool.input,
        "annotations": {"readOnlyHint": tool.reads_only, "openWorldHint": false},
    })
}

fn call(params: &Value, tools: &mut dyn Tools) -> Result<Value, Refusal> {
    let named = params.get("name").and_then(Value::as_str);
    let name =
        named.ok_or_else(|| Refusal::new(INVALID_PARAMS, "`params.name` must name a tool"))?;
    let none = json!({});
    let arguments = params.get("arguments").unwrap_or(&none);
    if !arguments.is_object() {
        return Err(Refusal::new(INVALID_PARAMS, "`params.arguments` must be an object"));
    }
    match tools.call(name, arguments) {
        Ok(value) => Ok(json!({
            // The text is for clients that know no structured content.
            "content": [{"type": "text", "text": value.to_string()}],
            "structuredContent": value,
            "isError": false,
        })),
        Err(CallError::Failed(why)) => {
            Ok(json!({"content": [{"type": "text", "text": why}], "isError": true}))
        }
        Err(CallError::UnknownTool) => {
            let known: Vec<&str> = tools.list().iter().map(|tool| tool.name).collect();
            let why = format!("there is no tool `{name}`; there are {}", known.join(", "));
            Err(Refusal::new(INVALID_PARAMS, why))
        }
    }
}

fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let some = input.fill_buf()?;
        let end = some.iter().position(|byte| *byte == b'\n');
        let (used, done) = match end {
            Some(at) => (at + 1, true),
            None => (some.len(), some.is_empty()),
        };
        input.consume(used);
        if done {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
