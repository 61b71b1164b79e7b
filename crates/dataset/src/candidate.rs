//! Steps that may teach something: selected by task and age, then filtered by what they are.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use understudy_ident::{StepId, TrajectoryId};
use understudy_inference::{FinishReason, Served};
use understudy_message::Message;
use understudy_trajectory::{Arm, Outcome, RewardPolicy, Side, Signal, Source, Step};

use crate::{DatasetError, attempt::Attempt, edit::is_trifle, filter::Filter};

/// What rows are made of: a step without its timings, and with its tokens only where they may
/// become an attempt of a group.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Candidate {
    pub(crate) id: StepId,
    pub(crate) trajectory: TrajectoryId,
    pub(crate) session: Option<String>,
    pub(crate) subject: Option<String>,
    pub(crate) response_id: String,
    /// What answered, by what it held: an adapter by its generation.
    pub(crate) model: String,
    pub(crate) arm: Option<Arm>,
    pub(crate) prompt: Vec<Message>,
    pub(crate) tools: Vec<Value>,
    pub(crate) reply: Message,
    /// Oldest first.
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) attempt: Option<Attempt>,
    /// Why its text teaches nothing, whatever was said about it. A reply that was cut off or blank
    /// is no example, but as a sample it may still be an attempt.
    #[serde(skip)]
    pub(crate) flaw: Option<&'static str>,
    /// How many outcomes another one of the same name has taken the place of.
    pub(crate) superseded: usize,
    /// How many edits changed so little that they are taken for accepts.
    pub(crate) trifles: usize,
}

/// How well an attempt at a problem did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scored {
    pub(crate) score: f64,
    /// Where whoever scored the attempts at it says which won and which lost.
    pub(crate) side: Option<Side>,
}

/// Which reply was used after a regenerate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept<'a> {
    /// The response the client named.
    Named(&'a str),
    /// It has to be looked for.
    Unknown,
}

impl<'a> Kept<'a> {
    /// What a regenerate says; nothing of other signals.
    pub(crate) fn after(signal: &'a Signal) -> Option<Self> {
        match signal {
            Signal::Regenerate { kept: Some(response) } => Some(Self::Named(response)),
            Signal::Regenerate { kept: None } => Some(Self::Unknown),
            _ => None,
        }
    }
}

impl Candidate {
    pub(crate) fn new(step: Step, outcomes: Vec<Outcome>, attempt: Option<Attempt>) -> Self {
        let flaw = flaw(&step);
        let mut candidate = Self {
            id: step.id,
            trajectory: step.trajectory,
            session: step.session,
            subject: step.subject,
            response_id: step.response_id,
            model: model(step.served),
            arm: step.assignment.map(|assignment| assignment.arm),
            prompt: step.prompt,
            tools: step.tools,
            reply: step.reply,
            outcomes,
            attempt,
            flaw,
            superseded: 0,
            trifles: 0,
        };
        candidate.settle_outcomes();
        candidate
    }

    /// Adds what another delivery of the step said about it.
    pub(crate) fn hear(&mut self, outcomes: Vec<Outcome>) {
        self.outcomes.extend(outcomes);
        self.settle_outcomes();
    }

    /// Leaves it out where the recipe does not want it: as an example, and as an attempt.
    pub(crate) fn hold_to(&mut self, filter: Filter<'_>) -> Result<(), DatasetError> {
        if let Some(why) = filter.refuse(self)? {
            self.flaw.get_or_insert(why);
            self.attempt = None;
        }
        Ok(())
    }

    /// Puts the outcomes in order, each once.
    fn settle_outcomes(&mut self) {
        self.outcomes.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
        self.outcomes.dedup_by(|a, b| a.id == b.id);
        self.supersede();
        let reply = self.reply.text();
        for outcome in &mut self.outcomes {
            // Clients report an edit when a text field was saved, changed or not.
            if matches!(&outcome.signal, Signal::Edit { text } if is_trifle(&reply, text)) {
                outcome.signal = Signal::Accept;
                self.trifles += 1;
            }
        }
    }

    /// Of several ratings from one kind of source, and of several verdicts of one verifier, the last
    /// one counts: a step has one subject, and a program is right when it was run again.
    fn supersede(&mut self) {
        let name = |outcome: &Outcome| match &outcome.signal {
            Signal::Rating { .. } => Some((outcome.source, None)),
            Signal::Verifier { name, .. } => Some((outcome.source, Some(name.clone()))),
            _ => None,
        };
        let before = self.outcomes.len();
        let mut seen = Vec::new();
        self.outcomes.reverse();
        self.outcomes.retain(|outcome| {
            let Some(name) = name(outcome) else { return true };
            let is_last = !seen.contains(&name);
            if is_last {
                seen.push(name);
            }
            is_last
        });
        self.outcomes.reverse();
        self.superseded += before - self.outcomes.len();
    }

    pub(crate) fn was_accepted(&self) -> bool {
        self.outcomes.iter().any(|outcome| outcome.signal == Signal::Accept)
    }

    pub(crate) fn was_flagged(&self) -> bool {
        self.outcomes.iter().any(|outcome| matches!(outcome.signal, Signal::Flag { .. }))
    }

    /// The change that stood in the end.
    pub(crate) fn edit(&self) -> Option<&str> {
        self.outcomes.iter().rev().find_map(|outcome| match &outcome.signal {
            Signal::Edit { text } => Some(text.as_str()),
            _ => None,
        })
    }

    /// The problem that its trajectory attempted, and what was said last of how well it did.
    pub(crate) fn problem(&self) -> Option<(&str, Scored)> {
        self.outcomes.iter().rev().find_map(|outcome| {
            let (problem, score) = outcome.attempt()?;
            Some((problem, Scored { score, side: outcome.side() }))
        })
    }

    /// Whether another reply was asked for, and which one was used in the end.
    pub(crate) fn regenerated(&self) -> Option<Kept<'_>> {
        self.outcomes.iter().rev().find_map(|outcome| Kept::after(&outcome.signal))
    }

    /// Where what was said cannot all be so, and how: a person has to look, and until then nobody
    /// learns from it.
    pub(crate) fn conflict(&self, policy: RewardPolicy) -> Option<&'static str> {
        let says = |test: fn(&Signal) -> bool| self.outcomes.iter().any(|o| test(&o.signal));
        let used = says(|signal| matches!(signal, Signal::Accept | Signal::Edit { .. }));
        let accepted = says(|signal| *signal == Signal::Accept);
        let praised = says(|signal| matches!(signal, Signal::Rating { value } if *value >= GOOD));
        let damned = says(|signal| matches!(signal, Signal::Rating { value } if *value <= BAD));
        if self.was_flagged() && (used || praised) {
            Some("used or praised, and flagged")
        } else if damned && (accepted || praised) {
            Some("used or praised, and rated as bad")
        } else {
            let open = || policy.is_left_open(&self.outcomes).then_some(OPEN);
            self.is_disproved().or_else(open)
        }
    }

    /// Somebody said in so many words what a program found not to be so. What a program says of a
    /// whole attempt is about none of its replies in particular.
    fn is_disproved(&self) -> Option<&'static str> {
        let said = |test: fn(&Signal) -> bool| {
            self.outcomes.iter().any(|o| o.source == Source::Explicit && test(&o.signal))
        };
        let scored = |test: fn(f64) -> bool| {
            self.outcomes.iter().any(|outcome| match outcome.signal {
                Signal::Verifier { score, .. } => {
                    outcome.source == Source::Automated
                        && outcome.attempt().is_none()
                        && test(score)
                }
                _ => false,
            })
        };
        let liked = said(|signal| match signal {
            Signal::Accept => true,
            Signal::Rating { value } => *value >= GOOD,
            _ => false,
        });
        let disliked = said(|signal| match signal {
            Signal::Abandon | Signal::Flag { .. } => true,
            Signal::Rating { value } => *value <= BAD,
            _ => false,
        });
        if liked && scored(|score| score <= BAD) {
            Some("liked by somebody, and failed by a verifier")
        } else if disliked && scored(|score| score >= GOOD) {
            Some("disliked by somebody, and passed by a verifier")
        } else {
            None
        }
    }
}

/// Of witnesses who balance each other.
const OPEN: &str = "some speak for it and some against it, and neither outweighs the other";

/// From here on a rating or a score speaks for a reply,
const GOOD: f64 = 0.75;
/// and up to here against it.
const BAD: f64 = 0.25;

fn model(Served { base, adapter }: Served) -> String {
    adapter.map_or(base, |adapter| adapter.generation)
}

/// Why there is no example in a step.
fn flaw(step: &Step) -> Option<&'static str> {
    let says_nothing = step.reply.text().trim().is_empty() && step.reply.tool_calls.is_empty();
    let is_text = |message: &Message| message.content.is_text_only();
    if step.error.is_some() {
        Some("failed")
    } else if step.finish_reason == FinishReason::Length {
        Some("cut_off")
    } else if step.finish_reason == FinishReason::Aborted {
        Some("aborted")
    } else if step.prompt.is_empty() || says_nothing {
        Some("empty")
    } else if !step.prompt.iter().chain([&step.reply]).all(is_text) {
        // The trainer reads text; an example without its image would teach guessing.
        Some("not_text")
    } else {
        None
    }
}
