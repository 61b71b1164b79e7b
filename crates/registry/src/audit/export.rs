//! The chain as JSON lines, in the form that is hashed, so that it can be checked without us.
//!
//! A line is the canonical JSON of `{event, hash, prev, seq, ts}`; `hash` is the SHA-256 of the same
//! object without `hash`.

use serde::{Deserialize, Serialize};
use understudy_manifest::canonical_json;

use super::{AuditHead, Link, Tampering, genesis, links, verify};
use crate::{Registry, RegistryError};

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    link: Link,
    #[serde(rename = "hash")]
    hashed: String,
}

impl Registry {
    /// Every entry from number `since` on, a line each.
    pub fn export_audit(&self, since: u64) -> Result<Vec<String>, RegistryError> {
        let links = self.read(links)?;
        let wanted = links.into_iter().filter(|link| link.seq >= since);
        Ok(wanted.map(|link| canonical_json(&Line { hashed: link.hash.clone(), link })).collect())
    }
}

/// Recomputes an exported chain, which must begin with its first entry. Given a head that was noted
/// earlier, also checks that the chain contains it. Says where the chain ends.
pub fn verify_export(text: &str, noted: Option<&AuditHead>) -> Result<AuditHead, RegistryError> {
    let mut links = Vec::new();
    for (seq, line) in (0..).zip(text.lines()) {
        let unreadable = |_| RegistryError::Tampered(Tampering::Unreadable { seq, what: "JSON" });
        let Line { link, hashed } = serde_json::from_str(line).map_err(unreadable)?;
        links.push(Link { hash: hashed, ..link });
    }
    verify::chain(&links)?;
    verify::contains(&links, noted)?;
    let hash = links.last().map_or_else(genesis, |last| last.hash.clone());
    Ok(AuditHead { entries: links.len() as u64, hash })
}
