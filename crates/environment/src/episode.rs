//! What every environment offers.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use understudy_message::Message;
use understudy_reward::RewardError;

use crate::{EnvironmentError, PriceDesk};

/// A place with tools, rules and a supply of tasks.
pub trait Environment: Send + Sync + fmt::Debug {
    fn name(&self) -> &'static str;

    /// The tools as OpenAI schemas, `{"type": "function", "function": {…}}` each, for a chat
    /// template that lists them. The prompt of a task explains them too.
    fn tools(&self) -> Vec<Value>;

    /// The first `count` different tasks of a seed. Tasks of different splits share nothing that
    /// could be learnt by heart.
    fn tasks(&self, split: Split, seed: u64, count: usize) -> Vec<Task>;

    fn start(&self, task: &Task) -> Result<Box<dyn Episode>, EnvironmentError>;

    /// What an expert would say, with what it would observe: everything after the prompt. Played in
    /// an episode it earns 1, and it is what a model is warmed up on by imitation.
    fn demonstration(&self, task: &Task) -> Result<Vec<Message>, EnvironmentError>;
}

/// One task being done.
pub trait Episode: Send + fmt::Debug {
    /// What the model sees before it says anything.
    fn prompt(&self) -> Vec<Message>;

    /// Takes the model's next message. After the end nothing changes any more.
    fn act(&mut self, reply: &Message) -> Turn;

    /// From 0 to 1 once it is over; no opinion before, or after a failure of the environment.
    fn reward(&self) -> Result<Option<f64>, RewardError>;
}

/// What follows from a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Turn {
    /// Append these, which the model did not say and must not learn, and sample again.
    Observe(Vec<Message>),
    Done,
    /// The environment broke, through no fault of the model: leave the whole trajectory out of
    /// training and out of its group's baseline.
    Failed(String),
}

/// Which tasks may be trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    Train,
    HeldOut,
}

/// Something to do, as data that its environment understands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    pub id: String,
    pub prompt: Vec<Message>,
    /// What the environment needs to play the task and to check the answer. Not for the model.
    pub record: Value,
}

/// An environment of this crate, by the name a recipe uses.
pub fn named(name: &str) -> Result<Box<dyn Environment>, EnvironmentError> {
    match name {
        PriceDesk::NAME => Ok(Box::new(PriceDesk::default())),
        _ => Err(EnvironmentError::Unknown {
            name: name.to_owned(),
            known: PriceDesk::NAME.to_owned(),
        }),
    }
}
