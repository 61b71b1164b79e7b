use super::*;

const POLICY: [PairLogProbs; 2] = [
    PairLogProbs { chosen: -10.0, rejected: -11.0 },
    PairLogProbs { chosen: -12.5, rejected: -12.0 },
];
const REFERENCE: [PairLogProbs; 2] = [
    PairLogProbs { chosen: -10.5, rejected: -10.8 },
    PairLogProbs { chosen: -12.0, rejected: -12.4 },
];

fn assert_close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-8, "{found} is not {expected}");
}

#[test]
fn two_pairs_are_those_of_trl() {
    let losses = [0, 1].map(|pair| sigmoid_loss(0.1, POLICY[pair], REFERENCE[pair]));
    assert_close(f64::midpoint(losses[0].loss, losses[1].loss), 0.698_959_447);
    for (loss, d_chosen) in losses.iter().zip([-0.024_125_36, -0.026_124_24]) {
        assert_close(loss.d_chosen / 2.0, d_chosen);
        assert_eq!(loss.d_rejected, -loss.d_chosen);
    }
}

#[test]
fn a_policy_equal_to_its_reference_loses_ln_2() {
    assert_close(sigmoid_loss(0.1, POLICY[0], POLICY[0]).loss, std::f64::consts::LN_2);
}

#[test]
fn swapping_the_sides_turns_the_margin_around() {
    let swap = |side: PairLogProbs| PairLogProbs { chosen: side.rejected, rejected: side.chosen };
    let (policy, reference) = (POLICY[0], REFERENCE[0]);
    let swapped = sigmoid_loss(0.1, swap(policy), swap(reference));
    assert_close(margin(swap(policy), swap(reference)), -margin(policy, reference));
    // −log σ(x) and −log σ(−x) differ by exactly x.
    let loss = sigmoid_loss(0.1, policy, reference).loss;
    assert_close(swapped.loss - loss, 0.1 * margin(policy, reference));
}

#[test]
fn derivatives_are_those_of_finite_differences() {
    let loss =
        |chosen, rejected| sigmoid_loss(0.5, PairLogProbs { chosen, rejected }, REFERENCE[0]).loss;
    let at = sigmoid_loss(0.5, POLICY[0], REFERENCE[0]);
    let (c, r, h) = (POLICY[0].chosen, POLICY[0].rejected, 1e-5);
    assert_close(at.d_chosen, (loss(c + h, r) - loss(c - h, r)) / (2.0 * h));
    assert_close(at.d_rejected, (loss(c, r + h) - loss(c, r - h)) / (2.0 * h));
}

#[test]
fn pushes_share_a_step_and_add_the_imitation_loss() {
    let counts = Counts { examples: 2, wanted: 20, trained: 50 };
    let reference = REFERENCE.to_vec();
    let plain = Preference { beta: 0.1, sft_weight: 0.0, reference };
    let mixed = Preference { sft_weight: 0.5, ..plain.clone() };
    for (example, policy) in POLICY.into_iter().enumerate() {
        let alone = sigmoid_loss(0.1, policy, REFERENCE[example]);
        let (plain, mixed) =
            (plain.push(example, policy, counts), mixed.push(example, policy, counts));
        assert_close(plain.loss, alone.loss / 2.0);
        assert_close(mixed.loss - plain.loss, 0.5 * -policy.chosen / 20.0);
        assert_close(f64::from(mixed.chosen - plain.chosen), -0.5 / 20.0);
        assert_eq!(mixed.rejected, plain.rejected);
    }
}

#[test]
fn the_loss_stays_finite_however_wide_the_gap() {
    for gap in [-1e6, 1e6] {
        let policy = PairLogProbs { chosen: gap, rejected: 0.0 };
        let loss = sigmoid_loss(0.1, policy, PairLogProbs::default());
        assert!(loss.loss.is_finite() && loss.d_chosen.is_finite());
    }
}

#[test]
fn metrics_are_means_over_pairs() {
    let mut metrics = PreferenceMetrics::default();
    for (policy, reference) in POLICY.into_iter().zip(REFERENCE) {
        metrics.add(0.1, policy, reference, 2);
    }
    assert_close(metrics.accuracy, 0.5);
    assert_close(metrics.reward_chosen, 0.0);
    assert_close(metrics.reward_rejected, 0.1 * (-0.2 + 0.4) / 2.0);
    assert_close(metrics.margin, metrics.reward_chosen - metrics.reward_rejected);
    assert_close(metrics.log_prob_chosen, -11.25);
}
