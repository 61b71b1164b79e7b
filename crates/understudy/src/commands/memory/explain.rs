//! Why a request is shown what it is shown, or was.

use anyhow::{Result, bail};
use serde_json::{Value, json};
use understudy_ident::Digest;
use understudy_memory::{
    Considered, Decision, ErrorSignature, MemoryId, Query, Retrieved, Room, estimated_tokens,
    has_block,
};
use understudy_message::{Message, Role};
use understudy_trajectory::{Arm, Recalled, Step};

use super::{Opened, apply::Serving, show};
use crate::{
    cli::MemoryExplainArgs, commands::Exit, config::Config, meaning, output::Out, wiring::Stores,
};

pub(super) fn explain(args: &MemoryExplainArgs, config: &Config, out: Out) -> Result<Exit> {
    let opened = Opened::open(&args.scope, config)?;
    if let Some(goal) = args.goal.as_deref() {
        return words(&opened, goal, args, out);
    }
    let asked = args.lesson.as_deref().unwrap_or_default();
    if let Some(judged) = Stores::open(&config.data)?.journal.step_by_response(asked)? {
        return reply(&opened, &judged.step, out);
    }
    if asked.starts_with("chatcmpl-") {
        bail!("the journal holds no reply {asked}; see `understudy dataset records`");
    }
    let id = opened.lesson(asked)?;
    show::one(&opened, &id, out)?;
    Ok(Exit::Ok)
}

/// What a request of these words would be shown now.
fn words(opened: &Opened, goal: &str, args: &MemoryExplainArgs, out: Out) -> Result<Exit> {
    let serving = Serving::load(opened)?;
    let tools = if args.tools.is_empty() {
        opened.deployment.catalogue.tools.iter().map(|tool| tool.name.as_str()).collect()
    } else {
        args.tools.iter().map(String::as_str).collect()
    };
    let query = Query {
        goal,
        agent: args.agent.as_deref(),
        tools,
        session: &args.session,
        ..Query::default()
    };
    let found = Found::by(opened, &serving, &query)?;
    found.say(&[], &[], out);
    out.value(&found.value())?;
    Ok(Exit::Ok)
}

/// What a recorded request was shown, and how every lesson of the release it met is judged for it as
/// the lessons stand today: what they stood at then is not kept.
fn reply(opened: &Opened, step: &Step, out: Out) -> Result<Exit> {
    let assignment = step.assignment.as_ref();
    let met = assignment.and_then(|assignment| assignment.course.memory.as_ref());
    let Some(met) = met else {
        let text = format!("{} met no memory: none served it, or none could", step.response_id);
        out.either(text, &json!({"response": step.response_id, "met": null}))?;
        return Ok(Exit::No);
    };
    let unit = assignment.map_or("", |assignment| assignment.unit.as_str());
    out.say(story(step, met));
    let serving = Serving::of(opened, release(opened, met)?, met.arm == Arm::Canary)?;
    let goal = step.prompt.iter().rev().find(|message| message.role == Role::User);
    let goal = goal.map(Message::text).unwrap_or_default();
    let query = Query {
        goal: &goal,
        agent: Some(step.task.as_str()),
        tools: step.tools.iter().filter_map(|tool| tool["function"]["name"].as_str()).collect(),
        error: ErrorSignature::of_last(&step.prompt, opened.store.key()),
        session: unit,
        ..Query::default()
    };
    let found = Found::by(opened, &serving, &query)?;
    let [_, withheld] = opened.store.noted(&step.response_id)?;
    let shown = met.shown.iter().filter_map(|shown| shown.split('@').next()?.parse().ok());
    found.say(&shown.collect::<Vec<_>>(), &withheld, out);
    let mut value = found.value();
    value["withheld"] = json!(withheld);
    value["response"] = json!(step.response_id);
    value["met"] = json!(met);
    value["tools"] = json!(query.tools);
    out.value(&value)?;
    Ok(Exit::Ok)
}

fn story(step: &Step, met: &Recalled) -> String {
    let release = met.release.as_deref().map_or("no release", |name| &name[..name.len().min(12)]);
    let shown = if met.shown.is_empty() { "nothing".to_owned() } else { met.shown.join(", ") };
    let trial = if met.arm == Arm::Canary { ", on trial" } else { "" };
    let block = if has_block(&step.prompt) { "" } else { "; its prompt holds no block" };
    format!("{} met {release}{trial} and was shown {shown}{block}", step.response_id)
}

fn release(opened: &Opened, met: &Recalled) -> Result<Option<Digest>> {
    let Some(name) = met.release.as_deref() else { return Ok(None) };
    let digest: Digest = name.parse()?;
    if !opened.releases.list()?.contains(&digest) {
        bail!(
            "the release that the request met is gone: one of its lessons was forgotten, and with it \
             why it was shown"
        );
    }
    Ok(Some(digest))
}

/// One search, and what it thought of every lesson.
struct Found<'a> {
    embedder: &'a str,
    retrieved: Retrieved,
    considered: Vec<Considered>,
    budget: usize,
}

impl<'a> Found<'a> {
    fn by(opened: &'a Opened, serving: &'a Serving, query: &Query<'_>) -> Result<Self> {
        // Nothing is known of the model that reads them, nor of how it counts.
        let budget = serving.tokens(opened);
        let room = Room { tokens: budget, count: &estimated_tokens };
        let (retrieved, considered) = serving.library(opened).explain(query, room, serving.now)?;
        Ok(Self { embedder: serving.embedder.name(), retrieved, considered, budget })
    }

    /// Those that are on record for the request are marked.
    fn say(&self, shown: &[MemoryId], withheld: &[MemoryId], out: Out) {
        out.say(format!("found by {}", meaning::described(self.embedder)));
        let intent = self.retrieved.intent.as_deref().unwrap_or("none that is declared");
        out.say(format!("kind of task: {intent}"));
        for one in &self.considered {
            let rank = |rank: Option<usize>| rank.map_or("–".to_owned(), |rank| rank.to_string());
            let then = match (shown.contains(&one.id), withheld.contains(&one.id)) {
                (true, _) => "  shown then",
                (_, true) => "  withheld then",
                _ => "",
            };
            out.say(format!(
                "  {}  {:<22}  relevance {:.2}  score {:.3}  by meaning {}  by words {}{then}",
                show::short(&one.id),
                word(one.decision),
                one.relevance,
                one.score,
                rank(one.by_meaning),
                rank(one.by_words)
            ));
        }
        out.say(self.retrieved.block.as_deref().unwrap_or("nothing would be shown"));
        out.say(format!("about {} of {} tokens", self.retrieved.tokens, self.budget));
    }

    fn value(&self) -> Value {
        json!({"embedder": self.embedder, "considered": self.considered,
            "retrieved": self.retrieved, "budget": self.budget})
    }
}

fn word(decision: Decision) -> String {
    let value = serde_json::to_value(decision).unwrap_or_default();
    value.as_str().unwrap_or_default().replace('_', " ")
}
