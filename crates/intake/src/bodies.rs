//! Stored bodies as items, the latest of them kept decoded.

use std::{collections::BTreeMap, sync::Arc};

use understudy_ident::{Digest, TaskName};
use understudy_ingest::telemetry::{self, Item, Payload};
use understudy_journal::{Journal, RawBody, StoredBody};

use crate::IntakeError;

/// Of the bodies before decoding; their items take several times as much.
const KEPT_BYTES: usize = 16 << 20;

/// A name of something within a task, short and of one length.
pub(crate) type Name = String;

/// What a body holds.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) task: Option<TaskName>,
    /// Each with the unit it belongs to.
    pub(crate) items: Vec<(Name, Item)>,
    bytes: usize,
}

pub(crate) struct Bodies {
    journal: Journal,
    kept: BTreeMap<u64, Arc<Body>>,
    bytes: usize,
}

impl Bodies {
    pub(crate) fn new(journal: Journal) -> Self {
        Self { journal, kept: BTreeMap::new(), bytes: 0 }
    }

    pub(crate) fn read(&mut self, seq: u64) -> Result<Arc<Body>, IntakeError> {
        if let Some(body) = self.kept.get(&seq) {
            return Ok(Arc::clone(body));
        }
        let stored = self.journal.bodies(seq - 1, 1)?.into_iter().next();
        Ok(stored.map_or_else(|| Arc::new(Body::empty()), |stored| self.keep(stored)))
    }

    /// Decodes a body and keeps it in place of older ones.
    pub(crate) fn keep(&mut self, stored: StoredBody) -> Arc<Body> {
        let body = Arc::new(stored.raw.map_or_else(Body::empty, Body::decode));
        self.bytes += body.bytes;
        if let Some(before) = self.kept.insert(stored.seq, Arc::clone(&body)) {
            self.bytes -= before.bytes;
        }
        while self.bytes > KEPT_BYTES {
            let Some((_, oldest)) = self.kept.pop_first() else { break };
            self.bytes -= oldest.bytes;
        }
        body
    }
}

impl Body {
    /// An expired one holds nothing; what was made of it stays.
    fn empty() -> Self {
        Self { task: None, items: Vec::new(), bytes: 0 }
    }

    /// It could be read when it was received. If these rules cannot any more, others may.
    pub(crate) fn decode(raw: RawBody) -> Self {
        let bytes = raw.body.len();
        let payload = Payload::named(&raw.payload, &raw.content_type);
        let decoded = payload.and_then(|payload| telemetry::decode(&payload, &raw.body).ok());
        let unit = |item: Item| Some((name(&raw.task, &telemetry::unit(&item)?), item));
        let items = decoded.unwrap_or_default().items.into_iter().filter_map(unit).collect();
        Self { task: Some(raw.task), items, bytes }
    }
}

pub(crate) fn name(task: &TaskName, within: &str) -> Name {
    let mut name = Digest::of_parts([task.as_str().as_bytes(), within.as_bytes()]).to_hex();
    name.truncate(32);
    name
}
