use std::path::{Path, PathBuf};

use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use understudy_ident::{OutcomeId, StepId, TaskName, Timestamp, TrajectoryId};
use understudy_inference::{FinishReason, Served, Timing, Usage};
use understudy_manifest::{Case, Data, Dedupe, Scorer, Split, Suite, Tier};
use understudy_message::Message;
use understudy_trajectory::{JudgedStep, Outcome, Signal, Source, Step, Target, Trajectory};

use crate::{DatasetError, Draft, FrozenDataset, Request, SuiteFingerprints, SuiteMeanings, build};

mod accounts;
mod balance;
mod bursts;
mod cap;
mod card;
mod determinism;
mod digests;
mod erase;
mod explain;
mod filter;
mod frozen;
mod groups;
mod late;
mod leaks;
mod names;
mod near;
mod problems;
mod prompts;
mod recall;
mod remember;
mod rules;
mod snips;
mod throughput;
mod time;
mod tools;

fn task() -> TaskName {
    "support-triage".parse().unwrap()
}

/// Milliseconds after the epoch.
fn at(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap()
}

/// A step called `name`, of trajectory `session`, that answers `prompt` with `reply`.
fn step(session: &str, name: &str, prompt: &str, reply: &str) -> JudgedStep {
    let step = Step {
        id: StepId::derived(name),
        trajectory: TrajectoryId::derived(session),
        task: task(),
        session: Some(session.to_owned()),
        subject: None,
        metadata: std::collections::BTreeMap::new(),
        response_id: format!("chatcmpl-{name}"),
        at: at(1000),
        prompt: vec![Message::system("Triage."), Message::user(prompt)],
        reply: Message::assistant(reply),
        tools: Vec::new(),
        finish_reason: FinishReason::Stop,
        assignment: None,
        served: Served { base: "b".to_owned(), adapter: None },
        usage: Usage::default(),
        timing: Timing::default(),
        tokens: None,
        error: None,
    };
    JudgedStep { step, outcomes: Vec::new() }
}

/// Adds an explicit outcome.
fn with(mut judged: JudgedStep, signal: Signal) -> JudgedStep {
    let nth = judged.outcomes.len() as i64;
    judged.outcomes.push(Outcome {
        id: OutcomeId::derived(&format!("{} {nth}", judged.step.id)),
        target: Target::Response(judged.step.response_id.clone()),
        signal,
        source: Source::Explicit,
        at: at(2000 + nth),
        note: None,
        details: None,
    });
    judged
}

fn later(mut judged: JudgedStep, milliseconds: i64) -> JudgedStep {
    judged.step.at = at(1000 + milliseconds);
    judged
}

fn edit(text: &str) -> Signal {
    Signal::Edit { text: text.to_owned() }
}

/// One trajectory per step: the builder groups by what the steps say.
fn trajectories(steps: impl IntoIterator<Item = JudgedStep>) -> Vec<Trajectory> {
    let alone =
        |judged: JudgedStep| Trajectory { id: judged.step.trajectory.clone(), steps: vec![judged] };
    steps.into_iter().map(alone).collect()
}

fn try_build(
    data: &Data,
    suites: &[SuiteFingerprints],
    steps: impl IntoIterator<Item = JudgedStep>,
) -> Result<Draft, DatasetError> {
    let (task, sources) = (task(), ["journal up to 7".to_owned()]);
    let now = at(86_400_000);
    let request = Request { task: &task, data, seed: 17, sources: &sources, suites, now };
    build(request, trajectories(steps))
}

/// Everything into the train split, and only what is the same left out: the texts of tests are
/// short and alike.
fn all_train() -> Data {
    Data { holdout: 0.0, min_verified: 0, dedupe: Dedupe::Exact, ..Data::default() }
}

fn freeze(draft: &Draft) -> (tempfile::TempDir, FrozenDataset) {
    let root = tempfile::tempdir().unwrap();
    let frozen = draft.freeze(root.path()).unwrap();
    (root, frozen)
}

/// A public file, which a fresh clone does not have: a test that needs it says so and passes.
/// `UNDERSTUDY_TEST_DATA` says where such files are, or `required`, and then they have to be there.
fn public_data(name: &str) -> Option<String> {
    let asked = std::env::var_os("UNDERSTUDY_TEST_DATA");
    let given = asked.as_ref().filter(|value| *value != "required").map(PathBuf::from);
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let path = given.unwrap_or_else(usual).join(name);
    let text = std::fs::read_to_string(&path).ok();
    assert!(text.is_some() || asked.is_none(), "UNDERSTUDY_TEST_DATA: no {}", path.display());
    if text.is_none() {
        eprintln!("SKIPPED: no data at {}", path.display());
    }
    text
}

/// How often a stage gave a reason.
fn count(draft: &Draft, stage: &str, reason: &str) -> u64 {
    let stages = &draft.manifest().stages;
    let stage = stages.iter().find(|s| s.stage == stage).expect("the stage ran");
    stage.reasons.get(reason).copied().unwrap_or(0)
}

fn suite(prompts: &[&str]) -> SuiteFingerprints {
    let case = |(nth, prompt): (usize, &&str)| Case {
        id: nth.to_string(),
        prompt: vec![Message::system("Another system prompt."), Message::user(*prompt)],
        expected: "{}".to_owned(),
        tags: Vec::new(),
        ..Case::default()
    };
    let cases = prompts.iter().enumerate().map(case).collect();
    SuiteFingerprints::of(&Suite {
        name: task(),
        tier: Tier::Sealed,
        scorers: vec![Scorer::Exact],
        rubrics: Vec::new(),
        cases,
    })
}

const WORDS: [&str; 24] = [
    "refund", "parcel", "late", "invoice", "wrong", "change", "password", "account", "please",
    "broken", "screen", "order", "cancel", "today", "delivery", "address", "where", "twice",
    "charged", "monthly", "plan", "upgrade", "lost", "never",
];

fn sentence(rng: &mut ChaCha8Rng, length: usize) -> String {
    let words: Vec<&str> = (0..length).filter_map(|_| WORDS.choose(rng).copied()).collect();
    words.join(" ")
}

/// Sessions of several steps by a few returning subjects, with outcomes of every kind.
fn traffic(seed: u64, sessions: usize) -> Vec<JudgedStep> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut steps = Vec::new();
    for session in 0..sessions {
        let subject = rng.random_bool(0.3).then(|| format!("user-{}", rng.random_range(0..40)));
        let mut prompt = sentence(&mut rng, 8);
        for turn in 0..rng.random_range(1..4) {
            if rng.random_bool(0.6) {
                prompt = sentence(&mut rng, 8);
            }
            let reply = sentence(&mut rng, 6);
            let name = format!("{session}.{turn}");
            let mut judged = step(&format!("session-{session}"), &name, &prompt, &reply);
            judged.step.subject.clone_from(&subject);
            // Whole seconds, so that many steps happen at the same time.
            judged.step.at = at(rng.random_range(0..50) * 1000);
            judged.step.prompt[1] = Message::user(format!("{prompt}, mail u{session}@x.example"));
            for _ in 0..rng.random_range(0..3) {
                judged = with(judged, signal(&mut rng, &reply));
            }
            steps.push(judged);
        }
    }
    steps
}

fn signal(rng: &mut ChaCha8Rng, reply: &str) -> Signal {
    match rng.random_range(0..9) {
        0..=2 => Signal::Accept,
        3 => edit(&sentence(rng, 6)),
        4 => edit(&format!("{reply} {}", sentence(rng, 2))),
        5 => Signal::Regenerate { kept: None },
        6 => Signal::Abandon,
        7 => Signal::Rating { value: rng.random_range(0..=4) as f64 / 4.0 },
        _ => Signal::Flag { reason: "rude".to_owned() },
    }
}
