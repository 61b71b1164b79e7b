//! Moving the channel: to a promoted candidate, or back.

use rusqlite::{Connection, Transaction};
use understudy_ident::{AdapterVersion, TaskName};

use super::{ReleaseRecord, commands::save, open_release, serving_release};
use crate::{
    Adapter, Change, ChannelMove, Registry, RegistryError, ReleaseState, Status, Target, adapter,
    artifact, audit::Action, channel, data,
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
                    let why = self.not_returnable(transaction, task, to)?;
                    why.map_or(Ok(to.clone()), |why| Err(nothing(why)))?
                }
                None => self.last_good(transaction, &release)?,
            };
            let undone = return_to(transaction, release, to, change)?;
            Ok(Some(undone))
        })
    }
}

impl Registry {
    /// Why a version may not serve, if it may not: it was revoked or retired, what it was trained on
    /// was withdrawn, or its files are gone.
    pub fn unservable(&self, version: &AdapterVersion) -> Result<Option<String>, RegistryError> {
        self.read(|connection| self.unfit(connection, version))
    }

    fn unfit(
        &self,
        connection: &Connection,
        version: &AdapterVersion,
    ) -> Result<Option<String>, RegistryError> {
        let Adapter { record, status } = adapter::load(connection, version)?;
        if matches!(status, Status::Revoked | Status::Retired) {
            return Ok(Some(format!("{version} is {}", status.as_str())));
        }
        if let Some(found) = data::taint(connection, &record)? {
            let (dataset, reason) = (found.dataset, found.reason);
            let why = format!("{version} was trained on {dataset}, which was withdrawn ({reason})");
            return Ok(Some(why));
        }
        // A memory's lessons lie with the memory, which knows what was forgotten.
        let is_here = record.lineage.memory().is_some()
            || artifact::NAMED.iter().all(|name| self.directory(version).join(name).is_file());
        Ok((!is_here).then(|| format!("the files of {version} are gone")))
    }

    /// Why a task cannot return to a target, if it cannot.
    fn not_returnable(
        &self,
        connection: &Connection,
        task: &TaskName,
        to: &Target,
    ) -> Result<Option<String>, RegistryError> {
        let history = channel::history(connection, task)?;
        if !history.iter().any(|made| made.from == *to || made.to == *to) {
            return Ok(Some(format!("{to} has never served it")));
        }
        to.adapter().map_or(Ok(None), |version| self.unfit(connection, version))
    }

    /// What served last and may serve again: the release's rollback target, or whatever served before,
    /// further and further back, where that may not.
    fn last_good(
        &self,
        connection: &Connection,
        release: &ReleaseRecord,
    ) -> Result<Target, RegistryError> {
        let earlier = channel::history(connection, &release.task)?.into_iter().rev();
        let candidates = [release.rollback.target.clone()].into_iter();
        for target in candidates.chain(earlier.map(|made| made.from)) {
            let is_fit = match target.adapter() {
                None => true,
                Some(version) => {
                    *version != release.candidate && self.unfit(connection, version)?.is_none()
                }
            };
            if is_fit {
                return Ok(target);
            }
        }
        // The first promotion left the teacher or the base, so the search ends before this.
        Ok(Target::Base)
    }

    /// Ends whatever keeps a version before users: the release that is taking it there, and the one
    /// that promoted it while it serves.
    pub(crate) fn take_off_everywhere(
        &self,
        transaction: &Transaction<'_>,
        version: &AdapterVersion,
        change: Change<'_>,
    ) -> Result<(), RegistryError> {
        let task = &version.task;
        let open = open_release(transaction, task)?;
        if let Some(open) = open.filter(|open| open.candidate == *version) {
            let returned_to = Some(open.rollback.target.clone());
            let rolled_back =
                ReleaseRecord { state: ReleaseState::RolledBack, returned_to, ..open };
            save(transaction, rolled_back, Action::RollBack, change)?;
        }
        // Several promotions of the same version lie on top of each other only if it served in
        // between.
        if let Some(serving) = serving_release(transaction, task)?
            && serving.candidate == *version
        {
            let to = self.last_good(transaction, &serving)?;
            return_to(transaction, serving, to, change)?;
        }
        Ok(())
    }

    /// Makes sure that the candidate serves nobody any more, and says what does.
    pub(super) fn take_off(
        &self,
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
        let to = self.last_good(transaction, release)?;
        move_channel(transaction, release, to.clone(), change)?;
        Ok(to)
    }
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
