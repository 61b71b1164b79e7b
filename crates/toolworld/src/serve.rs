//! A desk in production: requests come, lessons are retrieved, outcomes are counted.

use serde::Serialize;
use understudy_ident::Timestamp;
use understudy_inference::{Embedder, HashingEmbedder};
use understudy_memory::{
    Catalogue, Consequence, DeploymentStore, Episode, Intents, Key, Library, MemoryError, Query,
    Releases, Retrieved, Room, Settings, Shelf, Standings, estimated_tokens,
};

use crate::{Agent, Played, Request};

/// A share of successes with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rate {
    pub successes: u64,
    pub requests: u64,
    pub rate: f64,
    /// Wilson's, at 95 %.
    pub interval: [f64; 2],
}

impl Rate {
    pub fn of(outcomes: &[bool]) -> Self {
        let requests = outcomes.len() as u64;
        let successes = outcomes.iter().filter(|success| **success).count() as u64;
        let interval = understudy_statistics::wilson(successes, requests, 0.05);
        let rate = successes as f64 / (requests as f64).max(1.0);
        Self { successes, requests, rate, interval: [interval.lower, interval.upper] }
    }
}

/// Runs of production without memory: what there is to learn from.
pub fn observe(
    seed: u64,
    count: u64,
    catalogue: &Catalogue,
    key: &Key,
    at: Timestamp,
) -> Vec<Episode> {
    let agent = Agent::student();
    let play = |n| agent.play(&Request::draw(seed, n), None, seed, at).transcript;
    (0..count).map(|n| Episode::read(&play(n), catalogue, key)).collect()
}

/// What a gateway would hold in memory for one tenant.
#[derive(Debug)]
pub struct Service<'a> {
    pub catalogue: &'a Catalogue,
    pub store: &'a DeploymentStore,
    shelf: Shelf,
    standings: Standings,
    intents: Intents,
    now: Timestamp,
}

impl<'a> Service<'a> {
    /// Serves what the store points at.
    pub fn start(
        catalogue: &'a Catalogue,
        store: &'a DeploymentStore,
        releases: &Releases,
        now: Timestamp,
    ) -> Result<Self, MemoryError> {
        let embedder: &dyn Embedder = &HashingEmbedder;
        let shelf = match store.releases()?.into_iter().next().flatten() {
            Some(digest) => {
                Shelf::of_release(digest, &releases.read(&digest)?, Some(embedder), catalogue)?
            }
            None => Shelf::default(),
        };
        let intents = Intents::new(catalogue, embedder)?;
        let standings = Standings::default();
        let mut service = Self { catalogue, store, shelf, standings, intents, now };
        service.look()?;
        Ok(service)
    }

    /// Takes note of what has become of the lessons.
    fn look(&mut self) -> Result<(), MemoryError> {
        let kept = self.store.all(self.now)?;
        self.standings = Standings::of(&kept, &self.settings().counters, self.now);
        Ok(())
    }

    fn settings(&self) -> &Settings {
        self.store.settings()
    }

    pub fn retrieve(&self, request: &Request) -> Result<Retrieved, MemoryError> {
        let (catalogue, key) = (self.catalogue, self.store.key());
        let settings = self.settings();
        let library = Library {
            deployment: &self.shelf,
            user: None,
            standings: &self.standings,
            embedder: Some(&HashingEmbedder),
            intents: Some(&self.intents),
            settings: &settings.retrieval,
            counters: &settings.counters,
            key,
        };
        let query = Query {
            goal: &request.goal,
            agent: Some("desk"),
            tools: catalogue.tools.iter().map(|tool| tool.name.as_str()).collect(),
            session: &request.session,
            ..Query::default()
        };
        let room = Room { tokens: settings.retrieval.max_tokens, count: &estimated_tokens };
        library.retrieve(&query, room, self.now)
    }

    /// Serves one request, counts its outcome, and says what that led to.
    pub fn serve(
        &mut self,
        request: &Request,
        seed: u64,
    ) -> Result<(Played, Retrieved, Vec<Consequence>), MemoryError> {
        let retrieved = self.retrieve(request)?;
        let agent = Agent::student();
        let played = agent.play(request, retrieved.block.as_deref(), seed, self.now);
        let shown = retrieved.shown_ids();
        let mut consequences = Vec::new();
        if !shown.is_empty() || !retrieved.withheld.is_empty() {
            self.store.considered(&request.session, &shown, &retrieved.withheld, self.now)?;
            consequences = self.store.outcome(&request.session, played.success, self.now)?;
            self.look()?;
        }
        Ok((played, retrieved, consequences))
    }
}
