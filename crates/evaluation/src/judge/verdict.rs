//! What a judge's ballots mean for a report and its gate.

use understudy_manifest::{
    Calibration, EvalReport, Gate, GateCheck, JudgeReport, RequiredVerdict, Suite, Verdict,
};
use understudy_scorer::{Outcome, Score, rubric::written};

use super::{Ballot, Contest, Judge, Judgement, Pick};
use crate::{
    EvaluationError,
    cache::Cache,
    grade::answer,
    pairs::Pairs,
    report::comparison,
    run::{CaseResult, SubjectRun},
};

/// The share of cases that a judge may fail on before nothing is shown.
const ERRORS_MAX: f64 = 0.02;

/// What a judge is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JudgeRole {
    /// Its verdict must not be `worse`, once it is calibrated.
    Witness,
    /// Its verdict must be what the gate asks for, and it must be calibrated.
    Decides,
}

/// The ballots on two subjects' answers to a suite, with what the report needs to know.
#[derive(Debug, Clone, PartialEq)]
pub struct JudgedRun {
    pub judgement: Judgement,
    /// In millionths of a dollar, where prices are known.
    pub cost: Option<u64>,
    pub calibration: Option<Calibration>,
}

/// Puts the answers of two subjects to a judge, the candidate as `a`. An answer that never came
/// loses to one that did, which needs no judge. A judge is refused who is one of the two.
pub fn judge_runs(
    judge: &Judge<'_>,
    suite: &Suite,
    (candidate, baseline): (&SubjectRun, &SubjectRun),
    cache: &mut dyn Cache,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Judgement, EvaluationError> {
    if [candidate, baseline].iter().any(|run| run.subject == judge.model) {
        return Err(EvaluationError::JudgeIsSubject { name: judge.model.to_owned() });
    }
    let text = |result: &CaseResult| written(&answer(result));
    let pairs = || suite.cases.iter().zip(candidate.results.iter().zip(&baseline.results));
    let answered =
        |(_, (a, b)): &(_, (&CaseResult, &CaseResult))| a.is_answered() && b.is_answered();
    let contests: Vec<Contest> = pairs()
        .filter(answered)
        .map(|(case, (a, b))| Contest {
            prompt: case.prompt.clone(),
            expected: Some(case.expected.clone()).filter(|text| !text.trim().is_empty()),
            a: text(a),
            b: text(b),
        })
        .collect();
    let mut judged = judge.judge(&contests, cache, progress)?;
    let mut ballots = std::mem::take(&mut judged.ballots).into_iter();
    judged.ballots = pairs()
        .filter_map(|(_, (a, b))| {
            if a.absent || b.absent {
                let error = Some("no answer was recorded".to_owned());
                return Some(Ballot { error, forth: None, back: None, winner: None, asked: false });
            }
            let winner = match (a.error.is_some(), b.error.is_some()) {
                (false, false) => return ballots.next(),
                (true, true) => Pick::Tie,
                (false, true) => Pick::A,
                (true, false) => Pick::B,
            };
            let pick = Some(winner);
            Some(Ballot { forth: pick, back: pick, winner: pick, error: None, asked: false })
        })
        .collect();
    Ok(judged)
}

/// Adds what a judge thinks to a report, and its condition to the decision where it may have one.
pub fn add_judge(
    report: &mut EvalReport,
    suite: &Suite,
    gate: &Gate,
    judge: &Judge<'_>,
    (judged, role): (JudgedRun, JudgeRole),
) -> Result<(), EvaluationError> {
    let digest = judge.digest();
    let calibration = judged.calibration.filter(|calibration| calibration.judge == digest);
    let judgement = &judged.judgement;
    let outcome = |wins: Pick| {
        let of = move |ballot: &Ballot| match &ballot.error {
            Some(why) => Outcome::unscored(why.clone()),
            None => Score::from(ballot.winner == Some(wins)).into(),
        };
        judgement.ballots.iter().map(of).collect::<Vec<Outcome>>()
    };
    let pairs = Pairs::new(suite, &outcome(Pick::A), &outcome(Pick::B), |_| true);
    let primary = report.comparisons.first();
    let names = primary.map_or(("candidate", "baseline"), |primary| {
        (primary.candidate.as_str(), primary.baseline.as_str())
    });
    let mut comparison = comparison("judge", names, &pairs, gate.margin, report.seed);
    // There is no right and wrong here that could be broken or mended.
    (comparison.regressions, comparison.fixes) = (None, None);
    let found = JudgeReport {
        model: judge.model.to_owned(),
        judge: digest,
        comparison,
        undecided: judgement.undecided(),
        errors: judgement.errors(),
        flips: judgement.flips(),
        first_preferred: judgement.first_preferred(),
        prompt_tokens: judgement.prompt_tokens,
        completion_tokens: judgement.completion_tokens,
        cost: judged.cost,
        calibration,
    };
    report.decision.checks.extend(check(gate, &found, role, report.cases));
    report.decision.passed = report.decision.checks.iter().all(|check| check.passed);
    report.judge = Some(found);
    Ok(())
}

/// None where the judge is advisory and nobody asked it to decide.
fn check(gate: &Gate, judge: &JudgeReport, role: JudgeRole, cases: u64) -> Option<GateCheck> {
    let name = "judge".to_owned();
    if judge.is_advisory() {
        let detail = format!(
            "{} may not decide: {}; label at least {} pairs and run `understudy judge calibrate`",
            judge.model,
            shortcoming(judge.calibration.as_ref()),
            Calibration::LABELS_MIN
        );
        return (role == JudgeRole::Decides).then_some(GateCheck { name, passed: false, detail });
    }
    let verdict = judge.comparison.verdict;
    let met = match (role, gate.verdict) {
        (JudgeRole::Witness, _) => verdict != Verdict::Worse,
        (JudgeRole::Decides, RequiredVerdict::Better) => verdict == Verdict::Better,
        (JudgeRole::Decides, RequiredVerdict::NonInferior) => {
            matches!(verdict, Verdict::Better | Verdict::NonInferior)
        }
    };
    let answered = judge.errors as f64 <= ERRORS_MAX * cases as f64;
    let required = match role {
        JudgeRole::Witness => "not worse",
        JudgeRole::Decides if gate.verdict == RequiredVerdict::Better => "better",
        JudgeRole::Decides => "not inferior",
    };
    let JudgeReport { comparison, undecided, errors, .. } = judge;
    let detail = format!(
        "{} finds the candidate {}: {:+.3} [{:+.3}, {:+.3}], undecided on {undecided}, failed on \
         {errors} of {cases} cases; required: {required}, and no more than 2 % failed",
        judge.model,
        verdict.as_str(),
        comparison.difference,
        comparison.low,
        comparison.high,
    );
    Some(GateCheck { name, passed: met && answered, detail })
}

/// Why a calibration does not suffice, as half a sentence.
pub(crate) fn shortcoming(calibration: Option<&Calibration>) -> String {
    match calibration {
        None => "it was never held against people's labels".to_owned(),
        Some(found) if found.labels < Calibration::LABELS_MIN => {
            format!("it was held against {} labels only", found.labels)
        }
        Some(found) => format!(
            "its kappa with people is {:.2}, below {:.2}",
            found.kappa,
            Calibration::KAPPA_MIN
        ),
    }
}
