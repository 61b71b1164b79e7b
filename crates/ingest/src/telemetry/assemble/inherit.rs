//! Whose a span is, where only another span of its trace says so.

use std::collections::{BTreeMap, BTreeSet};

use crate::telemetry::map::Draft;

/// Further up than any framework nests; parents come from the source and may go round in circles.
const HIGHEST: usize = 256;

type Parents = BTreeMap<(String, String), (Option<String>, Option<String>)>;

/// Fills in a name that is missing: the only one in the trace, since many clients tell it at the
/// root or at the calls alone; of several, as in a job that runs many conversations, the one of the
/// nearest span around.
pub(super) fn inherit(drafts: &mut [Draft], name: fn(&mut Draft) -> &mut Option<String>) {
    let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut parents = Parents::new();
    for draft in drafts.iter_mut() {
        let told = name(draft).clone();
        let record = &draft.record;
        names.entry(record.trace_id.clone()).or_default().extend(told.clone());
        let key = (record.trace_id.clone(), record.span_id.clone());
        parents.insert(key, (told, record.parent.clone()));
    }
    for draft in drafts.iter_mut().filter_map(|draft| name(draft).is_none().then_some(draft)) {
        let trace = draft.record.trace_id.clone();
        let in_trace = names.get(&trace).map(BTreeSet::len).unwrap_or_default();
        let found = match in_trace {
            1 => names.get(&trace).and_then(BTreeSet::first).cloned(),
            _ => around(&parents, trace, draft.record.parent.clone()),
        };
        *name(draft) = found;
    }
}

fn around(parents: &Parents, trace: String, mut parent: Option<String>) -> Option<String> {
    let mut key = (trace, String::new());
    for _ in 0..HIGHEST {
        key.1 = parent.take()?;
        let (told, above) = parents.get(&key)?;
        if told.is_some() {
            return told.clone();
        }
        parent.clone_from(above);
    }
    None
}
