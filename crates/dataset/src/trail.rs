//! What became of one step: every stage's verdict on it, for whoever asks why a row is in or out.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;
use understudy_ident::StepId;
use understudy_manifest::Split;
use understudy_trajectory::{Outcome, Signal, Step};

use crate::{
    DatasetError,
    balance::LeftOut,
    rules,
    selection::{Fact, Selected},
    split::NEWER,
    written::Written,
};

/// One stage's verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    pub stage: &'static str,
    pub what: String,
}

/// Follows one step through the stages, or none.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    /// Its id, or that of its response.
    name: Option<String>,
    step: Option<StepId>,
    nth: Option<usize>,
    verdicts: Vec<Verdict>,
}

impl Trail {
    pub(crate) fn of(name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..Self::default() }
    }

    pub(crate) fn verdicts(self) -> Vec<Verdict> {
        self.verdicts
    }

    pub(crate) fn is_of(&mut self, step: &Step) -> bool {
        let is_of = self
            .name
            .as_deref()
            .is_some_and(|name| name == step.id.as_str() || name == step.response_id);
        if is_of {
            self.step = Some(step.id.clone());
        }
        is_of
    }

    pub(crate) fn note(&mut self, stage: &'static str, what: impl Into<String>) {
        self.verdicts.push(Verdict { stage, what: what.into() });
    }

    /// The step came through `select`, and goes on as candidate `nth` if it is fit for anything.
    pub(crate) fn selected(&mut self, id: &StepId, fact: &Fact, nth: usize) {
        if self.step.as_ref() != Some(id) {
            return;
        }
        self.note("select", "taken");
        match (fact.flaw, fact.attempt) {
            (None, _) => self.note("filter", "whole"),
            (Some(flaw), Some(_)) => {
                self.note(
                    "filter",
                    format!("{flaw}: no example, but an attempt at a shared prompt"),
                );
            }
            (Some(flaw), None) => return self.note("filter", format!("left out: {flaw}")),
        }
        self.nth = Some(nth);
    }

    /// What was said about it, and why no row can be made of it, if so.
    ///
    /// Its prompt may become a row all the same, where `prompts` are kept.
    pub(crate) fn joined(
        &mut self,
        selected: &Selected,
        prompts: bool,
    ) -> Result<(), DatasetError> {
        let Some(nth) = self.nth else { return Ok(()) };
        let said = selected.candidate(nth)?.outcomes.iter().map(words).collect::<Vec<_>>();
        let mut what =
            if said.is_empty() { "nothing was said".to_owned() } else { said.join(", ") };
        let fact = &selected.facts[nth];
        if let Some(why) = rules::refusal(fact).filter(|_| fact.is_whole()) {
            let which = if prompts { "no row of its reply" } else { "left out" };
            let _ = write!(what, "; {which}: {why}");
        }
        self.note("join", what);
        Ok(())
    }

    /// A stage's verdict on a candidate.
    pub(crate) fn about(&mut self, nth: usize, stage: &'static str, what: impl Into<String>) {
        if self.nth == Some(nth) {
            self.note(stage, what);
        }
    }

    /// What it was made into.
    pub(crate) fn built(&mut self, nth: usize, reasons: &[&'static str]) {
        if self.nth == Some(nth) {
            self.note("build", reasons.join(", "));
        }
    }

    /// Left out with its trajectory, because nobody knows whose names are in it.
    pub(crate) fn quarantined(&mut self, nth: usize) {
        if self.nth == Some(nth) {
            self.note("redact", "left out: the recogniser cannot tell the names in its trajectory");
        }
    }

    /// Runs a stage and tells which rows of the step it left out.
    pub(crate) fn follow(
        &mut self,
        stage: &'static str,
        rows: &mut Vec<Written>,
        run: impl FnOnce(&mut Vec<Written>),
    ) {
        let before = self.own(rows);
        run(rows);
        for row in before {
            let stays = rows.iter().any(|other| other.place == row.place);
            let why = match (stage, row.repeats) {
                _ if stays => "stays".to_owned(),
                ("decontaminate", Some(how)) => format!("left out: repeats a held-out case, {how}"),
                ("dedupe", _) => "left out: an older row teaches the same".to_owned(),
                ("limit", _) => "left out: there are enough newer ones".to_owned(),
                _ => "left out".to_owned(),
            };
            self.note(stage, format!("{}: {why}", row.kind.as_str()));
        }
    }

    /// The same of a stage that tells itself which rows it left out, and why.
    pub(crate) fn follow_reasons<T>(
        &mut self,
        stage: &'static str,
        rows: &mut Vec<Written>,
        run: impl FnOnce(&mut Vec<Written>) -> (T, Vec<LeftOut>),
    ) -> T {
        let before = self.own(rows);
        let (done, left_out) = run(rows);
        for row in before {
            if let Some((_, why)) = left_out.iter().find(|(place, _)| *place == row.place) {
                let kind = row.kind.as_str();
                self.note(stage, format!("{kind}: left out: {}", in_words(why)));
            }
        }
        done
    }

    fn own(&self, rows: &[Written]) -> Vec<Written> {
        let own = |row: &&Written| self.nth.is_some_and(|nth| row.is_from(nth));
        rows.iter().filter(own).cloned().collect()
    }

    /// Where its rows ended up.
    pub(crate) fn placed(&mut self, rows: &[Written], splits: &[Split]) {
        let Some(nth) = self.nth else { return };
        let mut lines: BTreeMap<String, usize> = BTreeMap::new();
        for (row, split) in rows.iter().zip(splits) {
            let file = row.kind.file_name(*split);
            let line = lines.entry(file.clone()).or_default();
            *line += 1;
            if row.is_from(nth) {
                let what = format!("line {line} of {file}");
                self.verdicts.push(Verdict { stage: "split", what });
            }
        }
    }
}

/// Why a row went, as it is counted, in a sentence.
fn in_words(why: &'static str) -> &'static str {
    match why {
        "over_the_cap_of_a_subject" => "its subject has enough newer ones",
        "over_the_share_of_a_subject" => "its subject makes its share with newer ones",
        "over_the_cap_of_a_prompt" => "enough newer steps were asked much the same",
        "over_the_cap_of_an_answer" => "enough newer steps have the same answer",
        "over_the_cap_of_a_tool" => "enough newer steps call the same tool",
        "over_the_cap_of_a_model" => "its model has enough newer steps",
        "over_the_ratio_of_labels" => "enough newer labels say the same",
        NEWER => "it is among the newest, and what it belongs to began before them",
        why => why,
    }
}

/// What was said, with its number.
pub(crate) fn words(outcome: &Outcome) -> String {
    match &outcome.signal {
        Signal::Rating { value } => format!("rating {value}"),
        Signal::Verifier { name, score } => format!("verifier {name} {score}"),
        signal => signal.name().to_owned(),
    }
}
