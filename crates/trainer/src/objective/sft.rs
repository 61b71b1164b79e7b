//! Imitation: raise the probability of the completion's tokens.

/// `∂loss/∂lp` of every trained token, where
/// `loss = −(Σ lp) / tokens` and `tokens` counts the **whole optimiser step**.
///
/// Dividing by a micro-batch's own count and averaging afterwards is another loss as soon as the
/// lengths differ.
pub(crate) fn coefficient(tokens: usize) -> f32 {
    (-1.0 / tokens.max(1) as f64) as f32
}

/// The loss of tokens whose log-probabilities sum to `sum`, as a share of a step of `tokens`
/// tokens; shares add up to the loss.
pub(crate) fn loss_share(sum: f64, tokens: usize) -> f64 {
    -sum / tokens.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_any_split_add_up_to_the_token_mean() {
        let log_probs = [-1.0, -2.0, -0.5, -4.5];
        let share = |part: &[f64]| loss_share(part.iter().sum(), 4);
        assert_eq!(share(&log_probs), 2.0);
        for cut in 0..=4 {
            let (a, b) = log_probs.split_at(cut);
            assert!((share(a) + share(b) - 2.0).abs() < 1e-12);
        }
    }

    #[test]
    fn the_coefficient_is_the_derivative_of_the_loss() {
        let slope = loss_share(-1.0, 7) - loss_share(-2.0, 7);
        assert!((f64::from(coefficient(7)) - slope).abs() < 1e-7);
    }
}
