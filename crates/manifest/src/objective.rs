//! What a preference or policy stage optimises: the names of losses, and their numbers.
//!
//! The vocabulary of a recipe and of an adapter's lineage, and nothing else: what a loss computes
//! is in `understudy-objective`. A settings record is always resolved. A value that is left out of
//! a recipe takes what `for_loss` gives for that loss, so no lineage ever says "default".
//!
//! Where a number turns a feature off, it is `0`: TOML can't say "none".

mod advantage;
mod correction;
mod kl;
mod policy;
mod preference;

pub use advantage::{AdvantageScale, AdvantageSettings};
pub use correction::{CorrectionSettings, ImportanceCorrection};
pub use kl::{KlEstimator, KlGradient, KlSettings};
pub use policy::{Aggregation, PolicyLoss, PolicySettings, SapoSettings, VespoSettings};
pub use preference::{LabelLoss, LabelSettings, PreferenceLoss, PreferenceSettings};

/// A setting that its loss cannot work with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` {what}")]
pub struct SettingError {
    pub key: &'static str,
    /// What must hold, as the end of a sentence about the key.
    pub what: String,
}

/// Holds, or names the key at fault.
fn ensure(holds: bool, key: &'static str, what: &str) -> Result<(), SettingError> {
    if holds { Ok(()) } else { Err(SettingError { key, what: what.to_owned() }) }
}

/// Finite, and more than zero.
fn positive(key: &'static str, value: f64) -> Result<(), SettingError> {
    ensure(value.is_finite() && value > 0.0, key, "must be more than 0")
}

/// Finite, and not less than zero.
fn not_negative(key: &'static str, value: f64) -> Result<(), SettingError> {
    ensure(value.is_finite() && value >= 0.0, key, "must be 0 or more")
}

#[cfg(test)]
mod tests;
