//! Lessons as a request would be shown them, outside of a server: for evaluations and for datasets.

use std::{
    error::Error,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use understudy_dataset::{Lessons, Placed};
use understudy_ident::{Clock as _, Digest, SystemClock, TaskName, Timestamp};
use understudy_inference::Embedder;
use understudy_manifest::Case;
use understudy_memory::{
    CounterSettings, DeploymentItem, Intents, Keyed, Library, MemoryId, Query, Room, Shelf,
    Standings, estimated_tokens, has_block, place,
};
use understudy_message::{Message, Role};

use super::{Opened, cases::origin};

/// The model's context in tokens, where there is a model, and how a text's are counted.
pub(crate) type Window<'a> = (Option<usize>, &'a dyn Fn(&str) -> usize);

/// One memory release, shown to every prompt that it has a lesson for.
#[derive(Debug)]
pub(crate) struct Remembering {
    opened: Opened,
    release: Digest,
    shelf: Shelf,
    standings: Standings,
    embedder: Arc<dyn Embedder>,
    intents: Intents,
    counters: CounterSettings,
    now: Timestamp,
}

impl Remembering {
    /// Of a release by the beginning of its name, or of the one that serves.
    pub(crate) fn open(
        file: Option<&Path>,
        release: Option<&str>,
        directory: &Path,
        sentences: Option<PathBuf>,
    ) -> Result<Self> {
        let opened = Opened::at(file, directory, sentences)?;
        let release = match release {
            Some(text) => opened.releases.find(text)?,
            None => opened.store.releases()?.into_iter().next().flatten().context(
                "no memory release serves: name one, or release one with `understudy memory release`",
            )?,
        };
        Self::of(opened, release)
    }

    /// Of the release that serves; none where no memory is set up here, or none serves.
    pub(crate) fn serving(directory: &Path, sentences: Option<PathBuf>) -> Result<Option<Self>> {
        if super::lookup()?.is_none() {
            return Ok(None);
        }
        let opened = Opened::at(None, directory, sentences)?;
        let release = opened.store.releases()?.into_iter().next().flatten();
        release.map(|release| Self::of(opened, release)).transpose()
    }

    fn of(opened: Opened, release: Digest) -> Result<Self> {
        let now = SystemClock.now();
        let catalogue = &opened.deployment.catalogue;
        let read = opened.releases.read(&release)?;
        let embedder = read.embedder(opened.embedder()?);
        // A candidate is looked at before anybody met it.
        let shelf = Shelf::of_release(release, &read, Some(embedder.as_ref()), catalogue)?;
        let shelf = shelf.on_trial();
        // Nothing is withheld here: both sides answer every case.
        let counters = CounterSettings {
            control_share: 0.0,
            probation_share: 0.0,
            ..opened.deployment.settings.counters.clone()
        };
        let standings = Standings::of(&opened.store.all(now)?, &counters, now);
        let intents = Intents::new(catalogue, embedder.as_ref())?;
        Ok(Self { opened, release, shelf, standings, embedder, intents, counters, now })
    }

    pub(crate) fn release(&self) -> Digest {
        self.release
    }

    /// A lesson of the release that was learnt from one of these cases, so that they say nothing of
    /// what it is worth.
    pub(crate) fn taught_by(&self, cases: &[Case]) -> Result<Option<MemoryId>> {
        let key = self.opened.store.key();
        let origins: Vec<Keyed> =
            cases.iter().map(|case| key.name("source", origin(case).as_str())).collect();
        let items = self.opened.releases.read(&self.release)?.items;
        let taught = |item: &DeploymentItem| origins.iter().any(|case| item.provenance.is_of(case));
        Ok(items.into_iter().find(taught).map(|item| item.id))
    }

    /// The tokens that lessons may take in a context of so many, and the milliseconds that looking
    /// for them may.
    pub(crate) fn limits(&self, context: usize) -> (usize, u64) {
        let settings = self.shelf.retrieval(&self.opened.deployment.settings.retrieval);
        (settings.token_budget(Some(context)), settings.budget_ms)
    }

    /// The prompt with the lessons that fit, counted by `count` against a context of `context`
    /// tokens, or against the settings alone where there is none.
    pub(crate) fn prompt(
        &self,
        agent: &str,
        (prompt, tools): (&[Message], Option<Vec<&str>>),
        (context, count): Window<'_>,
    ) -> Result<Placed> {
        if has_block(prompt) {
            return Ok(Placed::ShownBefore);
        }
        let settings = &self.opened.deployment.settings.retrieval;
        let tokens = self.shelf.retrieval(settings).token_budget(context);
        let last = prompt.iter().rev().find(|message| message.role == Role::User);
        let goal = last.map(Message::text).unwrap_or_default();
        let known = &self.opened.deployment.catalogue.tools;
        let all = || known.iter().map(|tool| tool.name.as_str()).collect();
        let query = Query {
            goal: &goal,
            agent: Some(agent),
            tools: tools.unwrap_or_else(all),
            session: "evaluation",
            ..Query::default()
        };
        let library = Library {
            deployment: &self.shelf,
            user: None,
            standings: &self.standings,
            embedder: Some(self.embedder.as_ref()),
            intents: Some(&self.intents),
            settings,
            counters: &self.counters,
            key: self.opened.store.key(),
        };
        let retrieved = library.retrieve(&query, Room { tokens, count }, self.now)?;
        Ok(match retrieved.block {
            Some(block) => Placed::Shown(place(prompt, &block)),
            None => Placed::NothingFits,
        })
    }
}

/// A trace does not say which tools could have been called, so all of the catalogue's could.
impl Lessons for Remembering {
    fn release(&self) -> Digest {
        self.release
    }

    fn place(
        &self,
        task: &TaskName,
        prompt: &[Message],
    ) -> Result<Placed, Box<dyn Error + Send + Sync>> {
        Ok(self.prompt(task.as_str(), (prompt, None), (None, &estimated_tokens))?)
    }
}
