//! Where a version comes from, by what it is: weights that were trained, or lessons that were written.

use serde::{Deserialize, Serialize};
use understudy_ident::TaskName;
use understudy_manifest::{AdapterManifest, MemoryManifest, canonical_json};

use crate::{
    Adapter, AdapterRecord, Change, Registry, RegistryError, Status, adapter,
    lifecycle::VersionEvent,
    people,
    registry::{record, records},
};

/// The lineage of a version. On the wire it is the manifest itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Lineage {
    Adapter(Box<AdapterManifest>),
    /// A memory release, whose lessons lie with the memory and not here.
    Memory(MemoryManifest),
}

impl Lineage {
    pub fn adapter(&self) -> Option<&AdapterManifest> {
        match self {
            Self::Adapter(manifest) => Some(manifest),
            Self::Memory(_) => None,
        }
    }

    pub fn memory(&self) -> Option<&MemoryManifest> {
        match self {
            Self::Adapter(_) => None,
            Self::Memory(manifest) => Some(manifest),
        }
    }
}

impl Registry {
    /// Registers a memory release as the next version of a memory's channel, which looks like a
    /// task's and goes by the same rules. Content that is known keeps the version it has.
    ///
    /// No file is copied: lessons must be forgettable, and what is here is not. Whoever loads them
    /// compares them with the version's digest, as an engine does with an adapter's.
    pub fn register_memory(
        &self,
        channel: &TaskName,
        lineage: &MemoryManifest,
        change: Change<'_>,
    ) -> Result<Adapter, RegistryError> {
        change.check()?;
        self.write(|transaction| {
            let who = VersionEvent::Register.transition().who;
            people::allow(transaction, change, who, "register a version")?;
            refuse_other_kind(transaction, channel, true)?;
            if let Some(known) = adapter::by_generation(transaction, channel, lineage.release)? {
                return adapter::load(transaction, &known.version);
            }
            let record = AdapterRecord {
                version: adapter::next_version(transaction, channel)?,
                generation: lineage.release,
                owner: change.owner.to_owned(),
                reason: change.reason.to_owned(),
                bytes: canonical_json(lineage).len() as u64,
                lineage: Lineage::Memory(lineage.clone()),
                registered_at: change.now(),
            };
            adapter::insert(transaction, &record, change)?;
            Ok(Adapter { record, status: Status::Registered })
        })
    }

    /// All channels that have a memory release, by name.
    pub fn memories(&self) -> Result<Vec<TaskName>, RegistryError> {
        let sql = "SELECT json_quote(task) FROM adapter
                   WHERE record ->> '$.lineage.kind' = 'memory' GROUP BY task ORDER BY task";
        self.read(|connection| records(connection, sql, []))
    }
}

/// One channel holds one kind of version: going back must never lead from lessons to weights.
pub(crate) fn refuse_other_kind(
    connection: &rusqlite::Connection,
    channel: &TaskName,
    memory: bool,
) -> Result<(), RegistryError> {
    let sql = "SELECT record FROM adapter WHERE task = ?1 LIMIT 1";
    let first: Option<AdapterRecord> = record(connection, sql, [channel.as_str()])?;
    match first {
        Some(first) if first.lineage.memory().is_some() != memory => {
            Err(RegistryError::OtherKind { task: channel.clone() })
        }
        _ => Ok(()),
    }
}
