//! Moving the channel: to a promoted candidate, or back.

use rusqlite::{Connection, Transaction};
use understudy_ident::{AdapterVersion, TaskName};

use super::{ReleaseRecord, commands::save, open_release, serving_release};
use crate::{
    Change, ChannelMove, Registry, RegistryError, ReleaseState, Status, Target, adapter,
    audit::Action, channel,
};

impl Registry {
    /// Returns a task to what served before, or to anything that ever did, in one commit and without
    /// steps. Takes no revision and no permission, and nothing stops it: a release in progress is
    /// aborted with it. Undoing to what serves already changes nothing.
    pub fn undo(
        &self,
        task: &TaskName,
        to: Option<&Target>,
        change: Change<'_>,
    ) -> Result<Option<ReleaseRecord>, RegistryError> {
        self.once(change, &("undo", task, to.map(ToString::to_string)), |transaction| {
            if to.is_some() && channel::stable(transaction, task)?.as_ref() == to {
                return serving_release(transaction, task);
            }
            let nothing = |why: String| RegistryError::NothingToUndo { task: task.clone(), why };
            let Some(release) = serving_release(transaction, task)? else {
                return Err(nothing("nothing that was promoted serves".to_owned()));
            };
            let to = match to {
                Some(to) => {
                    let why = not_returnable(transaction, task, to)?;
                    why.map_or(Ok(to.clone()), |why| Err(nothing(why)))?
                }
                None => last_good(transaction, &release)?,
            };
            let undone = return_to(transaction, release, to, change)?;
            Ok(Some(undone))
        })
    }
}

/// Why a task cannot return to a target, if it cannot.
fn not_returnable(
    connection: &Connection,
    task: &TaskName,
    to: &Target,
) -> Result<Option<String>, RegistryError> {
    let history = channel::history(connection, task)?;
    if !history.iter().any(|made| made.from == *to || made.to == *to) {
        return Ok(Some(format!("{to} has never served it")));
    }
    let Some(version) = to.adapter() else { return Ok(None) };
    Ok(match adapter::load(connection, version)?.status {
        status @ (Status::Revoked | Status::Retired) => {
            Some(format!("{to} is {}", status.as_str()))
        }
        _ => None,
    })
}

/// Ends whatever keeps a version before users: the release that is taking it there, and the one that
/// promoted it while it serves.
pub(crate) fn take_off_everywhere(
    transaction: &Transaction<'_>,
    version: &AdapterVersion,
    change: Change<'_>,
) -> Result<(), RegistryError> {
    let task = &version.task;
    if let Some(open) = open_release(transaction, task)?.filter(|open| open.candidate == *version) {
        let returned_to = Some(open.rollback.target.clone());
        let rolled_back = ReleaseRecord { state: ReleaseState::RolledBack, returned_to, ..open };
        save(transaction, rolled_back, Action::RollBack, change)?;
    }
    // Several promotions of the same version lie on top of each other only if it served in between.
    if let Some(serving) = serving_release(transaction, task)?
        && serving.candidate == *version
    {
        let to = last_good(transaction, &serving)?;
        return_to(transaction, serving, to, change)?;
    }
    Ok(())
}

/// Makes sure that the candidate serves nobody any more, and says what does.
pub(super) fn take_off(
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
    abort_open(transaction, release, change)?;
    let to = last_good(transaction, release)?;
    move_channel(transaction, release, to.clone(), change)?;
    Ok(to)
}

/// Rolls back the release that promoted what serves, to a target of one's choice.
fn return_to(
    transaction: &Transaction<'_>,
    release: ReleaseRecord,
    to: Target,
    change: Change<'_>,
) -> Result<ReleaseRecord, RegistryError> {
    abort_open(transaction, &release, change)?;
    move_channel(transaction, &release, to.clone(), change)?;
    let returned_to = Some(to);
    let undone = ReleaseRecord { state: ReleaseState::RolledBack, returned_to, ..release };
    save(transaction, undone, Action::RollBack, change)
}

/// A release that was to be compared with what is taken off has lost its baseline.
fn abort_open(
    transaction: &Transaction<'_>,
    release: &ReleaseRecord,
    change: Change<'_>,
) -> Result<(), RegistryError> {
    if let Some(open) = open_release(transaction, &release.task)? {
        let reason = format!("its baseline {} is rolled back", release.candidate);
        let aborted = ReleaseRecord { state: ReleaseState::Aborted, ..open };
        save(transaction, aborted, Action::Abort, Change { reason: &reason, ..change })?;
    }
    Ok(())
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

pub(super) fn move_channel(
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
