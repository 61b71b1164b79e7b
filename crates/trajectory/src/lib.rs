//! The canonical schema: what happened (trajectories and their steps, and conversations that were
//! put together from somebody else's spans), what the user did about it (outcomes), and what that
//! is worth (rewards).
//!
//! Guarantees: a step of our own engine carries everything training will ever need (ids, sampling
//! log-probabilities, digests); outcomes are immutable facts; a reward is always derived from
//! outcomes by a named policy and keeps its components.
//!
//! Never: knows how anything is stored or used.

mod calibration;
mod conversation;
mod course;
mod edit;
mod evidence;
mod outcome;
mod reward;
mod span;
mod step;

use serde::{Deserialize, Serialize};
use understudy_ident::TrajectoryId;

pub use calibration::{Calibration, Overlap, Platt, SignalWeight};
pub use conversation::{Conversation, Phase};
pub use course::{Confidence, Course, Marks, Recalled, TapMode, Tapped};
pub use edit::{edit_ratio, words_changed};
pub use outcome::{Context, Details, Level, Outcome, Side, Signal, Source, Target};
pub use reward::{Component, Reward, RewardPolicy};
pub use span::{
    CallUsage, Fidelity, Finish, FrameRole, ModelCall, Retrieval, Span, SpanBody, ToolRun,
};
pub use step::{Arm, Assignment, Step};

/// One whole session with a task: its steps in order, each with the outcomes linked to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trajectory {
    pub id: TrajectoryId,
    pub steps: Vec<JudgedStep>,
}

/// A step and what was said about it, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JudgedStep {
    pub step: Step,
    pub outcomes: Vec<Outcome>,
}

#[cfg(test)]
mod tests;
