//! The normal distribution, with tails that do not underflow.

use statrs::function::erf::{erfc, erfc_inv};

/// `Φ(z)`.
pub(crate) fn cdf(z: f64) -> f64 {
    erfc(-z / std::f64::consts::SQRT_2) / 2.0
}

/// `ln Φ(z)`; below −30, where `Φ` underflows, by its asymptotic series.
pub(crate) fn ln_cdf(z: f64) -> f64 {
    if z > -30.0 {
        return cdf(z).ln();
    }
    let inverse = 1.0 / (z * z);
    let series = -inverse * (1.0 - inverse * (3.0 - 15.0 * inverse));
    -z * z / 2.0 - (-z).ln() - (std::f64::consts::TAU).ln() / 2.0 + series.ln_1p()
}

/// The `z` with `Φ(z) = 1 − tail`.
pub fn upper_quantile(tail: f64) -> f64 {
    std::f64::consts::SQRT_2 * erfc_inv(2.0 * tail)
}

/// The normal density.
pub(crate) fn density(z: f64) -> f64 {
    (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_far_tail_continues_the_near_one() {
        for z in [-30.0_f64, -29.0, -25.0] {
            let inverse = 1.0 / (z * z);
            let series = (-inverse * (1.0 - inverse * (3.0 - 15.0 * inverse))).ln_1p();
            let far = -z * z / 2.0 - (-z).ln() - std::f64::consts::TAU.ln() / 2.0 + series;
            assert!((far - cdf(z).ln()).abs() < 1e-6, "{z}: {far}");
        }
        assert!((ln_cdf(-200.0) + 20_006.217_28).abs() < 1e-4, "{}", ln_cdf(-200.0));
        assert!((upper_quantile(0.025) - 1.959_963_984_54).abs() < 1e-9);
    }
}
