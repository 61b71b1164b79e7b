//! What serves right now, and what a failure is told.

use std::{io::Read as _, sync::Arc};

use anyhow::{Context, Result};
use serde_json::json;
use understudy_ident::{Clock as _, Digest, SystemClock, Timestamp};
use understudy_inference::Embedder;
use understudy_memory::{HealRequest, HealSource, Intents, Library, Shelf, Standings};

use super::{Opened, show};
use crate::{cli::HealArgs, commands::Exit, config::Config, output::Out};

/// What would be served right now.
pub(super) struct Serving {
    shelf: Shelf,
    standings: Standings,
    pub(super) embedder: Arc<dyn Embedder>,
    intents: Intents,
    pub(super) now: Timestamp,
}

impl Serving {
    pub(super) fn load(opened: &Opened) -> Result<Self> {
        Self::of(opened, opened.store.releases()?.into_iter().next().flatten(), false)
    }

    /// Of one release, which need not serve, as everybody meets it or as its canary did.
    pub(super) fn of(opened: &Opened, release: Option<Digest>, on_trial: bool) -> Result<Self> {
        let now = SystemClock.now();
        let catalogue = &opened.deployment.catalogue;
        let preferred = opened.embedder()?;
        let (shelf, embedder) = match release {
            Some(digest) => {
                let release = opened.releases.read(&digest)?;
                let embedder = release.embedder(preferred);
                let shelf =
                    Shelf::of_release(digest, &release, Some(embedder.as_ref()), catalogue)?;
                (shelf, embedder)
            }
            None => (Shelf::default(), preferred),
        };
        let shelf = if on_trial { shelf.on_trial() } else { shelf };
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
