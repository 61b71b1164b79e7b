//! Carrying out what is asked of a release. Each is one commit: the decision, the move of the
//! channel where there is one, and their audit entries.

use rusqlite::{Transaction, params};
use understudy_ident::ReleaseId;
use understudy_manifest::canonical_json;

use super::{ReleaseRecord, load, pointer::move_channel, start::tainted};
use crate::{
    Change, PauseReason, Registry, RegistryError, ReleaseState, Target, adapter,
    audit::{self, Action},
    change::Actor,
    freeze,
    lifecycle::{Command, Evidence, next},
    people, protection,
};

impl Registry {
    /// The candidate goes on the ramp: an engine has loaded it, and names the content it found.
    pub fn staged(
        &self,
        id: &ReleaseId,
        loaded_generation: &str,
        change: Change<'_>,
    ) -> Result<ReleaseRecord, RegistryError> {
        let expected = self.release(id)?.generation;
        if loaded_generation != expected.to_hex() {
            let (id, found) = (id.clone(), loaded_generation.to_owned());
            return Err(RegistryError::OtherContent { id, expected, found });
        }
        self.command(id, None, Command::Staged, change)
    }

    /// The candidate could not be loaded, and has met nobody.
    pub fn fail(&self, id: &ReleaseId, change: Change<'_>) -> Result<ReleaseRecord, RegistryError> {
        self.command(id, None, Command::Fail, change)
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
        because: PauseReason,
        change: Change<'_>,
    ) -> Result<ReleaseRecord, RegistryError> {
        self.command(id, None, Command::Pause { because }, change)
    }

    pub fn resume(
        &self,
        id: &ReleaseId,
        revision: u64,
        change: Change<'_>,
    ) -> Result<ReleaseRecord, RegistryError> {
        self.command(id, Some(revision), Command::Resume, change)
    }

    /// Moves the channel to the candidate. Where the task wants its promotions decided by people, the
    /// program only asks: the release then awaits approval, and its candidate meets nobody.
    pub fn promote(
        &self,
        id: &ReleaseId,
        revision: u64,
        change: Change<'_>,
    ) -> Result<ReleaseRecord, RegistryError> {
        self.command(id, Some(revision), Command::Promote, change)
    }

    /// Takes the candidate off. During the ramp the channel has never moved; after a promotion it
    /// returns to what served before, or, if that may serve no more, to what served before that.
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

    /// Gives up for a newer candidate.
    pub fn supersede(
        &self,
        id: &ReleaseId,
        change: Change<'_>,
    ) -> Result<ReleaseRecord, RegistryError> {
        self.command(id, None, Command::Supersede, change)
    }

    fn command(
        &self,
        id: &ReleaseId,
        revision: Option<u64>,
        command: Command,
        change: Change<'_>,
    ) -> Result<ReleaseRecord, RegistryError> {
        // Without the revision: whoever asks again, because an answer was lost, may have looked again.
        let asked = (format!("{command:?}"), id);
        self.once(change, &asked, |transaction| {
            let release = load(transaction, id)?;
            let command = meant(transaction, &release, command, change)?;
            let (state, step) = allowed(&release, command)?;
            let state = goes_on(transaction, &release, (command, state))?;
            if (state, step) == (release.state, release.step) {
                return Ok(release);
            }
            let rule = command.transition();
            people::allow(transaction, change, rule.who, command.as_str())?;
            check_revision(&release, command, revision.or(change.if_revision))?;
            refuse_frozen(transaction, &release, command, change)?;
            if rule.needs.contains(&Evidence::CleanData) {
                refuse_tainted(transaction, &release)?;
            }
            let returned_to = match command {
                Command::Promote => {
                    let to = Target::Adapter(release.candidate.clone());
                    move_channel(transaction, &release, to, change)?;
                    None
                }
                Command::RollBack => Some(self.take_off(transaction, &release, change)?),
                _ => None,
            };
            let paused_because = match command {
                Command::Pause { because } => Some(because),
                _ => None,
            };
            let changed = ReleaseRecord { state, paused_because, step, returned_to, ..release };
            save(transaction, changed, action(command), change)
        })
    }
}

/// What the program means by a promotion that is not its to decide.
fn meant(
    transaction: &Transaction<'_>,
    release: &ReleaseRecord,
    command: Command,
    change: Change<'_>,
) -> Result<Command, RegistryError> {
    let asks = command == Command::Promote
        && change.actor == Actor::Program
        && release.state != ReleaseState::Promoted
        && protection::protection(transaction, &release.task)?.promote_by_hand;
    Ok(if asks { Command::Ask } else { command })
}

fn action(command: Command) -> Action {
    match command {
        Command::Start => Action::Start,
        Command::Staged => Action::Stage,
        Command::Fail => Action::Fail,
        Command::Advance { .. } => Action::Advance,
        Command::Pause { .. } => Action::Pause,
        Command::Resume => Action::Resume,
        Command::Ask => Action::Ask,
        Command::Promote => Action::Promote,
        Command::RollBack => Action::RollBack,
        Command::Abort => Action::Abort,
        Command::Supersede => Action::Supersede,
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
        instead: Command::of_people(state, step),
    })
}

/// A release that was paused before its candidate had been loaded goes on where it was: waiting for
/// that.
fn goes_on(
    transaction: &Transaction<'_>,
    release: &ReleaseRecord,
    (command, state): (Command, ReleaseState),
) -> Result<ReleaseState, RegistryError> {
    if command != Command::Resume || release.state != ReleaseState::Paused {
        return Ok(state);
    }
    let sql = "SELECT EXISTS (SELECT 1 FROM audit WHERE subject = ?1 AND action = ?2)";
    let stage = params![release.id.as_str(), Action::Stage.as_str()];
    let was_staged: bool = transaction.query_row(sql, stage, |row| row.get(0))?;
    Ok(if was_staged { state } else { ReleaseState::Staging })
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

/// Whatever adds exposure waits for the end of a freeze, unless somebody answers for not waiting: now,
/// or for the whole release when it was started.
fn refuse_frozen(
    transaction: &Transaction<'_>,
    release: &ReleaseRecord,
    command: Command,
    change: Change<'_>,
) -> Result<(), RegistryError> {
    if !command.transition().freezes || change.forced.is_some() || release.forced.is_some() {
        return Ok(());
    }
    match freeze::of(transaction, &release.task, change.now())? {
        Some(freeze) => Err(RegistryError::Frozen {
            command: command.as_str(),
            task: release.task.clone(),
            freeze: Box::new(freeze),
        }),
        None => Ok(()),
    }
}

fn refuse_tainted(
    transaction: &Transaction<'_>,
    release: &ReleaseRecord,
) -> Result<(), RegistryError> {
    let adapter = adapter::load(transaction, &release.candidate)?;
    match tainted(transaction, &adapter)? {
        Some(missing) => Err(RegistryError::NotAdmitted {
            version: release.candidate.clone(),
            missing: vec![missing],
        }),
        None => Ok(()),
    }
}

/// Writes a release's next revision with its audit entry.
pub(super) fn save(
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
