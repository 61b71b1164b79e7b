//! Do the arms get the units they should? The sequential sample-ratio test.
//!
//! Expected shares `θ`, counts `x`, Dirichlet prior `a = cθ`:
//! `ln B = ln Γ(Σa) − ln Γ(Σa+n) + Σ[ln Γ(aᵢ+xᵢ) − ln Γ(aᵢ)] − Σ xᵢ ln θᵢ`. Exact. Source: Lindon and
//! Malek, "Anytime-valid inference for multinomial count data" (2022).

use statrs::function::gamma::ln_gamma;

/// How firmly the prior sits on the expected shares, in pretended units.
const PRIOR: f64 = 200.0;

/// Evidence that units do not fall into the arms in the expected shares (which sum to 1).
///
/// Counts of several servers merge by addition. Count units where they are assigned, not requests.
pub fn ln_e_sample_ratio<const ARMS: usize>(counts: [u64; ARMS], shares: [f64; ARMS]) -> f64 {
    let total: u64 = counts.iter().sum();
    let per_arm: f64 = counts
        .into_iter()
        .zip(shares)
        .map(|(count, share)| {
            let (prior, count) = (PRIOR * share, count as f64);
            ln_gamma(prior + count) - ln_gamma(prior) - count * share.ln()
        })
        .sum();
    ln_gamma(PRIOR) - ln_gamma(PRIOR + total as f64) + per_arm
}
