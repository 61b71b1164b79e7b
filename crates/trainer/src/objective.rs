//! What training wants: a loss over log-probabilities, and how much each of them should move.
//!
//! Every objective here is a scalar function of the log-probabilities of given target tokens, so
//! its whole interface to the model is one coefficient `∂loss/∂lp` per token.

pub(crate) mod dpo;
pub(crate) mod sft;

use self::dpo::Preference;

/// What a stage optimises.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Objective {
    /// Imitate completions.
    Sft,
    /// Prefer chosen over rejected.
    Dpo(Preference),
}

/// What the sums of one optimiser step are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Rows (SFT) or pairs (DPO).
    pub examples: usize,
    /// Tokens to be imitated: every completion of SFT, the chosen ones of DPO.
    pub wanted: usize,
    /// Tokens with a coefficient: the same, and the rejected ones.
    pub trained: usize,
}
