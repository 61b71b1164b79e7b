//! The route of one task: who plays which arm, and for what share of the units.

use serde::{Deserialize, Serialize};
use understudy_trajectory::Arm;

use crate::{
    Exposure, RouterError, Salt, Side, Support,
    assign::{side, tapped},
};

/// Who answers a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Target {
    Teacher,
    /// The base model, without an adapter.
    Base,
    /// An adapter version such as `support-triage@3`, and the digest of exactly these weights.
    Adapter {
        version: String,
        generation: String,
    },
}

/// Where a task's requests go. One immutable value; a rollback is another value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    pub stable: Target,
    #[serde(default)]
    pub canary: Option<Canary>,
    #[serde(default)]
    pub tap: Option<Tap>,
    #[serde(default, skip_serializing_if = "Support::is_nobody")]
    pub support: Support,
}

/// The candidate on stage. When it is promoted it becomes `stable` and there is no canary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    pub target: Target,
    /// The canary's share of the untapped units; at most one half, for the baseline's equal slice.
    pub share: Exposure,
    pub salt: Salt,
}

/// The share of units the teacher always answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tap {
    pub share: Exposure,
    /// Different from the canary's salt, so that the tap takes equally from both sides.
    pub salt: Salt,
}

/// What was decided for one unit, with all that is needed to repeat or to reweight the decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    pub arm: Arm,
    pub target: Target,
    /// True for the canary and for its baseline, the marked slice of the stable arm.
    pub analysed: bool,
    /// The unit's place under the canary's salt, as a fraction of 2⁶⁴; 0 without a canary.
    pub u: u64,
    pub canary_share: Exposure,
    pub tap_share: Exposure,
}

impl Route {
    /// Everything to one target: no canary, no tap.
    pub fn to(stable: Target) -> Self {
        Self { stable, canary: None, tap: None, support: Support::default() }
    }

    /// Who serves a unit that the tap would have taken and did not, for want of money or of a
    /// teacher. It is never analysed: it would be compared with units that were not skipped.
    pub fn assign_untapped(&self, unit: &str) -> Assignment {
        let untapped = Self { tap: None, ..self.clone() };
        Assignment { analysed: false, ..untapped.assign(unit) }
    }

    /// Who serves a unit. The same route and unit always give the same answer.
    pub fn assign(&self, unit: &str) -> Assignment {
        let canary = self.canary.as_ref();
        let (u, canary_share) =
            canary.map_or((0, Exposure::NONE), |canary| (canary.salt.place(unit), canary.share));
        let tapped = self.tap.as_ref().is_some_and(|tap| tapped(tap.salt.place(unit), tap.share));
        let (arm, target, analysed) = match (canary, side(u, canary_share)) {
            _ if tapped => (Arm::Teacher, &Target::Teacher, false),
            (Some(canary), Some(Side::Canary)) => (Arm::Canary, &canary.target, true),
            (_, side) => (Arm::Stable, &self.stable, side.is_some()),
        };
        Assignment {
            arm,
            target: target.clone(),
            analysed,
            u,
            canary_share,
            tap_share: self.tap.as_ref().map_or(Exposure::NONE, |tap| tap.share),
        }
    }

    /// Refuses a route that would compare unlike things or name nobody.
    pub fn validate(&self) -> Result<(), RouterError> {
        self.stable.check("stable")?;
        self.support.validate()?;
        let Some(canary) = &self.canary else { return Ok(()) };
        canary.target.check("canary.target")?;
        if canary.share > Exposure::HALF {
            let problem = "a share above 0.5 leaves no room for an equal baseline slice";
            return Err(RouterError::Route { field: "canary.share", problem });
        }
        if self.tap.as_ref().is_some_and(|tap| tap.salt == canary.salt) {
            let problem = "sharing the canary's salt would take the tap's units from one side only";
            return Err(RouterError::Route { field: "tap.salt", problem });
        }
        Ok(())
    }
}

impl Assignment {
    /// The side of the comparison this unit's observations count for, if any.
    pub fn side(&self) -> Option<Side> {
        match (self.arm, self.analysed) {
            (Arm::Canary, true) => Some(Side::Canary),
            (Arm::Stable, true) => Some(Side::Baseline),
            _ => None,
        }
    }
}

impl Target {
    pub(crate) fn check(&self, field: &'static str) -> Result<(), RouterError> {
        match self {
            Self::Adapter { version, generation }
                if version.is_empty() || generation.is_empty() =>
            {
                let problem = "an adapter needs its version and its generation";
                Err(RouterError::Route { field, problem })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(number: u8) -> Target {
        Target::Adapter {
            version: format!("support-triage@{number}"),
            generation: format!("{number:064}"),
        }
    }

    fn route(share: f64, tap: f64) -> Route {
        Route {
            stable: adapter(1),
            canary: Some(Canary {
                target: adapter(2),
                share: Exposure::new(share).unwrap(),
                salt: Salt::new([1; 16]),
            }),
            tap: Some(Tap { share: Exposure::new(tap).unwrap(), salt: Salt::new([2; 16]) }),
            support: Support::default(),
        }
    }

    #[test]
    fn a_ramp_is_sticky_and_the_tap_is_never_analysed() {
        for unit in (0..3_000).map(|i| format!("session-{i}")) {
            let before = route(0.1, 0.05).assign(&unit);
            let after = route(0.4, 0.05).assign(&unit);
            assert_eq!(before, route(0.1, 0.05).assign(&unit));
            assert!(before.side().is_none() || before.side() == after.side());
            assert_eq!(before.arm == Arm::Teacher, after.arm == Arm::Teacher);
            if before.arm == Arm::Teacher {
                assert_eq!((before.target, before.analysed), (Target::Teacher, false));
            }
        }
    }

    #[test]
    fn the_tap_takes_its_share_equally_from_both_sides() {
        let route = route(0.5, 0.2);
        let mut counts = std::collections::BTreeMap::new();
        for i in 0..20_000 {
            let assignment = route.assign(&format!("session-{i}"));
            *counts.entry((assignment.arm, assignment.side())).or_insert(0) += 1;
        }
        // 4 000 and 8 000 expected; standard deviations 57 and 69.
        assert!((3_770..4_230).contains(&counts[&(Arm::Teacher, None)]));
        assert!((7_720..8_280).contains(&counts[&(Arm::Canary, Some(Side::Canary))]));
        assert!((7_720..8_280).contains(&counts[&(Arm::Stable, Some(Side::Baseline))]));
        assert_eq!(counts.len(), 3);
    }

    #[test]
    fn a_skipped_tap_serves_the_arm_beneath_and_is_not_compared() {
        let route = route(0.5, 1.0);
        for unit in (0..200).map(|i| format!("session-{i}")) {
            let beneath = Route { tap: None, ..route.clone() }.assign(&unit);
            let skipped = route.assign_untapped(&unit);
            assert_eq!((skipped.arm, &skipped.target), (beneath.arm, &beneath.target));
            assert!(beneath.analysed && !skipped.analysed);
        }
    }

    #[test]
    fn a_plain_route_serves_the_stable_target_and_analyses_nothing() {
        for i in 0..200 {
            let assignment = Route::to(Target::Base).assign(&format!("session-{i}"));
            assert_eq!((assignment.arm, assignment.target), (Arm::Stable, Target::Base));
            assert!(!assignment.analysed);
        }
    }

    #[test]
    fn a_wrong_route_names_its_field() {
        let field = |route: Route| match route.validate() {
            Err(RouterError::Route { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(route(0.5, 1.0).validate(), Ok(()));
        assert_eq!(field(route(0.6, 0.0)), "canary.share");
        let mut same_salt = route(0.1, 0.1);
        same_salt.tap.as_mut().unwrap().salt = Salt::new([1; 16]);
        assert_eq!(field(same_salt), "tap.salt");
        let nobody = Target::Adapter { version: String::new(), generation: "x".into() };
        assert_eq!(field(Route::to(nobody)), "stable");
    }
}
