//! Rollouts and the trainer together, on a tiny random model.

use std::{ops::ControlFlow, sync::Arc};

use serde_json::{Value, json};
use understudy_environment::Split;
use understudy_manifest::{
    self as manifest, GrpoSettings, Objective, Origin, PromptExample, SftExample, TrainStage,
};
use understudy_message::Message;
use understudy_model::{
    BaseModel, Device, Family, Lora, LoraSpec, ModelConfig, Precision, Targets,
};
use understudy_trainer::{
    Group, RolloutMetrics, Rollouts, TrainOptions, TrainRequest, TrainedStage, train_on_policy,
};

use crate::{Episodes, Question, Replay};

/// What the tests run on: `UNDERSTUDY_TEST_DEVICE`, or the processor.
fn here() -> Device {
    let name = std::env::var("UNDERSTUDY_TEST_DEVICE");
    understudy_model::device(name.as_deref().unwrap_or("cpu")).unwrap()
}

fn base() -> Arc<BaseModel> {
    base_in(Precision::F32)
}

fn base_in(precision: Precision) -> Arc<BaseModel> {
    let config = ModelConfig { max_positions: 4096, ..ModelConfig::tiny(Family::Llama) };
    Arc::new(BaseModel::random_with(config, 7, &here(), precision).unwrap())
}

fn stage(more: Value) -> TrainStage {
    let mut written = json!({
        "method": "grpo", "rewards": [{"verify": "regex", "pattern": "[a-m]"}], "group_size": 4,
        "max_new_tokens": 12, "batch_size": 2, "max_rounds": 3, "learning_rate": 1e-2,
    });
    written.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(written).unwrap()
}

fn settings(stage: &TrainStage) -> &GrpoSettings {
    match &stage.objective {
        Objective::Grpo(settings) => settings,
        _ => panic!("a policy stage"),
    }
}

fn in_desk() -> TrainStage {
    stage(json!({"source": "environment", "environment": "price_desk", "rewards": []}))
}

fn questions() -> Vec<Question> {
    let question = |nth: usize| Question {
        prompt: vec![Message::system("say a letter"), Message::user(format!("number {nth}"))],
        tools: Vec::new(),
        expected: Some(Message::assistant("a")),
        record: Value::Null,
    };
    (0..6).map(question).collect()
}

fn adapter(base: &BaseModel, seed: u64) -> Lora {
    let spec = LoraSpec::new(4, 8.0, Targets::AllLinear);
    let mut lora = Lora::init(base.decoder.config(), &spec, seed).unwrap();
    for (nth, value) in lora.values_mut().iter_mut().enumerate() {
        *value += 0.1 * ((nth as f32 + 1.0) * (seed as f32 + 1.3)).sin();
    }
    lora
}

fn replay(base: &Arc<BaseModel>, stage: &TrainStage) -> Replay {
    Replay::start(Arc::clone(base), questions(), settings(stage), 1024).unwrap()
}

#[test]
fn prompts_without_a_known_answer_are_attempted_and_judged_by_what_needs_none() {
    let base = base();
    let origin = || Origin { trajectory: "t".to_owned(), steps: Vec::new(), because: Vec::new() };
    let asked = |nth: usize| vec![Message::user(format!("number {nth}"))];
    let prompt = |nth| PromptExample { prompt: asked(nth), tools: Vec::new(), origin: origin() };
    let completion = vec![Message::assistant("a")];
    let known = SftExample { prompt: asked(1), completion, tools: Vec::new(), origin: origin() };
    // Near-duplicates of a prompt are left out of prompts: what only sft has is asked by replay.
    let other = SftExample { prompt: asked(9), ..known.clone() };
    let questions = Question::of_prompts(&[known, other], &[prompt(0), prompt(1), prompt(2)]);
    let answers: Vec<bool> = questions.iter().map(|one| one.expected.is_some()).collect();
    assert_eq!(answers, [false, true, false]);

    let rewards = json!(["exact", {"verify": "regex", "pattern": "."}]);
    let stage = stage(json!({"source": "prompts", "rewards": rewards}));
    let mut replay = Replay::start(Arc::clone(&base), questions, settings(&stage), 1024).unwrap();
    let groups = replay.groups(&adapter(&base, 1), &[0, 1], 3).unwrap();
    let opinions = |nth: usize| -> Vec<usize> {
        let attempts = groups[nth].attempts.iter();
        attempts
            .map(|one| one.components.iter().filter(|(_, said)| said.is_some()).count())
            .collect()
    };
    assert_eq!((opinions(0), opinions(1)), (vec![1; 4], vec![2; 4]));
    assert!(groups[0].attempts.iter().all(|attempt| attempt.reward.is_some()));
}

#[test]
fn what_a_constraint_leaves_no_choice_about_is_neither_drawn_nor_trained() {
    let base = base();
    let schema = json!({
        "type": "object", "properties": {"letter": {"enum": ["a", "b"]}}, "required": ["letter"],
        "additionalProperties": false,
    });
    let stage = stage(json!({
        "constraint": {"json_schema": schema}, "max_new_tokens": 40,
        "rewards": [{"verify": "regex", "pattern": ": *\"a\""}],
    }));
    let groups = replay(&base, &stage).groups(&adapter(&base, 1), &[0, 1], 3).unwrap();
    for attempt in groups.iter().flat_map(|group| &group.attempts) {
        let said: Value = serde_json::from_str(&attempt.text).unwrap();
        assert!(["a", "b"].contains(&said["letter"].as_str().unwrap()), "{said}");
        let call = &attempt.calls[0];
        assert_eq!(call.log_probs.len(), call.completion_ids.len());
        assert!(!call.forced.is_empty() && call.forced.len() < call.completion_ids.len());
    }
    let start = adapter(&base, 1);
    let (trained, rounds) = train(&base, &stage, &mut replay(&base, &stage), &start);
    assert!(trained.adapter.values() != start.values());
    let last = rounds.last().unwrap();
    assert!(last["completions/forced_ratio"].as_f64().unwrap() > 0.3, "{last}");
    // What the trainer makes of the drawn tokens is what the sampler recorded of them.
    let gaps = || rounds.iter().filter_map(|round| round["mismatch/k3_kl"].as_f64());
    assert!(gaps().count() > 0 && gaps().all(|gap| gap.abs() < 1e-6), "{rounds:?}");
}

/// A whole stage and what its last round looked like.
fn train(
    base: &BaseModel,
    stage: &TrainStage,
    rollouts: &mut dyn Rollouts,
    start: &Lora,
) -> (TrainedStage, Vec<Value>) {
    let folder = tempfile::tempdir().unwrap();
    let metrics = folder.path().join("metrics.jsonl");
    let lora = manifest::Lora { rank: 4, alpha: 8.0, ..manifest::Lora::default() };
    let options = TrainOptions { metrics: Some(&metrics), ..TrainOptions::default() };
    let request = TrainRequest {
        base,
        stage,
        lora: &lora,
        start: Some(start),
        sft: &[],
        pairs: &[],
        labels: &[],
        groups: &[],
        prompts: None,
        seed: 17,
        options,
    };
    let trained = train_on_policy(&request, rollouts, &mut |_| ControlFlow::Continue(())).unwrap();
    let lines = std::fs::read_to_string(&metrics).unwrap();
    (trained, lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn equal_adapter_prompts_and_seed_give_equal_attempts_and_others_do_not() {
    let (base, stage) = (base(), stage(json!({})));
    let (one, two) = (adapter(&base, 1), adapter(&base, 2));
    let groups = |policy: &Lora, seed: u64| -> Vec<Group> {
        replay(&base, &stage).groups(policy, &[0, 3], seed).unwrap()
    };
    assert_eq!(groups(&one, 5), groups(&one, 5), "to the last bit");
    assert_ne!(groups(&one, 5), groups(&one, 6));
    assert_ne!(groups(&one, 5), groups(&two, 5), "the adapter handed over is the one sampled");
    let first = &groups(&one, 5)[0];
    assert_eq!(first.attempts.len(), 4);
    assert!(first.shares_prompt() && first.is_recorded());
    let texts: std::collections::BTreeSet<&str> =
        first.attempts.iter().map(|attempt| attempt.text.as_str()).collect();
    assert!(texts.len() > 1, "attempts are drawn apart");
}

#[test]
fn a_round_depends_on_its_prompts_and_not_on_what_came_before() {
    let (base, stage) = (base(), stage(json!({})));
    let policy = adapter(&base, 1);
    let mut warm = replay(&base, &stage);
    warm.groups(&adapter(&base, 2), &[0, 1, 2], 1).unwrap();
    let after = warm.groups(&policy, &[3, 0], 9).unwrap();
    let cold = replay(&base, &stage).groups(&policy, &[3, 0], 9).unwrap();
    assert_eq!(after, cold);
}

#[test]
fn sampler_and_trainer_agree_about_every_token() {
    // A server would round what it remembers beside the second.
    for base in [base(), base_in(Precision::Bf16)] {
        let stage = stage(json!({}));
        let mut replay = replay(&base, &stage);
        let (trained, steps) = train(&base, &stage, &mut replay, &adapter(&base, 1));
        assert_eq!(steps.len(), 3);
        for step in &steps {
            let gap = step["sampling/sampling_logp_difference/max"].as_f64().unwrap();
            assert!(gap < 1e-4, "one code path for log-probabilities: {gap}");
            assert!(step["mismatch/k3_kl"].as_f64().unwrap() < 1e-6);
        }
        assert_eq!(trained.lineage.attempts, 3 * 2 * 4);
    }
}

#[test]
fn the_same_stage_ends_with_the_same_bytes() {
    let (base, stage) = (base(), stage(json!({})));
    let start = adapter(&base, 1);
    let run = || train(&base, &stage, &mut replay(&base, &stage), &start).0.adapter;
    assert_eq!(run().values(), run().values());
}

#[test]
fn rewards_come_with_their_parts_and_a_constant_that_earns_them_is_found() {
    let base = base();
    let stage = stage(json!({"rewards": ["exact", {"verify": "regex", "pattern": "a"}]}));
    let mut replay = replay(&base, &stage);
    let groups = replay.groups(&adapter(&base, 1), &[0], 1).unwrap();
    let names: Vec<&str> =
        groups[0].attempts[0].components.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["exact", "regex"]);
    // Every question here has the same answer, so one answer earns everything.
    assert!(replay.constant_answers().flag.is_some());
    assert_eq!(replay.describe().count, 6);
    assert_eq!(replay.greedy_rewards(&adapter(&base, 1)).unwrap().len(), 6);
}

#[test]
fn episodes_are_rows_that_hold_exactly_what_was_read_and_said() {
    let (base, stage) = (base(), in_desk());
    let tasks = (Split::Train, 3, 4);
    let mut episodes = Episodes::start(Arc::clone(&base), settings(&stage), tasks).unwrap();
    let policy = adapter(&base, 1);
    let groups = episodes.groups(&policy, &[0, 2], 7).unwrap();
    let again = episodes.groups(&policy, &[0, 2], 7).unwrap();
    assert_eq!(groups, again);
    for attempt in groups.iter().flat_map(|group| &group.attempts) {
        for pair in attempt.calls.windows(2) {
            let so_far = [pair[0].prompt_ids.as_slice(), &pair[0].completion_ids].concat();
            assert!(pair[1].prompt_ids.starts_with(&so_far), "a turn continues what was sampled");
            let seen = base.tokenizer.decode(&pair[1].prompt_ids[so_far.len()..]).unwrap();
            assert!(seen.starts_with('\n') && seen.ends_with("<|im_start|>assistant\n"), "{seen}");
        }
    }
}

#[test]
fn a_stage_in_an_environment_runs_and_reports_its_turns() {
    let (base, stage) = (base(), in_desk());
    let tasks = (Split::Train, 3, 4);
    let mut episodes = Episodes::start(Arc::clone(&base), settings(&stage), tasks).unwrap();
    assert_eq!(episodes.describe().unwrap().count, 4);
    let (trained, steps) = train(&base, &stage, &mut episodes, &adapter(&base, 1));
    let last = steps.last().unwrap();
    assert_eq!(last["reward"], 0.0, "a random model sells nothing");
    assert_eq!(last["drift/fork"], 0);
    assert!(last["num_turns/mean"].as_f64().unwrap() >= 1.0);
    assert_eq!(trained.lineage.attempts, 2 * 2 * 4, "four tasks are two rounds");
    let _: RolloutMetrics = serde_json::from_value(last.clone()).unwrap();
}

#[test]
fn what_cannot_fit_is_refused_before_anything_is_sampled() {
    let base = base();
    let stage = stage(json!({"max_new_tokens": 5000}));
    let error = Replay::start(Arc::clone(&base), questions(), settings(&stage), 1024).unwrap_err();
    assert!(error.to_string().contains("do not fit"), "{error}");
    let unknown = super::tests::stage(json!({
        "source": "environment", "environment": "chess", "rewards": []
    }));
    let error =
        Episodes::start(Arc::clone(&base), settings(&unknown), (Split::Train, 1, 2)).unwrap_err();
    let error = std::error::Error::source(&error).unwrap().to_string();
    assert!(error.contains("chess") && error.contains("price_desk"), "{error}");
}
