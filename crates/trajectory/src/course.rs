//! The turns a request can take between its arm and its reply.

use serde::{Deserialize, Serialize};
use understudy_ident::StepId;

use crate::Arm;

/// Everything beyond "the assigned arm answered": whatever happens, a unit counts for the arm it
/// was assigned to, so what happened has to be told beside it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Course {
    /// The teacher's part in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tap: Option<Tapped>,
    /// The step that this reply was made beside. It was shown to nobody and acted upon by nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beside: Option<StepId>,
    /// Why somebody else answered for the assigned arm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// What spoke against the student's reply, whether or not that led anywhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cues: Vec<String>,
    /// What became of an escalation: `answered`, or why the student's reply stood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escalation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Confidence>,
    /// What the assigned arm's own reply did.
    #[serde(skip_serializing_if = "Marks::is_clean")]
    pub marks: Marks,
    /// The client went away before the reply was complete. That is no error of whoever was replying,
    /// and may say that it was slow: how long the client waited is the step's time.
    #[serde(skip_serializing_if = "is_false")]
    pub left: bool,
    /// The lessons it was shown, where there is a memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Recalled>,
}

impl Course {
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

/// Which memory a request met, and for which comparison: with the adapter that answered, all that is
/// needed to tell a reply's cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recalled {
    /// The memory release, by its digest; none where the arm serves no lessons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// What was shown of it, as `mem_…@revision`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shown: Vec<String>,
    /// Of the memory's own canary, which is drawn apart from the adapter's.
    pub arm: Arm,
    /// Whether it belongs to the comparison of the arms: it lies in one of the two slices, and the
    /// arms would have shown it different lessons.
    pub analysed: bool,
    /// Where the unit fell under the memory canary's salt, of 2^64.
    pub u: u64,
    /// The memory's release in progress, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<String>,
}

/// A reply the teacher made or was to make, and how likely it was to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Tapped {
    pub mode: TapMode,
    /// The probability with which it was drawn; 1 for an escalation. Its inverse is the weight that
    /// makes estimates from tapped replies unbiased.
    pub share: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TapMode {
    /// The teacher answered instead, by lot.
    Serve,
    /// The teacher answered beside the student.
    Observe,
    /// The teacher answered instead, because a cue spoke against the student's reply.
    Escalate,
}

impl TapMode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Observe => "observe",
            Self::Escalate => "escalate",
        }
    }
}

/// Log-probabilities of a reply's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Confidence {
    pub mean_log_prob: f64,
    pub min_log_prob: f64,
}

/// What a reply did, apart from what it said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Marks {
    /// A call of a tool that does not exist, or with arguments it does not take.
    #[serde(skip_serializing_if = "is_false")]
    pub invalid_tools: bool,
    /// Not the JSON that was asked for.
    #[serde(skip_serializing_if = "is_false")]
    pub invalid_format: bool,
    /// It asked back instead of answering.
    #[serde(skip_serializing_if = "is_false")]
    pub question: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub refusal: bool,
    /// Neither text nor a call.
    #[serde(skip_serializing_if = "is_false")]
    pub empty: bool,
    /// It was cut off by the limit on its length.
    #[serde(skip_serializing_if = "is_false")]
    pub cut_off: bool,
}

impl Marks {
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_false(value: &bool) -> bool {
    !*value
}
