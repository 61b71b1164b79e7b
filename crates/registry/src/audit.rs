//! The audit chain: one entry per change, each holding the hash of the one before.
//!
//! `hash = SHA-256(canonical JSON of {event, prev, seq, ts})`, where `event` holds actor, action,
//! task, subject, reason, evidence and detail, the last two as the JSON text they were recorded as,
//! so that anybody can recompute it with standard tools. The first entry has number 0 and follows 64
//! zeros.
//!
//! A chain alone cannot show that its end was cut off, or that all of it was written anew: whoever
//! may write the file may do that. Two things stand against it: the tables must say exactly what
//! their entries say, and the head can be kept where the registry's writers cannot reach, noted as an
//! [`AuditHead`] or signed as a checkpoint.

mod checkpoint;
mod export;
mod tampering;
mod verify;

pub use checkpoint::{CHECKPOINT_AFTER_S, CHECKPOINT_EVERY, SignedHead};
pub(crate) use checkpoint::{checkpoint_key, checkpoint_when_due};
pub use export::verify_export;
pub use tampering::Tampering;

use rusqlite::{Connection, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use understudy_ident::{TaskName, Timestamp};
use understudy_manifest::canonical_json;
use understudy_signature::{CheckpointKey, CheckpointPublicKey};

use crate::{Change, Registry, RegistryError, people};

/// One entry of the chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    pub seq: u64,
    pub at: Timestamp,
    pub actor: String,
    pub action: String,
    /// Absent where it concerns all of them.
    pub task: Option<TaskName>,
    /// A version, a release, or for a move of the channel the task.
    pub subject: String,
    pub reason: String,
    /// In what capacity the actor acted; absent as long as nobody has been granted a role.
    pub role: Option<String>,
    /// Who answers for going past the rules, and why; present on no other entry.
    pub forced: Option<Value>,
    /// The idempotency key the command came with.
    pub request: Option<String>,
    pub evidence: Option<Value>,
    /// The record as the change left it.
    pub detail: Value,
    pub prev_hash: String,
    pub hash: String,
}

/// The end of the chain: how long it is, and what its last hash is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    pub entries: u64,
    pub hash: String,
}

/// What was done. Append-only: a name is in the chain for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Register,
    Verify,
    Sign,
    Report,
    Approve,
    Retire,
    Revoke,
    Move,
    Start,
    StartForced,
    Stage,
    Fail,
    Advance,
    Pause,
    Resume,
    Ask,
    Promote,
    RollBack,
    Abort,
    Supersede,
    Grant,
    Protect,
    Freeze,
    Lift,
    WithdrawData,
    CreateKey,
    RevokeKey,
}

impl Action {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Register => "adapter.register",
            Self::Verify => "adapter.verify",
            Self::Sign => "adapter.sign",
            Self::Report => "adapter.report",
            Self::Approve => "adapter.approve",
            Self::Retire => "adapter.retire",
            Self::Revoke => "adapter.revoke",
            Self::Move => "channel.move",
            Self::Start => "release.start",
            Self::StartForced => "release.start_forced",
            Self::Stage => "release.stage",
            Self::Fail => "release.fail",
            Self::Advance => "release.advance",
            Self::Pause => "release.pause",
            Self::Resume => "release.resume",
            Self::Ask => "release.ask",
            Self::Promote => "release.promote",
            Self::RollBack => "release.roll_back",
            Self::Abort => "release.abort",
            Self::Supersede => "release.supersede",
            Self::Grant => "people.grant",
            Self::Protect => "task.protect",
            Self::Freeze => "freeze.add",
            Self::Lift => "freeze.lift",
            Self::WithdrawData => "data.withdraw",
            Self::CreateKey => "key.create",
            Self::RevokeKey => "key.revoke",
        }
    }
}

impl Registry {
    /// The chain from its start, or the part of it that concerns one task.
    pub fn audit(&self, task: Option<&TaskName>) -> Result<Vec<AuditEntry>, RegistryError> {
        let links = self.read(links)?;
        let ours = |link: &Link| task.is_none_or(|task| link.concerns(task));
        links.into_iter().filter(ours).map(Link::into_entry).collect()
    }

    /// Where the chain ends now; kept elsewhere, it makes later cuts visible.
    pub fn audit_head(&self) -> Result<AuditHead, RegistryError> {
        self.read(head)
    }

    /// Recomputes the whole chain and compares every record with its last entry. Given a head that
    /// was noted earlier, also checks that the chain still contains it. Says where the chain ends.
    pub fn verify_audit(&self, noted: Option<&AuditHead>) -> Result<AuditHead, RegistryError> {
        let keys: Vec<_> = self.checkpoint_key.iter().map(CheckpointKey::public).collect();
        self.verify_audit_by(noted, &keys).map(|(head, _)| head)
    }

    /// The same, where the checkpoints in the database must be signed by one of these keys. Whoever
    /// could replace the key beside the database had to replace these too.
    pub fn verify_audit_by(
        &self,
        noted: Option<&AuditHead>,
        keys: &[CheckpointPublicKey],
    ) -> Result<(AuditHead, Vec<SignedHead>), RegistryError> {
        self.read(|connection| {
            let links = links(connection)?;
            verify::chain(&links)?;
            verify::contains(&links, noted)?;
            verify::tables(connection, &links)?;
            let signed = checkpoint::check(connection, &links, keys)?;
            Ok((head(connection)?, signed))
        })
    }
}

/// Adds an entry within the transaction that makes the change. `detail` is the text of the record
/// that the change wrote.
pub(crate) fn append<'t>(
    transaction: &Transaction<'_>,
    action: Action,
    task: impl Into<Option<&'t TaskName>>,
    subject: &str,
    detail: String,
    change: Change<'_>,
) -> Result<(), RegistryError> {
    let AuditHead { entries, hash } = head(transaction)?;
    let link = Link {
        event: Event {
            actor: change.owner.to_owned(),
            action: action.as_str().to_owned(),
            task: task.into().map(ToString::to_string).unwrap_or_default(),
            subject: subject.to_owned(),
            reason: change.reason.to_owned(),
            role: people::acting_as(transaction, change)?,
            forced: change.forced.map(canonical_json),
            request: change.request.map(str::to_owned),
            evidence: change.evidence.map(canonical_json),
            detail,
        },
        prev: hash,
        seq: entries,
        ts: change.now().to_string(),
        hash: String::new(),
    };
    let event = &link.event;
    transaction.execute(
        "INSERT INTO audit
             (seq, at, actor, action, task, subject, reason, evidence, detail, prev_hash, hash,
              role, forced, request)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        params![
            link.seq as i64,
            link.ts,
            event.actor,
            event.action,
            event.task,
            event.subject,
            event.reason,
            event.evidence,
            event.detail,
            link.prev,
            link_hash(&link),
            event.role,
            event.forced,
            event.request
        ],
    )?;
    Ok(())
}

/// What is hashed.
#[derive(Debug, Serialize, Deserialize)]
struct Link {
    event: Event,
    prev: String,
    seq: u64,
    ts: String,
    /// As stored; not part of what it is the hash of.
    #[serde(skip)]
    hash: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Event {
    actor: String,
    action: String,
    /// Empty where the event concerns all tasks.
    task: String,
    subject: String,
    reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    forced: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    evidence: Option<String>,
    detail: String,
}

impl Link {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get::<_, i64>(0)? as u64,
            ts: row.get(1)?,
            event: Event {
                actor: row.get(2)?,
                action: row.get(3)?,
                task: row.get(4)?,
                subject: row.get(5)?,
                reason: row.get(6)?,
                evidence: row.get(7)?,
                detail: row.get(8)?,
                role: row.get(11)?,
                forced: row.get(12)?,
                request: row.get(13)?,
            },
            prev: row.get(9)?,
            hash: row.get(10)?,
        })
    }

    fn concerns(&self, task: &TaskName) -> bool {
        self.event.task == task.as_str()
    }

    fn into_entry(self) -> Result<AuditEntry, RegistryError> {
        let Self { event, prev, seq, ts, hash } = self;
        let unreadable = |what| RegistryError::Tampered(Tampering::Unreadable { seq, what });
        let task = Some(event.task).filter(|task| !task.is_empty());
        Ok(AuditEntry {
            seq,
            at: ts.parse().map_err(|_| unreadable("time"))?,
            actor: event.actor,
            action: event.action,
            task: task.map(|t| t.parse()).transpose().map_err(|_| unreadable("task"))?,
            subject: event.subject,
            reason: event.reason,
            role: event.role,
            forced: event.forced.as_deref().map(serde_json::from_str).transpose()?,
            request: event.request,
            evidence: event.evidence.as_deref().map(serde_json::from_str).transpose()?,
            detail: serde_json::from_str(&event.detail)?,
            prev_hash: prev,
            hash,
        })
    }
}

fn links(connection: &Connection) -> Result<Vec<Link>, RegistryError> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, at, actor, action, task, subject, reason, evidence, detail, prev_hash, hash,
                role, forced, request
         FROM audit ORDER BY seq",
    )?;
    Ok(statement.query_map([], Link::from_row)?.collect::<rusqlite::Result<_>>()?)
}

fn head(connection: &Connection) -> Result<AuditHead, RegistryError> {
    let mut statement =
        connection.prepare_cached("SELECT seq + 1, hash FROM audit ORDER BY seq DESC LIMIT 1")?;
    let mut rows = statement.query_map([], |row| {
        Ok(AuditHead { entries: row.get::<_, i64>(0)? as u64, hash: row.get(1)? })
    })?;
    let start = || AuditHead { entries: 0, hash: genesis() };
    Ok(rows.next().transpose()?.unwrap_or_else(start))
}

/// What the first entry follows.
fn genesis() -> String {
    "0".repeat(64)
}

pub(crate) fn link_hash<T: Serialize>(link: &T) -> String {
    let digest = Sha256::digest(canonical_json(link).as_bytes());
    let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Computed with Python's `hashlib` and `json` over the same two rows.
    #[test]
    fn hashes_are_what_standard_tools_compute() {
        let first = json!({
            "event": {"action": "adapter.register", "actor": "alice", "subject": "support@7"},
            "prev": genesis(), "seq": 0, "ts": "2025-01-01T00:00:00Z",
        });
        let hash = link_hash(&first);
        assert_eq!(hash, "18e16cfbd63d5e1acddc80583397b0bea14d784feee1ae63d4aee7b01937dcf0");
        let second = json!({
            "event": {"action": "rollout.start", "actor": "bob", "subject": "ro_01"},
            "prev": hash, "seq": 1, "ts": "2025-01-01T00:00:01Z",
        });
        assert_eq!(
            link_hash(&second),
            "d18f34e62bcdfd6e5adbac147326e19bdf719e739567640699b32aef0a07e42e"
        );
    }
}
