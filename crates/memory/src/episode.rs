//! One run as the pipeline sees it: a skeleton, assertions, and words that only comparison reads.

use std::{collections::BTreeSet, fmt};

use understudy_ident::{Timestamp, TrajectoryId};

use crate::{
    Catalogue, ErrorSignature, Key, Keyed, Move, Run, Shape, Skeleton, ToolSchema, Transcript,
    agreement::{self, Assertion},
    heal::target_name,
    overlap::Sources,
    transcript::{Called, without_blocks},
};

/// A run. It cannot be serialised: the trace store keeps what was said, and `source` finds it there.
#[derive(Clone)]
pub struct Episode {
    pub source: TrajectoryId,
    /// The run or case whose request was attempted again, where this is such an attempt.
    pub attempt_of: Option<TrajectoryId>,
    /// Its place among the catalogue's agents.
    pub agent: Option<usize>,
    pub user: Option<Keyed>,
    /// The same for runs of one request.
    pub task: Keyed,
    pub at: Timestamp,
    pub run: Run,
    pub skeleton: Skeleton,
    pub reward: Option<f64>,
    pub harmful: bool,
    pub(crate) assertions: Vec<Assertion>,
    pub(crate) content: Content,
}

/// What was said, for as long as a job runs.
#[derive(Clone)]
pub(crate) struct Content {
    pub(crate) goal: String,
    pub(crate) sources: Sources,
}

impl fmt::Debug for Episode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, run, skeleton, reward, .. } = self;
        let mut debug = f.debug_struct("Episode");
        debug.field("source", source).field("run", run).field("skeleton", skeleton);
        debug.field("reward", reward).finish_non_exhaustive()
    }
}

impl Episode {
    /// Reads a transcript with the eyes of a catalogue: what is not declared there is only counted.
    pub fn read(transcript: &Transcript, catalogue: &Catalogue, key: &Key) -> Self {
        let goal = without_blocks(&transcript.goal);
        Self {
            source: transcript.source.clone(),
            attempt_of: transcript.attempt_of.clone(),
            agent: transcript.agent.as_deref().and_then(|agent| catalogue.agent(agent)),
            user: transcript.subject.as_deref().map(|user| key.name("user", user)),
            task: key.name("task", &crate::words::normal(&goal)),
            at: transcript.at,
            run: transcript.run,
            skeleton: skeleton(transcript, catalogue, key),
            reward: transcript.reward,
            harmful: transcript.harmful,
            assertions: agreement::extract(transcript, catalogue),
            content: Content { goal, sources: Sources::of(&transcript.contents()) },
        }
    }

    /// The name its trace has among the sources of a lesson.
    pub(crate) fn source_name(&self, key: &Key) -> Keyed {
        key.name("source", self.source.as_str())
    }

    /// Likewise that of what it is an attempt at: whoever forgets that, or judges by it, has to find
    /// the lesson.
    pub(crate) fn origin_name(&self, key: &Key) -> Option<Keyed> {
        self.attempt_of.as_ref().map(|origin| key.name("source", origin.as_str()))
    }
}

fn skeleton(transcript: &Transcript, catalogue: &Catalogue, key: &Key) -> Skeleton {
    let mut skeleton = Skeleton::default();
    let mut seen = BTreeSet::new();
    for call in &transcript.calls {
        let Some(tool) = catalogue.tool(&call.tool) else {
            skeleton.undeclared += 1;
            continue;
        };
        let given = call.arguments.as_object();
        let mut arguments = Vec::new();
        let mut undeclared_arguments = 0;
        for (name, value) in given.into_iter().flatten() {
            match catalogue.key(tool, name) {
                Some(at) => {
                    let declared = &catalogue.argument(tool, at).values;
                    arguments.push((at, Shape::of(value, declared)));
                }
                None => undeclared_arguments += 1,
            }
        }
        arguments.sort_unstable();
        let failed = call.result.as_ref().err();
        skeleton.moves.push(Move {
            tool,
            arguments,
            undeclared_arguments,
            failed: failed.map(|failure| ErrorSignature::of(&failure.message, failure.code, key)),
            target: target_of(catalogue.schema(tool), call).map(|name| target_name(name, key)),
            batch: call.batch,
            repeated: !seen.insert((tool, call.arguments.to_string())),
            latency_ms: call.latency_ms,
            tokens: call.tokens,
        });
    }
    skeleton
}

/// Where a call went: as its tool's schema says, or as the argument does that names it.
fn target_of<'a>(tool: &'a ToolSchema, call: &'a Called) -> Option<&'a str> {
    let argument = tool.target_argument.as_deref();
    let named = argument.and_then(|name| call.arguments.get(name)?.as_str());
    tool.target.as_deref().or(named).filter(|name| !name.trim().is_empty())
}
