//! The command line, as definitions only: what each command is called, takes and says for itself.

mod adapter;
mod audit;
mod bench;
mod case;
mod dataset;
mod eval;
mod import;
mod judge;
mod key;
mod live;
mod memory;
mod release;
mod run;
mod serve;
mod suite;
mod unattended;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use self::{
    adapter::*, audit::*, bench::*, case::*, dataset::*, eval::*, import::*, judge::*, key::*,
    live::*, memory::*, release::*, run::*, serve::*, suite::*, unattended::*,
};

/// A small model learns your agent's role from production, and replaces it safely.
#[derive(Debug, Parser)]
#[command(name = "understudy", version, max_term_width = 100)]
#[command(
    after_help = "First steps:\n  understudy demo                  the whole loop, narrated\n  \
    understudy init my-task          a recipe and a configuration to start from"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Where state lives [default: .understudy beside understudy.toml, or here]
    #[arg(long, global = true, env = "UNDERSTUDY_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Print JSON for machines instead of text for people
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What models run on: cpu, or in a build with the feature of that name cuda or cuda:N
    /// [default: cpu]
    #[arg(long, global = true, env = "UNDERSTUDY_DEVICE")]
    pub(crate) device: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The whole loop on a simulated support desk: capture, learn, prove, release, roll back
    #[command(after_help = "Example:\n  understudy demo\n  understudy demo --short --json\n  \
        understudy demo --generations 3")]
    Demo(DemoArgs),
    /// Write understudy.toml and a recipe for a new task
    #[command(after_help = "Example:\n  understudy init support-triage")]
    Init(InitArgs),
    /// Gateway, engine and canary controller on one port
    #[command(after_help = "Example:\n  understudy serve --listen 127.0.0.1:8700\n  \
        curl -s http://127.0.0.1:8700/v1/models\n  \
        understudy serve --loop recipes/support-triage.toml\n  \
        understudy serve --role replica --control http://10.0.0.1:8700")]
    Serve(ServeArgs),
    /// Bring trajectories and outcomes in from files
    #[command(
        after_help = "Examples:\n  understudy import chats.jsonl --task triage --format openai\n  \
        understudy import train.jsonl --task snips --format rows --input text \\\n      \
        --output intent --output slots --system 'Reply with JSON.' --sample 256"
    )]
    Import(ImportArgs),
    /// Held-out suites: import, add-case, list, show
    #[command(subcommand)]
    Suite(SuiteCommand),
    /// Frozen dataset versions: build, list, show, diff, export, explain, review, erase
    #[command(subcommand)]
    Dataset(DatasetCommand),
    /// Train a recipe's stages into an adapter directory, without registering or releasing it
    #[command(after_help = "Example:\n  understudy train recipes/support-triage.toml --dry-run")]
    Train(TrainArgs),
    /// Hold a subject against a suite beside a baseline
    #[command(
        after_help = "Examples:\n  understudy eval support-triage@1 --suite support-triage --baseline base\n  \
        understudy eval support-triage@2 --suite support-triage --baseline support-triage@1 \\\n      \
        --report html=report.html --report junit=report.xml --answers answers\n  \
        understudy eval desk@1 --memory 9f2c1a --suite desk --baseline desk@1 --out report.json\n  \
        understudy eval answers/candidate.jsonl --suite support-triage --baseline answers/baseline.jsonl\n  \
        understudy eval support-triage@2 --suite support-triage --judge --rubric rubric.md\n\n\
        A run that was killed goes on where it was when it is started again.\n\
        Exit status: 0 the gate passed, 1 it failed, 2 bad input, 3 too few cases to tell."
    )]
    Eval(EvalArgs),
    /// A model that compares answers, held against people's labels: calibrate, list
    #[command(subcommand)]
    Judge(JudgeCommand),
    /// How what was served scores, by arm: the scorers of suites that need no expected answer
    #[command(
        after_help = "Examples:\n  understudy live --scorer json_valid --scorer no_refusal --since 7d\n  \
        understudy live --task support-triage --share 0.1 --scorer latency:1500 --json\n\n\
        A server with [live] in understudy.toml shows the same at /api/v1/live and /metrics.\n\
        Exit codes: 0 scored; 1 nothing to score; 2 bad input"
    )]
    Live(LiveArgs),
    /// Registered adapter versions: list, show, diff, import, export, verify, sign, merge
    #[command(subcommand)]
    Adapter(AdapterCommand),
    /// Take a version to production or back, and say who may: start, promote, rollback, freeze, …
    #[command(subcommand)]
    Release(ReleaseCommand),
    /// Lessons from traces, without training: learn, review, release, explain, forget
    #[command(subcommand)]
    Memory(MemoryCommand),
    /// Everything a recipe says as one durable run: dataset, train, evaluate, register, canary
    #[command(after_help = "Examples:\n  understudy run recipes/support-triage.toml --dry-run\n  \
        understudy run recipes/support-triage.toml\n  understudy run show latest")]
    Run(RunArgs),
    /// What `serve --loop` does by itself: status, log, pause, resume, approve, decline
    #[command(subcommand)]
    Loop(LoopCommand),
    /// Base models: pull, list, verify
    #[command(subcommand)]
    Model(ModelCommand),
    /// The audit chain: show, export and sign it, or verify that nobody changed it
    #[command(subcommand)]
    Audit(AuditCommand),
    /// API keys: create, list, revoke
    #[command(subcommand)]
    Key(KeyCommand),
    /// What is here, what is missing, and what to do about it
    #[command(after_help = "Example:\n  understudy doctor")]
    Doctor,
    /// The next-token scores of a prompt, for comparing with other implementations
    #[command(
        after_help = "Example:\n  understudy logits 'The capital of France is' --adapter DIR --out logits.json"
    )]
    Logits(LogitsArgs),
    /// Environments with tools to practise in: list, demonstrate
    #[command(subcommand)]
    Environment(EnvironmentCommand),
    /// How fast, how large and how robust, beside other programs: train, serve, swap, ingest, gateway, …
    #[command(subcommand)]
    Bench(BenchCommand),
    /// One training stage in a process of its own; started by `run`, `train` and `demo`
    #[command(hide = true)]
    TrainWorker {
        /// The job, as JSON
        job: PathBuf,
    },
    /// One measurement in a process of its own; started by `bench`
    #[command(hide = true)]
    BenchWorker {
        /// The job, as JSON
        job: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum EnvironmentCommand {
    /// What there is
    List,
    /// How an expert does some tasks, as rows to import and imitate
    #[command(
        after_help = "Example:\n  understudy environment demonstrate price_desk --count 32 > desk.jsonl\n  \
        understudy import desk.jsonl --task price-desk --format trl"
    )]
    Demonstrate {
        name: String,
        /// Tasks, of the train split
        #[arg(long, default_value_t = 32)]
        count: usize,
        #[arg(long, default_value_t = 17)]
        seed: u64,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Fewer sessions and cases, and no poisoned generation: a check, not a proof
    #[arg(long)]
    pub(crate) short: bool,
    /// Throw away what an earlier demo left in the data directory
    #[arg(long)]
    pub(crate) fresh: bool,
    #[arg(long, default_value_t = 17)]
    pub(crate) seed: u64,
    /// The loop by itself, over users whose needs drift, until so many generations were promoted
    #[arg(long, value_name = "N", conflicts_with = "short",
          value_parser = clap::value_parser!(u8).range(1..=5))]
    pub(crate) generations: Option<u8>,
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// What applications will send as `model`
    pub(crate) task: String,
    /// The base model to train
    #[arg(long, default_value = "smollm2-135m-instruct")]
    pub(crate) base: String,
}

#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    pub(crate) recipe: PathBuf,
    /// Train on this version instead of building one
    #[arg(long, value_name = "NAME@DIGEST")]
    pub(crate) dataset: Option<String>,
    /// Where the adapter goes
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Print the plan and its cost, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Download a base model, check its digest, keep it
    #[command(after_help = "Example:\n  understudy model pull smollm2-135m-instruct")]
    Pull { name: String },
    /// What can be pulled, and what is here
    List,
    /// Check a pulled model's digest again
    Verify { name: String },
}

#[derive(Debug, Args)]
pub(crate) struct LogitsArgs {
    pub(crate) prompt: String,
    /// A PEFT directory; without it, the base
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter: Option<PathBuf>,
    #[arg(long)]
    pub(crate) base: Option<String>,
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

/// What every recorded change says about itself.
#[derive(Debug, Args)]
pub(crate) struct Said {
    /// Who answers for it
    #[arg(long, env = "USER", default_value = "operator")]
    pub(crate) owner: String,
    /// Why, in a few words; it is kept for ever
    #[arg(long)]
    pub(crate) reason: String,
    /// An idempotency key: within a day, the same key makes the same command happen once
    #[arg(long, value_name = "KEY")]
    pub(crate) request: Option<String>,
}
