//! What is dear to ask for, kept in the data directory: answers to cases, replies of judges.

use std::path::Path;

use anyhow::Result;
use understudy_evaluation::Cache;
use understudy_ident::Digest;
use understudy_storage::KeyedLog;

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
