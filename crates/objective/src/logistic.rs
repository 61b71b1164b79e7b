//! The few functions every loss here is made of, each accurate at both ends of its range.

/// `σ(x)`
pub(crate) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `−log σ(x)`, without overflow for very negative `x`, and without rounding to 0 for large `x`.
pub(crate) fn neg_log_sigmoid(x: f64) -> f64 {
    (-x).max(0.0) + (-x.abs()).exp().ln_1p()
}

/// `log(1 − eˣ)` for `x < 0`. Which of two forms is accurate changes at `−ln 2` (Mächler 2012).
pub(crate) fn log1m_exp(x: f64) -> f64 {
    if x < -std::f64::consts::LN_2 { (-x.exp()).ln_1p() } else { (-x.exp_m1()).ln() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_overflows_or_cancels_at_the_ends() {
        assert_eq!(neg_log_sigmoid(-1e4), 1e4);
        assert!((neg_log_sigmoid(40.0) / (-40f64).exp() - 1.0).abs() < 1e-15);
        assert_eq!((sigmoid(-1e4), sigmoid(1e4), sigmoid(0.0)), (0.0, 1.0, 0.5));
        assert!((log1m_exp(-1e-12) - (1e-12f64).ln()).abs() < 1e-9);
        assert!((log1m_exp(-50.0) + (-50f64).exp()).abs() < 1e-36);
    }

    #[test]
    fn both_forms_of_log1m_exp_meet_where_they_change() {
        let middle = -std::f64::consts::LN_2;
        assert!((log1m_exp(middle - 1e-12) - log1m_exp(middle + 1e-12)).abs() < 1e-11);
    }
}
