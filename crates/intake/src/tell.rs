//! Telling the journal what holds, as fast as it takes it.

use std::{collections::BTreeSet, thread, time::Duration};

use understudy_ident::{Id, IdKind, StepId, TaskName, TenantName, kind};
use understudy_ingest::telemetry::{Assembled, steps};
use understudy_journal::{Ack, Entry, Journal, JournalError, Told};
use understudy_trajectory::{Outcome, Step, Target};

use crate::{IntakeError, map::Progress};

/// Appends in flight: enough to fill commits, few enough to leave the queue to those who wait.
const IN_FLIGHT: usize = 512;

pub(crate) struct Teller<'a> {
    journal: &'a Journal,
    origin: &'a str,
    waiting: Vec<(Ack, What)>,
    done: Progress,
}

#[derive(Clone, Copy)]
enum What {
    Told,
    Withdrawn,
}

/// Whose telemetry it is. What it names gets ids of this tenant, so that no account can take the
/// place of another tenant's: spans may be called anything.
struct Owner<'a>(Option<&'a TenantName>);

impl Owner<'_> {
    fn step(&self, step: Step) -> Step {
        let (id, trajectory) = (step.id.within(self.0), step.trajectory.within(self.0));
        Step { id, trajectory, ..step }
    }

    fn outcome(&self, outcome: Outcome) -> Outcome {
        let target = match outcome.target {
            Target::Step(id) => Target::Step(self.text::<kind::Step>(&id)),
            Target::Trajectory(id) => Target::Trajectory(self.text::<kind::Trajectory>(&id)),
            other @ (Target::Response(_) | Target::Session(_)) => other,
        };
        Outcome { id: outcome.id.within(self.0), target, ..outcome }
    }

    /// The id of a step or of an outcome, whichever it is.
    fn account(&self, id: &str) -> String {
        match id.parse::<StepId>() {
            Ok(id) => id.within(self.0).to_string(),
            Err(_) => self.text::<kind::Outcome>(id),
        }
    }

    fn text<K: IdKind>(&self, text: &str) -> String {
        text.parse::<Id<K>>().map_or_else(|_| text.to_owned(), |id| id.within(self.0).to_string())
    }
}

impl<'a> Teller<'a> {
    pub(crate) fn new(journal: &'a Journal, origin: &'a str) -> Self {
        Self { journal, origin, waiting: Vec::new(), done: Progress::default() }
    }

    /// Tells what was assembled, and takes back which of the possible `accounts` were not.
    pub(crate) fn tell(
        &mut self,
        assembled: &Assembled,
        task: &TaskName,
        accounts: BTreeSet<String>,
    ) -> Result<(), IntakeError> {
        let tenant = task.tenant();
        let owner = Owner(tenant.as_ref());
        let mut accounts: BTreeSet<String> = accounts.iter().map(|id| owner.account(id)).collect();
        for conversation in &assembled.conversations {
            for step in steps(conversation, task).steps {
                let step = owner.step(step);
                accounts.remove(step.id.as_str());
                self.append(Entry::Step(Box::new(step)))?;
            }
        }
        for outcome in &assembled.outcomes {
            let outcome = owner.outcome(outcome.clone());
            accounts.remove(outcome.id.as_str());
            self.append(Entry::Outcome(outcome))?;
        }
        for id in self.journal.told_among(&accounts)? {
            self.withdraw(&id)?;
        }
        Ok(())
    }

    pub(crate) fn withdraw(&mut self, id: &str) -> Result<(), IntakeError> {
        self.queue(What::Withdrawn, |journal| journal.withdraw(id))
    }

    /// Waits until all of it is durable.
    pub(crate) fn finish(mut self, progress: &mut Progress) -> Result<(), IntakeError> {
        self.settle()?;
        progress.told += self.done.told;
        progress.withdrawn += self.done.withdrawn;
        progress.refused += self.done.refused;
        Ok(())
    }

    fn append(&mut self, entry: Entry) -> Result<(), IntakeError> {
        let told = Told { origin: self.origin.to_owned(), entry };
        self.queue(What::Told, |journal| journal.append_told(told.clone()))
    }

    fn queue(
        &mut self,
        what: What,
        append: impl Fn(&Journal) -> Result<Ack, JournalError>,
    ) -> Result<(), IntakeError> {
        if self.waiting.len() >= IN_FLIGHT {
            self.settle()?;
        }
        loop {
            match append(self.journal) {
                Ok(ack) => {
                    self.waiting.push((ack, what));
                    return Ok(());
                }
                Err(JournalError::Busy { retry_after_ms, .. }) => {
                    thread::sleep(Duration::from_millis(retry_after_ms));
                }
                // Too large or unstorable by itself, which must not stop all that comes after.
                Err(JournalError::TooLarge { .. } | JournalError::Unstorable { .. }) => {
                    self.done.refused += 1;
                    return Ok(());
                }
                Err(why) => return Err(why.into()),
            }
        }
    }

    fn settle(&mut self) -> Result<(), IntakeError> {
        for (ack, what) in self.waiting.drain(..) {
            match ack.wait() {
                Ok(appended) if appended.duplicate => {}
                Ok(_) => match what {
                    What::Told => self.done.told += 1,
                    What::Withdrawn => self.done.withdrawn += 1,
                },
                Err(why) if why.is_conflict() => self.done.refused += 1,
                Err(why) => return Err(why.into()),
            }
        }
        Ok(())
    }
}
