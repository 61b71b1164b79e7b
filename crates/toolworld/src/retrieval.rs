//! How well, and how fast, memory finds what belongs to a request.
//!
//! Every ticket of a store is a lesson of one user; queries are tickets the store has not heard, some
//! in words it holds nowhere. What is measured is [`Library::retrieve`] itself, as a gateway calls
//! it: embedding, both rankings, fusion, choice and rendering. A ranking is right where it puts a
//! lesson of the query's kind first.

use std::{
    collections::{BTreeSet, HashMap},
    time::Instant,
};

use serde::Serialize;
use understudy_ident::Timestamp;
use understudy_inference::{Embedder, InferenceError};
use understudy_memory::{
    Catalogue, Considered, CounterSettings, Counters, Effect, Intents, Kept, Key, Library,
    MemoryError, MemoryId, Query, Retrieval, Room, Shelf, Standings, Status, UserItem, UserText,
    Written, estimated_tokens,
};

use crate::routing::{Ticket, Voice};

/// What is measured.
#[derive(Debug, Clone)]
pub struct RetrievalPlan {
    pub seed: u64,
    /// Lessons of each store.
    pub sizes: Vec<usize>,
    pub queries: usize,
}

/// One store's figures.
#[derive(Debug, Clone, Serialize)]
pub struct Found {
    pub lessons: usize,
    pub by_meaning: Hits,
    pub by_words: Hits,
    /// As memory ranks: both, fused and weighed.
    pub hybrid: Hits,
    /// A whole retrieval, the embedding of the query included.
    pub query_ms: Spread,
    /// Of which the embedding.
    pub embed_ms: Spread,
}

/// Shares of the queries.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Hits {
    /// The first is of the query's kind.
    pub p_at_1: f64,
    /// One of the first three is.
    pub hit_at_3: f64,
    pub hit_at_5: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Spread {
    pub p50: f64,
    pub p95: f64,
}

impl RetrievalPlan {
    /// Measures every store; `report` is told how many of how many steps are done.
    pub fn measure(
        &self,
        embedder: &dyn Embedder,
        report: &mut dyn FnMut(usize, usize),
    ) -> Result<Vec<Found>, MemoryError> {
        let most = self.sizes.iter().copied().max().unwrap_or(0);
        let tickets: Vec<Ticket> =
            (0..most).map(|n| Ticket::draw(self.seed, "store", n, Voice::Heard)).collect();
        let steps = most + self.sizes.len() * self.queries;
        let mut done = 0;
        let mut known = Known { inner: embedder, vectors: HashMap::new() };
        for part in tickets.chunks(256) {
            let texts: Vec<&str> = part.iter().map(|ticket| ticket.text.as_str()).collect();
            known.learn(&texts)?;
            done += part.len();
            report(done, steps);
        }
        let mut found = Vec::new();
        for size in &self.sizes {
            found.push(self.of_store(&tickets[..*size], &known, &mut || {
                done += 1;
                report(done, steps);
            })?);
        }
        Ok(found)
    }

    fn of_store(
        &self,
        tickets: &[Ticket],
        embedder: &Known<'_>,
        step: &mut dyn FnMut(),
    ) -> Result<Found, MemoryError> {
        let stand = Stand::new(tickets, embedder)?;
        let (mut meaning, mut words, mut hybrid) = <(Vec<_>, Vec<_>, Vec<_>)>::default();
        let (mut whole, mut embedding) = (Vec::new(), Vec::new());
        for n in 0..self.queries {
            let query = Ticket::draw(self.seed, "query", n, Voice::Any);
            let start = Instant::now();
            stand.ask(&query.text, embedder, Library::retrieve)?;
            whole.push(start.elapsed().as_secs_f64() * 1e3);
            let (_, considered) = stand.ask(&query.text, embedder, Library::explain)?;
            let start = Instant::now();
            embedder.embed(&[&query.text])?;
            embedding.push(start.elapsed().as_secs_f64() * 1e3);
            let kind = |one: &Considered| stand.kinds.get(&one.id) == Some(&query.kind);
            meaning.push(place(&considered, |one| one.by_meaning.map(|rank| -(rank as f64)), kind));
            words.push(place(&considered, |one| one.by_words.map(|rank| -(rank as f64)), kind));
            hybrid.push(place(&considered, |one| Some(one.score).filter(|s| *s > 0.0), kind));
            step();
        }
        Ok(Found {
            lessons: tickets.len(),
            by_meaning: Hits::of(&meaning),
            by_words: Hits::of(&words),
            hybrid: Hits::of(&hybrid),
            query_ms: Spread::of(whole),
            embed_ms: Spread::of(embedding),
        })
    }
}

/// Everything a retrieval looks at.
struct Stand {
    catalogue: Catalogue,
    nobody: Shelf,
    shelf: Shelf,
    kinds: HashMap<MemoryId, usize>,
    standings: Standings,
    intents: Intents,
    settings: Retrieval,
    counters: CounterSettings,
    key: Key,
    now: Timestamp,
}

impl Stand {
    fn new(tickets: &[Ticket], embedder: &Known<'_>) -> Result<Self, MemoryError> {
        let (catalogue, key) = (Catalogue::default(), Key::from_bytes([7; 32]));
        let now = Timestamp::UNIX_EPOCH;
        let mut kept: Vec<Kept<UserText>> = Vec::with_capacity(tickets.len());
        let mut kinds = HashMap::new();
        for ticket in tickets {
            let strategy = format!("Route it to {}", Ticket::kind_name(ticket.kind));
            let written =
                Written { situation: &ticket.text, strategy: &strategy, ..Written::default() };
            let item = UserItem::written(&written, &catalogue, &key, now)?;
            kinds.insert(item.id.clone(), ticket.kind);
            kept.push(active(item, now));
        }
        let counters = CounterSettings::default();
        Ok(Self {
            shelf: Shelf::of_user(&kept, Some(embedder), &catalogue)?,
            standings: Standings::of(&kept, &counters, now),
            intents: Intents::new(&catalogue, embedder)?,
            nobody: Shelf::default(),
            settings: Retrieval::default(),
            catalogue,
            kinds,
            counters,
            key,
            now,
        })
    }

    fn ask<'a, T>(
        &'a self,
        goal: &str,
        embedder: &'a Known<'_>,
        how: impl FnOnce(Library<'a>, &Query<'_>, Room<'_>, Timestamp) -> T,
    ) -> T {
        let library = Library {
            deployment: &self.nobody,
            user: Some(&self.shelf),
            standings: &self.standings,
            embedder: Some(embedder),
            intents: Some(&self.intents),
            settings: &self.settings,
            counters: &self.counters,
            key: &self.key,
        };
        let tools = self.catalogue.tools.iter().map(|tool| tool.name.as_str()).collect();
        let query = Query { goal, tools, session: goal, ..Query::default() };
        let room = Room { tokens: self.settings.max_tokens, count: &estimated_tokens };
        how(library, &query, room, self.now)
    }
}

fn active(item: UserItem, now: Timestamp) -> Kept<UserText> {
    let counters = Counters::default();
    Kept {
        item,
        status: Status::Active,
        since: now,
        counters,
        effect: Effect::of(&counters, 0.9),
        last_used: None,
        last_confirmed: None,
        conflicts_with: BTreeSet::new(),
        kept_apart_from: BTreeSet::new(),
        superseded_by: BTreeSet::new(),
        rescored: None,
    }
}

/// An embedder whose vectors of a store are computed once for all stores. Queries are computed when
/// they are asked, as in production.
#[derive(Debug)]
struct Known<'a> {
    inner: &'a dyn Embedder,
    vectors: HashMap<String, Vec<f32>>,
}

impl Known<'_> {
    fn learn(&mut self, texts: &[&str]) -> Result<(), MemoryError> {
        let vectors = self.inner.embed(texts)?;
        self.vectors.extend(texts.iter().map(|text| (*text).to_owned()).zip(vectors));
        Ok(())
    }
}

impl Embedder for Known<'_> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn dimensions(&self) -> usize {
        self.inner.dimensions()
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, InferenceError> {
        if let [one] = texts {
            return self.inner.embed(&[one]);
        }
        let known = |text: &&str| self.vectors.get(*text).cloned();
        match texts.iter().map(known).collect::<Option<Vec<_>>>() {
            Some(vectors) => Ok(vectors),
            None => self.inner.embed(texts),
        }
    }
}

/// At which place, from 0, the first lesson of the kind is, by falling score; those of equal score
/// in the order of the store.
fn place(
    considered: &[Considered],
    score: impl Fn(&Considered) -> Option<f64>,
    of_kind: impl Fn(&Considered) -> bool,
) -> Option<usize> {
    let mut ranked: Vec<(f64, &Considered)> =
        considered.iter().filter_map(|one| Some((score(one)?, one))).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    ranked.into_iter().position(|(_, one)| of_kind(one))
}

impl Hits {
    fn of(places: &[Option<usize>]) -> Self {
        let share = |below: usize| {
            let hits = places.iter().filter(|place| place.is_some_and(|place| place < below));
            hits.count() as f64 / (places.len() as f64).max(1.0)
        };
        Self { p_at_1: share(1), hit_at_3: share(3), hit_at_5: share(5) }
    }
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = ((values.len() as f64 * share).ceil() as usize).max(1) - 1;
            values.get(place).copied().unwrap_or(0.0)
        };
        Self { p50: at(0.5), p95: at(0.95) }
    }
}

#[cfg(test)]
mod tests {
    use understudy_inference::HashingEmbedder;

    use super::*;

    fn measured(embedder: &dyn Embedder, sizes: &[usize]) -> Vec<Found> {
        let plan = RetrievalPlan { seed: 17, sizes: sizes.to_vec(), queries: 154 };
        plan.measure(embedder, &mut |done, of| assert!(done <= of)).unwrap()
    }

    #[test]
    fn more_examples_find_more_and_hits_are_ordered() {
        let found = measured(&HashingEmbedder, &[77, 770]);
        let [few, many] = &found[..] else { panic!("{found:?}") };
        for rank in [|f: &Found| f.by_meaning, |f: &Found| f.by_words, |f: &Found| f.hybrid] {
            let (few, many) = (rank(few), rank(many));
            assert!(many.p_at_1 > few.p_at_1, "{few:?} {many:?}");
            for hits in [few, many] {
                assert!(hits.p_at_1 <= hits.hit_at_3 && hits.hit_at_3 <= hits.hit_at_5, "{hits:?}");
            }
        }
        // Neither chance (1/77) nor a giveaway: words alone must leave something to meaning.
        assert!(many.by_words.p_at_1 > 0.1 && many.by_words.p_at_1 < 0.9, "{many:?}");
        assert!(many.query_ms.p95 >= many.query_ms.p50 && many.query_ms.p50 > 0.0);
    }

    /// Knows only one direction.
    #[derive(Debug)]
    struct Blind;

    impl Embedder for Blind {
        fn name(&self) -> &'static str {
            "blind"
        }

        fn dimensions(&self) -> usize {
            2
        }

        fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, InferenceError> {
            Ok(vec![vec![1.0, 0.0]; texts.len()])
        }
    }

    #[test]
    fn an_embedder_that_tells_nothing_apart_is_found_out() {
        let found = measured(&Blind, &[770]);
        assert!(found[0].by_meaning.p_at_1 < 0.05, "{found:?}");
        assert!(found[0].by_words.p_at_1 > 0.1, "words do not depend on it: {found:?}");
    }

    /// Knows of a ticket which trouble it is about, and nothing of the thing.
    #[derive(Debug)]
    struct Half(HashMap<String, usize>);

    impl Half {
        fn new(seed: u64) -> Self {
            let draws = [("store", Voice::Heard, 770), ("query", Voice::Any, 154)];
            let drawn = draws.into_iter().flat_map(|(purpose, voice, count)| {
                (0..count).map(move |n| Ticket::draw(seed, purpose, n, voice))
            });
            Self(drawn.map(|ticket| (without_digits(&ticket.text), ticket.kind)).collect())
        }
    }

    /// As a query is embedded: without what is only this user's.
    fn without_digits(text: &str) -> String {
        let words = text.split_whitespace().filter(|word| !word.contains(char::is_numeric));
        words.filter(|word| !word.starts_with(char::is_uppercase)).collect()
    }

    impl Embedder for Half {
        fn name(&self) -> &'static str {
            "half"
        }

        fn dimensions(&self) -> usize {
            7
        }

        fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, InferenceError> {
            let one = |text: &&str| {
                let mut vector = vec![0.05; 7];
                if let Some(kind) = self.0.get(&without_digits(text)) {
                    vector[kind % 7] = 1.0;
                }
                vector
            };
            Ok(texts.iter().map(one).collect())
        }
    }

    #[test]
    fn words_that_happen_to_be_shared_do_not_outvote_meaning() {
        let plan = RetrievalPlan { seed: 17, sizes: vec![770], queries: 154 };
        let found = plan.measure(&Half::new(17), &mut |_, _| {}).unwrap();
        let Found { by_meaning, hybrid, .. } = &found[0];
        assert_eq!(hybrid, by_meaning, "{found:?}");
    }

    #[test]
    fn where_spelling_is_all_that_is_known_words_tell_more() {
        let found = measured(&HashingEmbedder, &[770]);
        let Found { by_meaning, hybrid, .. } = &found[0];
        assert!(hybrid.p_at_1 > by_meaning.p_at_1, "{found:?}");
    }

    #[test]
    fn places_and_percentiles_are_counted_right() {
        let hits = Hits::of(&[Some(0), Some(2), Some(4), None]);
        assert_eq!((hits.p_at_1, hits.hit_at_3, hits.hit_at_5), (0.25, 0.5, 0.75));
        let spread = Spread::of((1..=100).rev().map(f64::from).collect());
        assert_eq!((spread.p50, spread.p95), (50.0, 95.0));
    }
}
