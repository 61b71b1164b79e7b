//! Who attempts which requests again, and what answers them.

use std::{ops::Range, sync::Arc};

use anyhow::{Result, bail, ensure};
use understudy_dataset::SuiteFingerprints;
use understudy_inference::{Backend, LogProbsOf};
use understudy_manifest::{Suite, Tier};
use understudy_memory::{
    Catalogue, ChatLimits, ChatPlayer, NoVerifier, Practice, Recordings, Verifier,
};
use understudy_message::{FunctionCall, Message, ToolCall};
use understudy_registry::Registry;
use understudy_reward::calls::calls_of;
use understudy_toolworld::{Agent, DeskModel, DeskPractice, DeskVerifier, catalogue};
use understudy_trajectory::Trajectory;

use super::{Opened, cases::Cases};
use crate::{
    cli::PracticeArgs,
    commands::{eval, model, suite},
    config::Config,
    held::HeldIn,
    output::Out,
    paths::DataDir,
    wiring,
};

const REQUESTS: u32 = 40;
const SEED: u64 = 17;
/// A run that has asked so often is going in circles.
const TURNS: u32 = 12;
const MAX_TOKENS: u32 = 512;
/// Of students, whose runs of one request should differ; the teacher is asked once, for its best.
const TEMPERATURE: f32 = 0.7;

/// Where an environment's requests begin: a lesson is tried on others than taught it.
pub(super) const FOR_LEARNING: u64 = 0;
pub(super) const FOR_TRYING: u64 = 1_000_000;

/// Requests, with whoever settles what their runs disagree on.
pub(super) struct Room<'a> {
    pub(super) practice: Box<dyn Practice + 'a>,
    pub(super) verifier: Box<dyn Verifier>,
    /// Cases that are not attempted because another suite decides by them.
    pub(super) left_out: u64,
}

/// Settings of attempts mean nothing where none are made.
pub(super) fn check(args: &PracticeArgs) -> Result<()> {
    let PracticeArgs { runs, requests, environment, suite, student, mock_engine, seed } = args;
    let place = environment.is_some() || suite.is_some();
    let any = requests.is_some() || place || student.is_some() || *mock_engine;
    ensure!(
        runs.is_some() || !(any || seed.is_some()),
        "--requests, --environment, --suite, --student, --mock-engine and --seed are about attempts: \
         say how many with --runs"
    );
    Ok(())
}

pub(super) fn seed(args: &PracticeArgs) -> u64 {
    args.seed.unwrap_or(SEED)
}

fn range(args: &PracticeArgs, from: u64) -> Range<u64> {
    from..from + u64::from(args.requests.unwrap_or(REQUESTS))
}

/// Where the requests come from: recordings, with the agent whose requests a suite's cases are.
pub(super) struct Source<'a> {
    pub(super) data: &'a DataDir,
    pub(super) agent: Option<&'a str>,
    pub(super) recorded: &'a [Trajectory],
}

pub(super) fn room<'a>(
    args: &PracticeArgs,
    from: u64,
    opened: &'a Opened,
    source: &Source<'_>,
) -> Result<Room<'a>> {
    ensure!(args.runs != Some(0), "--runs 0 attempts nothing; say 1 or more");
    let declared = &opened.deployment.catalogue;
    if let Some(name) = &args.suite {
        return of_suite(args, name, declared, source);
    }
    match args.environment.as_deref() {
        Some(DeskPractice::NAME) => {
            declares_desk(declared)?;
            let range = range(args, from);
            let known = if from == FOR_LEARNING { range.end } else { 0 };
            let verifier = Box::new(DeskVerifier::new(seed(args), known));
            let practice = Box::new(DeskPractice::new(seed(args), range));
            Ok(Room { practice, verifier, left_out: 0 })
        }
        Some(other) => bail!("there is no environment {other:?}; there is `desk`"),
        None => {
            let mut recordings = Recordings::new(declared, &opened.deployment.settings.scoring);
            let mut wanted = args.requests.unwrap_or(REQUESTS);
            // The newest are what users come with now.
            for trajectory in source.recorded.iter().rev() {
                if wanted == 0 {
                    break;
                }
                wanted -= u32::from(recordings.add(trajectory));
            }
            ensure!(
                !recordings.tasks().is_empty(),
                "no recorded request called a tool that memory.toml declares, so there is nothing \
                 to attempt"
            );
            let (practice, verifier) = (Box::new(recordings), Box::new(NoVerifier));
            Ok(Room { practice, verifier, left_out: 0 })
        }
    }
}

/// The cases of a suite, but for those that other suites decide by.
fn of_suite<'a>(
    args: &PracticeArgs,
    name: &str,
    declared: &Catalogue,
    source: &Source<'_>,
) -> Result<Room<'a>> {
    let asked = suite::read(source.data, name)?;
    let all = suite::all(source.data)?;
    let decides = |other: &&Suite| other.name != asked.name && other.tier != Tier::Dev;
    let others: Vec<SuiteFingerprints> =
        all.iter().filter(decides).map(SuiteFingerprints::of).collect();
    let agent = match (source.agent, declared.agents.as_slice()) {
        (Some(agent), _) if declared.agents.iter().any(|known| known == agent) => agent,
        (None, [only]) => only,
        (Some(agent), _) => bail!("memory.toml declares no agent `{agent}`"),
        (None, _) => bail!(
            "memory.toml declares several agents or none: say with --task whose requests the cases \
             of suite `{name}` are"
        ),
    };
    let most = args.requests.unwrap_or(REQUESTS) as usize;
    let (cases, left_out) = Cases::new(asked, agent, &declared.openai_tools(), (most, &others))?;
    ensure!(
        !cases.tasks().is_empty(),
        "every case of suite `{name}` repeats one that another gate or sealed suite decides by, so \
         there is nothing to attempt"
    );
    let verifier = Box::new(cases.verifier());
    Ok(Room { practice: Box::new(cases), verifier, left_out })
}

/// How often a model is asked in one run: of a suite's case, once.
fn turns(args: &PracticeArgs) -> u32 {
    if args.suite.is_some() { 1 } else { TURNS }
}

fn declares_desk(declared: &Catalogue) -> Result<()> {
    let missing = catalogue().tools.into_iter().find(|tool| declared.tool(&tool.name).is_none());
    if let Some(tool) = missing {
        bail!(
            "memory.toml does not declare `{}`, a tool of the environment desk; take \
             crates/toolworld/memory.toml",
            tool.name
        );
    }
    Ok(())
}

/// Who is to learn: under the conditions of production, as far as a command can make them.
pub(super) fn student(
    args: &PracticeArgs,
    from: u64,
    config: &Config,
    out: Out,
) -> Result<ChatPlayer> {
    let limits =
        ChatLimits { turns: turns(args), max_tokens: MAX_TOKENS, temperature: TEMPERATURE };
    let player = |backend, adapter| ChatPlayer::new(backend, adapter, read, limits);
    if args.mock_engine && args.environment.is_some() {
        let script = DeskModel::new(Agent::student(), seed(args), range(args, from));
        return Ok(player(Arc::new(script), None));
    }
    let engine = if args.mock_engine {
        wiring::mock_engine(None, 0, LogProbsOf::Raw)?
    } else {
        let name = &config.base;
        let held = (HeldIn::default(), config.device.as_str());
        wiring::engine(&model::obtain(config, name, out)?, name, held)?
    };
    let registry = Registry::open(&config.data.registry(), &config.data.adapters())?;
    let asked = args.student.as_deref().unwrap_or("base");
    let (subject, _) = eval::subject(asked, &registry, engine.as_ref())?;
    let backend: Arc<dyn Backend> = engine;
    Ok(player(backend, subject.adapter))
}

/// The configured teacher; in an environment without a model, the script that knows its ways.
pub(super) fn teacher(args: &PracticeArgs, config: &Config) -> Result<Option<ChatPlayer>> {
    let limits = ChatLimits { turns: turns(args), max_tokens: MAX_TOKENS, temperature: 0.0 };
    let backend: Option<Arc<dyn Backend>> = if args.mock_engine && args.environment.is_some() {
        let range = range(args, FOR_LEARNING);
        Some(Arc::new(DeskModel::new(Agent::teacher(), seed(args), range)))
    } else {
        wiring::teacher(config)?
    };
    Ok(backend.map(|backend| ChatPlayer::new(backend, None, read, limits)))
}

/// The calls in a text. One that cannot be read is none: the model is told nothing and ends.
fn read(text: &str) -> Vec<ToolCall> {
    let calls = calls_of(&Message::assistant(text)).into_iter().filter_map(Result::ok);
    let call = |call: understudy_reward::calls::Call| {
        let arguments = serde_json::Value::Object(call.arguments).to_string();
        let function = FunctionCall { name: call.name, arguments };
        ToolCall { id: String::new(), kind: "function".to_owned(), function }
    };
    calls.map(call).collect()
}
