//! `understudy eval`.

use std::path::PathBuf;

use clap::Args;

use super::JudgeArgs;

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
