//! Adapter versions: immutable content, and evidence that is only ever added. `evidence.rs` adds it.

mod evidence;

pub(crate) use evidence::refuse_in_use;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, Transaction, params};
use serde::{Deserialize, Serialize};
use understudy_ident::{AdapterVersion, Digest, TaskName, Timestamp};
use understudy_manifest::{AdapterManifest, EvalReport, canonical_json};

use crate::{
    Change, Lineage, Registry, RegistryError, Status, Target, approval, artifact,
    audit::{self, Action},
    lifecycle::{VersionEvent, status_after},
    lineage::refuse_other_kind,
    people,
    registry::{record, records},
};

/// A registered adapter: what never changes about it, and how it stands now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adapter {
    #[serde(flatten)]
    pub record: AdapterRecord,
    pub status: Status,
}

/// What was registered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterRecord {
    pub version: AdapterVersion,
    /// Digest of the adapter's config and weights; unique within a task.
    pub generation: Digest,
    pub owner: String,
    pub reason: String,
    /// Where it comes from, down to the bytes it was trained on.
    pub lineage: Lineage,
    /// Size of all files.
    pub bytes: u64,
    pub registered_at: Timestamp,
}

/// An evaluation report as evidence about one version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReportRecord {
    pub version: AdapterVersion,
    /// Of the report's canonical JSON.
    pub digest: Digest,
    pub report: EvalReport,
    /// What served the task when the report was attached; a release asks that it still does.
    #[serde(default)]
    pub champion: Option<Target>,
    pub owner: String,
    pub reason: String,
    pub attached_at: Timestamp,
}

/// Why a version may never be released again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    pub version: AdapterVersion,
    /// Absent in revocations older than the distinction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harm: Option<Harm>,
    pub owner: String,
    pub reason: String,
    pub revoked_at: Timestamp,
}

/// What is wrong with a revoked version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Harm {
    Safety,
    Licence,
    PersonalData,
    SupplyChain,
}

/// What happens when a version that is in use is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InUse {
    Refuse,
    /// It is taken off first, in the same commit.
    RollBack,
}

impl Registry {
    /// Copies a PEFT directory into the registry as the next version of a task. Content that the
    /// task has already keeps the version it has, and nothing is copied or recorded.
    pub fn register(
        &self,
        task: &TaskName,
        directory: &Path,
        lineage: &AdapterManifest,
        change: Change<'_>,
    ) -> Result<Adapter, RegistryError> {
        change.check()?;
        if lineage.task != task.as_str() {
            let (task, manifest) = (task.clone(), lineage.task.clone());
            return Err(RegistryError::OtherTask { task, manifest });
        }
        let staged = artifact::stage(directory, lineage, &self.adapters.join(task.as_str()))?;
        self.write(|transaction| {
            let who = VersionEvent::Register.transition().who;
            people::allow(transaction, change, who, "register a version")?;
            refuse_other_kind(transaction, task, false)?;
            if let Some(known) = by_generation(transaction, task, staged.generation)? {
                return load(transaction, &known.version);
            }
            let version = next_version(transaction, task)?;
            let record = AdapterRecord {
                generation: staged.generation,
                owner: change.owner.to_owned(),
                reason: change.reason.to_owned(),
                lineage: Lineage::Adapter(Box::new(lineage.clone())),
                bytes: staged.bytes,
                registered_at: change.now(),
                version,
            };
            // The files come first: a row without files would be half a version, while files
            // without a row are nothing to anybody, and the next registration clears them away.
            artifact::publish(&staged, &self.directory(&record.version))?;
            insert(transaction, &record, change)?;
            Ok(Adapter { record, status: Status::Registered })
        })
    }

    pub fn get(&self, version: &AdapterVersion) -> Result<Adapter, RegistryError> {
        self.read(|connection| load(connection, version))
    }

    /// All versions of a task, from the first.
    pub fn versions(&self, task: &TaskName) -> Result<Vec<Adapter>, RegistryError> {
        self.read(|connection| {
            let sql = "SELECT record FROM adapter WHERE task = ?1 ORDER BY number";
            let all: Vec<AdapterRecord> = records(connection, sql, [task.as_str()])?;
            all.into_iter().map(|record| with_status(connection, record)).collect()
        })
    }

    /// The version of a task that has this content, which is how a served reply names it.
    pub fn find(
        &self,
        task: &TaskName,
        generation: Digest,
    ) -> Result<Option<Adapter>, RegistryError> {
        self.read(|connection| {
            let record = by_generation(connection, task, generation)?;
            record.map(|record| with_status(connection, record)).transpose()
        })
    }

    /// The contents that were revoked, as an engine names them.
    pub fn revoked(&self) -> Result<BTreeSet<String>, RegistryError> {
        let sql = "SELECT json_quote(adapter.generation) FROM adapter
                   JOIN revocation USING (task, number)";
        let generations: Vec<String> = self.read(|connection| records(connection, sql, []))?;
        Ok(generations.into_iter().collect())
    }

    /// All tasks that have an adapter, by name.
    pub fn tasks(&self) -> Result<Vec<TaskName>, RegistryError> {
        let sql = "SELECT json_quote(task) FROM adapter
                   WHERE record ->> '$.lineage.kind' IS NULL GROUP BY task ORDER BY task";
        self.read(|connection| records(connection, sql, []))
    }

    /// The evidence about a version, oldest first.
    pub fn reports(&self, version: &AdapterVersion) -> Result<Vec<ReportRecord>, RegistryError> {
        let sql = "SELECT record FROM report WHERE task = ?1 AND number = ?2 ORDER BY seq";
        self.read(|connection| records(connection, sql, key(version)))
    }

    /// Where a version's files lie; whether it exists is not looked up.
    pub fn directory(&self, version: &AdapterVersion) -> PathBuf {
        self.adapters.join(version.task.as_str()).join(version.number.to_string())
    }

    /// Reads a version's files and compares them with what was registered; says where they lie. Of a
    /// memory release nothing lies here: it is read and compared by whoever loads it.
    pub fn verify(&self, version: &AdapterVersion) -> Result<PathBuf, RegistryError> {
        let AdapterRecord { generation: expected, lineage, .. } = self.get(version)?.record;
        if lineage.memory().is_some() {
            return Ok(self.directory(version));
        }
        let directory = self.directory(version);
        let found = artifact::generation(&directory)?;
        if found == expected {
            Ok(directory)
        } else {
            let version = version.clone();
            Err(RegistryError::Damaged { version, directory, expected, found })
        }
    }
}

pub(crate) fn load(
    connection: &Connection,
    version: &AdapterVersion,
) -> Result<Adapter, RegistryError> {
    let sql = "SELECT record FROM adapter WHERE task = ?1 AND number = ?2";
    let found: Option<AdapterRecord> = record(connection, sql, key(version))?;
    let found = found.ok_or_else(|| RegistryError::UnknownVersion { version: version.clone() })?;
    with_status(connection, found)
}

pub(crate) fn newest_report(
    connection: &Connection,
    version: &AdapterVersion,
) -> Result<Option<ReportRecord>, RegistryError> {
    let sql = "SELECT record FROM report WHERE task = ?1 AND number = ?2 ORDER BY seq DESC LIMIT 1";
    record(connection, sql, key(version))
}

pub(crate) fn revocation(
    connection: &Connection,
    version: &AdapterVersion,
) -> Result<Option<Revocation>, RegistryError> {
    let sql = "SELECT record FROM revocation WHERE task = ?1 AND number = ?2";
    record(connection, sql, key(version))
}

/// The status that all evidence together gives a version.
fn with_status(connection: &Connection, record: AdapterRecord) -> Result<Adapter, RegistryError> {
    let version = &record.version;
    let status = if revocation(connection, version)?.is_some() {
        Status::Revoked
    } else if approval::is_retired(connection, version)? {
        Status::Retired
    } else {
        judged(connection, version)?
    };
    Ok(Adapter { record, status })
}

fn judged(connection: &Connection, version: &AdapterVersion) -> Result<Status, RegistryError> {
    let Some(newest) = newest_report(connection, version)? else {
        let verified = evidence::is_verified(connection, version)?;
        return Ok(if verified { Status::Verified } else { Status::Registered });
    };
    let quorum = approval::quorum(connection, version)?;
    Ok(match newest.report.decision.passed {
        false => Status::Rejected,
        true if quorum.have >= quorum.need.max(1) => Status::Approved,
        true => Status::Gated,
    })
}

/// Refuses what the table of transitions does not have.
pub(crate) fn expect(adapter: &Adapter, event: VersionEvent) -> Result<Status, RegistryError> {
    status_after(Some(adapter.status), event).ok_or_else(|| RegistryError::VersionNotAllowed {
        version: adapter.record.version.clone(),
        command: event.transition().name,
        status: adapter.status,
    })
}

pub(crate) fn by_generation(
    connection: &Connection,
    task: &TaskName,
    generation: Digest,
) -> Result<Option<AdapterRecord>, RegistryError> {
    let sql = "SELECT record FROM adapter WHERE task = ?1 AND generation = ?2";
    record(connection, sql, params![task.as_str(), generation.to_hex()])
}

pub(crate) fn next_version(
    connection: &Connection,
    task: &TaskName,
) -> Result<AdapterVersion, RegistryError> {
    let sql = "SELECT coalesce(max(number), 0) + 1 FROM adapter WHERE task = ?1";
    let number = connection.query_row(sql, [task.as_str()], |row| row.get::<_, u32>(0))?;
    let number = number.try_into().expect("a count plus one is not zero");
    Ok(AdapterVersion { task: task.clone(), number })
}

pub(crate) fn insert(
    transaction: &Transaction<'_>,
    record: &AdapterRecord,
    change: Change<'_>,
) -> Result<(), RegistryError> {
    let AdapterVersion { task, number } = &record.version;
    let text = canonical_json(record);
    transaction.execute(
        "INSERT INTO adapter (task, number, record) VALUES (?1, ?2, ?3)",
        params![task.as_str(), number.get(), text],
    )?;
    let subject = record.version.to_string();
    audit::append(transaction, Action::Register, task, &subject, text, change)
}

fn key(version: &AdapterVersion) -> impl rusqlite::Params + use<> {
    (version.task.to_string(), version.number.get())
}
