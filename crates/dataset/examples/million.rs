//! How long a build of many steps takes, and how much memory:
//! `cargo run --release -p understudy-dataset --example million -- 1000000 [recorded] [DIRECTORY]`.
//!
//! Steps are made one by one while they are read, as a journal's scan gives them, so the peak is the
//! builder's own. `recorded` gives every step 500 prompt ids and a completion with probabilities. The
//! temporary file goes to the directory, which should not be one in memory.
#![expect(clippy::print_stdout, reason = "it is what the example is for")]

use std::{env, error::Error, path::PathBuf, time::Instant};

use mimalloc::MiMalloc;
use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use understudy_dataset::{Builder, Request, SuiteFingerprints};
use understudy_ident::{OutcomeId, StepId, TaskName, Timestamp, TrajectoryId};
use understudy_inference::{FinishReason, Sampling, Served, Timing, TokenRecord, Usage};
use understudy_manifest::{Case, Data, Scorer, Suite, Tier};
use understudy_message::Message;
use understudy_trajectory::{JudgedStep, Outcome, Signal, Source, Step, Target, Trajectory};

const WORDS: [&str; 16] = [
    "refund", "parcel", "late", "invoice", "wrong", "change", "password", "account", "please",
    "broken", "screen", "order", "cancel", "today", "delivery", "address",
];

/// As the program has it.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let count: u64 = arguments.next().as_deref().unwrap_or("10000").parse()?;
    let rest: Vec<String> = arguments.collect();
    let is_recorded = rest.first().is_some_and(|word| word == "recorded");
    let directory = rest.get(usize::from(is_recorded)).map_or_else(env::temp_dir, PathBuf::from);

    let task: TaskName = "support-triage".parse()?;
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let suites = [held_out(&task, &mut random)];
    let data = Data { holdout: 0.2, ..Data::default() };
    let sources = ["generated".to_owned()];
    let now = Timestamp::from_second(1_000_000_000)?;
    let request =
        Request { task: &task, data: &data, seed: 17, sources: &sources, suites: &suites, now };

    let started = Instant::now();
    let mut builder = Builder::new(request, &directory)?;
    for nth in 0..count {
        builder.add(trajectory(nth, &task, is_recorded, &mut random)?)?;
    }
    let read = started.elapsed().as_secs_f64();
    let root = tempfile::tempdir_in(&directory)?;
    let frozen = builder.finish()?.freeze(root.path())?;
    println!(
        "{count} steps: read in {read:.1} s, frozen after {:.1} s",
        started.elapsed().as_secs_f64()
    );
    println!(
        "{}: {} rows",
        frozen.version(),
        frozen.manifest().files.iter().map(|f| f.rows).sum::<u64>()
    );
    let memory = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    println!("{}", memory.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("peak unknown"));
    Ok(())
}

fn sentence(random: &mut ChaCha8Rng, length: usize) -> String {
    let words: Vec<&str> = (0..length).filter_map(|_| WORDS.choose(random).copied()).collect();
    words.join(" ")
}

fn held_out(task: &TaskName, random: &mut ChaCha8Rng) -> SuiteFingerprints {
    let case = |nth: usize| Case {
        id: nth.to_string(),
        prompt: vec![Message::user(sentence(random, 14))],
        ..Case::default()
    };
    let cases = (0..300).map(case).collect();
    let scorers = vec![Scorer::Exact];
    SuiteFingerprints::of(&Suite {
        name: task.clone(),
        tier: Tier::Sealed,
        scorers,
        rubrics: Vec::new(),
        cases,
    })
}

fn trajectory(
    nth: u64,
    task: &TaskName,
    is_recorded: bool,
    random: &mut ChaCha8Rng,
) -> Result<Trajectory, Box<dyn Error>> {
    let name = nth.to_string();
    let reply = sentence(random, 10);
    let tokens = is_recorded.then(|| TokenRecord {
        prompt_ids: (0..500).map(|_| random.random_range(0..49_152)).collect(),
        completion_ids: (0..40).map(|_| random.random_range(0..49_152)).collect(),
        sampling_logprobs: (0..40).map(|_| -random.random::<f32>()).collect(),
        forced: Vec::new(),
        sampling: Sampling { temperature: 0.7, ..Sampling::greedy(64) },
        logprobs_exact: true,
        base_digest: "base".to_owned(),
        tokenizer_digest: "tokenizer".to_owned(),
        template_digest: "template".to_owned(),
    });
    let question = format!("{} mail u{nth}@x.example", sentence(random, 12));
    let step = Step {
        id: StepId::derived(&name),
        trajectory: TrajectoryId::derived(&name),
        task: task.clone(),
        session: Some(name.clone()),
        subject: Some(format!("user {}", nth % 200_000)),
        metadata: std::collections::BTreeMap::new(),
        response_id: format!("chatcmpl-{name}"),
        at: Timestamp::from_millisecond(1000 + nth as i64)?,
        prompt: vec![Message::system("Triage."), Message::user(question)],
        reply: Message::assistant(reply),
        tools: Vec::new(),
        finish_reason: FinishReason::Stop,
        assignment: None,
        served: Served { base: "base".to_owned(), adapter: None },
        usage: Usage::default(),
        timing: Timing::default(),
        tokens,
        error: None,
    };
    let outcome = Outcome {
        id: OutcomeId::derived(&name),
        target: Target::Response(step.response_id.clone()),
        signal: Signal::Accept,
        source: Source::Explicit,
        at: Timestamp::from_millisecond(2000 + nth as i64)?,
        note: None,
        details: None,
    };
    let steps = vec![JudgedStep { step, outcomes: vec![outcome] }];
    Ok(Trajectory { id: TrajectoryId::derived(&name), steps })
}
