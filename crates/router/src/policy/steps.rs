//! The ramp: which share of traffic a canary gets, step by step.

use serde::{Deserialize, Serialize};

use crate::{Exposure, RouterError};

/// The ramp: rising whole percentages of traffic. A final 100 means "promoted": nothing is compared
/// there any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct Steps(Vec<u8>);

impl Default for Steps {
    fn default() -> Self {
        Self(vec![1, 5, 25, 50, 100])
    }
}

impl Steps {
    pub fn new(percents: Vec<u8>) -> Result<Self, RouterError> {
        let problem = if !percents.iter().all(|percent| (1..=100).contains(percent)) {
            "each must be a whole percentage from 1 to 100"
        } else if !percents.is_sorted_by(|earlier, later| earlier < later) {
            "each must be larger than the one before"
        } else if percents.first().is_none_or(|first| *first == 100) {
            "one below 100 is needed, or nothing is ever compared"
        } else {
            return Ok(Self(percents));
        };
        Err(RouterError::Steps { steps: percents, problem })
    }

    /// The canary's share at a step counted from 0: half at most, because an equal baseline slice
    /// runs beside it. So 75 still means one half; and there is no share past the last step.
    pub fn share(&self, step: usize) -> Exposure {
        let percent = self.0.get(step).map_or(0, |percent| (*percent).min(50));
        Exposure::new(f64::from(percent) / 100.0).unwrap_or(Exposure::NONE)
    }

    /// How many steps compare something.
    pub fn comparisons(&self) -> usize {
        self.last_comparison() + 1
    }

    /// The step, counted from 0, after which only a promotion is left.
    pub fn last_comparison(&self) -> usize {
        self.0.iter().filter(|percent| **percent < 100).count() - 1
    }
}

impl TryFrom<Vec<u8>> for Steps {
    type Error = RouterError;

    fn try_from(percents: Vec<u8>) -> Result<Self, RouterError> {
        Self::new(percents)
    }
}

impl From<Steps> for Vec<u8> {
    fn from(steps: Steps) -> Self {
        steps.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Policy;

    #[test]
    fn a_ramp_rises_and_compares_before_it_promotes() {
        let steps = Policy::default().steps;
        assert_eq!(Steps::new(vec![1, 5, 25, 50, 100]), Ok(steps.clone()));
        assert_eq!((steps.share(1).get(), steps.share(3).get()), (0.05, 0.5));
        assert_eq!(steps.last_comparison(), 3);
        let odd = Steps::new(vec![10, 75]).unwrap();
        assert_eq!((odd.share(1), odd.share(2)), (Exposure::HALF, Exposure::NONE));
        assert_eq!(odd.last_comparison(), 1);
        for wrong in [vec![], vec![100], vec![5, 5], vec![25, 5], vec![0, 5], vec![50, 101]] {
            assert!(Steps::new(wrong.clone()).is_err(), "{wrong:?}");
        }
    }
}
