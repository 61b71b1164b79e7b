//! Runs that are made to learn from: a request is attempted several times, where nothing can be
//! broken.
//!
//! A [`Practice`] has the requests and what answers their calls, a [`Player`] makes the runs. Of a
//! practice from recordings nothing answers but a [`Shadow`](crate::Shadow), which holds nothing
//! that could write.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use understudy_ident::{Digest, Timestamp, TrajectoryId};
use understudy_inference::{FinishReason, InferenceError, Served, Timing, TokenRecord, Usage};
use understudy_message::{Message, Role};

use crate::{Called, Failure, MemoryError, Part, Run, ShadowReport, Transcript};

/// A request that can be attempted again.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// The run it was taken from, or a name of its own.
    pub source: TrajectoryId,
    pub agent: Option<String>,
    pub subject: Option<String>,
    /// What was said before the model said anything, without lessons.
    pub prompt: Vec<Message>,
    /// OpenAI definitions of what may be called.
    pub tools: Vec<Value>,
}

impl Task {
    /// What the user wants.
    pub fn goal(&self) -> String {
        let user = self.prompt.iter().find(|message| message.role == Role::User);
        user.map(Message::text).unwrap_or_default()
    }
}

/// What answers the calls of one run.
pub trait World {
    fn call(&mut self, tool: &str, arguments: &Value) -> Result<Value, Failure>;

    /// The run is over: what came of it.
    fn end(self: Box<Self>, played: &Played) -> Ending;
}

/// What a world says of a run in it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ending {
    /// From 0 to 1, where the world knows what should have come about.
    pub reward: Option<f64>,
    /// Why nothing can be said of the run, if so.
    pub unfit: Option<&'static str>,
    /// What a replay answered.
    pub shadow: ShadowReport,
}

/// Requests, and a fresh world for every attempt at one.
pub trait Practice {
    fn tasks(&self) -> &[Task];

    fn world(&mut self, task: usize) -> Box<dyn World + '_>;

    /// A run of the request that is known to have come out right.
    fn example(&self, _task: usize) -> Option<&Transcript> {
        None
    }
}

/// Under which conditions one run is made.
#[derive(Debug, Clone, Copy)]
pub struct Conditions<'a> {
    /// Lessons, as they are shown.
    pub block: Option<&'a str>,
    pub seed: u64,
    pub part: Part,
    pub at: Timestamp,
}

/// What a player did and said.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Played {
    pub calls: Vec<Called>,
    pub answer: String,
    /// Everything that was said or shown beside.
    pub heard: Vec<String>,
    /// Of a model, in turn; a script has none.
    pub replies: Vec<Reply>,
}

/// One reply of a model with all that a server would have recorded of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    pub prompt: Vec<Message>,
    pub message: Message,
    pub finish_reason: FinishReason,
    pub served: Served,
    pub usage: Usage,
    pub timing: Timing,
    pub tokens: Option<TokenRecord>,
}

/// Whoever makes runs: a model with its settings, or a script.
pub trait Player {
    /// What tells its runs apart from another's.
    fn config(&self) -> Digest;

    fn play(
        &mut self,
        task: &Task,
        conditions: Conditions<'_>,
        world: &mut dyn World,
    ) -> Result<Played, MemoryError>;
}

/// How often everything is attempted, and by whom.
#[derive(Debug, Clone, Copy)]
pub struct Attempts {
    /// Of the student at each request.
    pub runs: u32,
    /// Runs of one request and seed are the same.
    pub seed: u64,
    pub at: Timestamp,
}

/// The runs that were made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Made {
    pub transcripts: Vec<Transcript>,
    /// What models said in them, by the run.
    pub said: BTreeMap<TrajectoryId, Said>,
    pub count: Counted,
}

/// The replies of one run, and what they could call.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    pub tools: Vec<Value>,
    pub replies: Vec<Reply>,
}

/// What making them took. Nothing of it quotes a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Counted {
    pub requests: usize,
    pub runs: usize,
    /// Runs that teach nothing, by reason.
    pub unfit: BTreeMap<&'static str, u64>,
    pub shadow: ShadowReport,
}

impl Made {
    fn add(&mut self, task: &Task, Attempted { transcript, replies, ending }: Attempted) {
        self.count.runs += 1;
        self.count.shadow.add(&ending.shadow);
        if let Some(why) = ending.unfit {
            *self.count.unfit.entry(why).or_default() += 1;
            return;
        }
        if !replies.is_empty() {
            let said = Said { tools: task.tools.clone(), replies };
            self.said.insert(transcript.source.clone(), said);
        }
        self.transcripts.push(transcript);
    }
}

impl Attempts {
    /// Has every request attempted by the student so often, and once by the teacher. `told` hears
    /// of every run.
    pub fn make(
        self,
        practice: &mut dyn Practice,
        student: &mut dyn Player,
        mut teacher: Option<&mut dyn Player>,
        told: &mut dyn FnMut(),
    ) -> Result<Made, MemoryError> {
        let tasks = practice.tasks().to_vec();
        let mut made = Made::default();
        made.count.requests = tasks.len();
        for (at, task) in tasks.iter().enumerate() {
            for run in 0..u64::from(self.runs) {
                let conditions = self.conditions(Part::Student, run);
                made.add(task, attempt(practice, (at, task), student, conditions)?);
                told();
            }
            if let Some(teacher) = teacher.as_deref_mut() {
                let conditions = self.conditions(Part::Teacher, 0);
                made.add(task, attempt(practice, (at, task), teacher, conditions)?);
                told();
            }
        }
        Ok(made)
    }

    /// Nobody is shown lessons: what they say is not to be learnt from them.
    fn conditions(self, part: Part, run: u64) -> Conditions<'static> {
        Conditions { block: None, seed: self.seed + run, part, at: self.at }
    }
}

/// One run, with what its world says of it.
pub(crate) struct Attempted {
    pub(crate) transcript: Transcript,
    pub(crate) replies: Vec<Reply>,
    pub(crate) ending: Ending,
}

pub(crate) fn attempt(
    practice: &mut dyn Practice,
    (at, task): (usize, &Task),
    player: &mut dyn Player,
    conditions: Conditions<'_>,
) -> Result<Attempted, MemoryError> {
    let mut world = practice.world(at);
    let played = player.play(task, conditions, world.as_mut());
    let (played, overflow) = match played {
        Ok(played) => (played, None),
        // One long request is no reason to lose all others.
        Err(MemoryError::Model(InferenceError::ContextOverflow { .. })) => {
            (Played::default(), Some("it did not fit the model's context"))
        }
        Err(error) => return Err(error),
    };
    let ending = world.end(&played);
    let ending = Ending { unfit: overflow.or(ending.unfit), ..ending };
    let source = format!("{} {:?} {}", task.source, conditions.part, conditions.seed);
    let transcript = Transcript {
        source: TrajectoryId::derived(&source),
        attempt_of: Some(task.source.clone()),
        agent: task.agent.clone(),
        subject: task.subject.clone(),
        at: conditions.at,
        goal: task.goal(),
        calls: played.calls,
        answer: played.answer,
        heard: played.heard,
        reward: ending.reward,
        harmful: false,
        run: Run { part: conditions.part, config: player.config(), seed: conditions.seed },
    };
    Ok(Attempted { transcript, replies: played.replies, ending })
}

#[cfg(test)]
mod tests;
