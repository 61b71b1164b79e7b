//! One reply, as a loss sees it.

use crate::ObjectiveError;

/// A log-probability as the model gives it. Everything is widened before anything is computed.
pub trait LogProb: Copy + Into<f64> {}

impl LogProb for f32 {}
impl LogProb for f64 {}

/// The log-probabilities of a reply's trained tokens, in order: those of the policy, and of the
/// reference on the same tokens. Tokens of the prompt, or of tools, are left out by the caller.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Side<'a, F = f32> {
    pub log_probs: &'a [F],
    pub reference: Option<&'a [F]>,
}

impl<F: LogProb> Side<'_, F> {
    pub(crate) fn len(&self) -> usize {
        self.log_probs.len()
    }

    /// The policy's log-probabilities, summed, where tokens from `shared` on count `tail` each.
    pub(crate) fn sum(&self, shared: usize, tail: f64) -> Result<f64, ObjectiveError> {
        weighted_sum("log-probability", self.log_probs, shared, tail)
    }

    /// The reference's, summed likewise. `what` is the loss that needs it.
    pub(crate) fn reference_sum(
        &self,
        what: &'static str,
        shared: usize,
        tail: f64,
    ) -> Result<f64, ObjectiveError> {
        let reference = self.reference.ok_or(ObjectiveError::NoReference { what })?;
        same_length("reference", self.len(), reference.len())?;
        weighted_sum("reference", reference, shared, tail)
    }
}

fn weighted_sum<F: LogProb>(
    what: &'static str,
    values: &[F],
    shared: usize,
    tail: f64,
) -> Result<f64, ObjectiveError> {
    let mut sum = 0.0;
    for (position, value) in values.iter().enumerate() {
        let weight = if position < shared { 1.0 } else { tail };
        sum += weight * finite(what, position, *value)?;
    }
    Ok(sum)
}

pub(crate) fn finite<F: LogProb>(
    what: &'static str,
    position: usize,
    value: F,
) -> Result<f64, ObjectiveError> {
    let value = value.into();
    if value.is_finite() { Ok(value) } else { Err(ObjectiveError::NotFinite { what, position }) }
}

pub(crate) fn same_length(
    what: &'static str,
    expected: usize,
    found: usize,
) -> Result<(), ObjectiveError> {
    if expected == found { Ok(()) } else { Err(ObjectiveError::Length { what, expected, found }) }
}
