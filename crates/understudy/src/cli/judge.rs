//! `understudy judge …`, and what `eval` says of a judge.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum JudgeCommand {
    /// Hold the judge against pairs that people have labelled; only then may it decide
    #[command(
        after_help = "Example:\n  understudy judge calibrate labels.jsonl --rubric rubric.md\n\n\
        A label of a pair: {\"prompt\": \"…\", \"a\": \"…\", \"b\": \"…\", \"label\": \"a\"}, or \"b\", or \"tie\";\n\
        of a statement, for the scorer judge: {\"prompt\": \"…\", \"answer\": \"…\", \"holds\": \"…\", \"met\": true};\n\
        the judge is the endpoint under [judge] in understudy.toml.\n\n\
        Exit codes: 0 it may decide; 1 it agrees too little, or there are fewer than 50 labels; 2 bad input"
    )]
    Calibrate(CalibrateArgs),
    /// Every calibration that was made
    #[command(after_help = "Example:\n  understudy judge list --json")]
    List,
}

#[derive(Debug, Args)]
pub(crate) struct CalibrateArgs {
    /// One labelled pair a line
    pub(crate) labels: PathBuf,
    /// What a good answer is, as a text; a general rubric unless given
    #[arg(long, value_name = "FILE")]
    pub(crate) rubric: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct JudgeArgs {
    /// Ask the model under [judge] in understudy.toml as well, each pair in both orders
    #[arg(long)]
    pub(crate) judge: bool,
    /// What a good answer is, as a text; a general rubric unless given
    #[arg(long, value_name = "FILE", requires = "judge")]
    pub(crate) rubric: Option<PathBuf>,
    /// The judge's verdict must be what --verdict asks for; it must have been calibrated
    #[arg(long, requires = "judge")]
    pub(crate) judge_decides: bool,
}
