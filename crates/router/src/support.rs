//! Who stands beside the arms of a route: a teacher that observes or is called in, a candidate that
//! is only watched, and those who step in.
//!
//! Lots are drawn for each reply, not for each unit, and with salts of their own, so that they fall
//! equally on all arms.

use serde::{Deserialize, Serialize};
use understudy_manifest::{Escalate, Fallback, Observe};

use crate::{Exposure, RouterError, Salt, Target, assign::tapped};

/// Nobody, unless a release says otherwise.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Support {
    pub observe: Option<Observed>,
    pub escalate: Option<Escalate>,
    pub shadow: Option<Shadowed>,
    /// In the order in which they are asked.
    pub fallback: Vec<Fallback>,
}

/// The teacher beside the student.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observed {
    pub rules: Observe,
    pub salt: Salt,
}

/// The candidate beside the stable arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shadowed {
    pub target: Target,
    pub share: Exposure,
    pub salt: Salt,
}

impl Observed {
    /// The probability with which the teacher is asked beside this reply, if the lot fell on it.
    pub fn draw(&self, reply: &str, cued: bool) -> Option<f64> {
        let share = Exposure::new(self.rules.share(cued)).ok()?;
        tapped(self.salt.place(reply), share).then_some(share.get())
    }
}

impl Shadowed {
    /// Whether the lot fell on this reply.
    pub fn draw(&self, reply: &str) -> bool {
        tapped(self.salt.place(reply), self.share)
    }
}

impl Support {
    pub fn is_nobody(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn validate(&self) -> Result<(), RouterError> {
        if let Some(shadow) = &self.shadow {
            shadow.target.check("support.shadow.target")?;
            if shadow.target == Target::Teacher {
                let problem = "a teacher beside the student is an observer: say support.observe";
                return Err(RouterError::Route { field: "support.shadow.target", problem });
            }
        }
        let Some(observe) = &self.observe else { return Ok(()) };
        Exposure::new(observe.rules.share)?;
        Exposure::new(observe.rules.share(true))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(draw: impl Fn(&str) -> bool) -> usize {
        (0..20_000).filter(|n| draw(&format!("step_{n}"))).count()
    }

    #[test]
    fn lots_fall_at_the_share_that_is_recorded() {
        let rules = Observe { share: 0.05, on_cue: Some(0.5) };
        let observed = Observed { rules, salt: Salt::new([3; 16]) };
        // Standard deviations 31 and 71.
        assert!((870..1_130).contains(&drawn(|reply| observed.draw(reply, false) == Some(0.05))));
        assert!((9_700..10_300).contains(&drawn(|reply| observed.draw(reply, true) == Some(0.5))));
        // Whoever is drawn without a cue is drawn with one: the shares are nested.
        for reply in (0..2_000).map(|n| format!("step_{n}")) {
            let (without, with) = (observed.draw(&reply, false), observed.draw(&reply, true));
            assert!(without.is_none() || with.is_some());
        }
    }

    #[test]
    fn lots_of_different_salts_fall_independently() {
        let of = |salt: u8| Shadowed {
            target: Target::Base,
            share: Exposure::new(0.2).unwrap(),
            salt: Salt::new([salt; 16]),
        };
        let (one, other) = (of(1), of(2));
        // 800 expected of both, standard deviation 28.
        assert!((690..910).contains(&drawn(|reply| one.draw(reply) && other.draw(reply))));
    }

    #[test]
    fn a_shadow_is_never_the_teacher() {
        let share = Exposure::HALF;
        let shadow = Shadowed { target: Target::Teacher, share, salt: Salt::new([1; 16]) };
        let support = Support { shadow: Some(shadow), ..Support::default() };
        assert!(support.validate().is_err());
    }
}
