//! Finding what was changed behind the registry's back.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::{AuditHead, Link, Tampering, genesis, link_hash};
use crate::RegistryError;

/// Every entry is what it was when it was hashed, none is missing in between, and they follow one
/// another.
pub(super) fn chain(links: &[Link]) -> Result<(), RegistryError> {
    let mut previous = genesis();
    for (expected, link) in (0..).zip(links) {
        if link.seq != expected {
            return tampered(Tampering::Missing { seq: expected });
        }
        if link.prev != previous {
            // An entry that follows some other one was moved; one that follows none was edited.
            let moved = links.iter().any(|other| other.hash == link.prev);
            return tampered(if moved {
                Tampering::Reordered { seq: expected }
            } else {
                Tampering::Altered { seq: expected }
            });
        }
        if link.hash != link_hash(link) {
            return tampered(Tampering::Altered { seq: expected });
        }
        previous.clone_from(&link.hash);
    }
    Ok(())
}

/// The chain goes on from a head that was noted earlier.
pub(super) fn contains(links: &[Link], noted: Option<&AuditHead>) -> Result<(), RegistryError> {
    let Some(AuditHead { entries, hash }) = noted else { return Ok(()) };
    let at_that_length = match entries.checked_sub(1) {
        None => Some(genesis()),
        Some(last) => links.get(last as usize).map(|link| link.hash.clone()),
    };
    match at_that_length {
        Some(found) if found == *hash => Ok(()),
        Some(_) => tampered(Tampering::Rewritten { entries: *entries }),
        None => tampered(Tampering::Truncated { had: *entries, has: links.len() as u64 }),
    }
}

/// Every record in the tables is the one its last entry carries, and every entry has its record.
pub(super) fn tables(connection: &Connection, links: &[Link]) -> Result<(), RegistryError> {
    let mut said = said_by(links)?;
    let mut statement = connection.prepare(
        "SELECT 'adapter', task || '@' || number, record FROM adapter
         UNION ALL SELECT 'revocation', task || '@' || number, record FROM revocation
         UNION ALL SELECT 'release', id, record FROM release
         UNION ALL SELECT * FROM
             (SELECT 'report', task || '@' || number, record FROM report ORDER BY seq)
         UNION ALL SELECT * FROM (SELECT 'channel', task, record FROM channel_move ORDER BY seq)
         UNION ALL SELECT * FROM (SELECT kind, subject, record FROM fact ORDER BY seq)",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let mut counts = BTreeMap::new();
    for row in rows {
        let (table, subject, record): (String, String, String) = row?;
        let nth: &mut usize = counts.entry((table.clone(), subject.clone())).or_default();
        let expected = said.remove(&(table.clone(), subject.clone(), *nth));
        *nth += 1;
        if expected != Some(record.as_str()) {
            return tampered(Tampering::OtherRecord { table, subject });
        }
    }
    match said.into_keys().next() {
        Some((table, subject, _)) => tampered(Tampering::LostRecord { table, subject }),
        None => Ok(()),
    }
}

/// The records as the chain left them, by table, subject and, where a subject has several, order.
type Said<'a> = BTreeMap<(String, String, usize), &'a str>;

fn said_by(links: &[Link]) -> Result<Said<'_>, RegistryError> {
    let mut said = Said::new();
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for link in links {
        let event = &link.event;
        let table = match event.action.as_str() {
            "adapter.register" => "adapter",
            "adapter.report" => "report",
            "adapter.revoke" => "revocation",
            "channel.move" => "channel",
            action if action.starts_with("release.") => "release",
            // Facts are kept under the action that made them; an unknown one has no record there.
            action => action,
        };
        let nth = counts.entry((table, &event.subject)).or_default();
        // The record of a release is replaced by each of its changes; all others are added to.
        said.insert((table.to_owned(), event.subject.clone(), *nth), event.detail.as_str());
        if table != "release" {
            *nth += 1;
        }
    }
    Ok(said)
}

fn tampered<T>(how: Tampering) -> Result<T, RegistryError> {
    Err(RegistryError::Tampered(how))
}
