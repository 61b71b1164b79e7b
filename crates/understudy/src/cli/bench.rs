//! `understudy bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::{commands::bench::Step, held::HeldIn};

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
        understudy bench ingest --rate 5000   (delays and memory at a steady rate)\n  \
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
    /// Spans a second to send, however soon they are acknowledged; without it, as many as are taken
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<u64>,
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
    /// Rounds of every cell, of which the best counts; adapters take at least seven, of which the
    /// median counts
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
