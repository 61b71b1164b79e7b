//! What is dear to ask for, kept in the data directory: answers to cases, replies of judges.

use std::path::Path;

use anyhow::Result;
use understudy_evaluation::Cache;
use understudy_ident::Digest;
use understudy_storage::KeyedLog;

/// By what the answers of a subject may be kept: the engine's weights, the adapter's generation,
/// which the base has none of, and the lessons it was shown. Not where the engine is unknown.
pub(crate) fn identity(
    weights: Option<Digest>,
    generation: &str,
    lessons: Option<Digest>,
) -> Option<Digest> {
    let (weights, lessons) = (weights?.to_hex(), lessons.map(|release| release.to_hex()));
    let parts = [weights.as_str(), generation, lessons.as_deref().unwrap_or_default()];
    Some(Digest::of_parts(parts.map(str::as_bytes)))
}

/// A log of texts by digest, as an evaluation wants it.
#[derive(Debug)]
pub(crate) struct KeptLog {
    log: KeyedLog,
    has_failed: bool,
}

impl KeptLog {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Ok(Self { log: KeyedLog::open(path)?, has_failed: false })
    }
}

impl Cache for KeptLog {
    fn get(&self, key: &Digest) -> Option<String> {
        self.log.get(&key.to_hex()).map(str::to_owned)
    }

    fn put(&mut self, key: &Digest, text: &str) {
        let kept = self.log.put(&key.to_hex(), text);
        if let Err(error) = kept
            && !std::mem::replace(&mut self.has_failed, true)
        {
            tracing::warn!("{error:#}; what is asked now will have to be asked again");
        }
    }
}
