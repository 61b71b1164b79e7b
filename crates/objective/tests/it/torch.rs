//! Random replies of uneven length, through every variant, against TRL's own code and torch's
//! autograd. The fixture is written by `tests/golden/make_objective_golden.py`, which says for
//! each case which of the two it was.

use std::{collections::BTreeMap, fs};

use serde::Deserialize;
use serde_json::{Value, to_value};
use understudy_manifest::{
    LabelSettings, PolicyLoss, PolicySettings, PreferenceLoss, PreferenceSettings,
};
use understudy_objective::{
    Side,
    label::{Label, LabelCounts, LabelMetrics, baseline, label},
    policy::{self, Advantage, PolicyCounts, PolicyTally, Sample},
    preference::{PairCounts, PreferenceMetrics, pair},
};

use crate::random::{assert_all_close, assert_close};

type Rows<T> = Vec<Vec<T>>;

#[derive(Deserialize)]
struct Golden {
    preference: Pairs,
    label: Labels,
    policy: Policies,
}

fn golden() -> Golden {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/objective.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[derive(Deserialize)]
struct Pairs {
    chosen: Rows<f64>,
    rejected: Rows<f64>,
    chosen_reference: Rows<f64>,
    rejected_reference: Rows<f64>,
    cases: Vec<PairCase>,
}

#[derive(Deserialize)]
struct PairCase {
    settings: PreferenceSettings,
    loss: f64,
    chosen: Rows<f64>,
    rejected: Rows<f64>,
    metrics: BTreeMap<String, f64>,
}

#[test]
fn every_preference_loss_agrees() {
    let pairs = golden().preference;
    let counts = PairCounts {
        pairs: pairs.chosen.len(),
        chosen_tokens: pairs.chosen.iter().map(Vec::len).sum(),
    };
    for case in &pairs.cases {
        case.settings.check().unwrap();
        let what = format!("{:?}", case.settings);
        let tolerance = tolerance(case.settings.loss);
        let (mut loss, mut metrics) = (0.0, PreferenceMetrics::default());
        for row in 0..counts.pairs {
            let chosen = Side {
                log_probs: &pairs.chosen[row],
                reference: Some(&pairs.chosen_reference[row]),
            };
            let rejected = Side {
                log_probs: &pairs.rejected[row],
                reference: Some(&pairs.rejected_reference[row]),
            };
            let found = pair(&case.settings, chosen, rejected, counts).unwrap();
            loss += found.loss;
            metrics += found.metrics;
            assert_all_close(&found.chosen, &case.chosen[row], tolerance, &what);
            assert_all_close(&found.rejected, &case.rejected[row], tolerance, &what);
        }
        assert_close(loss, case.loss, tolerance, &what);
        assert_metrics(&to_value(metrics).unwrap(), &case.metrics, tolerance, &what);
    }
    for loss in PreferenceLoss::ALL {
        assert!(pairs.cases.iter().any(|case| case.settings.loss == loss), "no case for {loss:?}");
    }
}

/// TRL casts ORPO's odds to f32.
fn tolerance(loss: PreferenceLoss) -> f64 {
    if loss == PreferenceLoss::Orpo { 1e-6 } else { 1e-11 }
}

#[derive(Deserialize)]
struct Labels {
    log_probs: Rows<f64>,
    reference: Rows<f64>,
    desirable: Vec<bool>,
    cases: Vec<LabelCase>,
}

#[derive(Deserialize)]
struct LabelCase {
    settings: LabelSettings,
    mismatched: Vec<f64>,
    loss: f64,
    gradients: Rows<f64>,
    metrics: BTreeMap<String, f64>,
}

#[test]
fn every_label_loss_agrees() {
    let labels = golden().label;
    let desirable = labels.desirable.iter().filter(|desirable| **desirable).count();
    let counts = LabelCounts { desirable, undesirable: labels.desirable.len() - desirable };
    assert!(labels.cases.len() >= 5);
    for case in &labels.cases {
        let what = format!("{:?}", case.settings);
        let z = baseline(&case.mismatched);
        let (mut loss, mut metrics) = (0.0, LabelMetrics::default());
        for (row, desirable) in labels.desirable.iter().enumerate() {
            let side =
                Side { log_probs: &labels.log_probs[row], reference: Some(&labels.reference[row]) };
            let said = Label { desirable: *desirable, weight: 1.0 };
            let found = label(&case.settings, said, side, z, counts).unwrap();
            loss += found.loss;
            metrics += found.metrics;
            assert_all_close(&found.coefficients, &case.gradients[row], 1e-11, &what);
        }
        assert_close(loss, case.loss, 1e-11, &what);
        let mut reported = to_value(metrics).unwrap();
        reported["rewards/margins"] = metrics.margin().into();
        reported["kl"] = if case.settings.loss.needs_baseline() { z } else { 0.0 }.into();
        assert_metrics(&reported, &case.metrics, 1e-11, &what);
    }
}

#[derive(Deserialize)]
struct Policies {
    log_probs: Rows<f64>,
    old: Rows<f64>,
    sampler: Rows<f64>,
    reference: Rows<f64>,
    mask: Rows<bool>,
    advantages: Vec<f64>,
    token_advantages: Rows<f64>,
    micro_batches: Rows<usize>,
    cases: Vec<PolicyCase>,
}

#[derive(Deserialize)]
struct PolicyCase {
    settings: PolicySettings,
    given: Vec<String>,
    loss: f64,
    gradients: Rows<f64>,
    #[serde(default)]
    metrics: BTreeMap<String, f64>,
}

impl Policies {
    fn sample(&self, case: &PolicyCase, row: usize) -> Sample<'_, f64> {
        let is_given = |what: &str| case.given.iter().any(|given| given == what);
        Sample {
            log_probs: &self.log_probs[row],
            old: is_given("old").then(|| &*self.old[row]),
            sampler: is_given("sampler").then(|| &*self.sampler[row]),
            reference: is_given("reference").then(|| &*self.reference[row]),
            mask: Some(&self.mask[row]),
            advantage: if is_given("token_advantages") {
                Advantage::Tokens(&self.token_advantages[row])
            } else {
                Advantage::Reply(self.advantages[row])
            },
        }
    }

    fn trained(&self, rows: &[usize]) -> usize {
        rows.iter().flat_map(|row| &self.mask[*row]).filter(|trained| **trained).count()
    }
}

#[test]
fn every_policy_loss_agrees() {
    let policies = golden().policy;
    for case in &policies.cases {
        case.settings.check().unwrap();
        let what = format!("{:?}, given {:?}", case.settings, case.given);
        let (mut loss, mut tally) = (0.0, PolicyTally::default());
        for rows in &policies.micro_batches {
            let counts = PolicyCounts {
                replies: policies.mask.len(),
                tokens: policies.trained(&policies.micro_batches.concat()),
                micro_batch_tokens: policies.trained(rows),
                micro_batches: policies.micro_batches.len(),
            };
            for row in rows {
                let sample = policies.sample(case, *row);
                let found = policy::sample(&case.settings, sample, counts).unwrap();
                loss += found.loss;
                tally += found.tally;
                assert_all_close(&found.coefficients, &case.gradients[*row], 1e-11, &what);
            }
        }
        assert_close(loss, case.loss, 1e-11, &what);
        // TRL casts its clip flags to f32 before it takes their mean.
        assert_metrics(&to_value(tally.report()).unwrap(), &case.metrics, 1e-7, &what);
    }
    for loss in PolicyLoss::ALL {
        assert!(policies.cases.iter().any(|case| case.settings.loss == loss), "no case: {loss:?}");
    }
}

/// Ours may report more than the reference does, but never something else under the same name.
fn assert_metrics(found: &Value, expected: &BTreeMap<String, f64>, tolerance: f64, what: &str) {
    for (name, expected) in expected {
        let value = found[name].as_f64().unwrap_or_else(|| panic!("{what}: no metric {name}"));
        assert_close(value, *expected, tolerance, &format!("{name} of {what}"));
    }
}
