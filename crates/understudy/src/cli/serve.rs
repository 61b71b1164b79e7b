//! `understudy serve`.

use std::{num::NonZeroU32, path::PathBuf};

use clap::Args;
use understudy_capture::Capture;
use understudy_engine::KvCacheDtype;
use understudy_inference::LogProbsOf;

use crate::held::HeldIn;

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
    /// In what the base is held and multiplied; adapters stay in f32 beside f32, and are read in f16
    /// beside the others
    #[arg(long, value_enum, default_value_t, env = "UNDERSTUDY_PRECISION")]
    pub(crate) precision: HeldIn,
    /// A certificate in PEM, followed by those that vouch for it: serve HTTPS
    #[arg(long, env = "UNDERSTUDY_TLS_CERT", value_name = "PEM")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its private key in PEM
    #[arg(long, env = "UNDERSTUDY_TLS_KEY", value_name = "PEM")]
    pub(crate) tls_key: Option<PathBuf>,
    /// How long replies in flight may take when the server is told to end (SIGTERM or Ctrl-C), in
    /// seconds; told so twice, it ends at once
    #[arg(long, env = "UNDERSTUDY_DRAIN_TIMEOUT", value_name = "S", default_value_t = 30)]
    pub(crate) drain_timeout: u64,
    /// How long a stream may say nothing, in seconds, before a comment shows that it is still there
    #[arg(long, value_name = "S", default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) sse_keep_alive: u64,
    /// How much is kept of what is said: `full`, `redacted` (placeholders for secrets and personal
    /// data that patterns find), `metadata` (what happened, and not a word of it) or `none`
    /// [default: `level` of [capture] in understudy.toml, or full]
    #[arg(long, value_name = "LEVEL", env = "UNDERSTUDY_CAPTURE")]
    pub(crate) capture: Option<Capture>,
    /// The longest a request may ask to be waited for in `x-request-timeout-ms`, in seconds; one
    /// without that header has no deadline [default: `max_timeout_s` of [requests] in
    /// understudy.toml, or 3600]
    #[arg(long, value_name = "S", env = "UNDERSTUDY_MAX_REQUEST_TIMEOUT")]
    pub(crate) max_request_timeout: Option<NonZeroU32>,
    /// Let clients load and unload adapters, and pause and resume generation
    #[arg(long)]
    pub(crate) allow_adapter_updates: bool,
    /// Where clients may load adapters from; repeatable [default: the data directory's adapters
    /// and the working directory]
    #[arg(long, value_name = "DIR", requires = "allow_adapter_updates")]
    pub(crate) adapter_root: Vec<PathBuf>,
    /// Let requests bring a `chat_template` of their own: a program whose memory has no limit, so
    /// only where everybody with a key is trusted with this machine
    #[arg(long)]
    pub(crate) allow_request_templates: bool,
    /// Which log-probabilities requests are told that do not say [default: `logprobs_mode` of
    /// [engine] in understudy.toml]
    #[arg(long, value_enum, value_name = "MODE")]
    pub(crate) logprobs_mode: Option<LogprobsMode>,
    /// In what keys and values are kept: auto is f16 beside a base in fewer bits than f32
    /// [default: `kv_cache_dtype` of [engine] in understudy.toml]
    #[arg(long, value_enum, value_name = "DTYPE", conflicts_with = "mock_engine")]
    pub(crate) kv_cache_dtype: Option<KvDtype>,
    /// How tokens are drawn where a request does not say: as the base's generation_config.json
    /// suggests, if it has one, or by `OpenAI`'s defaults [default: `generation_config` of
    /// understudy.toml, or auto]
    #[arg(long, value_enum, value_name = "FROM", env = "UNDERSTUDY_GENERATION_CONFIG")]
    pub(crate) generation_config: Option<GenerationConfig>,
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

/// Where the defaults of temperature, truncation and penalty come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum GenerationConfig {
    /// From the base's `generation_config.json`
    #[default]
    Auto,
    /// Temperature 1, nothing cut off, nothing penalised
    #[value(name = "openai", alias = "vllm")]
    #[serde(rename = "openai", alias = "vllm")]
    OpenAi,
}

/// What log-probabilities are of; the names are vLLM's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogprobsMode {
    /// The model's own distribution
    #[value(name = "raw_logprobs")]
    Raw,
    /// What was drawn from, after penalties, temperature, truncation and constraints
    #[value(name = "processed_logprobs")]
    Processed,
}

impl From<LogprobsMode> for LogProbsOf {
    fn from(mode: LogprobsMode) -> Self {
        match mode {
            LogprobsMode::Raw => Self::Raw,
            LogprobsMode::Processed => Self::Processed,
        }
    }
}

/// The element type of keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum KvDtype {
    Auto,
    F32,
    F16,
}

impl From<KvDtype> for KvCacheDtype {
    fn from(dtype: KvDtype) -> Self {
        match dtype {
            KvDtype::Auto => Self::Auto,
            KvDtype::F32 => Self::F32,
            KvDtype::F16 => Self::F16,
        }
    }
}

/// What a server is among several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    Replica,
}
