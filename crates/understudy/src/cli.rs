//! The command line, as definitions only: what each command is called, takes and says for itself.

mod adapter;
mod audit;
mod case;
mod dataset;
mod judge;
mod key;
mod live;
mod memory;
mod release;
mod unattended;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use self::{
    adapter::*, audit::*, case::*, dataset::*, judge::*, key::*, live::*, memory::*, release::*,
    unattended::*,
};
use crate::{commands::bench::Step, held::HeldIn};

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
    /// Frozen dataset versions: build, list, show, diff, export, explain, erase
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
pub(crate) struct ServeArgs {
    /// Address and port
    #[arg(long, env = "UNDERSTUDY_LISTEN", value_name = "ADDRESS")]
    pub(crate) listen: Option<std::net::SocketAddr>,
    /// Where OTLP over gRPC is taken: an address, or `off` [default: 127.0.0.1:4317 if it is free]
    #[arg(long, env = "UNDERSTUDY_GRPC", value_name = "ADDRESS")]
    pub(crate) grpc: Option<crate::wiring::Grpc>,
    /// The base model, by name or path
    #[arg(long, env = "UNDERSTUDY_BASE")]
    pub(crate) base: Option<String>,
    /// In what the base is held and multiplied; adapters stay in f32
    #[arg(long, value_enum, default_value_t, env = "UNDERSTUDY_PRECISION")]
    pub(crate) precision: HeldIn,
    /// A certificate in PEM, followed by those that vouch for it: serve HTTPS
    #[arg(long, env = "UNDERSTUDY_TLS_CERT", value_name = "PEM")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its private key in PEM
    #[arg(long, env = "UNDERSTUDY_TLS_KEY", value_name = "PEM")]
    pub(crate) tls_key: Option<PathBuf>,
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
    /// A recipe to run by itself, whenever its [loop] table says so; repeatable [default: `loops`
    /// of understudy.toml]
    #[arg(long = "loop", value_name = "RECIPE", conflicts_with = "role")]
    pub(crate) loops: Vec<PathBuf>,
    /// A replica routes as another server says, and by its champions alone while it hears nothing
    #[arg(long, value_enum, requires = "control")]
    pub(crate) role: Option<Role>,
    /// The server that a replica follows
    #[arg(long, value_name = "URL", requires = "role")]
    pub(crate) control: Option<String>,
    /// The environment variable that holds the key for that server
    #[arg(long, value_name = "VARIABLE", requires = "control")]
    pub(crate) control_key_env: Option<String>,
    /// What that server lists this one as [default: the address it listens at]
    #[arg(long, value_name = "NAME", requires = "control")]
    pub(crate) node: Option<String>,
}

/// What a server is among several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    Replica,
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
        after_help = "Examples:\n  understudy suite import test.jsonl --name snips --input text \\\n      \
        --output intent --output slots --system 'Reply with JSON.' --sample 200 \\\n      \
        --scorer field_f1 --scorer field:intent --scorer json_valid\n  \
        understudy suite import BFCL_v4_multiple.json --name tools --format bfcl \\\n      \
        --truths possible_answer/BFCL_v4_multiple.json\n  \
        understudy suite import samples_gsm8k.jsonl --name gsm8k --format lm-eval --answers old.jsonl\n  \
        understudy suite import logs/2026-11-01_sums.eval --name sums --format inspect --answers old.jsonl\n  \
        understudy suite import promptfooconfig.yaml --name words --format promptfoo"
    )]
    Import(Box<SuiteImportArgs>),
    /// Make a new version of a suite with a case from a trajectory that went wrong
    #[command(
        after_help = "Examples:\n  understudy suite add-case support-triage --trajectory 0192… \\\n      \
        --expected '{\"intent\": \"billing\"}' --reason 'an invoice went to sales'\n  \
        understudy suite add-case support-triage --trajectory 0192… --reason 'as edited' --approve\n\n\
        Exit codes: 0 the version was made; 1 the case was only shown; 2 bad input"
    )]
    AddCase(Box<AddCaseArgs>),
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
    /// How answers are judged; the first is primary. exact, normalized, number, starts_with,
    /// contains, icontains, contains_any, contains_all, regex[:PATTERN], json_valid, json_schema,
    /// json_equal, field_f1, field:KEY, tool_call_ast, tool_call_bfcl, tool_name_f1, trajectory,
    /// state, similarity[:MIN], levenshtein[:MIN], latency:MS, tokens:N, cost:MICRODOLLARS, refusal,
    /// no_refusal, pii_leak or checks
    #[arg(long = "scorer", value_name = "SCORER")]
    pub(crate) scorers: Vec<String>,
    /// The suite of another program: evals-match, evals-includes, evals-json, bfcl, promptfoo,
    /// inspect or lm-eval; it brings its scorers
    #[arg(long, conflicts_with_all = ["scorers", "input", "output", "system"])]
    pub(crate) format: Option<String>,
    /// bfcl: the file of possible answers
    #[arg(long, value_name = "FILE", requires = "format")]
    pub(crate) truths: Option<PathBuf>,
    /// Write the answers that came with the cases here, for `eval`
    #[arg(long, value_name = "FILE", requires = "format")]
    pub(crate) answers: Option<PathBuf>,
    /// Look for the cases in frozen datasets by meaning as well (cosine of at least 0.95), with the
    /// sentence model; milliseconds a row
    #[arg(long)]
    pub(crate) by_meaning: bool,
    #[command(flatten)]
    pub(crate) rows: RowArgs,
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
    /// `base`, a version such as support-triage@1, an adapter directory, or a JSONL file of answers
    /// given before: {"id": "0001", "output": "…"}
    pub(crate) subject: String,
    #[arg(long)]
    pub(crate) suite: String,
    /// Likewise
    #[arg(long, default_value = "base")]
    pub(crate) baseline: String,
    /// Show the subject the lessons of this memory release, or of the one that `serves`; the
    /// baseline answers without, so that a report on the same subject is about the lessons
    #[arg(long, value_name = "RELEASE")]
    pub(crate) memory: Option<String>,
    /// Show the baseline the lessons of this one
    #[arg(long, value_name = "RELEASE")]
    pub(crate) baseline_memory: Option<String>,
    /// Answer with the mock engine, which knows no model: for trying out commands
    #[arg(long)]
    pub(crate) mock_engine: bool,
    /// The base model, by name or path
    #[arg(long)]
    pub(crate) base: Option<String>,
    #[arg(long, default_value_t = 0.02)]
    pub(crate) margin: f64,
    #[arg(long, default_value_t = 128)]
    pub(crate) max_new_tokens: u32,
    /// What the candidate must be: better, or non_inferior
    #[arg(long, default_value = "better", value_name = "VERDICT")]
    pub(crate) verdict: String,
    /// Of the bootstrap: the same answers and seed give the same report, byte for byte
    #[arg(long, default_value_t = 17)]
    pub(crate) seed: u64,
    /// The dataset whose nearest example is the trivial baseline; that of the subject unless given
    #[arg(long, value_name = "NAME@DIGEST")]
    pub(crate) examples: Option<String>,
    /// Write the report as json, junit, markdown or html; may be given several times
    #[arg(long = "report", value_name = "FORMAT=PATH")]
    pub(crate) reports: Vec<String>,
    /// Keep the answers as baseline.jsonl and candidate.jsonl in this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) answers: Option<PathBuf>,
    /// Write the report's JSON here too
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Ask for every answer again, and keep none
    #[arg(long)]
    pub(crate) no_cache: bool,
    #[command(flatten)]
    pub(crate) judge: JudgeArgs,
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
    /// Prompts and completions per second beside llama.cpp, at every precision, with their floors
    #[command(after_help = "Examples:\n  understudy bench serve\n  \
        understudy bench serve --llama llama.cpp/build/bin --rounds 5 --json\n  \
        understudy bench serve --only bf16 --only int8\n\n\
        scripts/build-llama-bench.sh builds llama.cpp's programs from the llama-cpp-python source.\n\
        Exit codes: 0 measured; 2 bad input, or a program that gave no figure")]
    Serve(BenchServeArgs),
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
    /// Telemetry that is durable when it is acknowledged: spans a second, delays, memory; beside
    /// Phoenix and MLflow
    #[command(after_help = "Examples:\n  understudy bench ingest --seconds 20 --json\n  \
        understudy bench ingest --phoenix .venv-phoenix/bin/python --mlflow .venv-mlflow/bin/python\n\n\
        Exit codes: 0 measured; 2 bad input")]
    Ingest(BenchIngestArgs),
    /// What the gateway costs: requests through it beside nginx, LiteLLM and no gateway at all
    #[command(after_help = "Examples:\n  understudy bench gateway\n  \
        understudy bench gateway --litellm .venv/bin/litellm --nginx /usr/sbin/nginx --json\n\n\
        A pretended model answers at once; ours captures every exchange durably meanwhile.")]
    Gateway(BenchGatewayArgs),
    /// Release after release under load over HTTP: afterwards every reply and outcome is accounted
    /// for, and memory is flat
    #[command(after_help = "Examples:\n  understudy bench gateway-soak --seconds 60\n  \
        understudy bench gateway-soak --seconds 3600 --json   (an hour at half load)\n\n\
        Exit codes: 0 all accounted for; 1 something is not, failed or grew; 2 bad input")]
    GatewaySoak(BenchGatewaySoakArgs),
    /// How long a rolled-back version still answers anybody, over many servers
    #[command(after_help = "Example:\n  understudy bench rollback --replicas 16 --json\n\n\
        Exit codes: 0 within a second everywhere; 1 later, or a request failed; 2 bad input")]
    Rollback(BenchRollbackArgs),
    /// How well and how fast memory finds the lessons that belong to a request
    #[command(after_help = "Examples:\n  understudy model pull all-minilm-l6-v2\n  \
        understudy bench retrieval\n  \
        understudy bench retrieval --sizes 77,770 --queries 154 --json\n\n\
        Tickets of 77 kinds are lessons; queries are others, some in words no lesson has.\n\
        Exit codes: 0 as promised; 1 below the floor, or too late; 2 bad input; \
        3 too late, on a busy machine, or no sentence model to hold against the floor")]
    Retrieval(BenchRetrievalArgs),
}

#[derive(Debug, Args)]
pub(crate) struct BenchRetrievalArgs {
    /// Lessons of each store; the floor is checked at 770 and more
    #[arg(long, value_delimiter = ',', default_values_t = [77, 231, 770, 10_000],
          value_name = "N")]
    pub(crate) sizes: Vec<usize>,
    /// Queries to each store
    #[arg(long, default_value_t = 770, value_name = "N")]
    pub(crate) queries: usize,
    #[arg(long, default_value_t = 17)]
    pub(crate) seed: u64,
    /// Of a whole query at the 95th percentile, its embedding included
    #[arg(long, default_value_t = 20.0, value_name = "MS")]
    pub(crate) budget_ms: f64,
}

#[derive(Debug, Args)]
pub(crate) struct BenchGatewaySoakArgs {
    #[arg(long, default_value_t = 60, value_name = "N")]
    pub(crate) seconds: u64,
    /// Requests a second [default: half of what the server takes at the beginning]
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<f64>,
    /// Users who ask at the same time
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub(crate) clients: usize,
    #[arg(long, default_value_t = 17)]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct BenchRollbackArgs {
    /// Servers, each in a process of its own
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub(crate) replicas: usize,
    /// Rollbacks
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub(crate) rounds: usize,
    /// Requests a second to each server; a machine that is asked more than it can answer measures
    /// its own queues
    #[arg(long, default_value_t = 10.0, value_name = "PER_SECOND")]
    pub(crate) rate: f64,
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
    /// Spans of a trace: an agent's and those of the calls it made; of one, a call's
    #[arg(long, default_value_t = 8, value_name = "N")]
    pub(crate) trace: usize,
    /// A Python with arize-phoenix, to be measured as well
    #[arg(long, value_name = "PYTHON")]
    pub(crate) phoenix: Option<PathBuf>,
    /// A Python with mlflow, to be measured as well
    #[arg(long, value_name = "PYTHON")]
    pub(crate) mlflow: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct BenchGatewayArgs {
    /// How long each load of each subject lasts
    #[arg(long, default_value_t = 10, value_name = "S")]
    pub(crate) seconds: u64,
    /// Connections at once
    #[arg(long, default_value_t = 32, value_name = "N")]
    pub(crate) connections: usize,
    /// Requests a second at which latency is measured
    #[arg(long, default_value_t = 100.0, value_name = "N")]
    pub(crate) rate: f64,
    /// Ask for streams
    #[arg(long)]
    pub(crate) stream: bool,
    /// nginx' program [default: the one on PATH, if there is one]
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) nginx: Option<PathBuf>,
    /// LiteLLM's program, `litellm` in a virtual environment; without it LiteLLM is not measured
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) litellm: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct BenchServeArgs {
    /// The base model, by name or path
    #[arg(long)]
    pub(crate) base: Option<String>,
    /// A folder with llama-batched-bench and llama-quantize; without it only we are measured
    #[arg(long, value_name = "DIR")]
    pub(crate) llama: Option<PathBuf>,
    /// Rounds of every cell, of which the best counts
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub(crate) rounds: usize,
    /// Only these precisions; may be repeated
    #[arg(long, value_enum, value_name = "PRECISION")]
    pub(crate) only: Vec<HeldIn>,
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
