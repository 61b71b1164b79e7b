//! The whole of an evaluation in one call.

use understudy_inference::{Backend, Embedder};
use understudy_manifest::{EvalReport, Gate, Suite};

use crate::{
    EvaluationError, Evidence, Progress, RunOptions, Subject, SubjectRun, assemble, grade::Graders,
    run, scorers,
};

/// What is compared with what, on which cases, under which gate.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    pub suite: &'a Suite,
    pub gate: &'a Gate,
    pub baseline: &'a Subject,
    pub candidate: &'a Subject,
    /// Of the bootstrap; decoding is greedy and needs none.
    pub seed: u64,
    pub concurrency: usize,
    /// What compares texts by meaning, if anything.
    pub embedder: Option<&'a dyn Embedder>,
}

/// Runs baseline and candidate interleaved on one backend, and reports on them and on `others`:
/// runs of the same suite made before, on other backends or on none.
pub fn evaluate(
    backend: &dyn Backend,
    plan: Plan<'_>,
    others: &[SubjectRun],
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<EvalReport, EvaluationError> {
    let Plan { suite, gate, embedder, .. } = plan;
    // Found now, not after the minutes that generating takes.
    Graders::new(suite, &scorers(suite, gate))?;
    let subjects = [plan.baseline.clone(), plan.candidate.clone()];
    let options = RunOptions { max_new_tokens: gate.max_new_tokens, concurrency: plan.concurrency };
    let runs = run(backend, suite, &subjects, options, progress)?;
    let evidence =
        Evidence { baseline: &runs[0], candidate: &runs[1], others, embedder, assessor: None };
    assemble(suite, gate, evidence, plan.seed)
}
