//! Telling the journal what holds, as fast as it takes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::Duration,
};

use understudy_ident::{Digest, OutcomeId, StepId, TaskName, TenantName};
use understudy_ingest::telemetry::{Assembled, media, steps};
use understudy_journal::{Ack, Entry, Journal, JournalError, Told};
use understudy_trajectory::Step;

use crate::{IntakeError, map::Progress, wanting::Wanting};

/// Appends in flight: enough to fill commits, few enough to leave the queue to those who wait.
const IN_FLIGHT: usize = 512;

pub(crate) struct Teller<'a> {
    journal: &'a Journal,
    origin: &'a str,
    wanting: &'a Wanting,
    waiting: Vec<(Ack, What)>,
    done: Progress,
    /// Media that were kept by this teller, and for whom.
    kept: BTreeSet<(Option<String>, Digest)>,
}

#[derive(Clone, Copy)]
enum What {
    Told,
    Withdrawn,
}

/// The id of a step or of an outcome, whichever it is, as its tenant's.
fn account(id: &str, tenant: Option<&TenantName>) -> String {
    match (id.parse::<StepId>(), id.parse::<OutcomeId>()) {
        (Ok(id), _) => id.within(tenant).to_string(),
        (_, Ok(id)) => id.within(tenant).to_string(),
        _ => id.to_owned(),
    }
}

impl<'a> Teller<'a> {
    pub(crate) fn new(journal: &'a Journal, origin: &'a str, wanting: &'a Wanting) -> Self {
        let (waiting, done, kept) = (Vec::new(), Progress::default(), BTreeSet::new());
        Self { journal, origin, wanting, waiting, done, kept }
    }

    /// Tells what was assembled, and takes back which of the possible `accounts` were not.
    pub(crate) fn tell(
        &mut self,
        assembled: &Assembled,
        task: &TaskName,
        accounts: BTreeSet<String>,
    ) -> Result<(), IntakeError> {
        let tenant = task.tenant();
        let tenant = tenant.as_ref();
        // Under ids of its tenant's, because spans may be called anything, and an account must not
        // take the place of somebody else's.
        let mut accounts: BTreeSet<String> =
            accounts.iter().map(|id| account(id, tenant)).collect();
        for conversation in &assembled.conversations {
            let found = steps(conversation, task);
            for (call, why) in found.left_out {
                self.wanting.note(call.within(tenant), why);
            }
            for step in found.steps {
                let step = step.within(tenant);
                accounts.remove(step.id.as_str());
                self.keep_media(&step, &assembled.blobs)?;
                self.append(Entry::Step(Box::new(step)))?;
            }
        }
        for outcome in &assembled.outcomes {
            let outcome = outcome.clone().within(tenant);
            accounts.remove(outcome.id.as_str());
            self.append(Entry::Outcome(outcome))?;
        }
        for id in self.journal.told_among(&accounts)? {
            self.withdraw(&id)?;
        }
        Ok(())
    }

    /// Keeps what the messages of a step refer to, before it is told.
    fn keep_media(
        &mut self,
        step: &Step,
        blobs: &BTreeMap<Digest, Vec<u8>>,
    ) -> Result<(), IntakeError> {
        let mut parts = Vec::new();
        for digest in media(step) {
            let Some(bytes) = blobs.get(&digest) else { continue };
            if self.kept.insert((step.subject.clone(), digest)) {
                parts.push((digest, bytes.clone()));
            }
        }
        if !parts.is_empty() {
            self.journal.keep_media(step.subject.as_deref(), parts)?;
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
