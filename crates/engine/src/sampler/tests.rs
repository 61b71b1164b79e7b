use super::*;

fn sampling(temperature: f32, top_k: u32, top_p: f32) -> Sampling {
    Sampling { temperature, top_k, top_p, max_tokens: 1, ..Sampling::default() }
}

fn scores(len: usize, seed: u64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..len).map(|_| random.random_range(-4.0..4.0)).collect()
}

/// softmax(logits / T), by the book.
fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let scaled: Vec<f64> = logits.iter().map(|z| f64::from(*z) / temperature).collect();
    let max = scaled.iter().copied().fold(f64::MIN, f64::max);
    let exps: Vec<f64> = scaled.iter().map(|z| (z - max).exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.iter().map(|e| e / sum).collect()
}

/// Which tokens top-k and then top-p leave, by sorting everything.
fn allowed(probabilities: &[f64], top_k: usize, top_p: f64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]));
    if top_k > 0 {
        order.truncate(top_k);
    }
    let total: f64 = order.iter().map(|index| probabilities[*index]).sum();
    let mut sum = 0.0;
    let end = order.iter().position(|index| {
        sum += probabilities[*index];
        sum >= top_p * total
    });
    order.truncate(end.map_or(order.len(), |end| end + 1));
    order
}

#[test]
fn greedy_takes_the_first_best_and_its_plain_log_probability() {
    let logits = [0.5, 2.0, -1.0, 2.0];
    let drawn = Sampler::new(&sampling(0.0, 0, 1.0), 1).draw(&logits).unwrap();
    assert_eq!(drawn.token, 1);
    assert!((f64::from(drawn.log_prob) - softmax(&logits, 1.0)[1].ln()).abs() < 1e-6);
}

#[test]
fn draws_follow_the_tempered_distribution() {
    let (logits, draws) = (scores(12, 3), 40_000);
    let expected = softmax(&logits, 0.7);
    let mut sampler = Sampler::new(&sampling(0.7, 0, 1.0), 9);
    let mut counts = [0_u32; 12];
    for _ in 0..draws {
        let drawn = sampler.draw(&logits).unwrap();
        counts[drawn.token as usize] += 1;
        let log_prob = expected[drawn.token as usize].ln();
        assert!((f64::from(drawn.log_prob) - log_prob).abs() < 1e-5);
    }
    // Pearson's statistic; 11 degrees of freedom exceed 40 with probability 4e-5.
    let statistic: f64 = counts
        .iter()
        .zip(&expected)
        .map(|(count, p)| {
            let expected = p * f64::from(draws);
            (f64::from(*count) - expected).powi(2) / expected
        })
        .sum();
    assert!(statistic < 40.0, "{statistic}");
}

#[test]
fn truncation_leaves_exactly_the_tokens_a_full_sort_would() {
    for (len, top_k, top_p) in [
        (50, 0, 0.5),
        (50, 5, 1.0),
        (50, 7, 0.6),
        (50, 500, 0.9),
        (5_000, 0, 0.99),
        (5_000, 300, 0.95),
        (5_000, 0, 1e-9),
    ] {
        let logits = scores(len, len as u64);
        let sampler = Sampler::new(&sampling(1.3, top_k, top_p), 0);
        let probabilities = softmax(&logits, f64::from(1.3_f32));
        let weights: Vec<f32> = probabilities.iter().map(|p| *p as f32).collect();
        let expected = allowed(&probabilities, top_k as usize, f64::from(top_p));
        assert_eq!(sampler.candidates(&weights), expected, "{len} {top_k} {top_p}");
    }
}

#[test]
fn only_candidates_are_drawn_and_all_of_them() {
    let logits = scores(40, 1);
    let mut expected = allowed(&softmax(&logits, 1.0), 6, 1.0);
    let mut sampler = Sampler::new(&sampling(1.0, 6, 1.0), 4);
    let mut drawn: Vec<usize> =
        (0..3_000).map(|_| sampler.draw(&logits).unwrap().token as usize).collect();
    drawn.sort_unstable();
    drawn.dedup();
    expected.sort_unstable();
    assert_eq!(drawn, expected);
}

#[test]
fn a_seed_fixes_the_draws() {
    let logits = scores(300, 2);
    let draws = |seed| -> Vec<u32> {
        let mut sampler = Sampler::new(&sampling(1.0, 0, 0.9), seed);
        (0..32).map(|_| sampler.draw(&logits).unwrap().token).collect()
    };
    assert_eq!(draws(5), draws(5));
    assert_ne!(draws(5), draws(6));
}

#[test]
fn scores_that_are_not_numbers_are_an_error() {
    for temperature in [0.0, 1.0] {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut sampler = Sampler::new(&sampling(temperature, 0, 1.0), 0);
            assert!(sampler.draw(&[0.0, bad, 1.0]).is_err(), "{temperature} {bad}");
        }
    }
    // Forbidden tokens are a different matter.
    let mut sampler = Sampler::new(&sampling(1.0, 0, 1.0), 0);
    let drawn: Vec<u32> =
        (0..50).map(|_| sampler.draw(&[f32::NEG_INFINITY, 1.0]).unwrap().token).collect();
    assert!(drawn.iter().all(|token| *token == 1));
}

#[test]
fn the_ends_of_the_interval_pick_the_ends_of_the_list() {
    let candidates = [(7, 0.0), (3, 1.0), (5, 2.0), (9, 0.0)];
    assert_eq!(pick(0.0, candidates.into_iter()), 3);
    assert_eq!(pick(1.0 - f64::EPSILON, candidates.into_iter()), 5);
    assert_eq!(pick(1.0, candidates.into_iter()), 5);
}
