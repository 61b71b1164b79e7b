//! Does the candidate do better than what serves now, and how sure is that?
//!
//! A [`Suite`](understudy_manifest::Suite) of held-out cases is put to two or more subjects
//! ([`run()`]), every answer is scored ([`mod@score`]), the same cases are compared pair by pair
//! ([`stats`]), and the [`gate`] turns the comparison into a decision with a sentence for each of
//! its conditions. [`evaluate`] does all of it and returns an
//! [`EvalReport`](understudy_manifest::EvalReport); [`render`] prints one as a table.
//!
//! Guarantees: subjects answer the same cases under the same load; results stand in case order,
//! whatever order they arrived in; a case without an answer scores 0 and is counted; too few cases
//! give `inconclusive`, never a pass; the same answers and seed give the same report, byte for byte
//! apart from latencies.
//!
//! Never: trains, registers or promotes anything, shows single cases of a suite in a report, or
//! knows which engine answered beyond its [`Backend`](understudy_inference::Backend).

mod error;
mod evaluate;
pub mod gate;
mod nearest;
mod report;
pub mod run;
pub mod score;
pub mod stats;
mod table;

pub use error::EvaluationError;
pub use evaluate::{Plan, evaluate};
pub use nearest::NearestExample;
pub use report::{Evidence, assemble, scorers};
pub use run::{CaseResult, Progress, RunOptions, Subject, SubjectRun, run};
pub use score::{Score, score};
pub use table::render;

#[cfg(test)]
mod tests;
