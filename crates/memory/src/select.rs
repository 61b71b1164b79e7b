//! Which runs belong to one kind of task, and may teach.
//!
//! Two signals that know nothing of each other must agree: how the request was worded, and which
//! tools were used for it. A run they disagree on is nobody's example.

use std::collections::{BTreeMap, BTreeSet};

use understudy_ident::Timestamp;
use understudy_inference::Embedder;

use crate::{
    Catalogue, Declared, Episode, Key, MemoryError, Pattern, Selection, ToolIx,
    words::without_names,
};

/// How close two requests must be to be of one kind where no kinds are declared.
const SAME_KIND: f32 = 0.5;

/// The declared kinds of task, ready to be compared with requests.
#[derive(Debug, Clone, Default)]
pub struct Intents {
    names: Vec<String>,
    /// Of each kind: its name, its description and its examples.
    vectors: Vec<Vec<Vec<f32>>>,
}

impl Intents {
    pub fn new(catalogue: &Catalogue, embedder: &dyn Embedder) -> Result<Self, MemoryError> {
        let mut intents = Self::default();
        for intent in &catalogue.intents {
            let name = intent.name.replace(['-', '_', '.'], " ");
            let mut texts: Vec<&str> = vec![&name, &intent.description];
            texts.extend(intent.examples.iter().map(String::as_str));
            texts.retain(|text| !text.is_empty());
            intents.names.push(intent.name.clone());
            intents.vectors.push(embedder.embed(&texts)?);
        }
        Ok(intents)
    }

    /// The kind a request is of, if it is like any.
    pub(crate) fn find(&self, request: &[f32]) -> Option<&str> {
        let (at, _) = self.nearest(request).filter(|(_, close)| *close >= SAME_KIND / 2.0)?;
        Some(&self.names[at])
    }

    fn nearest(&self, request: &[f32]) -> Option<(usize, f32)> {
        let closest = |texts: &Vec<Vec<f32>>| {
            texts.iter().map(|text| dot(request, text)).fold(-1.0, f32::max)
        };
        let all = self.vectors.iter().map(closest).enumerate();
        all.reduce(|best, next| if next.1 > best.1 { next } else { best })
    }
}

/// Runs of one kind of task by one agent.
#[derive(Debug)]
pub(crate) struct Cluster<'a> {
    pub(crate) pattern: Pattern<Declared>,
    pub(crate) agent: Option<usize>,
    pub(crate) episodes: Vec<&'a Episode>,
}

/// How many runs, or kinds of task, were passed over, by reason.
pub(crate) type Skipped = BTreeMap<&'static str, u64>;

/// What selection looks at beside the episodes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lens<'a> {
    pub(crate) catalogue: &'a Catalogue,
    pub(crate) key: &'a Key,
    pub(crate) settings: &'a Selection,
    pub(crate) embedder: &'a dyn Embedder,
    pub(crate) now: Timestamp,
}

impl Lens<'_> {
    /// The kinds of task that may teach, in a stable order.
    pub(crate) fn clusters<'a>(
        self,
        episodes: &'a [Episode],
        skipped: &mut Skipped,
    ) -> Result<Vec<Cluster<'a>>, MemoryError> {
        let mut skip = |why| *skipped.entry(why).or_default() += 1;
        let oldest = self.now.as_second() - i64::from(self.settings.window_days) * 86_400;
        let mut usable = Vec::new();
        for episode in episodes {
            if episode.at.as_second() < oldest {
                skip("too old");
            } else if episode.skeleton.moves.is_empty() {
                skip("no declared tool was called");
            } else {
                usable.push(episode);
            }
        }
        let goals: Vec<String> =
            usable.iter().map(|episode| without_names(&episode.content.goal)).collect();
        let goals: Vec<&str> = goals.iter().map(String::as_str).collect();
        let vectors = self.embedder.embed(&goals)?;
        let labels = self.labels(&vectors)?;
        let tools: Vec<BTreeSet<ToolIx>> = usable
            .iter()
            .map(|episode| episode.skeleton.moves.iter().map(|call| call.tool).collect())
            .collect();
        let mut grouped: BTreeMap<(Option<usize>, usize), Vec<usize>> = BTreeMap::new();
        for (at, episode) in usable.iter().enumerate() {
            // Repetitions of one request would confirm each other.
            let others: Vec<usize> =
                (0..usable.len()).filter(|&other| usable[other].task != episode.task).collect();
            let by_words = |other: usize| f64::from(dot(&vectors[at], &vectors[other]));
            let by_tools = |other: usize| jaccard(&tools[at], &tools[other]);
            let sure = self.confidence(&others, by_words, &labels, labels[at])
                >= self.settings.min_confidence
                && self.confidence(&others, by_tools, &labels, labels[at])
                    >= self.settings.min_confidence;
            if sure {
                grouped.entry((episode.agent, labels[at])).or_default().push(at);
            } else {
                skip("words and tools disagree on the kind of task");
            }
        }
        let mut clusters = Vec::new();
        for ((agent, label), members) in grouped {
            let intent = self.catalogue.intents.get(label);
            let judged =
                members.iter().any(|&at| usable[at].reward.is_some() || usable[at].harmful);
            let repeated = members.iter().any(|&at| usable[at].run.part == crate::Part::Teacher);
            let count = members.len() as u64;
            let mut skip_all = |why| *skipped.entry(why).or_default() += count;
            if intent.is_some_and(|intent| intent.excluded) {
                skip_all("the kind of task is excluded");
            } else if members.len() < self.settings.min_episodes {
                skip_all("too few runs of this kind of task");
            } else if !judged && !repeated {
                skip_all("nobody said how good any run was");
            } else {
                let episodes: Vec<&Episode> = members.iter().map(|&at| usable[at]).collect();
                let pattern = self.pattern(agent, intent.map(|i| i.name.as_str()), &episodes);
                clusters.push(Cluster { pattern, agent, episodes });
            }
        }
        Ok(clusters)
    }

    /// A declared kind for each request; without declarations, requests close to an earlier one are
    /// of its kind (leader clustering: one pass, stable under additions).
    fn labels(self, vectors: &[Vec<f32>]) -> Result<Vec<usize>, MemoryError> {
        if !self.catalogue.intents.is_empty() {
            let intents = Intents::new(self.catalogue, self.embedder)?;
            let nearest =
                |vector: &Vec<f32>| intents.nearest(vector).map_or(usize::MAX, |(at, _)| at);
            return Ok(vectors.iter().map(nearest).collect());
        }
        let mut leaders: Vec<&Vec<f32>> = Vec::new();
        let mut labels = Vec::new();
        for vector in vectors {
            let known = leaders.iter().position(|leader| dot(leader, vector) >= SAME_KIND);
            labels.push(known.unwrap_or(leaders.len()));
            if known.is_none() {
                leaders.push(vector);
            }
        }
        Ok(labels)
    }

    /// The share of the nearest others that have the same label; those as near as the last count too.
    fn confidence(
        self,
        others: &[usize],
        similarity: impl Fn(usize) -> f64,
        labels: &[usize],
        label: usize,
    ) -> f64 {
        let mut near: Vec<(f64, usize)> = others.iter().map(|&at| (similarity(at), at)).collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        let last = near.get(self.settings.neighbours.saturating_sub(1)).or(near.last());
        let Some(last) = last.map(|(similarity, _)| *similarity) else { return 0.0 };
        let asked: Vec<usize> =
            near.iter().take_while(|(s, _)| *s >= last - 1e-9).map(|(_, at)| *at).collect();
        let same = asked.iter().filter(|&&at| labels[at] == label).count();
        same as f64 / asked.len() as f64
    }

    /// The tools most of the runs use: the same from job to job.
    fn common_tools(self, episodes: &[&Episode]) -> String {
        let mut counts: BTreeMap<ToolIx, usize> = BTreeMap::new();
        for episode in episodes {
            let used: BTreeSet<ToolIx> =
                episode.skeleton.moves.iter().map(|call| call.tool).collect();
            for tool in used {
                *counts.entry(tool).or_default() += 1;
            }
        }
        let common = counts.into_iter().filter(|(_, n)| n * 2 > episodes.len());
        let names = common.map(|(tool, _)| self.catalogue.schema(tool).name.as_str());
        names.collect::<Vec<_>>().join(" ")
    }

    fn pattern(
        self,
        agent: Option<usize>,
        intent: Option<&str>,
        episodes: &[&Episode],
    ) -> Pattern<Declared> {
        let agent = agent.map_or("", |at| self.catalogue.agents[at].as_str());
        let what = match intent {
            Some(intent) => intent.to_owned(),
            None => self.common_tools(episodes),
        };
        Pattern {
            intent: intent.and_then(|name| Declared::find(self.catalogue, name)),
            key: self.key.name("pattern", &format!("{agent}\n{what}")),
        }
    }
}

/// In eight sums side by side, which a processor adds up at once.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let length = a.len().min(b.len());
    let (a, b) = (a[..length].chunks_exact(8), b[..length].chunks_exact(8));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(x, y)| x * y).sum();
    let mut sums = [0.0_f32; 8];
    for (a, b) in a.zip(b) {
        for ((sum, x), y) in sums.iter_mut().zip(a).zip(b) {
            *sum += x * y;
        }
    }
    sums.iter().sum::<f32>() + rest
}

fn jaccard<T: Ord>(a: &BTreeSet<T>, b: &BTreeSet<T>) -> f64 {
    let both = a.intersection(b).count();
    let any = a.len() + b.len() - both;
    if any == 0 { 1.0 } else { both as f64 / any as f64 }
}
