//! The divergence from the reference, token by token.
//!
//! With `x = lp − ref`: k1 is `x`, k2 is `x²/2`, k3 is `e⁻ˣ + x − 1`. The value comes from one
//! estimator, the gradient from another (straight-through): k3 is the one to look at, but its
//! derivative `1 − e⁻ˣ` is not that of the reverse divergence, which k2's, `x`, is on-policy. With
//! bias correction both are multiplied by the ratio, and the gradient flows through that as well.
//!
//! Sources: Schulman, "Approximating KL divergence"; verl's `k3+`; DeepSeek-V3.2 (correction).

use understudy_manifest::{KlEstimator, KlGradient, KlSettings};

use super::{Token, ratio::FAR};

/// One token's divergence, and its derivatives by `lp` and by the logarithm of the ratio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pull {
    pub(super) value: f64,
    pub(super) by_log_prob: f64,
    pub(super) by_log_ratio: f64,
}

pub(super) fn pull(settings: &KlSettings, token: &Token, ratio: f64) -> Pull {
    let x = (token.lp - token.reference).clamp(-FAR, FAR);
    let (value, _) = estimate(settings.estimator, x);
    let (pushed, slope) = match settings.gradient {
        KlGradient::K2 => estimate(KlEstimator::K2, x),
        KlGradient::K3 => estimate(KlEstimator::K3, x),
    };
    let moves = (token.lp - token.reference).abs() <= FAR;
    let slope = if moves { slope } else { 0.0 };
    if settings.bias_corrected {
        Pull { value: ratio * value, by_log_prob: ratio * slope, by_log_ratio: ratio * pushed }
    } else {
        Pull { value, by_log_prob: slope, by_log_ratio: 0.0 }
    }
}

/// The estimator's value, and its derivative by x.
fn estimate(estimator: KlEstimator, x: f64) -> (f64, f64) {
    match estimator {
        KlEstimator::K1 => (x, 1.0),
        KlEstimator::K2 => (0.5 * x * x, x),
        KlEstimator::K3 => ((-x).exp_m1() + x, -(-x).exp_m1()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimators_have_their_known_values() {
        let values = KlEstimator::ALL.map(|estimator| estimate(estimator, 0.5).0);
        assert_eq!(values[..2], [0.5, 0.125]);
        assert!((values[2] - 0.106_530_660).abs() < 1e-9);
    }
}
