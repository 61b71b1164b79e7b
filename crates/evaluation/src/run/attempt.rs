//! Several attempts at every case, where answers are sampled: what a subject can do, and what it can
//! be relied on for.

use understudy_ident::Digest;
use understudy_inference::{Backend, Sampling};
use understudy_manifest::{Case, Suite};

use super::{Progress, PromptOf, RunOptions, Subject, SubjectRun, once};
use crate::{EvaluationError, cache::Kept};

/// How often every case is put, and how the attempts differ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Repeats {
    pub each: u32,
    /// Above 0: greedy attempts are all the same.
    pub temperature: f32,
    /// Of all draws; every attempt at every case has its own.
    pub seed: u64,
}

impl Repeats {
    fn sampling(&self, options: RunOptions, (nth, case): (u32, &Case)) -> Sampling {
        let parts = [self.seed.to_string(), nth.to_string(), case.id.clone()];
        let digest = Digest::of_parts(parts.iter().map(String::as_bytes)).to_hex();
        let seed = digest.get(..16).and_then(|hex| u64::from_str_radix(hex, 16).ok());
        Sampling {
            temperature: self.temperature,
            seed: Some(seed.unwrap_or(self.seed)),
            ..options.sampling()
        }
    }
}

/// Asks every subject every case several times. What was kept of an attempt is not asked for again.
pub fn attempt(
    backend: &dyn Backend,
    suite: &Suite,
    asked: (&[Subject], PromptOf<'_>),
    (options, repeats): (RunOptions, Repeats),
    kept: Kept<'_>,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Vec<SubjectRun>, EvaluationError> {
    let mut runs: Vec<SubjectRun> = Vec::new();
    for nth in 0..repeats.each {
        let sampling = |case: &Case| repeats.sampling(options, (nth, case));
        let again = Kept { cache: &mut *kept.cache, subjects: kept.subjects };
        let mut show = |now: Progress<'_>| {
            let before = nth as usize * now.total;
            let total = repeats.each as usize * now.total;
            progress(Progress { done: before + now.done, total, ..now });
        };
        let found = once(backend, suite, asked, (options, &sampling), again, &mut show)?;
        if runs.is_empty() {
            runs = found;
            continue;
        }
        for (run, more) in runs.iter_mut().zip(found) {
            same_adapter(run, &more)?;
            run.more.push(more.results);
        }
    }
    for run in &mut runs {
        run.conditions.get_or_insert_default().temperature = f64::from(repeats.temperature);
    }
    Ok(runs)
}

fn same_adapter(first: &SubjectRun, then: &SubjectRun) -> Result<(), EvaluationError> {
    if first.generation == then.generation {
        return Ok(());
    }
    let name = |run: &SubjectRun| run.generation.clone().unwrap_or_else(|| "none".to_owned());
    Err(EvaluationError::GenerationChanged {
        subject: first.subject.clone(),
        first: name(first),
        then: name(then),
    })
}
