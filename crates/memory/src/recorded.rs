//! Recorded requests, to be attempted again in the shadow: reads come from the recording, writes
//! only seem to happen, and a run that asks for what nobody recorded teaches nothing.

use serde_json::Value;
use understudy_message::{Message, Role};
use understudy_trajectory::Trajectory;

use crate::{
    Called, Catalogue, Ending, Failure, Matching, Miss, NoReader, Played, Practice, Scoring,
    Shadow, Task, Transcript, World, transcript::without_blocks,
};

/// Why a replayed run says nothing: whatever came after was made up.
const UNRECORDED: &str = "it read what was never recorded";

/// Requests of a journal.
#[derive(Debug)]
pub struct Recordings<'a> {
    catalogue: &'a Catalogue,
    /// What a run must be worth to be an example.
    bar: f64,
    tasks: Vec<Task>,
    runs: Vec<Transcript>,
    reader: NoReader,
}

impl<'a> Recordings<'a> {
    pub fn new(catalogue: &'a Catalogue, scoring: &Scoring) -> Self {
        let (tasks, runs) = (Vec::new(), Vec::new());
        Self { catalogue, bar: scoring.bar, tasks, runs, reader: NoReader }
    }

    /// Takes a run up, if it is one that can be repeated: it has a request and called declared
    /// tools.
    pub fn add(&mut self, trajectory: &Trajectory) -> bool {
        let Some(told) = Transcript::of_trajectory(trajectory) else { return false };
        let declared = |call: &Called| self.catalogue.tool(&call.tool).is_some();
        let Some(first) = trajectory.steps.first() else { return false };
        if !told.calls.iter().any(declared) {
            return false;
        }
        let step = &first.step;
        let tools =
            if step.tools.is_empty() { self.catalogue.openai_tools() } else { step.tools.clone() };
        self.tasks.push(Task {
            source: told.source.clone(),
            agent: told.agent.clone(),
            subject: told.subject.clone(),
            prompt: opening(&step.prompt),
            tools,
        });
        self.runs.push(told);
        true
    }

    /// The runs as they were recorded, in the order of the tasks.
    pub fn recorded(&self) -> &[Transcript] {
        &self.runs
    }
}

/// What was said before the model said anything, without the lessons that were shown.
fn opening(prompt: &[Message]) -> Vec<Message> {
    let said = prompt.iter().take_while(|m| matches!(m.role, Role::System | Role::User));
    let plain = |message: &Message| {
        let content = message.content.map_text(|text| without_blocks(text).trim_end().to_owned());
        Message { content, ..message.clone() }
    };
    let with_words = |message: &Message| message.role == Role::User || !message.text().is_empty();
    said.map(plain).filter(with_words).collect()
}

impl Practice for Recordings<'_> {
    fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    fn world(&mut self, task: usize) -> Box<dyn World + '_> {
        let calls = self.runs[task].calls.clone();
        let how = (Matching::Strict, Miss::Fail);
        Box::new(Replayed(Shadow::new(self.catalogue, calls, how, &mut self.reader)))
    }

    fn example(&self, task: usize) -> Option<&Transcript> {
        let told = &self.runs[task];
        let right = !told.harmful && told.reward.is_some_and(|reward| reward >= self.bar);
        right.then_some(told)
    }
}

/// A shadow as a world.
struct Replayed<'a>(Shadow<'a>);

impl World for Replayed<'_> {
    fn call(&mut self, tool: &str, arguments: &Value) -> Result<Value, Failure> {
        self.0.call(tool, arguments)
    }

    fn end(self: Box<Self>, _: &Played) -> Ending {
        let shadow = self.0.finish();
        Ending { reward: None, unfit: (shadow.missed > 0).then_some(UNRECORDED), shadow }
    }
}
