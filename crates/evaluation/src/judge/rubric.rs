//! A judge of single answers: each criterion of a rubric is a question of its own, and its answer
//! is JSON or nothing.

use std::{cell::RefCell, collections::BTreeMap};

use serde::Deserialize;
use understudy_ident::Digest;
use understudy_manifest::{Calibration, EvalReport, Gate, GateCheck, Scorer, Suite, digest_json};
use understudy_message::Message;
use understudy_scorer::rubric::{Assessor, Question};

use super::{
    Judge,
    calibration::{Checked, of_statements},
    prompt,
    verdict::shortcoming,
};
use crate::{EvaluationError, cache::Cache, grade::Graders, report::scorers, run::SubjectRun};

/// What stands where another judge has its rubric: all statements are asked in the same words, so
/// one calibration holds for all of them.
pub const STATEMENTS: &str = "Whether one statement holds of one answer.";

/// What a judge said of every answer and criterion, and what it took.
#[derive(Debug, Clone, Default)]
pub struct Rulings {
    by_question: BTreeMap<Digest, Result<bool, String>>,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
}

/// The only reply that counts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ruling {
    /// Null where it cannot tell.
    met: Option<bool>,
    #[serde(rename = "reason")]
    _reason: String,
}

/// Whether a suite has answers that only a judge can score.
pub fn asks_judge(suite: &Suite, gate: &Gate) -> bool {
    let own = scorers(suite, gate);
    let checks = suite.cases.iter().flat_map(|case| case.checks.iter().map(|check| &check.scorer));
    own.iter().chain(checks).any(|scorer| matches!(scorer, Scorer::Judge(_)))
}

/// Whether what the verdict is about is scored by a judge, in every case or in some.
pub fn judge_decides(suite: &Suite, gate: &Gate) -> bool {
    let is_judge = |scorer: &Scorer| matches!(scorer, Scorer::Judge(_));
    let in_checks =
        || suite.cases.iter().any(|case| case.checks.iter().any(|check| is_judge(&check.scorer)));
    match scorers(suite, gate).first() {
        Some(Scorer::Checks) => in_checks(),
        Some(scorer) => is_judge(scorer),
        None => false,
    }
}

/// Says in a report what was asked, and takes a judge out of the decision that nobody has shown to
/// agree with people.
pub fn add_rulings(
    report: &mut EvalReport,
    (suite, gate): (&Suite, &Gate),
    judge: &Judge<'_>,
    (rulings, calibration): (&Rulings, Option<&Calibration>),
) {
    let (asked, unresolved) = (rulings.asked(), rulings.unresolved());
    let (read, written) = (rulings.prompt_tokens, rulings.completion_tokens);
    report.notes.push(format!(
        "{} was asked {asked} questions about rubrics and left {unresolved} unresolved, whose \
         answers have no score; {read} tokens read, {written} written",
        judge.model
    ));
    if calibration.is_some_and(Calibration::suffices) {
        return;
    }
    let why = shortcoming(calibration);
    let checks = &mut report.decision.checks;
    checks.retain(|check| !check.name.starts_with("no regression: judge"));
    if judge_decides(suite, gate) {
        let detail = format!(
            "{} may not decide by statements: {why}; label at least {} and run `understudy judge \
             calibrate`, or name another scorer with --scorer",
            judge.model,
            Calibration::LABELS_MIN
        );
        checks.push(GateCheck { name: "judge".to_owned(), passed: false, detail });
    }
    report.decision.passed = checks.iter().all(|check| check.passed);
    report.notes.push(format!("scores by {} are advisory: {why}", judge.model));
}

/// Holds a judge against what people said of statements.
pub fn calibrate_statements(
    judge: &Judge<'_>,
    labelled: Digest,
    labels: &[Checked],
    cache: &mut dyn Cache,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Calibration, EvaluationError> {
    let question = |label: &Checked| {
        prompt::criterion(&Question {
            prompt: &label.prompt,
            expected: label.expected.as_deref(),
            answer: &label.answer,
            holds: &label.holds,
        })
    };
    let questions: Vec<Vec<Message>> = labels.iter().map(question).collect();
    let replies = judge.ask(&questions, cache, progress)?;
    let judged = replies.iter().filter(|reply| reply.is_ok()).count();
    if labels.is_empty() || judged < labels.len() {
        let (labels, judged) = (labels.len(), judged as u64);
        return Err(EvaluationError::Calibration { labels, judged });
    }
    let rulings: Vec<Option<bool>> =
        replies.iter().flatten().map(|reply| read(&reply.text).ok()).collect();
    Ok(of_statements(judge.digest(), labelled, labels, &rulings))
}

/// Puts every question that the scorers have about these runs, each once.
pub fn assess(
    judge: &Judge<'_>,
    (suite, gate): (&Suite, &Gate),
    runs: &[&SubjectRun],
    cache: &mut dyn Cache,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Rulings, EvaluationError> {
    if let Some(run) = runs.iter().find(|run| run.subject == judge.model) {
        return Err(EvaluationError::JudgeIsSubject { name: run.subject.clone() });
    }
    let graders = Graders::new(suite, &scorers(suite, gate))?;
    let wanted = Wanted::default();
    for run in runs {
        graders.grade(run, None, Some(&wanted));
    }
    let questions = wanted.0.into_inner();
    let asked: Vec<Vec<Message>> = questions.values().cloned().collect();
    let replies = judge.ask(&asked, cache, progress)?;
    let mut rulings = Rulings::default();
    for (question, reply) in questions.into_keys().zip(replies) {
        let ruling = match reply {
            Ok(reply) => {
                rulings.prompt_tokens += u64::from(reply.prompt_tokens);
                rulings.completion_tokens += u64::from(reply.completion_tokens);
                read(&reply.text)
            }
            Err(why) => Err(format!("the judge failed: {why}")),
        };
        rulings.by_question.insert(question, ruling);
    }
    Ok(rulings)
}

/// Anything around the JSON, and anything else in it, is no answer: a judge that does not do what
/// it was told may have been told something else by what it read.
fn read(reply: &str) -> Result<bool, String> {
    match serde_json::from_str::<Ruling>(reply.trim()) {
        Ok(Ruling { met: Some(met), .. }) => Ok(met),
        Ok(Ruling { met: None, .. }) => Err("the judge could not tell".to_owned()),
        Err(_) => Err("the judge's reply is not the JSON it was asked for".to_owned()),
    }
}

impl Rulings {
    /// Questions that were put.
    pub fn asked(&self) -> usize {
        self.by_question.len()
    }

    /// Those that have neither yes nor no for an answer. None of them passes anything.
    pub fn unresolved(&self) -> usize {
        self.by_question.values().filter(|ruling| ruling.is_err()).count()
    }
}

impl Assessor for Rulings {
    fn assess(&self, question: &Question<'_>) -> Result<bool, String> {
        let ruling = self.by_question.get(&digest_json(&prompt::criterion(question)));
        ruling.cloned().unwrap_or_else(|| Err("no judge was asked".to_owned()))
    }
}

/// Collects what would be asked.
#[derive(Default)]
struct Wanted(RefCell<BTreeMap<Digest, Vec<Message>>>);

impl Assessor for Wanted {
    fn assess(&self, question: &Question<'_>) -> Result<bool, String> {
        let messages = prompt::criterion(question);
        self.0.borrow_mut().insert(digest_json(&messages), messages);
        // So that nothing behind it is passed over.
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
