//! The command line, as definitions only: what each command is called, takes and says for itself.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use understudy_simulation::Scenario;

use crate::commands::bench::Step;

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
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The whole loop on a simulated support desk: capture, learn, prove, release, roll back
    #[command(after_help = "Example:\n  understudy demo\n  understudy demo --short --json")]
    Demo(DemoArgs),
    /// Write understudy.toml and a recipe for a new task
    #[command(after_help = "Example:\n  understudy init support-triage")]
    Init(InitArgs),
    /// Gateway, engine and canary controller on one port
    #[command(after_help = "Example:\n  understudy serve --listen 127.0.0.1:8700\n  \
        curl -s http://127.0.0.1:8700/v1/models")]
    Serve(ServeArgs),
    /// Bring trajectories and outcomes in from files
    #[command(
        after_help = "Examples:\n  understudy import chats.jsonl --task triage --format openai\n  \
        understudy import train.jsonl --task snips --format rows --input text \\\n      \
        --output intent --output slots --system 'Reply with JSON.' --sample 256"
    )]
    Import(ImportArgs),
    /// Held-out suites: import, list, show
    #[command(subcommand)]
    Suite(SuiteCommand),
    /// Frozen dataset versions: build, list, show, diff
    #[command(subcommand)]
    Dataset(DatasetCommand),
    /// Train a recipe's stages into an adapter directory, without registering or releasing it
    #[command(after_help = "Example:\n  understudy train recipes/support-triage.toml --dry-run")]
    Train(TrainArgs),
    /// Hold a subject against a suite beside a baseline
    #[command(
        after_help = "Example:\n  understudy eval support-triage@1 --suite support-triage --baseline base"
    )]
    Eval(EvalArgs),
    /// Registered adapter versions: list, show, verify
    #[command(subcommand)]
    Adapter(AdapterCommand),
    /// Take a version to production or back: start, status, promote, rollback, pause, history
    #[command(subcommand)]
    Release(ReleaseCommand),
    /// Everything a recipe says as one durable run: dataset, train, evaluate, register, canary
    #[command(after_help = "Examples:\n  understudy run recipes/support-triage.toml --dry-run\n  \
        understudy run recipes/support-triage.toml\n  understudy run show latest")]
    Run(RunArgs),
    /// Base models: pull, list, verify
    #[command(subcommand)]
    Model(ModelCommand),
    /// The audit chain: show it, or verify that nobody changed it
    #[command(subcommand)]
    Audit(AuditCommand),
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
    /// How fast and how large a training step is, beside other programs: train
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
pub(crate) struct ServeArgs {
    /// Address and port
    #[arg(long, env = "UNDERSTUDY_LISTEN", value_name = "ADDRESS")]
    pub(crate) listen: Option<std::net::SocketAddr>,
    /// The base model, by name or path
    #[arg(long, env = "UNDERSTUDY_BASE")]
    pub(crate) base: Option<String>,
    /// Let clients load and unload adapters, and pause and resume generation
    #[arg(long)]
    pub(crate) allow_adapter_updates: bool,
    /// Where clients may load adapters from; repeatable [default: the data directory's adapters
    /// and the working directory]
    #[arg(long, value_name = "DIR", requires = "allow_adapter_updates")]
    pub(crate) adapter_root: Vec<PathBuf>,
    /// Serve an engine without a model, which repeats what it is told: for trying the API out and
    /// for clients' tests
    #[arg(long)]
    pub(crate) mock_engine: bool,
    /// How long the mock engine takes for a token, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0, requires = "mock_engine")]
    pub(crate) mock_step: u64,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// JSON or JSONL files
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// The task the trajectories belong to
    #[arg(long)]
    pub(crate) task: String,
    /// auto, openai, trl, rows, understudy, tau-bench, atif, langsmith or otlp
    #[arg(long, default_value = "auto")]
    pub(crate) format: String,
    #[command(flatten)]
    pub(crate) rows: RowArgs,
}

/// How a plain row becomes an exchange.
#[derive(Debug, Args)]
pub(crate) struct RowArgs {
    /// rows: the field that is the user's message
    #[arg(long, value_name = "FIELD")]
    pub(crate) input: Option<String>,
    /// rows: the field that is the answer; several become one JSON object
    #[arg(long, value_name = "FIELD")]
    pub(crate) output: Vec<String>,
    /// rows: a system message put before every input
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Take only the first rows
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Take this many rows from all over a JSONL file, always the same ones; for sorted files
    #[arg(long, value_name = "N", conflicts_with = "limit")]
    pub(crate) sample: Option<usize>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SuiteCommand {
    /// Make a suite from rows, and keep its cases out of every later dataset
    #[command(
        after_help = "Example:\n  understudy suite import test.jsonl --name snips --input text \\\n      \
        --output intent --output slots --system 'Reply with JSON.' --sample 200 \\\n      \
        --scorer field_f1 --scorer field:intent --scorer json_valid"
    )]
    Import(SuiteImportArgs),
    /// All suites
    List,
    /// One suite: scorers, size, digest
    Show { name: String },
}

#[derive(Debug, Args)]
pub(crate) struct SuiteImportArgs {
    /// A JSONL file of rows, or of a suite already in our format
    pub(crate) file: PathBuf,
    #[arg(long)]
    pub(crate) name: String,
    /// dev, gate or sealed
    #[arg(long, default_value = "sealed")]
    pub(crate) tier: String,
    /// exact, json_valid, json_equal, field_f1 or field:KEY; the first is primary
    #[arg(long = "scorer", value_name = "SCORER")]
    pub(crate) scorers: Vec<String>,
    #[command(flatten)]
    pub(crate) rows: RowArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DatasetCommand {
    /// Freeze a version from what a recipe names
    #[command(after_help = "Example:\n  understudy dataset build recipes/support-triage.toml")]
    Build { recipe: PathBuf },
    /// All versions
    List,
    /// One version: sources, counts per stage, files
    Show { version: String },
    /// What two versions have and lack of each other
    Diff { before: String, after: String },
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

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// `base`, a version such as support-triage@1, or an adapter directory
    pub(crate) subject: String,
    #[arg(long)]
    pub(crate) suite: String,
    #[arg(long, default_value = "base")]
    pub(crate) baseline: String,
    /// The base model, by name or path
    #[arg(long)]
    pub(crate) base: Option<String>,
    #[arg(long, default_value_t = 0.02)]
    pub(crate) margin: f64,
    #[arg(long, default_value_t = 128)]
    pub(crate) max_new_tokens: u32,
    /// Write the report's JSON here too
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AdapterCommand {
    /// All versions of a task, or of every task
    List { task: Option<String> },
    /// One version: owner, reason, lineage, reports
    Show { version: String },
    /// Hash the files again and compare
    Verify { version: String },
    /// Fold an adapter into its base, as a Hugging Face directory in f32
    #[command(after_help = "Example:\n  understudy adapter merge support-triage@1 --out merged")]
    Merge {
        /// A registered version, or a PEFT directory
        adapter: String,
        /// The base model, by name or path
        #[arg(long)]
        base: Option<String>,
        /// A directory that does not exist yet
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ReleaseCommand {
    /// Open a release of a version that passed its gate
    #[command(after_help = "Example:\n  understudy release start support-triage@2 \
        --recipe recipes/support-triage.toml --owner ada --reason 'learned the new forms'")]
    Start(ReleaseStartArgs),
    /// The open release of a task, its evidence and verdict
    Status { task: String },
    /// Promote the open release now
    Promote(ReleaseActArgs),
    /// Send the open release back, or the promoted version to the one before
    Rollback(ReleaseActArgs),
    /// Stop the open release without deciding
    Pause(ReleaseActArgs),
    /// Every release and every pointer change of a task
    History { task: String },
    /// What a policy would do with canaries whose truth is known
    #[command(after_help = "Example:\n  understudy release simulate \
        --policy recipes/support-triage.toml --scenario ten-points-worse")]
    Simulate(ReleaseSimulateArgs),
    /// How long a release would take at this traffic
    #[command(after_help = "Example:\n  understudy release plan \
        --policy recipes/support-triage.toml --units-per-hour 120 --success 0.8")]
    Plan(ReleasePlanArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SimulationArgs {
    /// A recipe with a [release], or a policy in TOML or JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: PathBuf,
    /// Releases played through for each figure
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(crate) replications: u32,
    #[arg(long, default_value_t = 17)]
    pub(crate) seed: u64,
    /// Units (sessions, trajectories) of the task, compared or not
    #[arg(long, value_name = "N", default_value_t = 1000.0)]
    pub(crate) units_per_hour: f64,
    /// The share of the stable arm's units that succeed
    #[arg(long, value_name = "SHARE", default_value_t = 0.6)]
    pub(crate) success: f64,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseSimulateArgs {
    #[command(flatten)]
    pub(crate) simulation: SimulationArgs,
    /// One of: identical, drifting, clustered, rare-events, better, at-margin, ten-points-worse,
    /// five-percent-errors, half-again-slower, unsafe, costlier, lost-units, missing-rewards,
    /// dead-replica, silent-teacher [default: each]
    #[arg(long)]
    pub(crate) scenario: Option<Scenario>,
}

#[derive(Debug, Args)]
pub(crate) struct ReleasePlanArgs {
    #[command(flatten)]
    pub(crate) simulation: SimulationArgs,
    /// The share of units whose reward never comes
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub(crate) missing: f64,
    /// How long the first step may take
    #[arg(long, value_name = "HOURS", default_value_t = 24.0)]
    pub(crate) patience_hours: f64,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseStartArgs {
    pub(crate) version: String,
    /// The recipe whose [release] table to follow
    #[arg(long)]
    pub(crate) recipe: PathBuf,
    #[arg(long, env = "USER", default_value = "operator")]
    pub(crate) owner: String,
    #[arg(long)]
    pub(crate) reason: String,
    /// Start although the gate did not pass; recorded for ever
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseActArgs {
    pub(crate) task: String,
    #[arg(long, env = "USER", default_value = "operator")]
    pub(crate) owner: String,
    #[arg(long)]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct RunArgs {
    #[command(subcommand)]
    pub(crate) command: Option<RunCommand>,
    /// The recipe; one that is named `show` needs `./show`
    pub(crate) recipe: Option<PathBuf>,
    /// Go on with a run that was interrupted
    #[arg(long, value_name = "RUN", conflicts_with = "recipe")]
    pub(crate) resume: Option<String>,
    /// List the runs
    #[arg(long, conflicts_with_all = ["recipe", "resume"])]
    pub(crate) list: bool,
    /// Print the plan, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[arg(long, env = "USER", default_value = "operator")]
    pub(crate) owner: String,
    #[arg(long, default_value = "started by hand")]
    pub(crate) reason: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RunCommand {
    /// A run's stages and metrics: sparklines, an SVG plot, or JSON with every point
    #[command(after_help = "Examples:\n  understudy run show latest\n  \
        understudy run show latest --metrics loss,grad_norm --svg run.svg")]
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// A run's id, a directory of `understudy train`, or `latest`: whatever trained last
    pub(crate) run: String,
    /// Write a plot of the same metrics here
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Show these metrics, or `all`, and not those that matter most for the method
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub(crate) metrics: Vec<String>,
    /// Draw again every second until all stages are over
    #[arg(long, conflicts_with = "json")]
    pub(crate) follow: bool,
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

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Every entry, oldest first
    Show { task: Option<String> },
    /// Recompute the hash chain
    Verify,
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

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// SFT, DPO and GRPO steps beside torch + PEFT and TRL, as ratios, and the floor of ours
    #[command(after_help = "Examples:\n  understudy bench train --python .venv/bin/python\n  \
        understudy bench train --only sft --steps 3 --json\n\n\
        Exit codes: 0 measured; 2 bad input; 3 --python was given and no peer could be measured")]
    Train(BenchTrainArgs),
    /// Streams while new adapter generations are published under them, and while they are not
    #[command(after_help = "Examples:\n  understudy bench swap\n  \
        understudy bench swap --streams 4 --every-ms 1000 --seconds 30 --json\n\n\
        Exit codes: 0 as promised; 1 a reply failed, was no single generation's, or came too late; \
        2 bad input; 3 too late, on a busy machine")]
    Swap(BenchSwapArgs),
    /// Everything at once for a while: nothing may be left behind, and memory stays flat
    #[command(after_help = "Examples:\n  understudy bench soak --seconds 60\n  \
        understudy bench soak --seconds 28800 --json   (a night)\n\n\
        Exit codes: 0 clean; 1 something was left behind, failed or grew; 2 bad input")]
    Soak(BenchSoakArgs),
    /// Telemetry that is durable when it is acknowledged: spans a second, delays, memory
    #[command(after_help = "Example:\n  understudy bench ingest --seconds 20 --json\n\n\
        Exit codes: 0 measured; 2 bad input")]
    Ingest(BenchIngestArgs),
}

#[derive(Debug, Args)]
pub(crate) struct BenchIngestArgs {
    /// Of sending, in either encoding
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub(crate) seconds: u64,
    /// Connections, each with one request at a time
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub(crate) clients: usize,
    /// Spans of a request
    #[arg(long, default_value_t = 128, value_name = "N")]
    pub(crate) batch: usize,
}

#[derive(Debug, Args)]
pub(crate) struct BenchSwapArgs {
    /// The base model, by name or path
    #[arg(long)]
    pub(crate) base: Option<String>,
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub(crate) streams: usize,
    /// A new generation this often
    #[arg(long, default_value_t = 200, value_name = "MS")]
    pub(crate) every_ms: u64,
    /// Of swaps, and as many without
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub(crate) seconds: u64,
    /// Tokens of a reply
    #[arg(long, default_value_t = 48, value_name = "N")]
    pub(crate) tokens: u32,
    /// Of the adapters
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub(crate) rank: usize,
}

#[derive(Debug, Args)]
pub(crate) struct BenchSoakArgs {
    /// The base model, by name or path
    #[arg(long)]
    pub(crate) base: Option<String>,
    #[arg(long, default_value_t = 60, value_name = "N")]
    pub(crate) seconds: u64,
}

#[derive(Debug, Args)]
pub(crate) struct BenchTrainArgs {
    /// A Python that has torch, transformers, peft, gguf and trl; without it only we are measured
    #[arg(long, value_name = "PATH")]
    pub(crate) python: Option<PathBuf>,
    /// The base model, by name or path
    #[arg(long)]
    pub(crate) base: Option<String>,
    /// Measured steps of every configuration, after one that warms up
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub(crate) steps: usize,
    /// Only these steps; may be repeated
    #[arg(long, value_enum, value_name = "STEP")]
    pub(crate) only: Vec<Step>,
}
