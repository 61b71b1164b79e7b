//! Starting a release: whether a candidate may meet users at all.

use rusqlite::{Connection, Transaction, params};
use understudy_ident::{Digest, ReleaseId};
use understudy_manifest::canonical_json;

use super::{ReleaseRecord, ReleaseState, RollbackTarget, StartRelease, open_release};
use crate::{
    Adapter, Change, Override, Registry, RegistryError, Status, Target, adapter, approval,
    audit::{self, Action},
    channel, data, freeze,
    lifecycle::{Command, Evidence},
    people,
    registry::records,
};

/// What a candidate lacks, as the end of a sentence that began with its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    #[error("its status is {status}, and it needs a passing report, or somebody who overrides the gate with an owner and a reason", status = .0.as_str())]
    Report(Status),
    #[error("its report was made while {judged} served, and now {serving} does; evaluate it again")]
    CurrentReport { judged: String, serving: String },
    #[error(
        "{have} of {need} people besides its owner have approved it; see `understudy release approve`"
    )]
    Approvals { have: u32, need: u32 },
    #[error("the task wants a signature, and {why}; see `understudy adapter sign`")]
    Signature { why: String },
    #[error("it was trained on {dataset}, which was withdrawn ({reason}); train on clean data")]
    CleanData { dataset: String, reason: String },
}

impl Registry {
    /// Puts a candidate on stage, where it waits until an engine has loaded it. Starting again what
    /// is open already, with the same candidate, policy and rollback target, returns the open release.
    ///
    /// The files of the candidate and of the rollback target are read and compared first.
    pub fn start_release(
        &self,
        start: StartRelease,
        change: Change<'_>,
    ) -> Result<ReleaseRecord, RegistryError> {
        said_and_meant(&start)?;
        self.verify(&start.candidate)?;
        start.rollback.target.adapter().map(|version| self.verify(version)).transpose()?;
        let asked = ("start", &start.candidate, &start.policy, &start.rollback.target);
        let asked = canonical_json(&asked);
        self.once(change, &asked, |transaction| {
            let adapter = adapter::load(transaction, &start.candidate)?;
            if let Some(open) = open_release(transaction, &start.candidate.task)? {
                return same_or_refuse(open, start);
            }
            let rule = Command::Start.transition();
            people::allow(transaction, change, rule.who, "start a release")?;
            let forced = start.forced.as_ref().or(change.forced);
            if let Some(forced) = forced {
                people::allow_override(transaction, &forced.owner)?;
            }
            refuse_frozen(transaction, &start, forced, change)?;
            let report = self.admit(transaction, &adapter, &start)?;
            let attempt = attempts(transaction, &start)? + 1;
            let record = started(start, &adapter, report, attempt, change);
            insert(transaction, &record, change)?;
            Ok(record)
        })
    }

    /// Holds a candidate against everything the table asks for, and says all that is missing. Returns
    /// the report that admits it; none only where somebody overrides the gate.
    fn admit(
        &self,
        connection: &Connection,
        adapter: &Adapter,
        start: &StartRelease,
    ) -> Result<Option<Digest>, RegistryError> {
        let version = || start.candidate.clone();
        if let Some(revocation) = adapter::revocation(connection, &start.candidate)? {
            return Err(RegistryError::Revoked { version: version(), reason: revocation.reason });
        }
        if adapter.status == Status::Retired {
            let (command, status) = ("release", adapter.status);
            return Err(RegistryError::VersionNotAllowed { version: version(), command, status });
        }
        let mut missing = Vec::new();
        for evidence in Command::Start.transition().needs {
            if start.forced.is_none() || !evidence.yields_to_override() {
                missing.extend(self.lacks(connection, adapter, start, *evidence)?);
            }
        }
        if !missing.is_empty() {
            return Err(RegistryError::NotAdmitted { version: version(), missing });
        }
        let newest = adapter::newest_report(connection, &start.candidate)?;
        Ok(newest.filter(|newest| newest.report.decision.passed).map(|newest| newest.digest))
    }

    fn lacks(
        &self,
        connection: &Connection,
        adapter: &Adapter,
        start: &StartRelease,
        evidence: Evidence,
    ) -> Result<Option<Missing>, RegistryError> {
        let version = &start.candidate;
        Ok(match evidence {
            Evidence::RollbackTarget => {
                check_rollback_target(connection, start)?;
                None
            }
            Evidence::Signature => {
                self.unsigned(connection, version)?.map(|why| Missing::Signature { why })
            }
            Evidence::CleanData => tainted(connection, adapter)?,
            Evidence::Report => {
                let passed = matches!(adapter.status, Status::Gated | Status::Approved);
                (!passed).then_some(Missing::Report(adapter.status))
            }
            Evidence::CurrentReport => stale(connection, start)?,
            Evidence::Approvals => {
                let approval::Quorum { have, need } = approval::quorum(connection, version)?;
                (have < need).then_some(Missing::Approvals { have, need })
            }
            // The files were read before the write began; the others are asked of later commands.
            Evidence::Files | Evidence::Loaded | Evidence::Revision => None,
        })
    }
}

fn said_and_meant(start: &StartRelease) -> Result<(), RegistryError> {
    crate::change::said(
        "way in which the rollback target was verified",
        &start.rollback.verified_by,
    )?;
    start.forced.as_ref().map_or(Ok(()), Override::check)
}

fn refuse_frozen(
    connection: &Connection,
    start: &StartRelease,
    forced: Option<&Override>,
    change: Change<'_>,
) -> Result<(), RegistryError> {
    let task = &start.candidate.task;
    match freeze::of(connection, task, change.now())? {
        Some(freeze) if forced.is_none() => {
            let (command, task) = (Command::Start.as_str(), task.clone());
            Err(RegistryError::Frozen { command, task, freeze: Box::new(freeze) })
        }
        _ => Ok(()),
    }
}

/// What stands against a version's data.
pub(super) fn tainted(
    connection: &Connection,
    adapter: &Adapter,
) -> Result<Option<Missing>, RegistryError> {
    let found = data::taint(connection, &adapter.record)?;
    Ok(found.map(|found| Missing::CleanData {
        dataset: found.dataset.to_string(),
        reason: found.reason,
    }))
}

/// A report compares the candidate with what served when it was made; another champion makes it a
/// report about a question nobody asks any more.
fn stale(connection: &Connection, start: &StartRelease) -> Result<Option<Missing>, RegistryError> {
    let Some(newest) = adapter::newest_report(connection, &start.candidate)? else {
        return Ok(None);
    };
    let serving = channel::stable(connection, &start.candidate.task)?;
    let name = |target: Option<Target>| {
        target.map_or_else(|| "nothing of ours".to_owned(), |target| target.to_string())
    };
    Ok((newest.champion != serving)
        .then(|| Missing::CurrentReport { judged: name(newest.champion), serving: name(serving) }))
}

fn attempts(connection: &Connection, start: &StartRelease) -> Result<u32, RegistryError> {
    let sql = "SELECT record FROM release WHERE task = ?1";
    let all: Vec<ReleaseRecord> = records(connection, sql, [start.candidate.task.as_str()])?;
    Ok(all.iter().filter(|release| release.candidate == start.candidate).count() as u32)
}

fn insert(
    transaction: &Transaction<'_>,
    record: &ReleaseRecord,
    change: Change<'_>,
) -> Result<(), RegistryError> {
    let text = canonical_json(record);
    transaction.execute(
        "INSERT INTO release (id, record) VALUES (?1, ?2)",
        params![record.id.as_str(), text],
    )?;
    let forced = record.forced.is_some();
    let action = if forced { Action::StartForced } else { Action::Start };
    audit::append(transaction, action, &record.task, record.id.as_str(), text, change)
}

fn same_or_refuse(
    open: ReleaseRecord,
    start: StartRelease,
) -> Result<ReleaseRecord, RegistryError> {
    let same = open.candidate == start.candidate
        && open.policy == start.policy
        && open.rollback.target == start.rollback.target;
    if same {
        return Ok(open);
    }
    let ReleaseRecord { id: open, candidate, .. } = open;
    Err(RegistryError::ReleaseOpen { version: start.candidate, open, candidate })
}

/// A rollback must lead to what serves now, and that must have been loaded with its own content.
fn check_rollback_target(
    connection: &Connection,
    start: &StartRelease,
) -> Result<(), RegistryError> {
    let RollbackTarget { target, loaded_generation, .. } = &start.rollback;
    let version = || start.candidate.clone();
    let serving = channel::stable(connection, &start.candidate.task)?;
    if serving.as_ref() == Some(&Target::Adapter(version())) {
        return Err(RegistryError::AlreadyServing { version: version() });
    }
    let fits = match &serving {
        Some(serving) => target == serving,
        None => target.adapter().is_none(),
    };
    if !fits {
        let serving = serving.map_or_else(
            || "the teacher or the base model".to_owned(),
            |target| target.to_string(),
        );
        let named = target.clone();
        return Err(RegistryError::OtherRollbackTarget { version: version(), serving, named });
    }
    let Some(adapter) = target.adapter() else { return Ok(()) };
    let expected = adapter::load(connection, adapter)?.record.generation;
    if loaded_generation.as_deref() == Some(expected.to_hex().as_str()) {
        return Ok(());
    }
    Err(RegistryError::RollbackTargetNotLoaded {
        version: version(),
        target: target.clone(),
        expected,
        found: loaded_generation.clone().unwrap_or_else(|| "nothing".to_owned()),
    })
}

fn started(
    start: StartRelease,
    adapter: &Adapter,
    report: Option<Digest>,
    attempt: u32,
    change: Change<'_>,
) -> ReleaseRecord {
    let StartRelease { candidate, rollback, policy, salt, forced } = start;
    let now = change.now();
    ReleaseRecord {
        id: ReleaseId::generate(),
        task: candidate.task.clone(),
        candidate,
        generation: adapter.record.generation,
        rollback,
        policy,
        salt,
        forced,
        report,
        state: ReleaseState::Staging,
        paused_because: None,
        attempt,
        step: 0,
        revision: 1,
        owner: change.owner.to_owned(),
        reason: change.reason.to_owned(),
        started_at: now,
        changed_by: change.owner.to_owned(),
        changed_because: change.reason.to_owned(),
        changed_at: now,
        returned_to: None,
    }
}
