//! What a request, or a failure, is told.

use std::{io::Read as _, sync::Arc};

use anyhow::{Context, Result};
use serde_json::json;
use understudy_ident::{Clock as _, SystemClock, Timestamp};
use understudy_inference::Embedder;
use understudy_memory::{
    Decision, HealRequest, HealSource, Intents, Library, Query, Room, Shelf, Standings,
    estimated_tokens,
};

use super::{Opened, show};
use crate::{
    cli::{HealArgs, MemoryExplainArgs},
    commands::Exit,
    config::Config,
    meaning,
    output::Out,
};

/// What would be served right now.
pub(super) struct Serving {
    shelf: Shelf,
    standings: Standings,
    embedder: Arc<dyn Embedder>,
    intents: Intents,
    now: Timestamp,
}

impl Serving {
    pub(super) fn load(opened: &Opened) -> Result<Self> {
        let now = SystemClock.now();
        let catalogue = &opened.deployment.catalogue;
        let preferred = opened.embedder()?;
        let (shelf, embedder) = match opened.store.releases()?.into_iter().next().flatten() {
            Some(digest) => {
                let release = opened.releases.read(&digest)?;
                let embedder = release.embedder(preferred);
                let shelf =
                    Shelf::of_release(digest, &release, Some(embedder.as_ref()), catalogue)?;
                (shelf, embedder)
            }
            None => (Shelf::default(), preferred),
        };
        let counters = &opened.deployment.settings.counters;
        let standings = Standings::of(&opened.store.all(now)?, counters, now);
        let intents = Intents::new(catalogue, embedder.as_ref())?;
        Ok(Self { shelf, standings, embedder, intents, now })
    }

    /// The room for lessons, where nothing is known of the model that reads them.
    pub(super) fn tokens(&self, opened: &Opened) -> usize {
        self.shelf.retrieval(&opened.deployment.settings.retrieval).token_budget(None)
    }

    pub(super) fn library<'a>(&'a self, opened: &'a Opened) -> Library<'a> {
        Library {
            deployment: &self.shelf,
            user: None,
            standings: &self.standings,
            embedder: Some(self.embedder.as_ref()),
            intents: Some(&self.intents),
            settings: &opened.deployment.settings.retrieval,
            counters: &opened.deployment.settings.counters,
            key: opened.store.key(),
        }
    }
}

pub(super) fn explain(args: &MemoryExplainArgs, config: &Config, out: Out) -> Result<Exit> {
    let opened = Opened::open(&args.scope, config)?;
    let Some(goal) = args.goal.as_deref() else {
        let id = opened.lesson(args.lesson.as_deref().unwrap_or_default())?;
        show::one(&opened, &id, out)?;
        return Ok(Exit::Ok);
    };
    let serving = Serving::load(&opened)?;
    let catalogue = &opened.deployment.catalogue;
    let tools = if args.tools.is_empty() {
        catalogue.tools.iter().map(|tool| tool.name.as_str()).collect()
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
    let room = Room { tokens: serving.tokens(&opened), count: &estimated_tokens };
    let (retrieved, considered) = serving.library(&opened).retrieve(&query, room, serving.now)?;
    let by = serving.embedder.name();
    out.say(format!("found by {}", meaning::described(by)));
    out.say(format!(
        "kind of task: {}",
        retrieved.intent.as_deref().unwrap_or("none that is declared")
    ));
    for one in &considered {
        let rank = |rank: Option<usize>| rank.map_or("–".to_owned(), |rank| rank.to_string());
        out.say(format!(
            "  {}  {:<22}  relevance {:.2}  score {:.3}  by meaning {}  by words {}",
            show::short(&one.id),
            word(one.decision),
            one.relevance,
            one.score,
            rank(one.by_meaning),
            rank(one.by_words)
        ));
    }
    out.say(retrieved.block.as_deref().unwrap_or("nothing would be shown"));
    out.value(&json!({"embedder": by, "considered": considered, "retrieved": retrieved}))?;
    Ok(Exit::Ok)
}

fn word(decision: Decision) -> String {
    let value = serde_json::to_value(decision).unwrap_or_default();
    value.as_str().unwrap_or_default().replace('_', " ")
}

pub(super) fn heal(args: &HealArgs, config: &Config, out: Out) -> Result<Exit> {
    let opened = Opened::open(&args.scope, config)?;
    let now = SystemClock.now();
    if let (Some(lesson), Some(worked)) = (&args.lesson, &args.worked) {
        let id = opened.lesson(lesson)?;
        opened.store.healed(&id, worked == "yes", now)?;
        out.either("noted", &json!({"noted": id}))?;
        return Ok(Exit::Ok);
    }
    let path = args.failure.as_deref().context("name a file with the failure, or `-`")?;
    let text = if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("failed to read standard input")?;
        text
    } else {
        std::fs::read_to_string(path)
            .with_context(|| format!("failed to read {}", path.display()))?
    };
    let request: HealRequest =
        serde_json::from_str(&text).context("failed to understand the failure")?;
    let serving = Serving::load(&opened)?;
    let reply = serving.library(&opened).heal(&request, now)?;
    opened.store.offered(&reply.ids(HealSource::Item), now)?;
    for candidate in &reply.candidates {
        let tier = serde_json::to_value(candidate.tier)?;
        let tier = tier.as_str().unwrap_or_default();
        out.say(format!("{}  {tier:<6}  {}", show::short(&candidate.id), candidate.text));
    }
    out.say(&reply.reason);
    out.value(&reply)?;
    Ok(if reply.escalate { Exit::No } else { Exit::Ok })
}
