//! Why a teacher cannot be set up or may not be asked.

use std::io;

use understudy_inference::InferenceError;

use crate::MicroUsd;

#[derive(Debug, thiserror::Error)]
pub enum TeacherError {
    #[error("could not start the teacher's worker threads: {0}")]
    Threads(io::Error),
    #[error("the teacher's ledger {path} cannot be {done}: {source}")]
    Ledger { path: String, done: &'static str, source: io::Error },
    #[error(
        "the teacher's budget is exhausted: the request may cost {asked}, {left} of {limit} a day \
         is left; raise the daily budget or wait for the next UTC day"
    )]
    BudgetExhausted { asked: MicroUsd, left: MicroUsd, limit: MicroUsd },
    #[error(
        "the budget of {tenant} for the teacher is exhausted: the request may cost {asked}, {left} \
         of {limit} a day is left; ask for a larger one or wait for the next UTC day"
    )]
    TenantExhausted { tenant: String, asked: MicroUsd, left: MicroUsd, limit: MicroUsd },
}

impl From<TeacherError> for InferenceError {
    fn from(error: TeacherError) -> Self {
        match error {
            TeacherError::BudgetExhausted { .. } | TeacherError::TenantExhausted { .. } => {
                Self::OverBudget(error.to_string())
            }
            other => Self::Failed(other.to_string()),
        }
    }
}
