//! Which lessons a request is shown, which are withheld to compare, and why.

use serde::Serialize;
use understudy_ident::{Digest, Timestamp};
use understudy_inference::{Embedder, HashingEmbedder};

use crate::{
    CounterSettings, ErrorSignature, Intents, Key, MemoryError, MemoryId, Retrieval, Shelf,
    Standings, lexical::Match, render, select::dot, shelf::Entry, shelf::Standing,
    words::without_names,
};

/// Ranks are damped by this much before they are added up. Source: Cormack, Clarke and Büttcher,
/// "Reciprocal Rank Fusion" (2009).
const RANK_OFFSET: f64 = 60.0;

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Query<'a> {
    pub goal: &'a str,
    pub agent: Option<&'a str>,
    /// The tools the request may call; a lesson that needs another one is not shown.
    pub tools: Vec<&'a str>,
    /// The kind of task, where the caller knows it; found by the request's words otherwise.
    pub intent: Option<&'a str>,
    pub error: Option<ErrorSignature>,
    /// What is compared: all requests of a session get, or are denied, the same lessons.
    pub session: &'a str,
    /// The caller wants none, for an evaluation.
    pub off: bool,
}

/// How much room there is, and how it is measured.
#[derive(Clone, Copy)]
pub struct Room<'a> {
    pub tokens: usize,
    pub count: &'a dyn Fn(&str) -> usize,
}

impl std::fmt::Debug for Room<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Room").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

/// Everything retrieval looks at.
#[derive(Debug, Clone, Copy)]
pub struct Library<'a> {
    /// Of the tenant, from its release.
    pub deployment: &'a Shelf,
    /// Of the user who asks, if there is one.
    pub user: Option<&'a Shelf>,
    pub standings: &'a Standings,
    pub embedder: Option<&'a dyn Embedder>,
    /// Made with that embedder.
    pub intents: Option<&'a Intents>,
    /// How lessons are found where no release says how.
    pub settings: &'a Retrieval,
    pub counters: &'a CounterSettings,
    pub key: &'a Key,
}

/// What a request gets.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Retrieved {
    /// To be placed with [`crate::place`]; `None` when there is nothing to show.
    pub block: Option<String>,
    pub release: Option<Digest>,
    /// The kind of task it was taken for.
    pub intent: Option<String>,
    pub shown: Vec<Shown>,
    /// They would have been shown; the difference they make is measured by leaving them out.
    pub withheld: Vec<MemoryId>,
    /// The whole session is one of those without lessons for everybody.
    pub control: bool,
    pub tokens: usize,
    pub prefer_tools: Vec<String>,
    pub avoid_tools: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shown {
    pub id: MemoryId,
    pub rev: u32,
    pub score: f64,
    /// As it is called in the block.
    pub marker: String,
}

impl Retrieved {
    /// The value of `x-memory-ids`: `mem_…@2,mem_…@1`.
    pub fn ids_header(&self) -> String {
        let ids: Vec<String> =
            self.shown.iter().map(|shown| format!("{}@{}", shown.id, shown.rev)).collect();
        ids.join(",")
    }

    pub fn shown_ids(&self) -> Vec<MemoryId> {
        self.shown.iter().map(|shown| shown.id.clone()).collect()
    }
}

/// Why one lesson was shown or was not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Considered {
    pub id: MemoryId,
    pub decision: Decision,
    pub by_meaning: Option<usize>,
    pub by_words: Option<usize>,
    /// How much it has to do with the request, of 1.
    pub relevance: f64,
    pub score: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    Shown,
    /// Always shown.
    Core,
    WithheldFromSession,
    WithheldOnProbation,
    OverBudget,
    OtherAgent,
    ToolNotAvailable,
    NotActive,
    Expired,
    NotRelevant,
    /// Others fitted better, or said the same.
    Outranked,
    SwitchedOff,
}

struct Candidate<'a> {
    entry: &'a Entry,
    /// The user's. Who stated a preference wants it followed, not measured.
    is_own: bool,
    vector: Option<&'a [f32]>,
    decision: Decision,
    by_meaning: Option<usize>,
    by_words: Option<usize>,
    relevance: f64,
    score: f64,
}

impl Candidate<'_> {
    fn considered(self) -> Considered {
        let Self { entry, decision, by_meaning, by_words, relevance, score, .. } = self;
        Considered { id: entry.id.clone(), decision, by_meaning, by_words, relevance, score }
    }
}

impl<'l> Library<'l> {
    /// How lessons are found: as was evaluated and released together with them.
    fn rules(&self) -> &Retrieval {
        self.deployment.retrieval(self.settings)
    }

    /// Finds, chooses and renders.
    pub fn retrieve(
        self,
        query: &Query<'_>,
        room: Room<'_>,
        now: Timestamp,
    ) -> Result<Retrieved, MemoryError> {
        Ok(self.search(query, room, now)?.0)
    }

    /// The same, and of every lesson why it was shown or was not.
    pub fn explain(
        self,
        query: &Query<'_>,
        room: Room<'_>,
        now: Timestamp,
    ) -> Result<(Retrieved, Vec<Considered>), MemoryError> {
        let (retrieved, candidates) = self.search(query, room, now)?;
        Ok((retrieved, candidates.into_iter().map(Candidate::considered).collect()))
    }

    fn search(
        self,
        query: &Query<'_>,
        room: Room<'_>,
        now: Timestamp,
    ) -> Result<(Retrieved, Vec<Candidate<'l>>), MemoryError> {
        let release = self.deployment.release;
        let mut out = Retrieved { release, ..Retrieved::default() };
        let vector = match self.embedder {
            Some(embedder) => embedder.embed(&[&without_names(query.goal)])?.into_iter().next(),
            None => None,
        };
        let found = self.intents.zip(vector.as_deref()).and_then(|(i, vector)| i.find(vector));
        let query = &Query { intent: query.intent.or(found), ..query.clone() };
        out.intent = query.intent.map(str::to_owned);
        let mut candidates = self.candidates(query, vector.as_deref(), now);
        if query.off {
            for candidate in &mut candidates {
                candidate.decision = Decision::SwitchedOff;
            }
            return Ok((out, candidates));
        }
        let chosen = self.choose(&mut candidates);
        out.control = self.draw("control", query.session) < self.counters.control_share;
        let mut lines = Vec::new();
        out.tokens = (room.count)(&render::block(&release_name(release), &[]));
        for at in chosen {
            let candidate = &mut candidates[at];
            candidate.decision = self.show(candidate, query.session, room, (&mut out, &mut lines));
        }
        if lines.is_empty() {
            out.tokens = 0;
        } else {
            out.block = Some(render::block(&release_name(release), &lines));
        }
        Ok((out, candidates))
    }

    /// Adds what was chosen to the block, unless it has no room or is withheld.
    fn show(
        &self,
        candidate: &Candidate<'_>,
        session: &str,
        room: Room<'_>,
        (out, lines): (&mut Retrieved, &mut Vec<String>),
    ) -> Decision {
        let entry = candidate.entry;
        let line = render::line(lines.len() + 1, &entry.situation, &entry.strategy);
        // With what ends it: parts of a text have at least as many tokens as the whole.
        let tokens = (room.count)(&format!("{line}\n"));
        if tokens > self.rules().max_line_tokens || out.tokens + tokens > room.tokens {
            return Decision::OverBudget;
        }
        let withheld = if candidate.is_own {
            None
        } else if out.control {
            Some(Decision::WithheldFromSession)
        } else {
            self.on_probation(entry, session).then_some(Decision::WithheldOnProbation)
        };
        if let Some(why) = withheld {
            out.withheld.push(entry.id.clone());
            return why;
        }
        let marker = format!("m{}", lines.len() + 1);
        let score = candidate.score;
        out.shown.push(Shown { id: entry.id.clone(), rev: entry.rev, score, marker });
        out.prefer_tools.extend(entry.prefer.iter().cloned());
        out.avoid_tools.extend(entry.avoid.iter().cloned());
        out.tokens += tokens;
        lines.push(line);
        match candidate.decision {
            Decision::Core => Decision::Core,
            _ => Decision::Shown,
        }
    }

    /// Every lesson with its ranks; those that must not be shown say why.
    fn candidates(
        self,
        query: &Query<'_>,
        vector: Option<&[f32]>,
        now: Timestamp,
    ) -> Vec<Candidate<'l>> {
        let shelves = [Some(self.deployment), self.user].into_iter().flatten();
        let mut all = Vec::with_capacity(shelves.clone().map(Shelf::len).sum());
        for shelf in shelves {
            self.of_shelf(shelf, query, vector, now, &mut all);
        }
        all
    }

    fn of_shelf(
        self,
        shelf: &'l Shelf,
        query: &Query<'_>,
        vector: Option<&[f32]>,
        now: Timestamp,
        all: &mut Vec<Candidate<'l>>,
    ) {
        let standings: Vec<Option<&Standing>> =
            shelf.entries.iter().map(|entry| self.standings.0.get(&entry.id)).collect();
        let ruled_out = ruled_out(shelf, &standings, query, now);
        let matched = self.matched(shelf, query, vector, &ruled_out);
        for (at, entry) in shelf.entries.iter().enumerate() {
            let kinship = Kinship::of(entry, query);
            let relevance = matched.relevance(at, kinship);
            let decision = match ruled_out[at] {
                Some(why) => why,
                None if shelf.core.contains(&at) => Decision::Core,
                None if relevance < self.rules().threshold => Decision::NotRelevant,
                None => Decision::Outranked,
            };
            let measured =
                standings[at].map_or(1.0, |s| (1.0 + s.effect) * (0.5 + 0.5 * s.recency));
            all.push(Candidate {
                entry,
                is_own: !std::ptr::eq(shelf, self.deployment),
                vector: shelf.vectors.get(at).map(Vec::as_slice),
                decision,
                by_meaning: matched.by_meaning[at],
                by_words: matched.by_words[at],
                relevance,
                score: matched.fused(at) * kinship.boost() * measured,
            });
        }
    }

    /// How the lessons of a shelf rank for a query, of those that may be shown.
    fn matched(
        &self,
        shelf: &Shelf,
        query: &Query<'_>,
        vector: Option<&[f32]>,
        ruled_out: &[Option<Decision>],
    ) -> Matched {
        let text = match query.error {
            Some(error) => format!("{} {}", query.goal, error.class.as_str()),
            None => query.goal.to_owned(),
        };
        let words = shelf.lexical.matches(&text);
        let vector = vector.filter(|_| {
            self.embedder.is_some_and(|embedder| shelf.embedder.as_deref() == Some(embedder.name()))
        });
        let close: Vec<f32> = match vector {
            Some(vector) => shelf.vectors.iter().map(|other| dot(vector, other)).collect(),
            None => Vec::new(),
        };
        let n = shelf.entries.len();
        let allowed = |at: &usize| ruled_out[*at].is_none();
        let by_words = ranks(n, allowed, |at| words[at].bm25);
        let by_meaning = match vector {
            Some(_) => ranks(n, allowed, |at| close[at]),
            None => vec![None; n],
        };
        let by_sense = vector.is_some() && goes_by_meaning(shelf, query);
        let counted =
            if by_sense { ranks(n, allowed, |at| words[at].names) } else { by_words.clone() };
        let [meaning, by_spelling] = self.weights(by_sense);
        let weights = [if vector.is_some() { meaning } else { 0.0 }, by_spelling];
        Matched { words, close, by_words, by_meaning, counted, weights }
    }

    fn weights(&self, by_sense: bool) -> [f64; 2] {
        if by_sense { self.rules().goal_weights } else { self.rules().error_weights }
    }

    /// The core in its own order, then the best of the rest, each time the one that is relevant and
    /// says something the chosen ones do not. Source: Carbonell and Goldstein, "The Use of MMR"
    /// (1998). Lessons for everybody come before a user's own.
    fn choose(self, candidates: &mut [Candidate<'_>]) -> Vec<usize> {
        let place = |at: usize| self.deployment.core.iter().position(|core| *core == at);
        let mut core: Vec<usize> =
            (0..candidates.len()).filter(|&at| candidates[at].decision == Decision::Core).collect();
        core.sort_by_key(|&at| place(at));
        let mut open: Vec<usize> = (0..candidates.len())
            .filter(|&at| candidates[at].decision == Decision::Outranked)
            .collect();
        // Far more than can be chosen: whoever ranks lower has nothing new worth having.
        let most = 8 * self.rules().k;
        let better = |&a: &usize, &b: &usize| {
            candidates[b].score.total_cmp(&candidates[a].score).then(a.cmp(&b))
        };
        if open.len() > most {
            open.select_nth_unstable_by(most, better);
            open.truncate(most);
        }
        open.sort_unstable_by(better);
        let top = open.first().map_or(1.0, |&at| candidates[at].score.max(1e-9));
        let mut chosen: Vec<usize> = Vec::new();
        while chosen.len() < self.rules().k && !open.is_empty() {
            let value = |at: usize| {
                let candidate = &candidates[at];
                let earlier = core.iter().chain(&chosen);
                let same =
                    earlier.map(|&other| alike(candidate, &candidates[other])).fold(0.0, f64::max);
                let lambda = self.rules().mmr_lambda;
                lambda * candidate.score / top - (1.0 - lambda) * same
            };
            let best = (0..open.len()).max_by(|&a, &b| {
                value(open[a]).total_cmp(&value(open[b])).then(open[b].cmp(&open[a]))
            });
            let Some(best) = best else { break };
            chosen.push(open.swap_remove(best));
        }
        chosen.sort_by_key(|&at| candidates[at].is_own);
        core.into_iter().chain(chosen).collect()
    }

    fn on_probation(&self, entry: &Entry, session: &str) -> bool {
        // What is on trial is compared with the sessions of the other arm.
        let tried = |standing: &Standing| self.deployment.trial && standing.validated;
        let probation = self.standings.0.get(&entry.id).is_some_and(|s| s.probation && !tried(s));
        probation && self.draw(entry.id.as_str(), session) < self.counters.probation_share
    }

    /// A number in [0, 1) that is the same for the same session.
    fn draw(&self, purpose: &str, session: &str) -> f64 {
        self.key.name("draw", &format!("{purpose}\n{session}")).number() as f64 / 2.0_f64.powi(64)
    }
}

/// Whether only the names in a request count beside its meaning. Whoever knows what words mean is led
/// astray by those that two requests happen to share; names say exactly what is meant. After a failure
/// all words are exact, and an embedder that knows spelling alone tells less than they do.
fn goes_by_meaning(shelf: &Shelf, query: &Query<'_>) -> bool {
    query.error.is_none() && shelf.embedder.as_deref() != Some(HashingEmbedder.name())
}

/// A shelf's lessons against a query, place by place.
struct Matched {
    words: Vec<Match>,
    /// How close they are in meaning; empty where nothing says so.
    close: Vec<f32>,
    by_words: Vec<Option<usize>>,
    by_meaning: Vec<Option<usize>>,
    /// The ranks that count beside those by meaning: by all words, or by names alone.
    counted: Vec<Option<usize>>,
    /// Of meaning, and of what counts beside it.
    weights: [f64; 2],
}

impl Matched {
    /// Both ranks as one number, of 1 for what is first in both.
    fn fused(&self, at: usize) -> f64 {
        let damped = |rank: Option<usize>| rank.map_or(0.0, |r| 1.0 / (RANK_OFFSET + r as f64));
        let [meaning, words] = self.weights;
        let most = (meaning + words) / (RANK_OFFSET + 1.0);
        let fused = meaning * damped(self.by_meaning[at]) + words * damped(self.counted[at]);
        if most > 0.0 { fused / most } else { 0.0 }
    }

    fn relevance(&self, at: usize, kinship: Kinship) -> f64 {
        let similar = self.close.get(at).copied().unwrap_or(0.0).max(self.words[at].coverage);
        if kinship.intent || kinship.error { 1.0 } else { f64::from(similar.clamp(0.0, 1.0)) }
    }
}

/// What a lesson has in common with a query, whatever their words are.
#[derive(Clone, Copy)]
struct Kinship {
    intent: bool,
    error: bool,
}

impl Kinship {
    fn of(entry: &Entry, query: &Query<'_>) -> Self {
        Self {
            intent: query.intent.is_some() && query.intent == entry.intent.as_deref(),
            error: query.error.is_some() && query.error == entry.error,
        }
    }

    fn boost(self) -> f64 {
        1.0 + 0.5 * f64::from(u8::from(self.intent)) + f64::from(u8::from(self.error))
    }
}

/// Which lessons of a shelf must not be shown, and why.
fn ruled_out(
    shelf: &Shelf,
    standings: &[Option<&Standing>],
    query: &Query<'_>,
    now: Timestamp,
) -> Vec<Option<Decision>> {
    let places = shelf.entries.iter().zip(standings).enumerate();
    places
        .map(|(at, (entry, standing))| {
            let core = shelf.core.contains(&at);
            rule_out(shelf, (entry, *standing), query, now).filter(|why| {
                // What is always shown is shown even where its tools are not asked for.
                !(core && *why == Decision::ToolNotAvailable)
            })
        })
        .collect()
}

fn rule_out(
    shelf: &Shelf,
    (entry, standing): (&Entry, Option<&Standing>),
    query: &Query<'_>,
    now: Timestamp,
) -> Option<Decision> {
    if standing.is_none_or(|standing| !standing.serves(shelf)) {
        Some(Decision::NotActive)
    } else if entry.expires_at.is_some_and(|end| end <= now) || entry.valid_from > now {
        Some(Decision::Expired)
    } else if entry.agent.is_some() && entry.agent.as_deref() != query.agent {
        Some(Decision::OtherAgent)
    } else if entry.tools.iter().any(|tool| !query.tools.contains(&tool.as_str())) {
        Some(Decision::ToolNotAvailable)
    } else {
        None
    }
}

/// Ranks from 1, of those allowed that match at all; equal scores share a rank.
fn ranks(
    n: usize,
    allowed: impl Fn(&usize) -> bool,
    score: impl Fn(usize) -> f32,
) -> Vec<Option<usize>> {
    let mut order: Vec<usize> = (0..n).filter(|at| allowed(at) && score(*at) > 0.0).collect();
    order.sort_unstable_by(|&a, &b| score(b).total_cmp(&score(a)));
    let mut ranks = vec![None; n];
    let mut before: Option<(f32, usize)> = None;
    for (place, at) in order.into_iter().enumerate() {
        let rank = match before {
            Some((same, rank)) if same == score(at) => rank,
            _ => place + 1,
        };
        before = Some((score(at), rank));
        ranks[at] = Some(rank);
    }
    ranks
}

/// How alike two lessons are: by their vectors, or by what they are about.
fn alike(a: &Candidate<'_>, b: &Candidate<'_>) -> f64 {
    match (a.vector, b.vector) {
        (Some(x), Some(y)) if x.len() == y.len() => f64::from(dot(x, y).max(0.0)),
        _ => {
            let same = a.entry.tools.iter().filter(|tool| b.entry.tools.contains(tool)).count();
            let all = a.entry.tools.len() + b.entry.tools.len() - same;
            let kind = if a.entry.kind == b.entry.kind { 1.0 } else { 0.5 };
            if all == 0 { 0.0 } else { kind * same as f64 / all as f64 }
        }
    }
}

fn release_name(release: Option<Digest>) -> String {
    release.map_or_else(|| "none".to_owned(), |digest| digest.short())
}

#[cfg(test)]
mod tests;
