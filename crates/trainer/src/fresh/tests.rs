use serde_json::{Value, json};
use understudy_manifest::{Objective, TrainStage};

use super::*;
use crate::attempt::{Attempt, Call, Group};

fn settings(more: Value) -> GrpoSettings {
    let mut written = json!({"method": "grpo", "rewards": ["exact"], "max_new_tokens": 10});
    written.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let stage: TrainStage = serde_json::from_value(written).unwrap();
    match stage.objective {
        Objective::Grpo(settings) => *settings,
        _ => panic!("a policy stage"),
    }
}

fn attempt(id: u32, tokens: usize, reward: Option<f64>) -> Attempt {
    let call = Call {
        prompt_ids: vec![1, 2, 3],
        completion_ids: vec![id; tokens],
        log_probs: vec![-1.0; tokens],
        forced: Vec::new(),
        truncated: false,
    };
    Attempt { calls: vec![call], reward, text: format!("said {id}"), ..Attempt::default() }
}

fn group(rewards: &[Option<f64>]) -> Group {
    let attempts = rewards.iter().zip(10..).map(|(reward, id)| attempt(id, 4, *reward));
    Group { attempts: attempts.collect() }
}

fn advantages(example: &Example) -> Vec<f64> {
    let Kind::Compare { advantages } = &example.kind else { panic!("a comparison") };
    advantages
        .iter()
        .map(|advantage| match advantage {
            Advantage::Row(value) => *value,
            Advantage::Tokens(values) => values[0],
        })
        .collect()
}

#[test]
fn groups_without_a_difference_are_dropped_and_counted() {
    let groups = vec![
        group(&[Some(1.0), Some(0.0), Some(0.0), Some(1.0)]),
        group(&[Some(0.5); 4]),
        group(&[None, Some(1.0), None, None]),
    ];
    let (examples, metrics) = examples(groups, &settings(json!({"advantage": "art"})));
    assert_eq!(examples.len(), 1);
    let pushes = advantages(&examples[0]);
    assert!((pushes[0] - 1.0).abs() < 1e-4 && (pushes[1] + 1.0).abs() < 1e-4, "{pushes:?}");
    assert!((metrics.zero_std - 2.0 / 3.0).abs() < 1e-12);
    assert_eq!((metrics.attempts, metrics.no_opinion), (12, 3));
    assert!((metrics.reward.unwrap() - 5.0 / 9.0).abs() < 1e-12);
}

#[test]
fn no_opinion_is_neither_trained_nor_in_the_baseline() {
    let (examples, _) = examples(vec![group(&[Some(1.0), None, Some(0.0)])], &settings(json!({})));
    assert_eq!(examples[0].rows.len(), 2);
    let pushes = advantages(&examples[0]);
    assert!((pushes[0] + pushes[1]).abs() < 1e-12, "the mean is over two: {pushes:?}");
}

#[test]
fn a_failed_attempt_is_left_out_of_everything_but_the_count() {
    let mut spoilt = group(&[Some(1.0), Some(0.0), Some(0.0)]);
    spoilt.attempts[1].failed = true;
    let (examples, metrics) = examples(vec![spoilt], &settings(json!({"advantage": "art"})));
    assert_eq!((examples[0].rows.len(), metrics.failed), (2, 1));
    assert!((advantages(&examples[0])[0] - 1.0).abs() < 1e-4, "one of two, not of three");
}

#[test]
fn what_ran_out_of_room_stays_in_the_baseline_when_it_is_masked() {
    let mut cut = group(&[Some(1.0), Some(0.0), Some(0.0)]);
    cut.attempts[2].calls[0].truncated = true;
    let all = examples(vec![cut.clone()], &settings(json!({}))).0;
    let masked = examples(vec![cut], &settings(json!({"mask_truncated": true}))).0;
    assert_eq!((all[0].rows.len(), masked[0].rows.len()), (3, 2));
    assert_eq!(advantages(&all[0])[..2], advantages(&masked[0])[..2]);
}

#[test]
fn close_to_the_limit_the_reward_falls() {
    let mut group = group(&[Some(1.0), Some(1.0), Some(1.0)]);
    group.attempts[1] = attempt(11, 9, Some(1.0));
    group.attempts[2].calls[0].truncated = true;
    let (examples, metrics) =
        examples(vec![group], &settings(json!({"overlong_buffer": 4, "advantage": "art"})));
    assert_eq!(metrics.parts["overlong"], (0.0 - 0.75 - 1.0) / 3.0);
    let pushes = advantages(&examples[0]);
    assert!(pushes[0] > pushes[1] && pushes[1] > pushes[2], "{pushes:?}");
}

#[test]
fn each_reward_may_be_normalised_by_itself() {
    let mut group = group(&[Some(1.0), Some(0.0), Some(0.0), Some(1.0)]);
    // Two parts: one of wide spread that says little, one of narrow spread that says all.
    let parts = [(0.0, 0.01), (10.0, 0.0), (0.0, 0.0), (10.0, 0.01)];
    for (attempt, (wide, narrow)) in group.attempts.iter_mut().zip(parts) {
        attempt.components = vec![("a".into(), Some(wide)), ("b".into(), Some(narrow))];
    }
    let rewards = json!({"rewards": ["exact", "json_valid"], "normalise_each": true});
    let (examples, _) = examples(vec![group], &settings(rewards));
    // The first is poor in one part and rich in the other, so it stands in the middle.
    let pushes = advantages(&examples[0]);
    assert!(pushes[0].abs() < 0.02 && pushes[1].abs() < 0.02, "{pushes:?}");
    assert!(pushes[2] < -1.2 && pushes[3] > 1.2, "{pushes:?}");
}

#[test]
fn credit_by_turn_gives_a_turn_what_followed_it() {
    let turns = |ids: [u32; 2], rewards: [f64; 2]| {
        let first = Call {
            prompt_ids: vec![1, 2],
            completion_ids: vec![ids[0]; 2],
            log_probs: vec![-1.0; 2],
            forced: Vec::new(),
            truncated: false,
        };
        let second = Call {
            prompt_ids: vec![1, 2, ids[0], ids[0], 90],
            completion_ids: vec![ids[1]; 3],
            log_probs: vec![-1.0; 3],
            forced: Vec::new(),
            truncated: false,
        };
        Attempt {
            calls: vec![first, second],
            reward: Some(rewards.iter().sum()),
            call_rewards: Some(rewards.to_vec()),
            ..Attempt::default()
        }
    };
    let group = Group { attempts: vec![turns([5, 6], [1.0, 0.0]), turns([7, 8], [0.0, 0.0])] };
    let in_environment = json!({
        "source": "environment", "environment": "x", "rewards": [], "credit": "turn"
    });
    let (examples, metrics) = examples(vec![group], &settings(in_environment));
    let Kind::Compare { advantages } = &examples[0].kind else { panic!("a comparison") };
    let Advantage::Tokens(tokens) = &advantages[0] else { panic!("by token") };
    assert_eq!(tokens.len(), 5);
    // Returns are 1 and 0 for the first attempt, 0 and 0 for the other: mean a quarter.
    assert!(tokens[0] > 1.5 && tokens[4] < 0.0, "{tokens:?}");
    assert_eq!((metrics.clean, metrics.fork, metrics.turns), (2, 0, 2.0));
}

#[test]
fn words_said_across_prompts_are_noticed() {
    let constant = |prompts: usize| {
        let mut groups = vec![group(&[Some(0.3), Some(0.2)]); prompts];
        for attempt in groups.iter_mut().flat_map(|group| &mut group.attempts) {
            attempt.text = "{}".to_owned();
        }
        examples(groups, &settings(json!({}))).1.same_words
    };
    assert_eq!(constant(3), 1.0);
    assert_eq!(constant(1), 0.0, "one prompt alone may well have one answer");
}
