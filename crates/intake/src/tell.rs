//! Telling the journal what holds, as fast as it takes it.

use std::{collections::BTreeSet, thread, time::Duration};

use understudy_ident::TaskName;
use understudy_ingest::telemetry::{Assembled, steps};
use understudy_journal::{Ack, Entry, Journal, JournalError, Told};

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

impl<'a> Teller<'a> {
    pub(crate) fn new(journal: &'a Journal, origin: &'a str) -> Self {
        Self { journal, origin, waiting: Vec::new(), done: Progress::default() }
    }

    /// Tells what was assembled, and takes back which of the possible `accounts` were not.
    pub(crate) fn tell(
        &mut self,
        assembled: &Assembled,
        task: &TaskName,
        mut accounts: BTreeSet<String>,
    ) -> Result<(), IntakeError> {
        for conversation in &assembled.conversations {
            for step in steps(conversation, task).steps {
                accounts.remove(step.id.as_str());
                self.append(Entry::Step(Box::new(step)))?;
            }
        }
        for outcome in &assembled.outcomes {
            accounts.remove(outcome.id.as_str());
            self.append(Entry::Outcome(outcome.clone()))?;
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
