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
    /// Put every case so often, with sampled answers, and tell pass@k and pass^k beside the means
    #[arg(long, default_value_t = 1, value_name = "N", conflicts_with = "judge")]
    pub(crate) repeats: u32,
    /// Of sampled answers; needs --repeats of 3 or more. 0 is greedy
    #[arg(long, default_value_t = 0.0)]
    pub(crate) temperature: f32,
    /// Show the subject the lessons of this memory release, or of the one that `serves`; the
    /// baseline answers without, so that a report on the same subject is about the lessons
    #[arg(long, value_name = "RELEASE")]
    pub(crate) memory: Option<String>,
    /// Show the baseline the lessons of this one
    #[arg(long, value_name = "RELEASE")]
    pub(crate) baseline_memory: Option<String>,
    /// Whose lessons they are; the subject's task unless given, and where it has none the suite's
    /// name
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: Option<String>,
    /// Answer with the mock engine, which knows no model: for trying out commands
    #[arg(long)]
    pub(crate) mock_engine: bool,
    /// The base model, by name or path
    #[arg(long)]
    pub(crate) base: Option<String>,
    #[arg(long, default_value_t = 0.02)]
    pub(crate) margin: f64,
    /// The scorer the verdict is about; the suite's first unless given
    #[arg(long, value_name = "SCORER")]
    pub(crate) scorer: Option<String>,
    /// The candidate's median latency over the baseline's, at most; 1.10 is a common limit on a
    /// machine that does nothing else
    #[arg(long, value_name = "RATIO")]
    pub(crate) latency_ratio_max: Option<f64>,
    /// The same for the latency that 95 % of requests stay within
    #[arg(long, value_name = "RATIO")]
    pub(crate) latency_p95_ratio_max: Option<f64>,
    /// Tokens read and written by the candidate over the baseline's, at most
    #[arg(long, value_name = "RATIO")]
    pub(crate) tokens_ratio_max: Option<f64>,
    /// Money that the candidate's answers cost over the baseline's, at most: by the prices below, or
    /// as recorded answers say; tokens stand for it where neither does
    #[arg(long, value_name = "RATIO")]
    pub(crate) cost_ratio_max: Option<f64>,
    /// How many of the cases of risk known_failure the candidate must get right, at least
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) known_failures_fixed: u64,
    /// What a million tokens read cost, for --cost-ratio-max and the scorer cost:MICRODOLLARS
    #[arg(long, value_name = "USD", requires = "output_usd_per_million")]
    pub(crate) input_usd_per_million: Option<f64>,
    /// And a million tokens written
    #[arg(long, value_name = "USD", requires = "input_usd_per_million")]
    pub(crate) output_usd_per_million: Option<f64>,
    #[arg(long, default_value_t = 128)]
    pub(crate) max_new_tokens: u32,
    /// What the candidate must be: better, or non_inferior
    #[arg(long, default_value = "better", value_name = "VERDICT")]
    pub(crate) verdict: String,
    /// Of the bootstrap: the same answers and seed give the same report, byte for byte
    #[arg(long, default_value_t = 17)]
    pub(crate) seed: u64,
    /// The dataset whose nearest example and most common reply are the trivial baselines; that of
    /// the subject or the baseline unless given
    #[arg(long, value_name = "NAME@DIGEST")]
    pub(crate) examples: Option<String>,
    /// Write the report as json, junit, markdown or html; may be given several times
    #[arg(long = "report", value_name = "FORMAT=PATH")]
    pub(crate) reports: Vec<String>,
    /// Keep the answers as baseline.jsonl and candidate.jsonl in this directory; not those to a
    /// sealed suite
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
