//! `understudy dataset`, as definitions.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum DatasetCommand {
    /// Freeze a version from what a recipe names
    #[command(after_help = "Example:\n  understudy dataset build recipes/support-triage.toml")]
    Build { recipe: PathBuf },
    /// All versions
    #[command(after_help = "Example:\n  understudy dataset list --json")]
    List,
    /// Everything that versions are built from: recorded steps and what was said of them, one JSON
    /// object a line, as `understudy import` reads it
    #[command(
        after_help = "Examples:\n  understudy dataset records --task support-triage > kept.jsonl\n  \
        understudy import kept.jsonl --task support-triage --format understudy\n\n\
        Exit codes: 0 there are some; 1 there are none; 2 bad input"
    )]
    Records(RecordsArgs),
    /// One version: sources, counts per stage, files
    #[command(after_help = "Example:\n  understudy dataset show support-triage@4f0c…")]
    Show { version: String },
    /// What two versions have and lack of each other
    #[command(after_help = "Example:\n  understudy dataset diff triage@4f0c… triage@91ab…\n\n\
        Exit codes: 0 the same; 1 they differ; 2 bad input")]
    Diff { before: String, after: String },
    /// Forget a person: what they said, every row made of it, and the copies; adapters that learnt
    /// from it are marked
    #[command(
        after_help = "Examples:\n  understudy dataset erase --subject user-4711 --dry-run\n  \
        understudy dataset erase --subject user-4711 --reason 'request of 2026-11-20'\n\n\
        Exit codes: 0 erased; 1 there is nothing of this subject; 2 bad input"
    )]
    Erase(EraseArgs),
    /// Whether a receipt of an erasure is genuine, and whether what it says holds here
    #[command(after_help = "Examples:\n  \
        understudy dataset receipt .understudy/erasures/9f2c41d08a11.sig --key receipts.pub.pem\n  \
        understudy dataset receipt received.sig --key receipts.pub.pem --elsewhere --json\n\n\
        Exit codes: 0 genuine, and it holds; 1 it is forged, or something does not hold; 2 bad input")]
    Receipt(ReceiptArgs),
    /// Why a step is in a version or not: its rows, and with a recipe every stage's verdict on it
    #[command(after_help = "Examples:\n  understudy dataset explain chatcmpl-7f3a…\n  \
        understudy dataset explain step_01J9… --recipe recipes/support-triage.toml\n\n\
        Exit codes: 0 it is in; 1 it is not; 2 bad input")]
    Explain(ExplainArgs),
    /// Replies of which one says this and another that, of which no row is made until a person says
    /// which is so; and ten minutes in which far more was said than is usual
    #[command(after_help = "Example:\n  understudy dataset review recipes/support-triage.toml\n\n\
        Of several ratings of one kind the last counts, so a rating through /v1/feedback settles \
        what a rating began. A burst leaves nothing \
        out: max_subject_share and erase do.\n\
        Exit codes: 0 there are none; 1 there are some; 2 bad input")]
    Review { recipe: PathBuf },
    /// Write a version as TRL's JSONL or as Parquet, beside a card for the Hugging Face viewer
    #[command(
        after_help = "Examples:\n  understudy dataset export triage@4f0c… out --format parquet\n  \
        understudy dataset export triage@4f0c… shared --keep-for 30d\n  \
        python -c 'from datasets import load_dataset; print(load_dataset(\"out\", \"sft\"))'"
    )]
    Export(ExportArgs),
    /// The copies that were exported and whether they are still there; those whose time is over are
    /// removed
    #[command(after_help = "Example:\n  understudy dataset exports --json\n\n\
        `understudy serve` removes them as well. A copy that was changed since it was made is left to \
        a person.\n\
        Exit codes: 0 there are some; 1 nothing was exported")]
    Exports,
}

#[derive(Debug, Args)]
pub(crate) struct RecordsArgs {
    /// Only this task's [default: all]
    #[arg(long)]
    pub(crate) task: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct EraseArgs {
    /// As `user` or `user.id` named them
    #[arg(long)]
    pub(crate) subject: String,
    /// Only count
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Who answers for it
    #[arg(long, env = "USER", default_value = "operator")]
    pub(crate) owner: String,
    /// Goes into the audit chain; do not name the person here
    #[arg(long, default_value = "erased on request")]
    pub(crate) reason: String,
    /// Sign the receipt with this private P-256 key [default: receipts.pem in the data directory, if
    /// it is there]
    #[arg(long, value_name = "PEM", env = "UNDERSTUDY_RECEIPT_KEY")]
    pub(crate) key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ReceiptArgs {
    /// The signed receipt, a `.sig` file
    pub(crate) receipt: PathBuf,
    /// The signer's public key
    #[arg(long, value_name = "PEM")]
    pub(crate) key: PathBuf,
    /// Whether it is about this subject, and nothing of theirs has come back
    #[arg(long)]
    pub(crate) subject: Option<String>,
    /// Look at the signature alone: the data is on another machine
    #[arg(long, conflicts_with = "subject")]
    pub(crate) elsewhere: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// A step, a response, an outcome, or a trajectory or session of one step
    pub(crate) record: String,
    /// Run the stages of this recipe and tell what each does to it
    #[arg(long, value_name = "RECIPE")]
    pub(crate) recipe: Option<PathBuf>,
    /// Look only in this version [default: all of the step's task]
    #[arg(long, value_name = "NAME@DIGEST")]
    pub(crate) version: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// NAME@DIGEST
    pub(crate) version: String,
    /// A directory that does not exist yet
    pub(crate) dest: PathBuf,
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: ExportFormat,
    /// Remove the copy when it is this old: `30d`, `12h` [default: never]
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub(crate) keep_for: Option<Duration>,
    /// Arguments of tool calls as text, for Hugging Face datasets before 4.7, and not as the JSON
    /// they are
    #[arg(long)]
    pub(crate) tools_as_string: bool,
}

fn age(text: &str) -> Result<Duration, String> {
    let age = understudy_manifest::parse_age(text).and_then(|age| u64::try_from(age).ok());
    let age = age.filter(|age| *age > 0).map(Duration::from_millis);
    age.ok_or_else(|| format!("`{text}` is no age; write a number with d, h or m, such as 30d"))
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum ExportFormat {
    #[default]
    Trl,
    Parquet,
}
