//! From answers to an [`EvalReport`].

use std::collections::{BTreeMap, BTreeSet};

use understudy_manifest::{Comparison, EvalReport, Gate, Scorer, SubjectReport, Suite};

use crate::{
    EvaluationError, NearestExample, gate,
    run::{CaseResult, SubjectRun},
    score::{self, Score, score},
    stats,
};

/// The scorers of a report: the one the gate is about, then the suite's others.
pub fn scorers(suite: &Suite, gate: &Gate) -> Vec<Scorer> {
    let mut scorers: Vec<Scorer> = gate.scorer.iter().cloned().collect();
    scorers.extend(suite.scorers.iter().filter(|s| gate.scorer.as_ref() != Some(s)).cloned());
    scorers
}

/// All answers a report is made from.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    pub baseline: &'a SubjectRun,
    pub candidate: &'a SubjectRun,
    /// Shown beside them and not compared: the nearest example, a teacher.
    pub others: &'a [SubjectRun],
}

/// Scores all answers, compares the candidate with the baseline and decides. Pure: the same answers
/// and seed give an equal report.
pub fn assemble(
    suite: &Suite,
    gate: &Gate,
    evidence: Evidence<'_>,
    seed: u64,
) -> Result<EvalReport, EvaluationError> {
    let scorers = scorers(suite, gate);
    score::check(suite, &scorers)?;
    check_subjects(suite, evidence)?;
    let Evidence { baseline, candidate, others } = evidence;
    let cases = suite.cases.len() as u64;
    let comparisons: Vec<Comparison> = scorers
        .iter()
        .map(|scorer| compare(suite, gate, scorer, candidate, baseline, seed))
        .collect();
    let summary = |run: &SubjectRun| summarise(suite, &scorers, run, seed);
    let (baseline, candidate) = (summary(baseline), summary(candidate));
    let decision = gate::decide(gate, &comparisons, &baseline, &candidate, cases);
    // A table reads from the trivial to the best: look-up, baseline, candidate, teacher.
    let (trivial, rest): (Vec<&SubjectRun>, Vec<_>) =
        others.iter().partition(|run| run.subject == NearestExample::NAME);
    let mut subjects: Vec<SubjectReport> = trivial.into_iter().map(summary).collect();
    subjects.extend([baseline, candidate]);
    subjects.extend(rest.into_iter().map(summary));
    Ok(EvalReport {
        schema: EvalReport::SCHEMA,
        suite: suite.name.to_string(),
        suite_digest: suite.digest(),
        cases,
        seed,
        subjects,
        comparisons,
        decision,
    })
}

fn check_subjects(suite: &Suite, evidence: Evidence<'_>) -> Result<(), EvaluationError> {
    if suite.cases.is_empty() {
        return Err(EvaluationError::NoCases { suite: suite.name.to_string() });
    }
    let mut names = BTreeSet::new();
    for run in [evidence.baseline, evidence.candidate].into_iter().chain(evidence.others) {
        if !names.insert(run.subject.as_str()) {
            return Err(EvaluationError::DuplicateSubject { name: run.subject.clone() });
        }
        for position in 0..suite.cases.len().max(run.results.len()) {
            let expected = suite.cases.get(position).map_or("nothing", |case| &case.id);
            let found = run.results.get(position).map_or("nothing", |result| &result.id);
            if expected != found {
                return Err(EvaluationError::Misaligned {
                    subject: run.subject.clone(),
                    suite: suite.name.to_string(),
                    position,
                    expected: expected.to_owned(),
                    found: found.to_owned(),
                });
            }
        }
    }
    Ok(())
}

fn scores(suite: &Suite, scorer: &Scorer, run: &SubjectRun) -> Vec<Score> {
    let of_case = |(case, result): (&understudy_manifest::Case, &CaseResult)| match result.error {
        None => score(scorer, &case.expected, &result.output),
        Some(_) => Score::unanswered(scorer, &case.expected),
    };
    suite.cases.iter().zip(&run.results).map(of_case).collect()
}

fn summarise(suite: &Suite, scorers: &[Scorer], run: &SubjectRun, seed: u64) -> SubjectReport {
    let summaries: BTreeMap<_, _> = scorers
        .iter()
        .map(|scorer| (scorer.name(), stats::summarise(&scores(suite, scorer, run), seed)))
        .collect();
    // A request that failed at once would make its subject look fast.
    let answered = || run.results.iter().filter(|result| result.error.is_none());
    let mut latencies: Vec<f64> = answered().map(|result| result.latency_ms).collect();
    latencies.sort_by(f64::total_cmp);
    let tokens = |count: fn(&CaseResult) -> u32| answered().map(|r| u64::from(count(r))).sum();
    SubjectReport {
        name: run.subject.clone(),
        generation: run.generation.clone(),
        scores: summaries,
        latency_ms_p50: stats::quantile(&latencies, 0.5).unwrap_or(0.0),
        latency_ms_p95: stats::quantile(&latencies, 0.95).unwrap_or(0.0),
        prompt_tokens: tokens(|result| result.usage.prompt_tokens),
        completion_tokens: tokens(|result| result.usage.completion_tokens),
        errors: (run.results.len() - answered().count()) as u64,
    }
}

fn compare(
    suite: &Suite,
    gate: &Gate,
    scorer: &Scorer,
    candidate: &SubjectRun,
    baseline: &SubjectRun,
    seed: u64,
) -> Comparison {
    let of = |run| scores(suite, scorer, run);
    let difference = stats::compare(&of(candidate), &of(baseline), seed);
    Comparison {
        scorer: scorer.name(),
        baseline: baseline.subject.clone(),
        candidate: candidate.subject.clone(),
        difference: difference.value,
        low: difference.low,
        high: difference.high,
        wins: difference.wins,
        losses: difference.losses,
        ties: difference.ties,
        mcnemar_p: difference.mcnemar_p,
        minimum_detectable: difference.minimum_detectable,
        verdict: stats::verdict(difference.low, difference.high, gate.margin),
    }
}
