//! Which raw bodies hold parts of a subject.

use std::collections::{BTreeMap, BTreeSet};

use understudy_ingest::telemetry::{self, Item};
use understudy_journal::{Holdings, Journal};

use crate::{
    IntakeError,
    bodies::{Body, Name},
};

/// Looks at every body, because a subject may be named where no step is made of it.
pub(crate) fn bodies_of(
    journal: &Journal,
    subject: &str,
    holdings: &Holdings,
) -> Result<Vec<u64>, IntakeError> {
    let mut units: BTreeSet<Name> = BTreeSet::new();
    let mut parts: Vec<(u64, Vec<Name>)> = Vec::new();
    let mut last = 0;
    while let Some(stored) = journal.bodies(last, 1)?.into_iter().next() {
        last = stored.seq;
        let Some(raw) = stored.raw else { continue };
        let mut by_unit: BTreeMap<Name, Vec<Item>> = BTreeMap::new();
        for (unit, item) in Body::decode(raw).items {
            by_unit.entry(unit).or_default().push(item);
        }
        for (unit, items) in &by_unit {
            if is_of(items, subject, holdings) {
                units.insert(unit.clone());
            }
        }
        parts.push((last, by_unit.into_keys().collect()));
    }
    let is_part = |names: &[Name]| names.iter().any(|name| units.contains(name));
    Ok(parts.into_iter().filter(|(_, names)| is_part(names)).map(|(seq, _)| seq).collect())
}

/// Whether the part of a unit that is in one body shows that the unit is the subject's.
fn is_of(items: &[Item], subject: &str, holdings: &Holdings) -> bool {
    let accounts = telemetry::accounts(items);
    if !accounts.is_disjoint(&holdings.steps) {
        return true;
    }
    let ties = telemetry::ties(items);
    if telemetry::responses(&ties).any(|response| holdings.responses.contains(response)) {
        return true;
    }
    let assembled = telemetry::assemble(items);
    assembled.conversations.iter().any(|one| one.subject.as_deref() == Some(subject))
}
