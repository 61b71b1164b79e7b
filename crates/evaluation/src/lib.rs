//! Does the candidate do better than what serves now, and how sure is that?
//!
//! A [`Suite`](understudy_manifest::Suite) of held-out cases is put to two or more subjects
//! ([`run()`]), or answers recorded before are read ([`recorded`]); every answer is scored, the same
//! cases are compared pair by pair ([`stats`]), and the [`gate`] turns the comparison into a
//! decision with a sentence for each of its conditions. [`evaluate`] does all of it and returns an
//! [`EvalReport`](understudy_manifest::EvalReport). [`table`] prints one for people, and
//! [`render`] writes it as JSON, JUnit XML, Markdown or HTML, case by case where the suite's tier
//! allows it.
//!
//! Guarantees: subjects answer the same cases under the same load; results stand in case order,
//! whatever order they arrived in; a run that is
//! killed asks for what is missing when it is run again, and reports as if it had not been; a case without an answer scores 0 and is counted, one that a
//! scorer cannot decide is left out and counted; too few cases give `inconclusive`, never a pass,
//! and the smallest difference they could have found is always told; the same answers and seed give
//! the same report, byte for byte, in every format; a judge model that was not shown to agree with
//! people decides nothing.
//!
//! Never: trains, registers or promotes anything, shows single cases of a sealed suite, or knows
//! which engine answered beyond its [`Backend`](understudy_inference::Backend).

mod agreement;
mod cache;
mod detail;
mod error;
mod evaluate;
pub mod gate;
mod grade;
mod judge;
mod memory;
mod nearest;
mod pairs;
mod recorded;
mod render;
mod report;
pub mod run;
mod slices;
pub mod stats;
mod table;

pub use agreement::{Agreement, agreement};
pub use cache::{Cache, Kept, NoCache};
pub use detail::{CaseDiff, Change, Reply, details};
pub use error::EvaluationError;
pub use evaluate::{Plan, evaluate};
pub use grade::{check, computable, mean_score, score_of};
pub use judge::{
    Ballot, Checked, Contest, Judge, JudgeRole, JudgedRun, Judgement, Label, Pick, RUBRIC, Rulings,
    STATEMENTS, add_judge, add_rulings, asks_judge, assess, calibrate, calibrate_statements,
    judge_decides, judge_runs, read_checked, read_labels,
};
pub use memory::{add_untouched_by_memory, add_with_memory};
pub use nearest::NearestExample;
pub use recorded::{read_recorded, write_recorded};
pub use render::{Document, Format, render};
pub use report::{Evidence, assemble, scorers};
pub use run::{
    CaseResult, Progress, PromptOf, Repeats, RunOptions, Subject, SubjectRun, as_written, attempt,
    resume, run,
};
pub use table::table;

#[cfg(test)]
mod tests;
