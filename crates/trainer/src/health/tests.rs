use understudy_objective::preference::PreferenceMetrics;

use super::*;
use crate::fresh::RolloutMetrics;

fn step(step: u64) -> StepMetrics {
    StepMetrics {
        step,
        epoch: 0.0,
        loss: 0.5,
        learning_rate: 1e-4,
        grad_norm: Some(1.0),
        num_tokens: 0,
        tokens_per_second: 0.0,
        step_time: 0.0,
        skipped_steps: 0,
        mean_token_accuracy: 0.5,
        entropy: 1.0,
        preference: None,
        labels: None,
        policy: None,
        rollout: None,
        advice: None,
    }
}

/// Runs twenty steps, changed from the tenth on, and returns the first failure.
fn first_failure(check: HealthCheck, change: impl Fn(&mut StepMetrics)) -> Option<(u64, String)> {
    let checks = [(check, Reaction::Warn)].into();
    let mut health = Health::default();
    for nth in 1..=20 {
        let mut metrics = step(nth);
        if nth >= 10 {
            change(&mut metrics);
        }
        if let Diagnosis::Failed(failed, advice) = health.look(&metrics, &checks) {
            assert_eq!(failed, check);
            return Some((nth, advice));
        }
    }
    None
}

fn rollout(reward: f64, same_words: f64, zero_std: f64, mean_length: f64) -> RolloutMetrics {
    let reward = Some(reward);
    RolloutMetrics { reward, zero_std, mean_length, same_words, ..RolloutMetrics::default() }
}

#[test]
fn a_run_that_stays_as_it_began_is_healthy() {
    for check in HealthCheck::ALL {
        assert_eq!(first_failure(check, |_| {}), None);
    }
}

#[test]
fn an_exploding_norm_is_found_and_one_odd_batch_is_not() {
    let (at, advice) =
        first_failure(HealthCheck::GradientNorm, |m| m.grad_norm = Some(100.0)).unwrap();
    assert_eq!(at, 11);
    assert!(advice.contains("learning_rate"), "{advice}");
    let once = |m: &mut StepMetrics| m.grad_norm = Some(if m.step == 12 { 100.0 } else { 1.0 });
    assert_eq!(first_failure(HealthCheck::GradientNorm, once), None);
}

#[test]
fn falling_chosen_replies_are_found_only_while_margins_grow() {
    let run = |late: f64, margin: f64| {
        let checks = [(HealthCheck::ChosenLogProb, Reaction::Warn)].into();
        let mut health = Health::default();
        (1..=20).find(|nth| {
            let log_prob_chosen = if *nth < 10 { -20.0 } else { late };
            let pairs = PreferenceMetrics { margin, log_prob_chosen, ..Default::default() };
            let metrics = StepMetrics { preference: Some(pairs), ..step(*nth) };
            matches!(health.look(&metrics, &checks), Diagnosis::Failed(..))
        })
    };
    assert_eq!(run(-30.0, 1.0), Some(14));
    assert_eq!(run(-30.0, -1.0), None);
    assert_eq!(run(-21.0, 1.0), None);
}

#[test]
fn collapsing_entropy_is_found_and_falling_entropy_is_not() {
    let (at, _) = first_failure(HealthCheck::Entropy, |m| m.entropy = 0.01).unwrap();
    assert_eq!(at, 14);
    assert_eq!(first_failure(HealthCheck::Entropy, |m| m.entropy = 0.5), None);
}

#[test]
fn one_constant_answer_is_a_collapse_unless_it_is_the_right_one() {
    let constant = |reward: f64| {
        first_failure(HealthCheck::Collapse, |m| {
            m.rollout = Some(rollout(reward, 0.9, 0.5, 10.0));
        })
    };
    let (at, advice) = constant(0.4).unwrap();
    assert_eq!(at, 12);
    assert!(advice.contains("same words") && advice.contains("0.40"), "{advice}");
    assert_eq!(constant(1.0), None);
    let silent = first_failure(HealthCheck::Collapse, |m| {
        m.rollout = Some(rollout(0.4, 0.1, 1.0, 10.0));
    });
    assert_eq!(silent.unwrap().0, 14);
}

#[test]
fn replies_that_grow_with_the_reward_are_found() {
    let checks = [(HealthCheck::Length, Reaction::Warn)].into();
    let run = |late_reward: f64| {
        let mut health = Health::default();
        (1..=20).find(|nth| {
            let late = *nth >= 10;
            let mut metrics = step(*nth);
            let (reward, length) = if late { (late_reward, 40.0) } else { (0.3, 20.0) };
            metrics.rollout = Some(rollout(reward, 0.1, 0.1, length));
            matches!(health.look(&metrics, &checks), Diagnosis::Failed(..))
        })
    };
    assert_eq!(run(0.6), Some(14));
    assert_eq!(run(0.2), None);
}

#[test]
fn a_check_that_is_off_is_not_made_and_a_failure_is_told_once() {
    let mut health = Health::default();
    let mut told = 0;
    for nth in 1..=30 {
        let metrics = StepMetrics { entropy: if nth < 8 { 1.0 } else { 0.0 }, ..step(nth) };
        let checks = [(HealthCheck::Entropy, Reaction::Warn), (HealthCheck::Kl, Reaction::Off)];
        let diagnosis = health.look(&metrics, &checks.into());
        told += u32::from(matches!(diagnosis, Diagnosis::Failed(..)));
    }
    assert_eq!(told, 1);
    assert_eq!(health.failed[&HealthCheck::Entropy].0, 12);
}
