//! A lesson tried before it is released: the same requests with it and without, side by side, where
//! nothing can be broken.

use std::collections::BTreeMap;

use serde::Serialize;
use understudy_ident::Timestamp;
use understudy_inference::Embedder;

use crate::{
    Catalogue, Conditions, DeploymentItem, Episode, Intents, Key, MemoryError, Part, Player,
    Practice, ShadowReport, Task,
    agreement::Canon,
    attempt::{Attempted, attempt},
    render,
    score::tool_behaviour,
    words::without_names,
};

/// With fewer requests, an interval by the normal distribution promises too much.
const FEWEST: usize = 10;

/// What a trial needs beside the practice.
#[derive(Clone, Copy)]
pub struct Trial<'a> {
    pub catalogue: &'a Catalogue,
    pub key: &'a Key,
    pub embedder: &'a dyn Embedder,
    /// Of each request, with the lesson and without.
    pub runs: u32,
    pub seed: u64,
    pub at: Timestamp,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Requests that were attempted both ways.
    pub requests: usize,
    /// Requests that were passed over, by reason.
    pub skipped: BTreeMap<&'static str, u64>,
    pub with: Means,
    pub without: Means,
    /// Of the correctness, request by request, with a 95 % interval.
    pub difference: f64,
    pub interval: [f64; 2],
    pub verdict: Judgement,
    /// Of both sides together. Writes are stubbed, every one of them.
    pub shadow: ShadowReport,
}

/// One side's means over the requests.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Means {
    /// How much of a run was right, of 1.
    pub correctness: f64,
    /// The share of calls that neither failed nor repeated nor misfitted their schema.
    pub tools: f64,
    pub calls: f64,
}

/// What the difference says of the lesson.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    Better,
    Worse,
    /// The interval holds 0, or there are too few requests for one.
    Inconclusive,
}

impl std::fmt::Debug for Trial<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trial").field("runs", &self.runs).finish_non_exhaustive()
    }
}

impl Trial<'_> {
    /// Plays every request that the lesson is about, with it and without, by the same seeds.
    /// Requests that taught the lesson are left out.
    pub fn compare(
        self,
        practice: &mut dyn Practice,
        player: &mut dyn Player,
        lesson: &DeploymentItem,
        told: &mut dyn FnMut(),
    ) -> Result<Comparison, MemoryError> {
        let intents = Intents::new(self.catalogue, self.embedder)?;
        let block = render::block("trial", &[line(lesson)]);
        let mut tally = Tally::default();
        for (at, task) in practice.tasks().to_vec().iter().enumerate() {
            let why = match self.unconcerned(task, lesson, &intents)? {
                Some(why) => Some(why),
                None => self.both(practice, (at, task), player, &block, &mut tally)?,
            };
            if let Some(why) = why {
                *tally.skipped.entry(why).or_default() += 1;
            }
            told();
        }
        Ok(tally.comparison())
    }

    /// Why a request says nothing of the lesson.
    fn unconcerned(
        self,
        task: &Task,
        lesson: &DeploymentItem,
        intents: &Intents,
    ) -> Result<Option<&'static str>, MemoryError> {
        let source = self.key.name("source", task.source.as_str());
        if lesson.provenance.is_of(&source) {
            return Ok(Some("it taught the lesson"));
        }
        let agent = lesson.agent.as_ref().map(crate::Declared::as_str);
        if agent.is_some() && agent != task.agent.as_deref() {
            return Ok(Some("it is another agent's"));
        }
        let callable = |name: &str| {
            task.tools.iter().any(|tool| tool["function"]["name"].as_str() == Some(name))
        };
        if !lesson.situation.tools.iter().all(|tool| callable(tool.as_str())) {
            return Ok(Some("a tool of the lesson cannot be called"));
        }
        let Some(intent) = &lesson.pattern.intent else { return Ok(None) };
        let vectors = self.embedder.embed(&[&without_names(&task.goal())])?;
        let found = vectors.first().and_then(|vector| intents.find(vector));
        Ok((found != Some(intent.as_str())).then_some("it is of another kind of task"))
    }

    /// Attempts one request both ways; says why nothing is known of it, if so.
    fn both(
        self,
        practice: &mut dyn Practice,
        (at, task): (usize, &Task),
        player: &mut dyn Player,
        block: &str,
        tally: &mut Tally,
    ) -> Result<Option<&'static str>, MemoryError> {
        let example = practice.example(at);
        let canon = example.map(|told| Canon::of(&Episode::read(told, self.catalogue, self.key)));
        let mut sums = [Means::default(); 2];
        for run in 0..self.runs {
            for (side, block) in [None, Some(block)].into_iter().enumerate() {
                let seed = self.seed + u64::from(run);
                let conditions = Conditions { block, seed, part: Part::Student, at: self.at };
                let Attempted { transcript, ending, .. } =
                    attempt(practice, (at, task), player, conditions)?;
                tally.shadow.add(&ending.shadow);
                if let Some(why) = ending.unfit {
                    return Ok(Some(why));
                }
                let episode = Episode::read(&transcript, self.catalogue, self.key);
                let agreed = canon.as_ref().and_then(|canon| canon.agreement(&episode.assertions));
                let Some(correctness) = agreed.or(ending.reward) else {
                    return Ok(Some("nobody knows what would be right"));
                };
                sums[side].add(Means {
                    correctness,
                    tools: tool_behaviour(&episode.skeleton, self.catalogue).unwrap_or(1.0),
                    calls: transcript.calls.len() as f64,
                });
            }
        }
        tally.pairs.push(sums.map(|sum| sum.over(f64::from(self.runs))));
        Ok(None)
    }
}

/// The lesson as the only one of a block.
fn line(lesson: &DeploymentItem) -> String {
    render::line(1, lesson.situation.text.as_str(), lesson.strategy.text.as_str())
}

impl Means {
    fn add(&mut self, other: Self) {
        self.correctness += other.correctness;
        self.tools += other.tools;
        self.calls += other.calls;
    }

    fn over(self, n: f64) -> Self {
        let n = n.max(1.0);
        Self { correctness: self.correctness / n, tools: self.tools / n, calls: self.calls / n }
    }
}

/// What is counted on the way.
#[derive(Default)]
struct Tally {
    /// Without and with, of every request.
    pairs: Vec<[Means; 2]>,
    skipped: BTreeMap<&'static str, u64>,
    shadow: ShadowReport,
}

impl Tally {
    fn comparison(self) -> Comparison {
        let n = self.pairs.len();
        let mean = |side: usize| {
            let mut sum = Means::default();
            self.pairs.iter().for_each(|pair| sum.add(pair[side]));
            sum.over(n as f64)
        };
        let [without, with] = [0, 1].map(mean);
        let differences: Vec<f64> =
            self.pairs.iter().map(|[a, b]| b.correctness - a.correctness).collect();
        let difference = with.correctness - without.correctness;
        let square = |d: &f64| (d - difference).powi(2);
        let variance = differences.iter().map(square).sum::<f64>() / (n as f64 - 1.0).max(1.0);
        let half = 1.96 * (variance / (n as f64).max(1.0)).sqrt();
        let (low, high) = (difference - half, difference + half);
        let verdict = match n {
            FEWEST.. if low > 0.0 => Judgement::Better,
            FEWEST.. if high < 0.0 => Judgement::Worse,
            _ => Judgement::Inconclusive,
        };
        Comparison {
            requests: n,
            skipped: self.skipped,
            with,
            without,
            difference,
            interval: [low, high],
            verdict,
            shadow: self.shadow,
        }
    }
}
