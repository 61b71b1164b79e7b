//! A rubric over one answer: each criterion is asked by itself, of somebody who can read.

use understudy_manifest::{Case, Criterion, Rubric};
use understudy_message::Message;

use crate::{Answer, Outcome, Score};

/// Whether one thing holds of one answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Question<'a> {
    pub prompt: &'a [Message],
    /// An answer that is known to be right, where there is one.
    pub expected: Option<&'a str>,
    /// The text, and every call it makes in a line of its own.
    pub answer: &'a str,
    pub holds: &'a str,
}

/// Somebody who answers such questions with yes or no, or says why not.
pub trait Assessor {
    fn assess(&self, question: &Question<'_>) -> Result<bool, String>;
}

/// A rubric with the case it is about.
#[derive(Debug)]
pub(crate) struct Assessment {
    criteria: Vec<Criterion>,
    prompt: Vec<Message>,
    expected: Option<String>,
}

impl Assessment {
    /// `expected` is shown as the right answer; where the case brings its own statement, that is
    /// none.
    pub(crate) fn new(rubric: &Rubric, case: &Case, expected: Option<&str>) -> Self {
        let expected = expected.filter(|text| !text.trim().is_empty()).map(str::to_owned);
        Self { criteria: rubric.criteria.clone(), prompt: case.prompt.clone(), expected }
    }

    /// `Σ weight · met / Σ weight`. One criterion that nobody could decide leaves the whole
    /// undecided: what is not known to be met is no pass.
    pub(crate) fn outcome(&self, answer: &Answer<'_>, by: &dyn Assessor) -> Outcome {
        let text = written(answer);
        let (mut sum, mut weights) = (0.0, 0.0);
        for criterion in &self.criteria {
            let question = Question {
                prompt: &self.prompt,
                expected: self.expected.as_deref(),
                answer: &text,
                holds: &criterion.holds,
            };
            match by.assess(&question) {
                Ok(met) => sum += criterion.weight * f64::from(u8::from(met)),
                Err(why) => return Outcome::unscored(format!("{}: {why}", criterion.name)),
            }
            weights += criterion.weight;
        }
        Score::graded(sum / weights).into()
    }
}

/// An answer as a reader sees it: its text, and every call in a line of its own.
pub fn written(answer: &Answer<'_>) -> String {
    let mut text = answer.text.to_owned();
    for call in answer.tool_calls().iter().flatten() {
        let arguments = understudy_manifest::canonical_json(&call.arguments);
        text.extend(["\n[calls ", &call.name, " with ", &arguments, "]"]);
    }
    text
}
