//! Candidates into rows as they will be written, the trajectories of a build on all threads.

use rayon::prelude::*;
use understudy_manifest::Data;
use understudy_message::Message;
use understudy_redact::Masker;

use crate::{
    DatasetError, groups,
    ledger::{Ledger, Tally},
    mask::{Masking, mask},
    problems,
    prompts::{self, Asked},
    rewarding::Rewarding,
    rules::{self, Rules},
    selection::Selected,
    trail::Trail,
    written::{Writer, Written},
};

/// Trajectories that are rewritten side by side.
const AT_ONCE: usize = 256;

/// What became of a trajectory.
struct Rewritten {
    /// None where its names cannot be told.
    rows: Option<Vec<Written>>,
    /// Of every step that was judged, what it was made into or why not.
    made: Vec<(usize, Vec<&'static str>)>,
    masker: Masker,
    /// Whether anything is on record about its subjects.
    is_known: bool,
}

/// Candidates into finished rows, trajectory by trajectory: a pseudonym holds within one.
pub(crate) struct Rewriting<'a> {
    pub(crate) writer: Writer<'a>,
    pub(crate) masking: Masking<'a>,
    pub(crate) rewarding: &'a Rewarding,
}

impl Rewriting<'_> {
    /// What was judged, and where they are kept what was asked.
    pub(crate) fn steps(
        &mut self,
        selected: &Selected,
        data: &Data,
        ledger: &mut Ledger,
        trail: &mut Trail,
    ) -> Result<Vec<Written>, DatasetError> {
        let judged = rules::judged(selected, ledger);
        trail.joined(selected, data.prompts)?;
        let asked = if data.prompts { Asked::of(selected, trail) } else { Asked::default() };
        let rules = Rules::new(selected, self.rewarding, data.min_reward);
        let (mut rows, mut tally) = (Vec::new(), Tally::default());
        for trajectories in rules::by_trajectory(selected, &asked.beside(&judged)).chunks(AT_ONCE) {
            let rewrite = |steps: &Vec<usize>| self.rewritten(selected, steps, (&rules, &asked));
            let rewritten: Result<Vec<_>, _> = trajectories.par_iter().map(rewrite).collect();
            for (steps, rewritten) in trajectories.iter().zip(rewritten?) {
                rows.extend(self.told(steps, rewritten, (&mut tally, trail)));
            }
        }
        // The rows of one step stand together already, in their own order.
        rows.sort_by_key(|row| row.candidate);
        let prompts = rows.iter().filter(|row| row.is_prompt()).count();
        let taught = rows.len() - prompts;
        ledger.close("build", judged.len(), taught, tally);
        if data.prompts {
            let mut tally = asked.tally;
            tally.add_many("prompts", prompts as u64);
            ledger.close("prompts", taught, rows.len(), tally);
        }
        Ok(rows)
    }

    /// The rows of a trajectory, after what became of it is counted and told.
    fn told(
        &mut self,
        steps: &[usize],
        of: Rewritten,
        (tally, trail): (&mut Tally, &mut Trail),
    ) -> Vec<Written> {
        for (nth, reasons) in &of.made {
            for reason in reasons {
                tally.add(reason);
            }
            trail.built(*nth, reasons);
        }
        self.masking.count_known(of.is_known);
        let Some(rows) = of.rows else {
            self.masking.quarantine(steps.len());
            for nth in steps {
                trail.quarantined(*nth);
            }
            return Vec::new();
        };
        self.masking.count(&of.masker);
        rows
    }

    /// One trajectory, on any thread.
    fn rewritten(
        &self,
        selected: &Selected,
        trajectory: &[usize],
        (rules, asked): (&Rules<'_>, &Asked),
    ) -> Result<Rewritten, DatasetError> {
        let (masker, is_known) = self.masking.knowing(selected, trajectory.iter().copied());
        let mut of = Rewritten { rows: None, made: Vec::new(), masker, is_known };
        if self.masking.recognises() {
            // First of all of them: a name that is missed in one step is masked by the next.
            for nth in trajectory {
                let candidate = selected.candidate(*nth)?;
                let edited = candidate.edit().map(Message::assistant);
                let said = candidate.prompt.iter().chain([&candidate.reply]).chain(&edited);
                if !self.masking.learn(said, &mut of.masker)? {
                    return Ok(of);
                }
            }
        }
        let mut written = Vec::new();
        for &nth in trajectory {
            let candidate = selected.candidate(nth)?;
            let mut rows = Vec::new();
            if rules::refusal(&selected.facts[nth]).is_none() {
                let made = rules.apply(nth, &candidate, &of.masker)?;
                of.made.push((nth, made.reasons));
                rows = made.rows;
            }
            rows.extend(asked.has(nth).then(|| prompts::row(nth, &candidate)));
            // What holds a case is told before names are gone, as suites are kept with theirs.
            let compared = self.masking.asked(&rows);
            for row in &rows {
                if !self.masking.learn(row.messages(), &mut of.masker)? {
                    return Ok(of);
                }
            }
            mask(&mut rows, &mut of.masker);
            written.extend(self.writer.write(&rows, compared.as_ref())?);
        }
        of.rows = Some(written);
        Ok(of)
    }

    /// Adds the pairs of attempts at one problem to the rows of the better attempt.
    pub(crate) fn problems(
        &mut self,
        selected: &Selected,
        rows: &mut Vec<Written>,
        ledger: &mut Ledger,
    ) -> Result<(), DatasetError> {
        let before = rows.len();
        let tally = problems::pairs(selected, |row| {
            let (mut masker, _) = self.masking.knowing(selected, row.steps());
            if !self.masking.learn(row.messages(), &mut masker)? {
                self.masking.quarantine(1);
                return Ok(());
            }
            let mut made = [row];
            let asked = self.masking.asked(&made);
            mask(&mut made, &mut masker);
            rows.extend(self.writer.write(&made, asked.as_ref())?);
            self.masking.count(&masker);
            Ok(())
        })?;
        if let Some(tally) = tally {
            rows.sort_by_key(|row| row.candidate);
            ledger.close("compare", before, rows.len(), tally);
        }
        Ok(())
    }

    /// Adds the groups behind the other rows, and returns how many rows there would be if none had
    /// to be left out for what it reveals.
    pub(crate) fn groups(
        &mut self,
        selected: &Selected,
        rows: &mut Vec<Written>,
        ledger: &mut Ledger,
    ) -> Result<usize, DatasetError> {
        if selected.shared.is_empty() {
            return Ok(rows.len());
        }
        let (before, mut made, mut groups) = (rows.len(), 0, Vec::new());
        let tally = groups::make(selected, self.rewarding, |row| {
            made += 1;
            if self.masking.admits(selected, &row)? {
                groups.extend(self.writer.write(&[row], None)?);
            }
            Ok(())
        })?;
        groups.sort_by_key(|row| row.candidate);
        rows.append(&mut groups);
        ledger.close("group", before, before + made, tally);
        Ok(before + made)
    }
}
