//! Why there is no dataset.

use std::path::{Path, PathBuf};

use understudy_ident::{DatasetVersion, Digest, TaskName};

#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    #[error(
        "the recipe wants lessons in {share} of the examples, and no memory release serves: see \
         `understudy memory release`, or leave `memory_slot` out"
    )]
    NoLessons { share: f64 },
    #[error(
        "the recipe limits lengths in tokens, and nobody was named who counts them: give the builder \
         a tokenizer, or leave `max_prompt_tokens`, `min_reply_tokens` and `max_reply_tokens` out"
    )]
    NoTokenizer,
    #[error("cannot count the tokens of a text: {0}")]
    Tokens(Box<dyn std::error::Error + Send + Sync>),
    #[error("cannot look up the lessons of an example: {0}")]
    Lessons(Box<dyn std::error::Error + Send + Sync>),
    #[error(
        "the dataset of `{task}` needs {needed} examples with a verified outcome and found {found}: \
         {missing} are missing; collect more outcomes, widen `since`, or lower `min_verified`"
    )]
    NotEnough { task: TaskName, needed: u64, found: u64, missing: u64 },

    #[error(
        "there is nothing to learn `{task}` from: no reply was accepted, edited or replaced by \
         another ({labels} were only judged); collect more outcomes"
    )]
    Nothing { task: TaskName, labels: usize },

    #[error(
        "holding out the newest {share} of the steps leaves nothing to train on: all that teaches \
         belongs to sessions, subjects or prompts that began among them; lower `holdout_newest`, or \
         collect for longer"
    )]
    NothingBefore { share: f64 },

    #[error("`{0}` names no reward policy; there are `default` and `calibrated`")]
    UnknownPolicy(String),

    #[error("the recipe names dataset {0}, which is frozen already: open it instead of building")]
    AlreadyFrozen(DatasetVersion),

    #[error("`since = {0:?}` is no age; write a number with d, h or m, such as \"30d\"")]
    Since(String),

    #[error(
        "refused to build: {rows} rows hold a case of suite {suite} after decontamination, which is \
         a defect of this program; nothing was written"
    )]
    Leak { suite: Digest, rows: usize },

    #[error(
        "refused to build: {count} {what} are in both the train and the dev split, which is a defect \
         of this program; nothing was written"
    )]
    Straddles { what: String, count: u64 },

    #[error("a step or row of {bytes} bytes is too large to build from; leave it out of the data")]
    TooLarge { bytes: usize },

    #[error("failed to {attempt} {}", path.display())]
    Io { attempt: &'static str, path: PathBuf, source: std::io::Error },

    #[error("line {line} of the account records cannot be read: {why}")]
    Account { line: usize, why: String },

    #[error("names cannot be found, so nothing was built")]
    Recogniser(#[source] understudy_redact::RecogniserError),

    #[error(transparent)]
    Storage(#[from] understudy_storage::StorageError),

    #[error(
        "dataset {version} was erased with somebody whose rows it held{}",
        .successor.as_ref().map_or_else(String::new, |other| format!("; use {other}, which has all others"))
    )]
    Erased { version: DatasetVersion, successor: Option<Box<DatasetVersion>> },

    #[error("{} is not a dataset: {why}", path.display())]
    NotADataset { path: PathBuf, why: String },

    #[error(
        "{} was changed after it was frozen (expected digest {expected}, found {found}); restore it \
         from a backup, or build the version again",
        path.display()
    )]
    Changed { path: PathBuf, expected: Digest, found: Digest },

    #[error("failed to compare rows with held-out cases by meaning")]
    Meaning(#[from] understudy_inference::InferenceError),

    #[error("line {line} of {} is no row: {why}", path.display())]
    Row { path: PathBuf, line: usize, why: String },
}

/// Adds what was attempted, and on which path, to an error of the operating system.
pub(crate) trait Attempt<T> {
    fn attempt(self, attempt: &'static str, path: &Path) -> Result<T, DatasetError>;
}

impl<T> Attempt<T> for std::io::Result<T> {
    fn attempt(self, attempt: &'static str, path: &Path) -> Result<T, DatasetError> {
        self.map_err(|source| DatasetError::Io { attempt, path: path.to_owned(), source })
    }
}
