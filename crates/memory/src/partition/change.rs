//! Changes of lessons: reviewed, suspended, retired, and what the rules do by themselves.

use std::collections::BTreeSet;

use understudy_ident::{Timestamp, TrajectoryId};

use super::{By, Partition};
use crate::{
    Catalogue, Consequence, DeploymentText, Distiller, Item, Kept, Keyed, MemoryError, MemoryId,
    Operation, Sanitizer, Status, Text, UserText,
};

/// Why time alone retires a lesson. It may be learnt anew.
pub(super) const EXPIRED: &str = "it expired";
pub(super) const UNUSED: &str = "no request came near it for too long";
/// This one may not: what took its place is there.
const SUPERSEDED: &str = "another lesson has long taken its place";

impl<T: Text> Partition<T> {
    pub fn suspend(&self, id: &MemoryId, by: &By) -> Result<(), MemoryError> {
        let allowed = [Status::Proposed, Status::Validated, Status::Active];
        self.change(id, &Operation::Suspend, &allowed, by)
    }

    /// For good: a retired lesson is kept for the record and never retrieved.
    pub fn retire(&self, id: &MemoryId, by: &By) -> Result<(), MemoryError> {
        let allowed = [Status::Proposed, Status::Validated, Status::Active, Status::Suspended];
        self.change(id, &Operation::Retire, &allowed, by)
    }

    pub(crate) fn change(
        &self,
        id: &MemoryId,
        operation: &Operation,
        from: &[Status],
        by: &By,
    ) -> Result<(), MemoryError> {
        let status = self.get(id, by.at)?.status;
        if !from.contains(&status) {
            let op = operation.name();
            return Err(MemoryError::WrongStatus { op, id: id.clone(), status });
        }
        self.operate(Some(id), operation, None, by)
    }

    /// What time alone does: lessons that expired or that nobody was shown for long are retired, and
    /// those whose tools changed are suspended.
    pub fn sweep(
        &self,
        catalogue: &Catalogue,
        now: Timestamp,
    ) -> Result<Vec<Consequence>, MemoryError> {
        let mut done = Vec::new();
        let unused_days = self.settings.counters.unused_days;
        for kept in self.all(now)? {
            let id = &kept.item.id;
            let idle = now.as_second() - kept.last_used.unwrap_or(kept.since).as_second();
            let unused = idle as f64 / 86_400.0 > unused_days;
            let changed = catalogue.fingerprint(kept.item.tools()) != kept.item.tool_fingerprint;
            let expired = kept.item.expires_at.is_some_and(|end| end <= now);
            let (operation, reason) = match kept.status {
                Status::Retired => continue,
                _ if expired => (Operation::Retire, EXPIRED),
                Status::Active if unused && !kept.superseded_by.is_empty() => {
                    (Operation::Retire, SUPERSEDED)
                }
                Status::Active if unused => (Operation::Retire, UNUSED),
                Status::Active | Status::Validated if changed && !kept.item.tools().is_empty() => {
                    (Operation::Suspend, "the tools it names have changed since it was learnt")
                }
                _ => continue,
            };
            done.push(self.decide(id, &operation, reason, now)?);
        }
        Ok(done)
    }

    fn decide(
        &self,
        id: &MemoryId,
        operation: &Operation,
        reason: &str,
        now: Timestamp,
    ) -> Result<Consequence, MemoryError> {
        self.operate(Some(id), operation, None, &By::rule(reason, now))?;
        let status =
            if *operation == Operation::Retire { Status::Retired } else { Status::Suspended };
        Ok(Consequence { item: id.clone(), status, reason: reason.to_owned() })
    }
}

impl Partition<DeploymentText> {
    /// Says that a person read a lesson and finds it fit for release.
    ///
    /// Refused while too few users and episodes stand behind it, and while it contradicts another.
    pub fn validate(&self, id: &MemoryId, by: &By) -> Result<(), MemoryError> {
        self.is_ready(id, by)?;
        self.change(id, &Operation::Validate, &[Status::Proposed], by)
    }

    /// Has a suspended lesson released again, as one that a person read. The same is asked of it as of
    /// any other: it may have been suspended before anybody approved it.
    pub fn restore(&self, id: &MemoryId, by: &By) -> Result<(), MemoryError> {
        if self.get(id, by.at)?.status == Status::Suspended {
            self.is_ready(id, by)?;
        }
        self.change(id, &Operation::Restore, &[Status::Suspended], by)
    }

    fn is_ready(&self, id: &MemoryId, by: &By) -> Result<(), MemoryError> {
        let kept = self.get(id, by.at)?;
        let selection = &self.settings.selection;
        let evidence = &kept.item.evidence;
        let not_ready = |why: String| Err(MemoryError::NotReady { id: id.clone(), why });
        // What an operator wrote came from nobody's request.
        let learnt = kept.item.provenance.distiller != Distiller::Human;
        let crowd = evidence.users >= selection.min_users as u64
            && evidence.episodes >= selection.min_episodes as u64;
        if learnt && !crowd {
            return not_ready(format!(
                "{} episodes of {} users stand behind it, and {} of {} are needed so that it points \
                 at nobody",
                evidence.episodes, evidence.users, selection.min_episodes, selection.min_users
            ));
        }
        if let Some(other) = kept.conflicts_with.first() {
            return not_ready(format!("it contradicts {other}; retire one of the two"));
        }
        Ok(())
    }

    /// Has every active lesson of an agent measured anew, because the agent got other weights: they
    /// may know by now what it says. Returns which.
    pub fn rescore(
        &self,
        agent: &str,
        (version, promoted): (&str, Timestamp),
        at: Timestamp,
    ) -> Result<Vec<MemoryId>, MemoryError> {
        let mut of_agent = self.all(at)?;
        of_agent.retain(|kept| {
            let own = kept.item.agent.as_ref().is_some_and(|own| own.as_str() == agent);
            // What became active later was never measured under other weights.
            kept.status == Status::Active && own && kept.since <= promoted
        });
        let by = By::rule(&format!("{version} was promoted"), at);
        for kept in &of_agent {
            let operation = Operation::Rescore { version: version.to_owned() };
            self.operate(Some(&kept.item.id), &operation, None, &by)?;
        }
        Ok(of_agent.into_iter().map(|kept| kept.item.id).collect())
    }

    /// Suspends what runs have taught that are no more. Returns which lessons.
    pub fn suspend_taught_by(
        &self,
        sources: &[TrajectoryId],
        by: &By,
    ) -> Result<Vec<MemoryId>, MemoryError> {
        let gone: BTreeSet<Keyed> =
            sources.iter().map(|source| self.key.name("source", source.as_str())).collect();
        let mut taught = self.all(by.at)?;
        taught.retain(|kept| {
            let in_force = !matches!(kept.status, Status::Suspended | Status::Retired);
            in_force && gone.iter().any(|source| kept.item.provenance.is_of(source))
        });
        for kept in &taught {
            self.suspend(&kept.item.id, by)?;
        }
        Ok(taught.into_iter().map(|kept| kept.item.id).collect())
    }

    /// Approves a word for texts that every user may be shown.
    pub fn approve_term(
        &self,
        word: &str,
        catalogue: &Catalogue,
        by: &By,
    ) -> Result<(), MemoryError> {
        Sanitizer::new(catalogue).approvable(word)?;
        self.operate(None, &Operation::Approve { term: word.to_lowercase() }, None, by)
    }
}

impl Partition<UserText> {
    /// Whether this user may keep another lesson: what expired or was retired takes no place.
    pub fn has_room(&self, now: Timestamp) -> Result<bool, MemoryError> {
        let counts = |kept: &&Kept<UserText>| {
            let expired = kept.item.expires_at.is_some_and(|end| end <= now);
            !expired && kept.status != Status::Retired
        };
        Ok(self.all(now)?.iter().filter(counts).count() < self.settings.caps.per_user)
    }

    /// A user's own lesson is active as soon as its user says so, and lives on from then.
    pub fn confirm(&self, id: &MemoryId, by: &By) -> Result<(), MemoryError> {
        let kept = self.get(id, by.at)?;
        if !matches!(kept.status, Status::Proposed | Status::Suspended | Status::Active) {
            let (op, status) = ("confirm", kept.status);
            return Err(MemoryError::WrongStatus { op, id: id.clone(), status });
        }
        let seconds = by.at.as_second() + self.settings.caps.user_days * 86_400;
        let expires_at = Timestamp::from_second(seconds).ok();
        let rev = kept.item.rev + 1;
        let item = Item { rev, expires_at, ..kept.item };
        self.operate(Some(id), &Operation::Revise, Some(&item), by)?;
        self.operate(Some(id), &Operation::Activate, None, by)
    }

    /// Replaces the text of a lesson of one's own.
    pub fn rewrite(&self, id: &MemoryId, strategy: UserText, by: &By) -> Result<(), MemoryError> {
        let mut item = self.get(id, by.at)?.item;
        item.rev += 1;
        item.strategy.text = strategy;
        self.operate(Some(id), &Operation::Revise, Some(&item), by)
    }
}
