//! `understudy import`.

use std::path::PathBuf;

use clap::Args;

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
