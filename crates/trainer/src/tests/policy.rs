//! GRPO on a bandit: prompts of a few ids, one sampled token each, and one token that pays.

use std::ops::ControlFlow;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use understudy_manifest::TrainStage;
use understudy_model::{BaseModel, Batch, Lora, Term};

use super::fixtures::{base, lora, moved, request, stage};
use crate::{
    Attempt, Call, Group, RolloutError, Rollouts, TrainError, TrainOptions, TrainRequest,
    TrainedStage, train_on_policy, train_stage,
};

/// Draws one token after each prompt from the policy itself.
#[derive(Debug)]
struct Bandit<'a> {
    base: &'a BaseModel,
    group_size: usize,
    /// Added to every recorded log-probability, as a sampler of other numerics would.
    offset: f32,
    pays: fn(prompt: u32, token: u32) -> f64,
    rounds: usize,
}

impl<'a> Bandit<'a> {
    fn new(base: &'a BaseModel) -> Self {
        // Which of 64 ids pays depends on the prompt, so that no constant answer is right.
        let pays = |prompt: u32, token: u32| f64::from(u8::from(token % 8 == prompt % 8));
        Self { base, group_size: 8, offset: 0.0, pays, rounds: 0 }
    }

    fn prompt(index: usize) -> Vec<u32> {
        vec![1, 2, 3, 4, 5, 100 + index as u32]
    }
}

impl Rollouts for Bandit<'_> {
    fn prompts(&self) -> usize {
        8
    }

    fn groups(
        &mut self,
        policy: &Lora,
        prompts: &[usize],
        seed: u64,
    ) -> Result<Vec<Group>, RolloutError> {
        self.rounds += 1;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let decoder = &self.base.decoder;
        let ids: Vec<Vec<u32>> = prompts.iter().map(|index| Self::prompt(*index)).collect();
        let batch = Batch::of(&ids);
        let hidden = decoder.hidden(&batch, Some(policy)).unwrap();
        let mut groups = Vec::new();
        for (nth, prompt) in ids.iter().enumerate() {
            let row = (nth + 1) * prompt.len() - 1;
            let terms: Vec<Term> = (0..64).map(|target| Term { row, target }).collect();
            let scores = decoder.log_probs(&hidden, &terms, 1.0).unwrap().log_probs;
            let total: f64 = scores.iter().map(|lp| f64::from(*lp).exp()).sum();
            let attempts = (0..self.group_size).map(|_| {
                // Among 64 ids in proportion, as if the rest of the vocabulary were not there.
                let mut left = random.random_range(0.0..total);
                let token = scores.iter().position(|lp| {
                    left -= f64::from(*lp).exp();
                    left <= 0.0
                });
                let token = token.unwrap_or(63) as u32;
                let call = Call {
                    prompt_ids: prompt.clone(),
                    completion_ids: vec![token],
                    log_probs: vec![scores[token as usize] + self.offset],
                    forced: Vec::new(),
                    truncated: false,
                };
                let reward = Some((self.pays)(prompt[5], token));
                let text = token.to_string();
                Attempt { calls: vec![call], reward, text, ..Attempt::default() }
            });
            groups.push(Group { attempts: attempts.collect() });
        }
        Ok(groups)
    }
}

fn grpo(more: Value) -> TrainStage {
    let mut written = json!({
        "method": "grpo", "rewards": ["exact"], "max_new_tokens": 4, "batch_size": 8,
        "learning_rate": 2e-2, "epochs": 30, "group_size": 8, "clip": 1.0,
        "kl": {"beta": 0.0},
    });
    written.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    stage(written)
}

/// Trains and returns the mean reward of every round, too.
fn play(
    base: &BaseModel,
    stage: &TrainStage,
    seed: u64,
    bandit: &mut Bandit<'_>,
) -> (TrainedStage, Vec<f64>) {
    let lora = lora();
    let request = TrainRequest { seed, ..request(base, stage, &lora) };
    let mut rewards = Vec::new();
    let trained = train_on_policy(&request, bandit, &mut |progress| {
        rewards.extend(progress.reward);
        ControlFlow::Continue(())
    });
    (trained.unwrap(), rewards)
}

#[test]
fn a_bandit_is_learnt_from_three_seeds() {
    let base = base();
    // Slower and wider than elsewhere: a prompt whose attempts all agree on a wrong token before
    // one has hit the right one teaches nothing ever after.
    let stage = grpo(json!({"epochs": 60, "learning_rate": 1e-2}));
    let wide = || Bandit { group_size: 16, ..Bandit::new(&base) };
    for seed in [1, 2, 3] {
        let (trained, rewards) = play(&base, &stage, seed, &mut wide());
        let late = rewards[rewards.len() - 5..].iter().sum::<f64>() / 5.0;
        assert!(rewards[0] < 0.4 && late > 0.95, "{seed}: {rewards:?}");
        assert_eq!(trained.lineage.attempts, 60 * 16 * 8);
        assert_eq!(trained.lineage.stopped, None);
    }
}

#[test]
fn every_policy_loss_raises_the_reward() {
    let base = base();
    let losses = [
        json!({"loss": "gspo", "epsilon_low": 0.2, "epsilon_high": 0.28}),
        json!({"loss": "cispo"}),
        json!({"loss": "sapo"}),
        json!({"loss": "dppo"}),
        json!({"loss": "reinforce"}),
        json!({"aggregation": "dr_grpo", "advantage": {"scale": "none"}, "max_new_tokens": 1}),
        json!({"iterations": 2, "epochs": 15}),
        json!({"kl": {"beta": 0.02, "gradient": "k2"}}),
    ];
    for loss in losses {
        let (_, rewards) = play(&base, &grpo(loss.clone()), 5, &mut Bandit::new(&base));
        let late = rewards[rewards.len() - 3..].iter().sum::<f64>() / 3.0;
        assert!(late > rewards[0] + 0.4, "{loss}: {rewards:?}");
    }
}

#[test]
fn one_round_may_be_trained_on_several_times() {
    let base = base();
    let mut bandit = Bandit::new(&base);
    let (trained, rewards) =
        play(&base, &grpo(json!({"iterations": 3, "epochs": 2})), 1, &mut bandit);
    assert_eq!((trained.lineage.steps, bandit.rounds, rewards.len()), (6, 2, 2));
}

#[test]
fn a_run_killed_between_rounds_ends_with_the_bytes_of_one_that_was_not() {
    let base = base();
    let (lora, folder) = (lora(), tempfile::tempdir().unwrap());
    let stage = grpo(json!({"epochs": 6, "iterations": 2, "kl": {"beta": 0.05}}));
    let expected = play(&base, &stage, 17, &mut Bandit::new(&base)).0;
    for stop in [3, 6] {
        let checkpoint = folder.path().join(format!("checkpoint-{stop}"));
        let options = TrainOptions { checkpoint: Some(&checkpoint), ..TrainOptions::default() };
        let request = TrainRequest { options, ..request(&base, &stage, &lora) };
        let stopped = train_on_policy(&request, &mut Bandit::new(&base), &mut |progress| {
            if progress.done >= stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        // A round is never torn apart, so that what is asked to stop within one ends it first.
        let at = stop.next_multiple_of(2);
        assert!(matches!(stopped.unwrap_err(), TrainError::Interrupted { step } if step == at));
        let mut bandit = Bandit::new(&base);
        let resumed =
            train_on_policy(&request, &mut bandit, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(resumed.adapter.values(), expected.adapter.values());
        assert_eq!(bandit.rounds as u64, 6 - at / 2);
    }
}

#[test]
fn rounds_that_teach_nothing_change_nothing() {
    let base = base();
    let lora = lora();
    let mut bandit = Bandit { pays: |_, _| 0.5, ..Bandit::new(&base) };
    let health = json!({"collapse": "off"});
    let stage = grpo(json!({"epochs": 3, "health": health}));
    let (trained, _) = play(&base, &stage, 17, &mut bandit);
    let start = request(&base, &stage, &lora).starting_adapter().unwrap();
    assert_eq!(trained.adapter.values(), start.values());
    assert_eq!((trained.lineage.steps, trained.lineage.skipped_steps), (3, 0));
}

#[test]
fn a_policy_that_collapses_onto_a_constant_is_stopped_and_taken_back() {
    let base = base();
    let lora = lora();
    let start = moved(&base);
    // One token pays a little whatever the prompt; the right answers are out of reach.
    let mut bandit =
        Bandit { pays: |_, token| if token == 7 { 0.3 } else { 0.0 }, ..Bandit::new(&base) };
    let stage = grpo(json!({"epochs": 60}));
    let request = TrainRequest { start: Some(&start), ..request(&base, &stage, &lora) };
    let mut advice = None;
    let trained = train_on_policy(&request, &mut bandit, &mut |progress| {
        advice = advice.take().or_else(|| progress.advice.clone());
        ControlFlow::Continue(())
    });
    let lineage = trained.unwrap().lineage;
    let stopped = lineage.stopped.expect("a collapse is not trained to its end");
    assert!(stopped.contains("collapse") && stopped.contains("same words"), "{stopped}");
    assert!(lineage.steps < 60);
    assert!(advice.is_some() && lineage.notes.iter().any(|note| note.contains("collapse")));
}

/// Groups as a server would have logged them while `policy` served.
fn log(base: &BaseModel, policy: &Lora, rounds: u64) -> Vec<Group> {
    let mut bandit = Bandit::new(base);
    let prompts: Vec<usize> = (0..8).collect();
    (0..rounds).flat_map(|seed| bandit.groups(policy, &prompts, seed).unwrap()).collect()
}

#[test]
fn logged_groups_train_relative_to_their_sampler_while_the_policy_agrees_with_it() {
    let (base, lora) = (base(), lora());
    let start = moved(&base);
    let groups = log(&base, &start, 4);
    let stage = grpo(json!({"source": "logged", "epochs": 2, "rewards": []}));
    let logged =
        TrainRequest { groups: &groups, start: Some(&start), ..request(&base, &stage, &lora) };
    let trained = train_stage(&logged, &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(
        trained.lineage.notes[0].contains("relative")
            || trained.lineage.notes[0].contains("to the sampler")
    );
    assert!(!trained.lineage.offpolicy_unsound);
    let reward = |policy: &Lora| {
        let after = log(&base, policy, 3);
        let all: Vec<f64> =
            after.iter().flat_map(|g| &g.attempts).filter_map(|attempt| attempt.reward).collect();
        all.iter().sum::<f64>() / all.len() as f64
    };
    assert!(reward(&trained.adapter) > reward(&start) + 0.1);

    // Served by the base, trained from an adapter: the ratio is to where training began.
    let foreign = log(&base, &fresh(&base), 4);
    let decoupled = TrainRequest { groups: &foreign, ..logged };
    let trained = train_stage(&decoupled, &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(trained.lineage.notes[0].contains("began the stage"), "{:?}", trained.lineage.notes);
}

fn fresh(base: &BaseModel) -> Lora {
    let (stage, lora) = (stage(json!({"method": "sft"})), lora());
    request(base, &stage, &lora).starting_adapter().unwrap()
}

#[test]
fn logged_groups_of_an_unknown_sampler_are_refused_unless_asked_for_and_then_marked() {
    let (base, lora) = (base(), lora());
    let start = moved(&base);
    let mut groups = log(&base, &start, 2);
    for attempt in groups.iter_mut().flat_map(|group| &mut group.attempts) {
        attempt.calls[0].log_probs.clear();
    }
    let train = |settings: Value| {
        let stage = grpo(settings);
        let start = Some(&start);
        let request = TrainRequest { groups: &groups, start, ..request(&base, &stage, &lora) };
        train_stage(&request, &mut |_| ControlFlow::Continue(()))
    };
    let refused = train(json!({"source": "logged", "epochs": 1, "rewards": []})).unwrap_err();
    assert!(refused.to_string().contains("16 are groups whose sampler"), "{refused}");
    let insisting = json!({"source": "logged", "epochs": 1, "rewards": [], "allow_unsound": true});
    let lineage = train(insisting).unwrap().lineage;
    assert!(lineage.offpolicy_unsound);
    assert!(lineage.notes[0].contains("biased"), "{:?}", lineage.notes);
}

#[test]
fn attempts_of_different_prompts_are_no_group() {
    let (base, lora) = (base(), lora());
    let start = moved(&base);
    let mut groups = log(&base, &start, 1);
    for group in &mut groups {
        group.attempts[1].calls[0].prompt_ids[0] = 9;
    }
    let stage = grpo(json!({"source": "logged", "epochs": 1, "rewards": []}));
    let request = TrainRequest { groups: &groups, ..request(&base, &stage, &lora) };
    let error = train_stage(&request, &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(matches!(error, TrainError::NoExamples { .. }), "{error}");
}

#[test]
fn a_stage_that_samples_needs_something_to_sample_from() {
    let (base, lora, stage) = (base(), lora(), grpo(json!({})));
    let error = train_stage(&request(&base, &stage, &lora), &mut |_| ControlFlow::Continue(()))
        .unwrap_err();
    assert!(matches!(error, TrainError::NoRollouts), "{error}");
}
