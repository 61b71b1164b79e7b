//! Lessons made ready for search: what of them is compared, once for all requests.

use std::collections::HashMap;

use understudy_ident::{Digest, Timestamp};
use understudy_inference::Embedder;

use crate::{
    Catalogue, CounterSettings, Counters, ErrorSignature, Item, Kept, Keyed, Kind, MemoryError,
    MemoryId, MemoryRelease, Retrieval, Status, Tactic, Text, effect::fade, lexical::Lexical,
    scope::Declared,
};

/// One lesson as retrieval sees it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) id: MemoryId,
    pub(crate) rev: u32,
    pub(crate) kind: Kind,
    pub(crate) agent: Option<String>,
    pub(crate) intent: Option<String>,
    pub(crate) tools: Vec<String>,
    pub(crate) target: Option<Keyed>,
    pub(crate) error: Option<ErrorSignature>,
    pub(crate) situation: String,
    pub(crate) strategy: String,
    pub(crate) prefer: Vec<String>,
    pub(crate) avoid: Vec<String>,
    pub(crate) tactic: Option<Tactic>,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) valid_from: Timestamp,
    search: String,
}

/// An immutable set of lessons with its index and vectors.
#[derive(Debug, Default)]
pub struct Shelf {
    pub(crate) release: Option<Digest>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) core: Vec<usize>,
    pub(crate) lexical: Lexical,
    /// Empty without an embedder.
    pub(crate) vectors: Vec<Vec<f32>>,
    pub(crate) embedder: Option<String>,
    /// How they are found, where a release says so.
    retrieval: Option<Retrieval>,
    /// It is a candidate's: what waits for the release's end serves here.
    pub(crate) trial: bool,
}

impl Shelf {
    /// The same as a candidate shows it to the sessions that try it: with the lessons that are active
    /// nowhere else yet, and to all of them, because the other sessions are what it is compared with.
    #[must_use]
    pub fn on_trial(self) -> Self {
        Self { trial: true, ..self }
    }

    /// Of a release of a tenant. An embedder other than the release's is refused: its vectors would
    /// find other lessons than those that were evaluated.
    pub fn of_release(
        digest: Digest,
        release: &MemoryRelease,
        embedder: Option<&dyn Embedder>,
        catalogue: &Catalogue,
    ) -> Result<Self, MemoryError> {
        let name = embedder.map_or("none", Embedder::name);
        if name != release.embedder {
            return Err(MemoryError::Text {
                why: format!(
                    "the release was cut for the embedder `{}`, and this is `{name}`; configure \
                     that one, or release again",
                    release.embedder
                ),
            });
        }
        let mut shelf =
            Self::unembedded(release.items.iter(), catalogue).embedded(None, embedder)?;
        let place = |id: &MemoryId| shelf.entries.iter().position(|entry| entry.id == *id);
        shelf.core = release.core.iter().filter_map(place).collect();
        shelf.release = Some(digest);
        shelf.retrieval = Some(release.retrieval.clone());
        Ok(shelf)
    }

    /// Of the active lessons of one user.
    pub fn of_user<T: Text>(
        kept: &[Kept<T>],
        embedder: Option<&dyn Embedder>,
        catalogue: &Catalogue,
    ) -> Result<Self, MemoryError> {
        Self::by_words(kept, catalogue).embedded(None, embedder)
    }

    /// The same, found by words alone: nothing is embedded.
    pub fn by_words<T: Text>(kept: &[Kept<T>], catalogue: &Catalogue) -> Self {
        let serves =
            |kept: &&Kept<T>| kept.status == Status::Active && kept.superseded_by.is_empty();
        let active = kept.iter().filter(serves);
        Self::unembedded(active.map(|kept| &kept.item), catalogue)
    }

    fn unembedded<'a, T: Text + 'a>(
        items: impl Iterator<Item = &'a Item<T>>,
        catalogue: &Catalogue,
    ) -> Self {
        let entries: Vec<Entry> = items.map(|item| entry(item, catalogue)).collect();
        let lexical = Lexical::of(entries.iter().map(|entry| entry.search.as_str()));
        Self { entries, lexical, ..Self::default() }
    }

    /// The same with vectors. Texts that `before` has, by the same embedder, are not embedded again.
    pub fn embedded(
        self,
        before: Option<&Self>,
        embedder: Option<&dyn Embedder>,
    ) -> Result<Self, MemoryError> {
        let Some(embedder) = embedder else { return Ok(self) };
        let known = before.map(|before| before.vectors_by(embedder.name())).unwrap_or_default();
        let mut new: Vec<&str> = self.entries.iter().map(|entry| entry.search.as_str()).collect();
        new.retain(|text| !known.contains_key(text));
        let made = if new.is_empty() { Vec::new() } else { embedder.embed(&new)? };
        let made: HashMap<&str, Vec<f32>> = new.into_iter().zip(made).collect();
        let vector = |text: &str| made.get(text).or_else(|| known.get(text).copied()).cloned();
        let vectors = self.entries.iter().filter_map(|entry| vector(&entry.search)).collect();
        Ok(Self { vectors, embedder: Some(embedder.name().to_owned()), ..self })
    }

    /// Whether [`Self::embedded`] would have nothing to embed.
    pub fn is_known_to(&self, before: &Self, embedder: &str) -> bool {
        let known = before.vectors_by(embedder);
        self.entries.iter().all(|entry| known.contains_key(entry.search.as_str()))
    }

    fn vectors_by(&self, embedder: &str) -> HashMap<&str, &Vec<f32>> {
        let own = self.embedder.as_deref() == Some(embedder);
        let all = self.entries.iter().zip(&self.vectors).filter(|_| own);
        all.map(|(entry, vector)| (entry.search.as_str(), vector)).collect()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How its lessons are found: as its release says, or as the settings do where there is none.
    pub fn retrieval<'a>(&'a self, settings: &'a Retrieval) -> &'a Retrieval {
        self.retrieval.as_ref().unwrap_or(settings)
    }

    pub fn release(&self) -> Option<&Digest> {
        self.release.as_ref()
    }
}

fn entry<T: Text>(item: &Item<T>, catalogue: &Catalogue) -> Entry {
    let names =
        |all: &[Declared]| -> Vec<String> { all.iter().map(|n| n.as_str().to_owned()).collect() };
    let tools: Vec<String> = item.tools().into_iter().map(str::to_owned).collect();
    let intent = item.pattern.intent.as_ref().map(|intent| intent.as_str().to_owned());
    // What the operator says about the kind of task and the tools is how a request is recognised.
    let declared = intent.as_deref().and_then(|name| catalogue.intent(name));
    let mut search = vec![item.situation.text.as_str()];
    if let Some(intent) = declared {
        search.extend([intent.name.as_str(), &intent.description]);
        search.extend(intent.examples.iter().map(String::as_str));
    }
    for tool in &tools {
        search.push(tool);
        let schema = catalogue.tool(tool).map(|at| catalogue.schema(at));
        search.extend(schema.map(|schema| schema.description.as_str()));
    }
    let code = item.situation.error.and_then(|error| error.code).map(|code| code.to_string());
    search.extend(item.situation.error.map(|error| error.class.as_str()));
    search.extend(code.as_deref());
    let search = search.join(" ");
    Entry {
        id: item.id.clone(),
        rev: item.rev,
        kind: item.kind,
        agent: item.agent.as_ref().map(|agent| agent.as_str().to_owned()),
        intent,
        tools,
        target: item.situation.target,
        error: item.situation.error,
        situation: item.situation.text.as_str().to_owned(),
        strategy: item.strategy.text.as_str().to_owned(),
        prefer: names(&item.strategy.prefer_tools),
        avoid: names(&item.strategy.avoid_tools),
        tactic: item.strategy.tactic,
        expires_at: item.expires_at,
        valid_from: item.valid_from,
        search,
    }
}

/// Where a lesson stands right now, apart from the release it is in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Standing {
    pub(crate) active: bool,
    /// Approved, and in no release that serves.
    pub(crate) validated: bool,
    pub(crate) effect: f64,
    pub(crate) harms: bool,
    pub(crate) recency: f64,
    pub(crate) probation: bool,
    /// Of whoever followed it to get past a failure.
    pub(crate) healed: f64,
    pub(crate) unhealed: f64,
    pub(crate) last_seen: Option<Timestamp>,
}

impl Standing {
    pub(crate) fn serves(&self, shelf: &Shelf) -> bool {
        self.active || shelf.trial && self.validated
    }
}

/// Where all lessons of a store stand; taken now and then, not for every request.
#[derive(Debug, Clone, Default)]
pub struct Standings(pub(crate) HashMap<MemoryId, Standing>);

impl Standings {
    pub fn of<T>(kept: &[Kept<T>], settings: &CounterSettings, now: Timestamp) -> Self {
        let standing = |kept: &Kept<T>| {
            let counters = &kept.counters;
            let measured = |counters: &Counters, least: f64| {
                let with = counters.success_with + counters.fail_with;
                let control = counters.success_control + counters.fail_control;
                with.min(control) >= least
            };
            let rescored = kept
                .rescored
                .as_ref()
                .is_none_or(|rescored| measured(&rescored.counters, settings.rescore_outcomes));
            let confirmed = kept.last_confirmed.unwrap_or(kept.since);
            Standing {
                active: kept.status == Status::Active,
                validated: kept.status == Status::Validated,
                effect: kept.effect.mean,
                harms: kept.effect.harms(),
                recency: fade(confirmed, now, settings.half_life_days),
                probation: !rescored || !measured(counters, settings.probation_outcomes),
                healed: counters.heal_worked,
                unhealed: counters.heal_failed,
                last_seen: kept.last_used,
            }
        };
        Self(kept.iter().map(|kept| (kept.item.id.clone(), standing(kept))).collect())
    }

    /// Whether a lesson is of these.
    pub fn knows(&self, id: &MemoryId) -> bool {
        self.0.contains_key(id)
    }

    /// The same and those of another store.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}
