//! Small tables of values from TRL and torch in f64, as they were noted: eight or nine digits.
//!
//! The rows for DPPO, REINFORCE and DRO come from a NumPy version of the formulas, since no
//! reference implementation was at hand.

use understudy_manifest::{
    Aggregation, ImportanceCorrection, LabelLoss, LabelSettings, PolicyLoss, PolicySettings,
    PreferenceLoss, PreferenceSettings,
};
use understudy_objective::{
    Side,
    label::{Label, LabelCounts, label},
    mismatch::Mismatch,
    policy::{self, Advantage, PolicyCounts, PolicyMetrics, PolicyTally, Sample},
    preference::{PairLoss, PairScores},
};

use crate::random::{assert_all_close, assert_close};

const LOG_PROBS: [[f64; 4]; 2] = [[-1.0, -2.0, -0.5, -3.0], [-0.7, -1.5, -2.5, -0.2]];
const OLD: [[f64; 4]; 2] = [[-1.2, -1.9, -0.9, -3.0], [-0.6, -1.0, -3.0, -0.5]];
const REFERENCE: [[f64; 4]; 2] = [[-1.1, -2.2, -0.6, -2.5], [-0.9, -1.4, -2.5, -0.3]];
const MASK: [[bool; 4]; 2] = [[true; 4], [true, false, true, false]];
const ADVANTAGE: [f64; 2] = [1.0, -0.5];

/// The loss and gradient of the two replies as one step.
fn step(settings: &PolicySettings, sampler: [[f64; 4]; 2]) -> (f64, Vec<f64>, PolicyMetrics) {
    settings.check().unwrap();
    let counts = PolicyCounts { replies: 2, tokens: 6, micro_batch_tokens: 6, micro_batches: 1 };
    let (mut loss, mut coefficients, mut tally) = (0.0, Vec::new(), PolicyTally::default());
    for row in 0..2 {
        let sample = Sample {
            log_probs: &LOG_PROBS[row],
            old: Some(&OLD[row]),
            sampler: Some(&sampler[row]),
            reference: Some(&REFERENCE[row]),
            mask: Some(&MASK[row]),
            advantage: Advantage::Reply(ADVANTAGE[row]),
        };
        let gradient = policy::sample(settings, sample, counts).unwrap();
        loss += gradient.loss;
        coefficients.extend(gradient.coefficients);
        tally += gradient.tally;
    }
    (loss, coefficients, tally.report())
}

/// A loss with everything off that was off where the table was made.
fn plain(loss: PolicyLoss, aggregation: Aggregation) -> PolicySettings {
    let mut settings = PolicySettings {
        aggregation,
        epsilon_low: 0.2,
        epsilon_high: 0.28,
        dual_clip: 0.0,
        max_completion_tokens: 4,
        ..PolicySettings::for_loss(loss)
    };
    settings.kl.beta = 0.0;
    settings.correction.mode = ImportanceCorrection::Off;
    settings
}

fn check(settings: &PolicySettings, loss: f64, gradient: [f64; 8]) -> PolicyMetrics {
    check_from(settings, OLD, loss, gradient)
}

fn check_from(
    settings: &PolicySettings,
    sampler: [[f64; 4]; 2],
    loss: f64,
    gradient: [f64; 8],
) -> PolicyMetrics {
    let (found, coefficients, metrics) = step(settings, sampler);
    assert_close(found, loss, 1e-8, settings.loss.as_str());
    assert_all_close(&coefficients, &gradient, 1e-8, settings.loss.as_str());
    metrics
}

#[test]
fn the_clipped_loss_under_every_aggregation() {
    let table = [
        (
            Aggregation::Grpo,
            -0.231_585_186,
            [-0.152_675_34, -0.113_104_68, 0.0, -0.125, 0.113_104_68, 0.0, 0.206_090_16, 0.0],
        ),
        (
            Aggregation::Bnpo,
            -0.521_576_805,
            [
                -0.203_567_13,
                -0.150_806_24,
                0.0,
                -0.166_666_67,
                0.075_403_12,
                0.0,
                0.137_393_44,
                0.0,
            ],
        ),
        (
            Aggregation::Dapo,
            -0.521_576_805,
            [
                -0.203_567_13,
                -0.150_806_24,
                0.0,
                -0.166_666_67,
                0.075_403_12,
                0.0,
                0.137_393_44,
                0.0,
            ],
        ),
        (
            Aggregation::DrGrpo,
            -0.391_182_604,
            [-0.152_675_34, -0.113_104_68, 0.0, -0.125, 0.056_552_34, 0.0, 0.103_045_08, 0.0],
        ),
    ];
    for (aggregation, loss, gradient) in table {
        let metrics = check(&plain(PolicyLoss::Ppo, aggregation), loss, gradient);
        assert_eq!(metrics.clip_low, Some(0.0));
        assert_close(metrics.clip_high.unwrap(), 1.0 / 6.0, 1e-15, "clip_ratio/high_mean");
    }
}

#[test]
fn the_pull_to_the_reference_without_and_with_bias_correction() {
    let mut settings = plain(PolicyLoss::Ppo, Aggregation::Dapo);
    settings.kl.beta = 0.1;
    let metrics = check(
        &settings,
        -0.518_312_512,
        [
            -0.201_981_08,
            -0.147_785_08,
            0.001_586_04,
            -0.177_478_69,
            0.078_424_27,
            0.0,
            0.137_393_44,
            0.0,
        ],
    );
    assert_close(metrics.kl.unwrap(), 0.032_643, 1e-6, "kl");
    settings.kl.bias_corrected = true;
    let metrics = check(
        &settings,
        -0.518_314_424,
        [-0.201_531_46, -0.147_790_11, 0.002_486_37, -0.175, 0.078_419_24, 0.0, 0.137_393_44, 0.0],
    );
    assert_close(metrics.kl.unwrap(), 0.032_624, 1e-6, "kl");
}

#[test]
fn two_sided_clipping() {
    let settings = PolicySettings { delta: 1.35, ..plain(PolicyLoss::Ppo, Aggregation::Dapo) };
    check(
        &settings,
        -0.546_470_245,
        [-0.203_567_13, -0.150_806_24, 0.0, -0.166_666_67, 0.075_403_12, 0.0, 0.0, 0.0],
    );
}

#[test]
fn the_ratio_of_the_reply() {
    let wide = plain(PolicyLoss::Gspo, Aggregation::Grpo);
    check(
        &wide,
        -0.261_223_537,
        [
            -0.141_643_56,
            -0.141_643_56,
            -0.141_643_56,
            -0.141_643_56,
            0.152_675_34,
            0.0,
            0.152_675_34,
            0.0,
        ],
    );
    let narrow = PolicySettings { epsilon_low: 0.05, epsilon_high: 0.05, ..wide };
    let metrics =
        check(&narrow, -0.219_649_310, [0.0, 0.0, 0.0, 0.0, 0.152_675_34, 0.0, 0.152_675_34, 0.0]);
    assert_eq!((metrics.clip_high, metrics.clip_low), (Some(0.5), Some(0.0)));
}

#[test]
fn capped_and_gated_losses() {
    let capped = PolicySettings { ratio_cap: 1.25, ..plain(PolicyLoss::Cispo, Aggregation::Dapo) };
    check(
        &capped,
        0.796_147_416,
        [
            -0.203_567_13,
            -0.150_806_24,
            -0.208_333_33,
            -0.166_666_67,
            0.075_403_12,
            0.0,
            0.104_166_67,
            0.0,
        ],
    );
    let mut gated = plain(PolicyLoss::Sapo, Aggregation::Grpo);
    // torch made the temperatures f32 there, which the eighth digit shows.
    gated.sapo.negative = f64::from(1.05f32);
    check(
        &gated,
        -0.533_545_736,
        [-0.150_819_52, -0.112_849, -0.175_640_75, -0.125, 0.112_822_83, 0.0, 0.183_918_98, 0.0],
    );
}

/// The weights .5 and 1.5 were given outright there; here a sampler is made that leads to them.
#[test]
fn weights_of_whole_replies() {
    let mut settings = plain(PolicyLoss::Ppo, Aggregation::Dapo);
    settings.correction.mode = ImportanceCorrection::SequenceTruncate;
    let mut sampler = OLD;
    sampler[0][0] -= 0.5f64.ln();
    sampler[1][0] -= 1.5f64.ln();
    let metrics = check_from(
        &settings,
        sampler,
        -0.047_991_845,
        [-0.101_783_56, -0.075_403_12, 0.0, -0.083_333_33, 0.113_104_68, 0.0, 0.206_090_16, 0.0],
    );
    assert_close(metrics.importance_min.unwrap(), 0.5, 1e-12, "least weight");
    assert_close(metrics.importance_max.unwrap(), 1.5, 1e-12, "largest weight");
    assert_close(metrics.difference_max.unwrap(), 2f64.ln(), 1e-12, "largest difference");
}

#[test]
fn losses_that_are_relative_to_the_sampler() {
    check(
        &plain(PolicyLoss::Dppo, Aggregation::Dapo),
        -0.556_802_588,
        [
            -0.203_500_46,
            -0.150_839_57,
            -0.248_504_12,
            -0.166_666_67,
            0.075_369_78,
            0.0,
            0.137_560_11,
            0.0,
        ],
    );
    let mut bypass = plain(PolicyLoss::Reinforce, Aggregation::Dapo);
    bypass.correction.mode = ImportanceCorrection::TokenTruncate;
    bypass.correction.max = 1.3;
    check(
        &bypass,
        0.789_897_416,
        [
            -0.203_567_13,
            -0.150_806_24,
            -0.216_666_67,
            -0.166_666_67,
            0.075_403_12,
            0.0,
            0.108_333_33,
            0.0,
        ],
    );
    bypass.correction.mode = ImportanceCorrection::SequenceTruncate;
    let pushed = -0.216_666_67;
    check(
        &bypass,
        1.061_666_667,
        [pushed, pushed, pushed, pushed, 0.108_333_33, 0.0, 0.108_333_33, 0.0],
    );
    bypass.correction.max = 100.0;
    let weights = step(&bypass, OLD).2;
    assert_close(weights.importance_max.unwrap(), 1.648_721, 1e-6, "weight of the first reply");
    assert_close(weights.importance_min.unwrap(), 1.491_825, 1e-6, "weight of the second reply");
    check(
        &plain(PolicyLoss::Dro, Aggregation::Dapo),
        0.820_583_333,
        [-0.163_333_33, -0.168_333_33, -0.16, -0.166_666_67, 0.081_666_67, 0.0, 0.091_666_67, 0.0],
    );
}

#[test]
fn the_mismatch_of_the_same_two_replies() {
    let mut mismatch = Mismatch::default();
    for row in 0..2 {
        for token in (0..4).filter(|token| MASK[row][*token]) {
            mismatch.push(LOG_PROBS[row][token], OLD[row][token]);
        }
    }
    let report = mismatch.report().unwrap();
    assert_close(report.kl, -0.15, 1e-12, "kl");
    assert_close(report.k3_kl, 0.045_270_594, 1e-9, "k3");
    assert_close(report.chi2_token, 0.512_184_827, 1e-9, "chi2");
    assert_close(report.ess, 0.944_773, 1e-6, "ess");
    let metrics = step(&plain(PolicyLoss::Ppo, Aggregation::Dapo), OLD).2;
    let in_step = metrics.mismatch.unwrap();
    assert_close(in_step.k3_kl, report.k3_kl, 1e-15, "k3 of the step");
    assert_close(in_step.ess, report.ess, 1e-15, "ess of the step");
}

const CHOSEN: [f64; 2] = [-10.0, -12.5];
const REJECTED: [f64; 2] = [-11.0, -12.0];
const CHOSEN_REFERENCE: [f64; 2] = [-10.5, -12.0];
const REJECTED_REFERENCE: [f64; 2] = [-10.8, -12.4];
const CHOSEN_TOKENS: [f64; 2] = [5.0, 8.0];
const REJECTED_TOKENS: [f64; 2] = [4.0, 10.0];

fn pairs(settings: &PreferenceSettings) -> (f64, [f64; 2], [f64; 2]) {
    let has_reference = settings.loss.needs_reference();
    let losses = [0, 1].map(|row| {
        let scores = PairScores {
            chosen: CHOSEN[row],
            rejected: REJECTED[row],
            chosen_reference: if has_reference { CHOSEN_REFERENCE[row] } else { 0.0 },
            rejected_reference: if has_reference { REJECTED_REFERENCE[row] } else { 0.0 },
            chosen_tokens: CHOSEN_TOKENS[row],
            rejected_tokens: REJECTED_TOKENS[row],
        };
        PairLoss::of(settings, &scores)
    });
    (
        losses.iter().map(|pair| pair.loss / 2.0).sum(),
        losses.map(|pair| pair.by_chosen / 2.0),
        losses.map(|pair| pair.by_rejected / 2.0),
    )
}

/// Where the table says "opposite sign", the derivative by the rejected reply is not written out.
const OPPOSITE: Option<[f64; 2]> = None;

/// A loss, its value, and its derivatives by the chosen and the rejected sums of both pairs.
type Row = (PreferenceLoss, f64, [f64; 2], Option<[f64; 2]>);

/// ORPO is the odds term alone: its imitation of the chosen reply is `sft_weight`'s.
const PAIR_TABLE: [Row; 12] = [
    (PreferenceLoss::Sigmoid, 0.698_959_447, [-0.024_125_36, -0.026_124_24], OPPOSITE),
    (PreferenceLoss::Cdpo, 0.697_959_447, [-0.019_125_36, -0.021_124_24], OPPOSITE),
    (PreferenceLoss::Robust, 0.700_209_447, [-0.030_375_36, -0.032_374_24], OPPOSITE),
    (PreferenceLoss::Hinge, 1.01, [-0.05, -0.05], OPPOSITE),
    (PreferenceLoss::Ipo, 24.779_003_125, [-0.97, -0.637_812_5], Some([1.2125, 0.51025])),
    (
        PreferenceLoss::SigmoidNorm,
        0.691_980_309,
        [-0.004_962_5, -0.003_141_02],
        Some([0.006_203_13, 0.002_512_81]),
    ),
    (
        PreferenceLoss::ApoZero,
        1.002_499_417,
        [-0.012_492_19, -0.012_492_19],
        Some([0.012_498_75, 0.012_495]),
    ),
    (
        PreferenceLoss::ApoDown,
        1.002_495_984,
        [7.49e-6, 1.747e-5],
        Some([0.012_484_7, 0.012_474_72]),
    ),
    (
        PreferenceLoss::BcoPair,
        1.391_731_821,
        [-0.024_375_13, -0.025_624_87],
        Some([0.024_750_01, 0.025_499_93]),
    ),
    (
        PreferenceLoss::NcaPair,
        1.389_325_559,
        [-0.011_562_7, -0.013_437_3],
        Some([0.012_375, 0.012_749_97]),
    ),
    (
        PreferenceLoss::Simpo,
        0.897_906_309,
        [-0.053_788_28, -0.096_617_78],
        Some([0.067_235_36, 0.077_294_23]),
    ),
    (
        PreferenceLoss::Orpo,
        0.066_363_153,
        [-0.003_513_3, -0.004_895_39],
        Some([0.004_056_61, 0.004_429_57]),
    ),
];

#[test]
fn every_preference_loss_on_two_pairs() {
    for (loss, value, by_chosen, by_rejected) in PAIR_TABLE {
        let usual = PreferenceSettings::for_loss(loss);
        let label_smoothing = if usual.label_smoothing > 0.0 { 0.1 } else { 0.0 };
        let settings = PreferenceSettings { label_smoothing, ..usual };
        settings.check().unwrap();
        let (found, found_chosen, found_rejected) = pairs(&settings);
        let by_rejected = by_rejected.unwrap_or(by_chosen.map(|slope| -slope));
        assert_close(found, value, 1e-9, loss.as_str());
        assert_all_close(&found_chosen, &by_chosen, 1e-8, loss.as_str());
        assert_all_close(&found_rejected, &by_rejected, 1e-8, loss.as_str());
    }
}

#[test]
fn kto_on_the_same_four_replies() {
    let settings = LabelSettings { loss: LabelLoss::Kto, ..LabelSettings::default() };
    let counts = LabelCounts { desirable: 2, undesirable: 2 };
    let rows = [
        (true, CHOSEN, CHOSEN_REFERENCE, [-0.006_249_38, -0.006_240_01]),
        (false, REJECTED, REJECTED_REFERENCE, [0.006_246_1, 0.006_249_84]),
    ];
    let mut loss = 0.0;
    for (desirable, log_probs, references, slopes) in rows {
        for row in 0..2 {
            let side =
                Side { log_probs: &log_probs[row..=row], reference: Some(&references[row..=row]) };
            let found =
                label(&settings, Label { desirable, weight: 1.0 }, side, 0.3, counts).unwrap();
            loss += found.loss;
            assert_all_close(&found.coefficients, &slopes[row..=row], 1e-8, "kto");
        }
    }
    assert_close(loss, 0.501_248_022, 1e-9, "kto");
}
