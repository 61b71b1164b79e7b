//! How sure the student was, by its own account.

use understudy_inference::TokenRecord;
use understudy_trajectory::Confidence;

/// Mean and least log-probability of the sampled tokens, at the temperature they were sampled at (at
/// 1 where decoding was greedy); none where a reply has no tokens or they are not known.
pub fn confidence(tokens: &TokenRecord) -> Option<Confidence> {
    let known = tokens.sampling_logprobs.iter().map(|log_prob| f64::from(*log_prob));
    let known: Vec<f64> = known.filter(|log_prob| log_prob.is_finite()).collect();
    if known.is_empty() {
        return None;
    }
    Some(Confidence {
        mean_log_prob: known.iter().sum::<f64>() / known.len() as f64,
        min_log_prob: known.iter().copied().fold(0.0, f64::min),
    })
}
