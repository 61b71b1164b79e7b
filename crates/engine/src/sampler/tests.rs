mod golden;

use rand::Rng as _;

use super::{
    pool::{pick, pick_by_stretches},
    *,
};

fn sampling(temperature: f32, top_k: u32, top_p: f32) -> Sampling {
    Sampling { temperature, top_k, top_p, max_tokens: 1, ..Sampling::default() }
}

fn sampler(sampling: &Sampling, seed: u64) -> Sampler {
    let around = Surroundings { prompt: &[], ends: Vec::new(), bad_words: None };
    Sampler::new(sampling, seed, Returns::default(), around)
}

/// What is drawn at each of the first places when the scores stay the same.
fn draws(sampling: &Sampling, seed: u64, logits: &[f32], count: usize) -> Vec<Drawn> {
    let (mut sampler, so_far) = (sampler(sampling, seed), vec![0; count]);
    (0..count).map(|place| sampler.draw(logits, &so_far[..place], None).unwrap()).collect()
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
    let drawn = &draws(&sampling(0.0, 0, 1.0), 1, &logits, 1)[0];
    assert_eq!(drawn.token, 1);
    assert!((f64::from(drawn.log_prob) - softmax(&logits, 1.0)[1].ln()).abs() < 1e-6);
}

#[test]
fn what_is_too_cold_to_divide_by_is_greedy() {
    let logits = [0.5, 2.0, -1.0, 1.9];
    for cold in [f32::from_bits(1), 1e-40, 1e-38, 9e-6] {
        for drawn in draws(&sampling(cold, 0, 1.0), 1, &logits, 20) {
            assert_eq!(drawn.token, 1, "at {cold}");
            assert!((f64::from(drawn.log_prob) - softmax(&logits, 1.0)[1].ln()).abs() < 1e-6);
        }
    }
    assert!(draws(&sampling(1e-5, 0, 1.0), 1, &logits, 20).iter().all(|drawn| drawn.token == 1));
}

#[test]
fn draws_follow_the_tempered_distribution() {
    let (logits, count) = (scores(12, 3), 40_000);
    let expected = softmax(&logits, 0.7);
    let mut counts = [0_u32; 12];
    for drawn in draws(&sampling(0.7, 0, 1.0), 9, &logits, count) {
        counts[drawn.token as usize] += 1;
        let log_prob = expected[drawn.token as usize].ln();
        assert!((f64::from(drawn.log_prob) - log_prob).abs() < 1e-5);
    }
    // Pearson's statistic; 11 degrees of freedom exceed 40 with probability 4e-5.
    let statistic: f64 = counts
        .iter()
        .zip(&expected)
        .map(|(drawn, p)| {
            let expected = p * count as f64;
            (f64::from(*drawn) - expected).powi(2) / expected
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
        let probabilities = softmax(&logits, f64::from(1.3_f32));
        let expected = allowed(&probabilities, top_k as usize, f64::from(top_p));
        let pool = Pool::new(&logits, logits[likeliest(&logits)], 1.3);
        let pool = pool.cut(0.0, top_k as usize, top_p);
        assert_eq!(pool.kept().unwrap(), expected, "{len} {top_k} {top_p}");
    }
}

#[test]
fn only_candidates_are_drawn_and_all_of_them() {
    let logits = scores(40, 1);
    let mut expected = allowed(&softmax(&logits, 1.0), 6, 1.0);
    let all = draws(&sampling(1.0, 6, 1.0), 4, &logits, 3_000);
    let mut drawn: Vec<usize> = all.into_iter().map(|drawn| drawn.token as usize).collect();
    drawn.sort_unstable();
    drawn.dedup();
    expected.sort_unstable();
    assert_eq!(drawn, expected);
}

#[test]
fn a_draw_depends_on_the_seed_and_the_place_alone() {
    let logits = scores(300, 2);
    let sampling = sampling(1.0, 0, 0.9);
    let tokens = |seed| -> Vec<u32> {
        draws(&sampling, seed, &logits, 32).into_iter().map(|drawn| drawn.token).collect()
    };
    assert_eq!(tokens(5), tokens(5));
    assert_ne!(tokens(5), tokens(6));
    assert!(tokens(5).windows(2).any(|pair| pair[0] != pair[1]), "places differ");
    // Whoever begins in the middle draws what would have been drawn there.
    let mut late = sampler(&sampling, 5);
    assert_eq!(late.draw(&logits, &[0; 20], None).unwrap().token, tokens(5)[20]);
}

#[test]
fn scores_that_are_not_numbers_are_an_error() {
    for temperature in [0.0, 1.0] {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut sampler = sampler(&sampling(temperature, 0, 1.0), 0);
            assert!(sampler.draw(&[0.0, bad, 1.0], &[], None).is_err(), "{temperature} {bad}");
        }
    }
    // Forbidden tokens are a different matter.
    let all = draws(&sampling(1.0, 0, 1.0), 0, &[f32::NEG_INFINITY, 1.0], 50);
    assert!(all.iter().all(|drawn| drawn.token == 1));
}

#[test]
fn limits_that_leave_no_token_are_an_error_and_not_a_draw() {
    for temperature in [0.0, 1.0] {
        let allowed_token_ids = Some(vec![1]);
        let sampling = Sampling { allowed_token_ids, ..sampling(temperature, 0, 1.0) };
        let mut mask = SimpleVob::alloc(3);
        mask.allow_token(2);
        let drawn = sampler(&sampling, 0).draw(&[0.0, 1.0, 2.0], &[], Some(&mask));
        assert!(matches!(drawn, Err(InferenceError::Invalid { field: "sampling", .. })));
    }
}

#[test]
fn raw_and_processed_scores_are_those_of_their_distributions() {
    let logits = scores(60, 8);
    let cut = Sampling { min_p: 0.05, ..sampling(0.6, 10, 0.8) };
    let told = |log_probs, top| {
        let around = Surroundings { prompt: &[], ends: Vec::new(), bad_words: None };
        let returns = Returns { top, log_probs: Some(log_probs), ..Returns::default() };
        Sampler::new(&cut, 3, returns, around).draw(&logits, &[], None).unwrap()
    };
    let raw = told(LogProbsOf::Raw, Some(5));
    let processed = told(LogProbsOf::Processed, Some(60));
    assert_eq!((raw.token, raw.log_prob), (processed.token, processed.log_prob));
    let all = softmax(&logits, 1.0);
    let mut order: Vec<usize> = (0..60).collect();
    order.sort_by(|a, b| all[*b].total_cmp(&all[*a]));
    let best: Vec<u32> = order[..5].iter().map(|id| *id as u32).collect();
    assert_eq!(raw.scored.top.iter().map(|top| top.0).collect::<Vec<_>>(), best);
    for (id, log_prob) in raw.scored.top.iter().chain([&(raw.token, raw.scored.log_prob)]) {
        assert!((f64::from(*log_prob) - all[*id as usize].ln()).abs() < 1e-5);
    }
    let rank = order.iter().position(|id| *id == raw.token as usize).unwrap() + 1;
    assert_eq!(raw.scored.rank, Some(rank as u32));
    // The processed ones are what is left, and together they are certain.
    let sum: f64 = processed.scored.top.iter().map(|top| f64::from(top.1).exp()).sum();
    assert!((sum - 1.0).abs() < 1e-5 && processed.scored.top.len() < 11, "{sum}");
    assert!(processed.scored.top.contains(&(processed.token, processed.scored.log_prob)));
    // Nothing asked for is nothing told, but for the token's own.
    let bare = told(LogProbsOf::Raw, None).scored;
    assert_eq!((bare.rank, bare.top.len()), (None, 0));
    assert!((bare.log_prob - raw.scored.log_prob).abs() < 1e-6);
}

#[test]
fn a_forbidden_text_cannot_be_completed_however_it_is_cut() {
    let tokenizer = understudy_model::Tokenizer::byte_level().unwrap();
    let words = ["aab".to_owned(), "b".to_owned(), "é".to_owned()];
    let mut bad = BadWords::new(&words, std::sync::Arc::new(Spellings::of(&tokenizer, false)));
    let id = |byte: u8| (0..256).find(|id| tokenizer.token_bytes(*id) == Some(&[byte])).unwrap();
    let forbidden = |bad: &BadWords| (0..258).filter(|id| bad.forbids(*id)).collect::<Vec<_>>();
    assert_eq!(forbidden(&bad), [id(b'b')], "alone a word of one byte");
    bad.observe(b"\xC3");
    let mut both = vec![id(b'b'), id(0xA9)];
    both.sort_unstable();
    assert_eq!(forbidden(&bad), both, "its first byte is there");
    bad.observe(b"aa");
    assert_eq!(forbidden(&bad), [id(b'b')]);
}

#[test]
fn the_ends_of_the_interval_pick_the_ends_of_the_list() {
    let candidates = [(7, 0.0), (3, 1.0), (5, 2.0), (9, 0.0)];
    assert_eq!(pick(0.0, candidates.into_iter()), 3);
    assert_eq!(pick(1.0 - f64::EPSILON, candidates.into_iter()), 5);
    assert_eq!(pick(1.0, candidates.into_iter()), 5);
}

#[test]
fn a_pick_by_stretches_is_the_pick_among_all() {
    let mut logits = scores(5000, 8);
    // A whole stretch that cannot be drawn from.
    logits[1024..2048].fill(f32::NEG_INFINITY);
    let weights = understudy_model::Weights::of(&logits, 4.0, 0.8);
    let mut random = ChaCha8Rng::seed_from_u64(5);
    for point in (0..2000).map(|_| random.random::<f64>()).chain([0.0, 1.0 - 1e-16, 1.0]) {
        let all = pick(point, weights.weights.iter().copied().enumerate());
        let ours = pick_by_stretches(point, &weights.weights, &weights.sums);
        // Sums in another order may shift a border by a rounding.
        assert!(all.abs_diff(ours) <= 1 || (1023..=2048).contains(&all), "{point}: {all} {ours}");
        assert!(weights.weights[ours] > 0.0);
    }
}
