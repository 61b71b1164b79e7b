//! Carrying out what is asked of a release. Each is one commit: the decision, the move of the
//! channel where there is one, and their audit entries.

use rusqlite::{Connection, Transaction, params};
use understudy_ident::{Digest, ReleaseId};
use understudy_manifest::canonical_json;

use super::{
    Command, ReleaseRecord, ReleaseState, RollbackTarget, StartRelease, load, next, open_release,
    serving_release,
};
use crate::{
    Adapter, Change, ChannelMove, Registry, RegistryError, Status, Target, adapter,
    audit::{self, Action},
    change::said,
    channel,
};

impl Registry {
    /// Puts a candidate on stage at the first step. Starting again what is open already, with the
    /// same candidate, policy and rollback target, returns the open release.
    ///
    /// The files of the candidate and of the rollback target are read and compared first.
    pub fn start_release(
        &self,
        start: StartRelease,
        change: Change<'_>,
    ) -> Result<ReleaseRecord, RegistryError> {
        change.check()?;
        said("way in which the rollback target was verified", &start.rollback.verified_by)?;
        if let Some(forced) = &start.forced {
            said("owner of the override", &forced.owner)?;
            said("reason of the override", &forced.reason)?;
        }
        self.verify(&start.candidate)?;
        start.rollback.target.adapter().map(|version| self.verify(version)).transpose()?;
        self.write(|transaction| {
            let adapter = adapter::load(transaction, &start.candidate)?;
            if let Some(open) = open_release(transaction, &start.candidate.task)? {
                return same_or_refuse(open, start);
            }
            check_rollback_target(transaction, &start)?;
            let report = admit(transaction, &adapter, &start)?;
            let record = started(start, &adapter, report, change);
            let text = canonical_json(&record);
            transaction.execute(
                "INSERT INTO release (id, record) VALUES (?1, ?2)",
                params![record.id.as_str(), text],
            )?;
            let forced = record.forced.is_some();
            let action = if forced { Action::StartForced } else { Action::Start };
            audit::append(transaction, action, &record.task, record.id.as_str(), text, change)?;
            Ok(record)
        })
    }

    /// Raises the candidate's share to that of a later step. Like every decision that adds exposure,
    /// it names the revision it was made at and is refused when the release has moved on.
    pub fn advance(
        &self,
        id: &ReleaseId,
        revision: u64,
        to_step: u32,
        change: Change<'_>,
    ) -> Result<ReleaseRecord, RegistryError> {
        self.command(id, Some(revision), Command::Advance { to_step }, change)
    }

    /// Stops the ramp where it is, until somebody resumes.
    pub fn pause(
        &self,
        id: &ReleaseId,
        change: Change<'_>,
    ) -> Result<ReleaseRecord, RegistryError> {
        self.command(id, None, Command::Pause, change)
    }

    pub fn resume(
        &self,
        id: &ReleaseId,
        revision: u64,
        change: Change<'_>,
    ) -> Result<ReleaseRecord, RegistryError> {
        self.command(id, Some(revision), Command::Resume, change)
    }

    /// Moves the channel to the candidate.
    pub fn promote(
        &self,
        id: &ReleaseId,
        revision: u64,
        change: Change<'_>,
    ) -> Result<ReleaseRecord, RegistryError> {
        self.command(id, Some(revision), Command::Promote, change)
    }

    /// Takes the candidate off. During the ramp the channel has never moved; after a promotion it
    /// returns to what served before, or, if that was revoked since, to what served before that.
    /// An open release that was to be compared with this candidate is aborted with it.
    pub fn roll_back(
        &self,
        id: &ReleaseId,
        change: Change<'_>,
    ) -> Result<ReleaseRecord, RegistryError> {
        self.command(id, None, Command::RollBack, change)
    }

    /// Gives up without a finding against the candidate.
    pub fn abort(
        &self,
        id: &ReleaseId,
        change: Change<'_>,
    ) -> Result<ReleaseRecord, RegistryError> {
        self.command(id, None, Command::Abort, change)
    }

    fn command(
        &self,
        id: &ReleaseId,
        revision: Option<u64>,
        command: Command,
        change: Change<'_>,
    ) -> Result<ReleaseRecord, RegistryError> {
        change.check()?;
        self.write(|transaction| {
            let release = load(transaction, id)?;
            let (state, step) = allowed(&release, command)?;
            if (state, step) == (release.state, release.step) {
                return Ok(release);
            }
            check_revision(&release, command, revision)?;
            let returned_to = match command {
                Command::Promote => {
                    let to = Target::Adapter(release.candidate.clone());
                    move_channel(transaction, &release, to, change)?;
                    None
                }
                Command::RollBack => Some(take_off(transaction, &release, change)?),
                Command::Advance { .. } | Command::Pause | Command::Resume | Command::Abort => None,
            };
            let changed = ReleaseRecord { state, step, returned_to, ..release };
            save(transaction, changed, command.action(), change)
        })
    }
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

/// The report that admits a candidate; none only where somebody overrides the gate.
fn admit(
    connection: &Connection,
    adapter: &Adapter,
    start: &StartRelease,
) -> Result<Option<Digest>, RegistryError> {
    let version = || start.candidate.clone();
    if let Some(revocation) = adapter::revocation(connection, &start.candidate)? {
        return Err(RegistryError::Revoked { version: version(), reason: revocation.reason });
    }
    if adapter.status == Status::GatePassed {
        let report = adapter::newest_report(connection, &start.candidate)?;
        return Ok(report.map(|report| report.digest));
    }
    match &start.forced {
        Some(_) => Ok(None),
        None => Err(RegistryError::NoPassingReport { version: version(), status: adapter.status }),
    }
}

fn started(
    start: StartRelease,
    adapter: &Adapter,
    report: Option<Digest>,
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
        state: ReleaseState::Ramping,
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

fn allowed(
    release: &ReleaseRecord,
    command: Command,
) -> Result<(ReleaseState, u32), RegistryError> {
    let ReleaseRecord { state, step, .. } = *release;
    next(state, step, command).ok_or_else(|| RegistryError::NotAllowed {
        id: release.id.clone(),
        command: command.as_str(),
        state,
        step,
    })
}

fn check_revision(
    release: &ReleaseRecord,
    command: Command,
    expected: Option<u64>,
) -> Result<(), RegistryError> {
    match expected {
        Some(expected) if expected != release.revision => Err(RegistryError::Stale {
            id: release.id.clone(),
            command: command.as_str(),
            expected,
            found: release.revision,
        }),
        _ => Ok(()),
    }
}

/// Makes sure that the candidate serves nobody any more, and says what does.
fn take_off(
    transaction: &Transaction<'_>,
    release: &ReleaseRecord,
    change: Change<'_>,
) -> Result<Target, RegistryError> {
    if release.state.is_open() {
        return Ok(release.rollback.target.clone());
    }
    if serving_release(transaction, &release.task)?.is_none_or(|last| last.id != release.id) {
        return Err(RegistryError::NotServing {
            id: release.id.clone(),
            candidate: release.candidate.clone(),
            serving: serving(transaction, release)?,
        });
    }
    if let Some(open) = open_release(transaction, &release.task)? {
        let reason = format!("its baseline {} is rolled back", release.candidate);
        let aborted = ReleaseRecord { state: ReleaseState::Aborted, ..open };
        save(transaction, aborted, Action::Abort, Change { reason: &reason, ..change })?;
    }
    let to = last_good(transaction, release)?;
    move_channel(transaction, release, to.clone(), change)?;
    Ok(to)
}

/// What served last and may serve again: the release's rollback target, unless that was revoked
/// since; then whatever served before, further and further back.
fn last_good(connection: &Connection, release: &ReleaseRecord) -> Result<Target, RegistryError> {
    let earlier = channel::history(connection, &release.task)?.into_iter().rev();
    let candidates = [release.rollback.target.clone()].into_iter().chain(earlier.map(|m| m.from));
    for target in candidates {
        let usable = match target.adapter() {
            None => true,
            Some(version) => {
                *version != release.candidate && adapter::revocation(connection, version)?.is_none()
            }
        };
        if usable {
            return Ok(target);
        }
    }
    // The first promotion left the teacher or the base, so the search ends before this.
    Ok(Target::Base)
}

fn move_channel(
    transaction: &Transaction<'_>,
    release: &ReleaseRecord,
    to: Target,
    change: Change<'_>,
) -> Result<(), RegistryError> {
    let made = ChannelMove {
        task: release.task.clone(),
        from: serving(transaction, release)?,
        to,
        release: release.id.clone(),
        owner: change.owner.to_owned(),
        reason: change.reason.to_owned(),
        moved_at: change.now(),
    };
    channel::move_pointer(transaction, &made, change)
}

/// What serves the task of a release: where the channel points, or before its first move what the
/// release found serving.
fn serving(connection: &Connection, release: &ReleaseRecord) -> Result<Target, RegistryError> {
    let stable = channel::stable(connection, &release.task)?;
    Ok(stable.unwrap_or_else(|| release.rollback.target.clone()))
}

/// Writes a release's next revision with its audit entry.
fn save(
    transaction: &Transaction<'_>,
    release: ReleaseRecord,
    action: Action,
    change: Change<'_>,
) -> Result<ReleaseRecord, RegistryError> {
    let release = ReleaseRecord {
        revision: release.revision + 1,
        changed_by: change.owner.to_owned(),
        changed_because: change.reason.to_owned(),
        changed_at: change.now(),
        ..release
    };
    let text = canonical_json(&release);
    transaction.execute(
        "UPDATE release SET record = ?2 WHERE id = ?1",
        params![release.id.as_str(), text],
    )?;
    audit::append(transaction, action, &release.task, release.id.as_str(), text, change)?;
    Ok(release)
}
