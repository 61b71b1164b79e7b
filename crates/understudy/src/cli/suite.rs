//! `understudy suite`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{AddCaseArgs, RowArgs};

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
        understudy suite import logs/2026-11-01_agent.eval --name agent --format inspect \\\n      \
        --recorded-scores --answers old.jsonl\n  \
        understudy suite import promptfooconfig.yaml --name words --format promptfoo --tests tests.csv\n  \
        understudy suite import results.json --name words --format promptfoo-results --answers old.jsonl\n  \
        understudy suite import samples.jsonl --name facts --format evals --registry facts.yaml"
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
    /// contains, icontains, contains_any, contains_all, fuzzy, regex[:PATTERN], json_valid,
    /// json_schema, json_equal, field_f1, field:KEY, tool_call_ast, tool_call_bfcl, tool_name_f1,
    /// trajectory, state, similarity[:MIN], levenshtein[:MIN], latency:MS, tokens:N,
    /// cost:MICRODOLLARS, refusal, no_refusal, pii_leak, judge[:RUBRIC],
    /// recorded:NAME or checks
    #[arg(long = "scorer", value_name = "SCORER")]
    pub(crate) scorers: Vec<String>,
    /// The suite of another program: evals, evals-match, evals-includes, evals-json, bfcl, promptfoo,
    /// promptfoo-results, inspect or lm-eval; it brings its scorers
    #[arg(long, conflicts_with_all = ["scorers", "input", "output", "system"])]
    pub(crate) format: Option<String>,
    /// bfcl: the file of possible answers
    #[arg(long, value_name = "FILE", requires = "format")]
    pub(crate) truths: Option<PathBuf>,
    /// evals: the YAML of the registry that says which class judges the samples
    #[arg(long, value_name = "FILE", requires = "format")]
    pub(crate) registry: Option<PathBuf>,
    /// evals: the eval of the registry, where it has several
    #[arg(long, value_name = "NAME", requires = "registry")]
    pub(crate) eval: Option<String>,
    /// promptfoo: the tests, as CSV or JSONL, where the configuration names a file of them
    #[arg(long, value_name = "FILE", requires = "format")]
    pub(crate) tests: Option<PathBuf>,
    /// inspect: ask for the last reply of samples that took several turns, after everything that was
    /// said before it
    #[arg(long, requires = "format")]
    pub(crate) last_reply: bool,
    /// inspect: judge by the scores in the log, whatever gave them, over however many turns; then
    /// baseline and candidate are both answers recorded with scores
    #[arg(long, requires = "format", conflicts_with = "last_reply")]
    pub(crate) recorded_scores: bool,
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
