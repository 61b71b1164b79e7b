//! Judged trajectories into an immutable dataset version:
//! select → filter → join → build → prompts → compare → group → redact → dedupe → decontaminate → cap
//! → balance → limit → split → freeze.
//!
//! Guarantees: the same trajectories, settings and seed give byte-identical files and so the same
//! `name@digest`, in whatever order they arrive; no trajectory, session, subject, prompt or
//! near-duplicate is in both splits; nothing that a given suite holds out is in any row; every row names the recorded
//! facts it was made from, and every stage says what it dropped and why.
//!
//! Replies of our own engine to the exact same prompt ids become groups as well, for learning from
//! what was sampled. What is built from lies in a temporary file; in memory is a kilobyte of every
//! step, however much was said in it, half of it what near-duplicates are known by.
//!
//! Never: changes a frozen version (an erasure puts another one in its place), sees a suite's cases (only their [`SuiteFingerprints`]),
//! writes the token ids of a text that redaction would mask, or reads a clock.

mod accounts;
mod attempt;
mod balance;
mod beside;
mod build;
mod bursts;
mod candidate;
mod cap;
mod card;
mod components;
mod contamination;
mod decontaminate;
mod dedupe;
mod diff;
mod draft;
mod edit;
mod erase;
mod error;
mod filter;
mod fingerprint;
mod frozen;
mod groups;
mod key;
mod language;
mod ledger;
mod mask;
mod minhash;
mod overlap;
mod paraphrase;
mod population;
mod problems;
mod prompts;
mod remember;
mod review;
mod rewarding;
mod rewriting;
mod row;
mod rules;
mod selection;
mod spill;
mod split;
mod trail;
mod written;

pub use accounts::Accounts;
pub use beside::Beside;
pub use build::{Builder, Request, build};
pub use bursts::Burst;
pub use contamination::Contamination;
pub use diff::{CountDiff, DatasetDiff, FileDiff, SettingDiff};
pub use draft::Draft;
pub use erase::{ErasedVersion, erase, erased, predecessors};
pub use error::DatasetError;
pub use filter::Tokens;
pub use fingerprint::SuiteFingerprints;
pub use frozen::{FrozenDataset, list};
pub use paraphrase::SuiteMeanings;
pub use remember::{Lessons, Placed};
pub use review::{Conflict, Review};
pub use row::RowKind;
pub use trail::Verdict;

#[cfg(test)]
mod tests;
