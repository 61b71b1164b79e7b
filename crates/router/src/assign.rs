//! One salted hash of the unit decides its arm.
//!
//! `h = SHA-256("route-v1" ‖ 0 ‖ salt ‖ 0 ‖ unit)`, and `u` is the first eight bytes as a big-endian
//! integer, read as a fraction of 2⁶⁴. With a canary share `s` of at most one half:
//!
//! ```text
//! 0 ............ s ........... 1/2 ............ 1/2 + s ............ 1
//! |-- canary ---|-- stable ---|-- baseline ----|------ stable ------|
//! ```
//!
//! The baseline is a marked part of the stable arm, as large as the canary and served at the same
//! time. Both intervals only grow with `s`, so a ramp never moves a unit from one to the other.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::RouterError;

const ONE: u128 = 1 << 64;
const HALF: u128 = ONE / 2;

/// The two sides of the comparison: the canary, and the marked slice of the stable arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    Canary,
    Baseline,
}

/// A share of a task's units, from 0 to 1.
///
/// For a canary this is the canary's own share `s`; an equal share is compared with it, so at most
/// one half is possible.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Exposure(f64);

impl Exposure {
    pub const NONE: Self = Self(0.0);
    pub const HALF: Self = Self(0.5);

    pub fn new(value: f64) -> Result<Self, RouterError> {
        if (0.0..=1.0).contains(&value) {
            Ok(Self(value))
        } else {
            Err(RouterError::Exposure { value })
        }
    }

    pub fn get(self) -> f64 {
        self.0
    }

    /// The share as a count of hash values: exact, because scaling by 2⁶⁴ only moves the exponent,
    /// and wide enough that a share of 1 covers the largest hash.
    fn width(self) -> u128 {
        (self.0 * ONE as f64) as u128
    }
}

impl TryFrom<f64> for Exposure {
    type Error = RouterError;

    fn try_from(value: f64) -> Result<Self, RouterError> {
        Self::new(value)
    }
}

impl From<Exposure> for f64 {
    fn from(exposure: Exposure) -> Self {
        exposure.0
    }
}

/// Sixteen random bytes, fresh for every release, so that two releases do not meet the same units.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Salt([u8; 16]);

impl Salt {
    pub fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Where a unit falls, as a fraction of 2⁶⁴.
    pub fn place(&self, unit: &str) -> u64 {
        let mut hasher = Sha256::new();
        hasher.update(b"route-v1\0");
        hasher.update(self.0);
        hasher.update(b"\0");
        hasher.update(unit.as_bytes());
        let hash = hasher.finalize();
        hash.iter().take(8).fold(0, |u, byte| (u << 8) | u64::from(*byte))
    }
}

impl FromStr for Salt {
    type Err = RouterError;

    fn from_str(text: &str) -> Result<Self, RouterError> {
        let wrong = || RouterError::Salt { text: text.to_owned() };
        // `from_str_radix` would also accept a leading plus sign.
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let bits = u128::from_str_radix(text, 16).map_err(|_| wrong())?;
        Ok(Self(bits.to_be_bytes()))
    }
}

impl TryFrom<String> for Salt {
    type Error = RouterError;

    fn try_from(text: String) -> Result<Self, RouterError> {
        text.parse()
    }
}

impl From<Salt> for String {
    fn from(salt: Salt) -> Self {
        salt.to_string()
    }
}

impl fmt::Display for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Salt({self})")
    }
}

/// Whether the tap takes a unit that fell at `u`.
pub(crate) fn tapped(u: u64, share: Exposure) -> bool {
    u128::from(u) < share.width()
}

/// The side of the comparison that a unit at `u` is on, or none when it is served but not compared.
pub(crate) fn side(u: u64, share: Exposure) -> Option<Side> {
    let (u, width) = (u128::from(u), share.width().min(HALF));
    if u < width {
        Some(Side::Canary)
    } else if (HALF..HALF + width).contains(&u) {
        Some(Side::Baseline)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting_salt() -> Salt {
        "000102030405060708090a0b0c0d0e0f".parse().unwrap()
    }

    #[test]
    fn places_match_the_golden_values() {
        let zero = Salt::new([0; 16]);
        assert_eq!(zero.place("user-1"), 0xdc46_fad7_e02e_caa2);
        assert_eq!(zero.place("user-2"), 0x2a81_7148_5409_a67a);
        assert_eq!(zero.place(""), 0xd360_6965_ec5b_9f08);
        assert_eq!(counting_salt().place("session-abc"), 0x5fca_ed50_d446_b707);
    }

    #[test]
    fn two_hundred_thousand_units_split_into_equal_slices() {
        let share = Exposure::new(0.05).unwrap();
        let salt = Salt::new([0; 16]);
        let sides: Vec<_> =
            (0..200_000).map(|i| side(salt.place(&format!("user-{i}")), share)).collect();
        let count = |wanted| sides.iter().filter(|side| **side == Some(wanted)).count();
        // 10 000 expected of each, standard deviation 97.
        assert_eq!((count(Side::Canary), count(Side::Baseline)), (9_864, 9_955));
    }

    #[test]
    fn a_growing_share_only_takes_units_from_outside_the_comparison() {
        let salt = counting_salt();
        for u in (0..5_000).map(|i| salt.place(&format!("session-{i}"))) {
            let mut before = None;
            for percent in [0, 1, 5, 10, 25, 50] {
                let now = side(u, Exposure::new(f64::from(percent) / 100.0).unwrap());
                assert!(before.is_none() || now == before, "{u:x} changed side at {percent} %");
                before = now;
            }
            assert!(before.is_some(), "at one half every unit is compared");
        }
    }

    #[test]
    fn the_edges_belong_to_exactly_one_side() {
        let full = Exposure::new(1.0).unwrap();
        assert!(tapped(u64::MAX, full) && tapped(0, full));
        assert!(!tapped(0, Exposure::NONE));
        assert_eq!(side(u64::MAX, Exposure::HALF), Some(Side::Baseline));
        assert_eq!(side(1 << 63, Exposure::HALF), Some(Side::Baseline));
        assert_eq!(side((1 << 63) - 1, Exposure::HALF), Some(Side::Canary));
        assert_eq!(side(0, Exposure::NONE), None);
        assert_eq!(side(1 << 63, Exposure::NONE), None);
    }

    #[test]
    fn salts_are_spelled_one_way_and_shares_stay_between_zero_and_one() {
        let salt = counting_salt();
        assert_eq!(salt.to_string().parse::<Salt>().unwrap(), salt);
        for wrong in ["", "00", "+0102030405060708090a0b0c0d0e0f0", &"é".repeat(16)] {
            assert!(wrong.parse::<Salt>().is_err(), "{wrong}");
        }
        for wrong in [-0.01, 1.01, f64::NAN, f64::INFINITY] {
            assert!(Exposure::new(wrong).is_err(), "{wrong}");
        }
    }
}
