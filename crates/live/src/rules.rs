//! What is looked at, and by which scorers.

use serde::Deserialize;
use understudy_ident::{Digest, TrajectoryId};
use understudy_manifest::{Case, Check, Scorer};
use understudy_scorer::{Grader, ScorerError};

/// A share of trajectories, and checks for their replies.
#[derive(Debug)]
pub struct Rules {
    share: f64,
    checks: Vec<Look>,
}

/// As a configuration says it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    share: f64,
    #[serde(default)]
    scorers: Vec<Scorer>,
    #[serde(default)]
    checks: Vec<Check>,
}

/// One check, and its grader where that does not depend on the question.
#[derive(Debug)]
pub(crate) struct Look {
    pub name: String,
    check: Check,
    fixed: Option<Grader>,
}

/// Why traffic cannot be looked at like that.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RulesError {
    #[error("cannot look at a share of {0}: say more than 0 and at most 1")]
    Share(String),
    #[error("cannot look at live traffic without a scorer; name one, such as no_refusal")]
    NoScorer,
    #[error(
        "cannot score live traffic with `{0}`: it compares with an expected answer, and nobody knows one; {alternatives}",
        alternatives = "use json_valid, regex:PATTERN, refusal, no_refusal, pii_leak, latency:MS or tokens:N, or a check with a value"
    )]
    Reference(String),
    #[error("cannot score live traffic with `{0}`: what it measures is not in the journal")]
    Unmeasured(String),
    #[error("cannot score live traffic with `{scorer}`")]
    Scorer { scorer: String, source: ScorerError },
    #[error("cannot tell two checks called `{0}` apart; leave one out")]
    Twice(String),
}

impl Rules {
    /// Checks that every scorer can do without an expected answer or has the same one for all.
    pub fn new(share: f64, scorers: &[Scorer], checks: &[Check]) -> Result<Self, RulesError> {
        if !(share > 0.0 && share <= 1.0) {
            return Err(RulesError::Share(share.to_string()));
        }
        let plain = scorers.iter().map(|scorer| Check::new(scorer.clone(), None));
        let mut looks: Vec<Look> = Vec::new();
        for check in plain.chain(checks.iter().cloned()) {
            let look = Look::of(check)?;
            if looks.iter().any(|other| other.name == look.name) {
                return Err(RulesError::Twice(look.name));
            }
            looks.push(look);
        }
        if looks.is_empty() {
            return Err(RulesError::NoScorer);
        }
        Ok(Self { share, checks: looks })
    }

    pub fn share(&self) -> f64 {
        self.share
    }

    /// Names of the checks, in their order.
    pub fn names(&self) -> Vec<String> {
        self.checks.iter().map(|look| look.name.clone()).collect()
    }

    pub(crate) fn checks(&self) -> &[Look] {
        &self.checks
    }

    /// Whether a trajectory is among the share: `u(id) < share`, where `u` is the first 53 bits of a
    /// digest of the id as a number from 0 to 1.
    pub fn chooses(&self, trajectory: &TrajectoryId) -> bool {
        let digest = Digest::of_parts([b"live".as_slice(), trajectory.as_str().as_bytes()]);
        let [a, b, c, d, e, f, g, ..] = *digest.as_bytes();
        let bits = u64::from_be_bytes([0, a, b, c, d, e, f, g]) >> 3;
        (bits as f64) / ((1_u64 << 53) as f64) < self.share
    }
}

impl<'de> Deserialize<'de> for Rules {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Written { share, scorers, checks } = Written::deserialize(from)?;
        Self::new(share, &scorers, &checks).map_err(serde::de::Error::custom)
    }
}

impl Look {
    fn of(check: Check) -> Result<Self, RulesError> {
        let scorer = check.scorer.name();
        let has_value = check.value.is_some();
        match &check.scorer {
            Scorer::JsonValid
            | Scorer::Regex(Some(_))
            | Scorer::Refusal
            | Scorer::NoRefusal
            | Scorer::PiiLeak
            | Scorer::Latency(_)
            | Scorer::Tokens(_) => {}
            Scorer::JsonSchema
            | Scorer::Regex(None)
            | Scorer::StartsWith
            | Scorer::Contains
            | Scorer::ContainsAnyCase
            | Scorer::ContainsAny
            | Scorer::ContainsAll
            | Scorer::Trajectory
                if has_value => {}
            Scorer::Cost(_)
            | Scorer::State
            | Scorer::Similarity(_)
            | Scorer::Judge(_)
            | Scorer::Recorded(_) => {
                return Err(RulesError::Unmeasured(scorer));
            }
            _ => return Err(RulesError::Reference(scorer)),
        }
        let wrong = |source| RulesError::Scorer { scorer: scorer.clone(), source };
        let grader = Grader::new(&Scorer::Checks, &Self::case(&check)).map_err(wrong)?;
        let fixed = (check.scorer != Scorer::PiiLeak).then_some(grader);
        let name = if check.negate { format!("not {scorer}") } else { scorer };
        Ok(Self { name, check, fixed })
    }

    /// A case that asks nothing but this.
    fn case(check: &Check) -> Case {
        Case { checks: vec![check.clone()], ..Case::default() }
    }

    /// The grader for a reply to `prompt`; personal data that the question holds may be in the reply.
    pub(crate) fn with_grader<T>(
        &self,
        prompt: impl FnOnce() -> Case,
        then: impl FnOnce(&Grader) -> T,
    ) -> Option<T> {
        if let Some(grader) = &self.fixed {
            return Some(then(grader));
        }
        let case = Case { checks: vec![self.check.clone()], ..prompt() };
        // It was made once already, from the same check.
        Grader::new(&Scorer::Checks, &case).ok().map(|grader| then(&grader))
    }
}
