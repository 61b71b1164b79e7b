//! Several tests, one promise.

/// The level of each test when *any* of them may raise an alarm that should be false with
/// probability at most `alpha`: `α/G`, whatever the dependence (Bonferroni).
pub fn any_of(alpha: f64, tests: usize) -> f64 {
    alpha / tests.max(1) as f64
}

/// The level of each test when *all* of them must succeed: `α` itself, however many there are.
///
/// The union of the null hypotheses is rejected only if each is (intersection–union; Berger,
/// "Multiparameter hypothesis testing and acceptance sampling", 1982).
pub fn all_of(alpha: f64) -> f64 {
    alpha
}
