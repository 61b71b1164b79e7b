//! From answers to an [`EvalReport`].

use std::collections::{BTreeMap, BTreeSet};

use understudy_inference::Embedder;
use understudy_manifest::{
    Attempts, Comparison, EvalReport, Gate, Scorer, ScorerSummary, SubjectReport, Suite, Tally,
};
use understudy_scorer::{Outcome, Score, rubric::Assessor, text::is_refusal};

use crate::{
    EvaluationError, NearestExample,
    gate::{self, Findings},
    grade::{Graded, Graders, answer},
    judge::Rulings,
    pairs::{Pairs, clusters},
    run::{CaseResult, SubjectRun},
    slices::{slices, told},
    stats,
};

/// Cases with this tag are to be declined.
const MUST_REFUSE: &str = "must_refuse";

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
    /// What compares texts by meaning; without one, similarity says that it cannot decide.
    pub embedder: Option<&'a dyn Embedder>,
    /// What a judge said of rubrics; without it, `judge` says that it cannot decide.
    pub assessor: Option<&'a Rulings>,
}

impl Evidence<'_> {
    pub(crate) fn grade<'r>(self, graders: &Graders, run: &'r SubjectRun) -> Graded<'r> {
        graders.grade(run, self.embedder, self.assessor.map(|rulings| rulings as &dyn Assessor))
    }
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
    let graders = Graders::new(suite, &scorers)?;
    check_subjects(suite, evidence)?;
    let Evidence { baseline, candidate, others, .. } = evidence;
    let grade = |run| evidence.grade(&graders, run);
    let (baseline, candidate) = (grade(baseline), grade(candidate));
    let both = || candidate.outcomes.iter().zip(&baseline.outcomes);
    let comparisons: Vec<Comparison> = scorers
        .iter()
        .zip(both())
        .map(|(scorer, (new, old))| {
            let pairs = Pairs::new(suite, new, old, |_| true);
            let subjects = (candidate.run.subject.as_str(), baseline.run.subject.as_str());
            comparison(&scorer.name(), subjects, &pairs, gate.margin, seed)
        })
        .collect();
    let slices = both().next().map_or_else(Vec::new, |(new, old)| slices(suite, new, old, seed));
    let summary = |graded: &Graded<'_>| summarise(suite, &scorers, graded, seed);
    let (baseline, candidate) = (summary(&baseline), summary(&candidate));
    let cases = suite.cases.len() as u64;
    let findings = Findings {
        comparisons: &comparisons,
        slices: &slices,
        tier: suite.tier,
        baseline: &baseline,
        candidate: &candidate,
        cases,
    };
    let decision = gate::decide(gate, findings);
    // A table reads from the trivial to the best: look-up, baseline, candidate, teacher.
    let (trivial, rest): (Vec<&SubjectRun>, Vec<_>) =
        others.iter().partition(|run| NearestExample::NAMES.contains(&run.subject.as_str()));
    let summary_of = |run: &SubjectRun| summary(&evidence.grade(&graders, run));
    let mut subjects: Vec<SubjectReport> = trivial.into_iter().map(summary_of).collect();
    subjects.extend([baseline, candidate]);
    subjects.extend(rest.into_iter().map(summary_of));
    Ok(EvalReport {
        schema: EvalReport::SCHEMA,
        suite: suite.name.to_string(),
        suite_digest: suite.digest(),
        cases,
        tier: suite.tier,
        consultation: None,
        seed,
        subjects,
        comparisons,
        slices: told(suite, slices),
        notes: Vec::new(),
        judge: None,
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
        run.attempts().try_for_each(|results| aligned(suite, &run.subject, results))?;
    }
    Ok(())
}

fn aligned(suite: &Suite, subject: &str, results: &[CaseResult]) -> Result<(), EvaluationError> {
    for position in 0..suite.cases.len().max(results.len()) {
        let expected = suite.cases.get(position).map_or("nothing", |case| &case.id);
        let found = results.get(position).map_or("nothing", |result| &result.id);
        if expected != found {
            return Err(EvaluationError::Misaligned {
                subject: subject.to_owned(),
                suite: suite.name.to_string(),
                position,
                expected: expected.to_owned(),
                found: found.to_owned(),
            });
        }
    }
    Ok(())
}

fn summarise(suite: &Suite, scorers: &[Scorer], graded: &Graded<'_>, seed: u64) -> SubjectReport {
    let by_scorer = || scorers.iter().map(Scorer::name).zip(&graded.outcomes);
    let scores: BTreeMap<String, ScorerSummary> =
        by_scorer().map(|(name, outcomes)| (name, mean(suite, outcomes, seed))).collect();
    let undecided = |outcomes: &[Outcome]| outcomes.iter().filter(|o| o.score().is_none()).count();
    let unscored = by_scorer()
        .map(|(name, outcomes)| (name, undecided(outcomes) as u64))
        .filter(|(_, count)| *count > 0);
    let run = graded.run;
    // A request that failed at once would make its subject look fast.
    let all = || run.attempts().flatten();
    let answered = || all().filter(|result| result.is_answered());
    let mut latencies: Vec<f64> = answered().map(|r| r.latency_ms).filter(|ms| *ms > 0.0).collect();
    latencies.sort_by(f64::total_cmp);
    let tokens = |count: fn(&CaseResult) -> u32| answered().map(|r| u64::from(count(r))).sum();
    let malformed = |result: &&CaseResult| answer(result).tool_calls().iter().any(Result::is_err);
    SubjectReport {
        name: run.subject.clone(),
        generation: run.generation.clone(),
        scores,
        latency_ms_p50: stats::quantile(&latencies, 0.5).unwrap_or(0.0),
        latency_ms_p95: stats::quantile(&latencies, 0.95).unwrap_or(0.0),
        prompt_tokens: tokens(|result| result.usage.prompt_tokens),
        completion_tokens: tokens(|result| result.usage.completion_tokens),
        errors: all().filter(|result| result.error.is_some()).count() as u64,
        unscored: unscored.collect(),
        invalid_calls: answered().filter(malformed).count() as u64,
        refused: refused(suite, run),
        cost: answered()
            .map(|result| result.cost)
            .sum::<Option<u64>>()
            .filter(|_| answered().count() > 0),
        conditions: run.conditions.clone(),
        attempts: attempts(suite, graded, seed),
    }
}

/// Of n attempts at a case of which c pass, k drawn without putting back all pass with probability
/// C(c, k) / C(n, k), and none does with C(n − c, k) / C(n, k). Source: Chen et al., "Evaluating large
/// language models trained on code" (2021), and Yao et al., "τ-bench" (2024).
fn attempts(suite: &Suite, graded: &Graded<'_>, seed: u64) -> Option<Attempts> {
    let each = graded.run.attempts().count() as u64;
    let drawn = |of: u64, k: u64| -> f64 {
        (0..k).map(|nth| of.saturating_sub(nth) as f64 / (each - nth) as f64).product()
    };
    let over_cases = |chance: &dyn Fn(u64) -> f64| {
        let scores: Vec<Score> = suite
            .cases
            .iter()
            .zip(&graded.passes)
            .map(|(case, passed)| Score::graded(chance(*passed)).weighted(case.weight))
            .collect();
        stats::summarise(&scores, &clusters(suite), seed)
    };
    (each > 1).then(|| Attempts {
        each,
        any: (1..=each).map(|k| (k, over_cases(&|c| 1.0 - drawn(each - c, k)))).collect(),
        all: (1..=each).map(|k| (k, over_cases(&|c| drawn(c, k)))).collect(),
    })
}

fn mean(suite: &Suite, outcomes: &[Outcome], seed: u64) -> ScorerSummary {
    let scored = suite.cases.iter().zip(outcomes).zip(clusters(suite));
    let (scores, clusters): (Vec<Score>, Vec<usize>) = scored
        .filter_map(|((case, outcome), cluster)| {
            Some((outcome.score()?.weighted(case.weight), cluster))
        })
        .unzip();
    stats::summarise(&scores, &clusters, seed)
}

fn refused(suite: &Suite, run: &SubjectRun) -> Option<Tally> {
    let must = |case: &understudy_manifest::Case| case.tags.iter().any(|tag| tag == MUST_REFUSE);
    let declines = |result: &CaseResult| result.is_answered() && is_refusal(&result.output);
    let every = |nth: usize| run.attempts().all(|results| results.get(nth).is_some_and(declines));
    let cases = suite.cases.iter().enumerate().filter(|(_, case)| must(case));
    let declined: Vec<bool> = cases.map(|(nth, _)| every(nth)).collect();
    let met = declined.iter().filter(|declined| **declined).count() as u64;
    (!declined.is_empty()).then_some(Tally { met, of: declined.len() as u64 })
}

pub(crate) fn comparison(
    scorer: &str,
    (candidate, baseline): (&str, &str),
    pairs: &Pairs,
    margin: f64,
    seed: u64,
) -> Comparison {
    let difference = pairs.compare(seed);
    let tally = |before: bool, after: bool| {
        let met = pairs.count(before, after);
        let of = met + pairs.count(before, !after);
        (of > 0).then_some(Tally { met, of })
    };
    Comparison {
        scorer: scorer.to_owned(),
        baseline: baseline.to_owned(),
        candidate: candidate.to_owned(),
        difference: difference.value,
        low: difference.low,
        high: difference.high,
        wins: difference.wins,
        losses: difference.losses,
        ties: difference.ties,
        mcnemar_p: difference.mcnemar_p,
        mcnemar_mid_p: difference.mcnemar_mid_p,
        permutation_p: difference.permutation_p,
        minimum_detectable: difference.minimum_detectable,
        verdict: stats::verdict(difference.low, difference.high, margin),
        regressions: tally(true, false),
        fixes: tally(false, true),
        unscored: pairs.unscored,
    }
}
