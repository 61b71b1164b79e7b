//! Money as integers, and what a generation costs.

use std::fmt;

use serde::{Deserialize, Serialize};
use understudy_inference::Usage;

/// Millionths of a US dollar: integers, because sums of prices must not drift.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct MicroUsd(u64);

impl MicroUsd {
    pub const ZERO: Self = Self(0);

    pub const fn new(micro_usd: u64) -> Self {
        Self(micro_usd)
    }

    pub const fn from_usd(usd: u64) -> Self {
        Self(usd.saturating_mul(1_000_000))
    }

    pub const fn get(self) -> u64 {
        self.0
    }

    pub(crate) const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    pub(crate) const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for MicroUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// What a provider asks for a million tokens, read and written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    pub input_per_million: MicroUsd,
    pub output_per_million: MicroUsd,
}

impl Price {
    /// (prompt · input + completion · output) / 10⁶, rounded up.
    pub fn cost(&self, usage: Usage) -> MicroUsd {
        let side = |tokens: u32, price: MicroUsd| u128::from(tokens) * u128::from(price.0);
        let total = side(usage.prompt_tokens, self.input_per_million)
            + side(usage.completion_tokens, self.output_per_million);
        MicroUsd(u64::try_from(total.div_ceil(1_000_000)).unwrap_or(u64::MAX))
    }
}
