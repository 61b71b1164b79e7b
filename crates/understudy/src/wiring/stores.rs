//! What is on disk, opened.

use std::sync::Arc;

use anyhow::{Context, Result};
use understudy_ident::{Clock, SystemClock};
use understudy_journal::Journal;
use understudy_orchestrator::RunStore;
use understudy_registry::Registry;
use understudy_storage::atomic;

use crate::paths::DataDir;

/// What is on disk.
#[derive(Debug)]
pub(crate) struct Stores {
    pub(crate) data: DataDir,
    pub(crate) journal: Journal,
    pub(crate) registry: Arc<Registry>,
    pub(crate) runs: RunStore,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Stores {
    pub(crate) fn open(data: &DataDir) -> Result<Self> {
        atomic::create_dir(data.root())?;
        let attempt =
            |what: &str| format!("failed to open the {what} in {}", data.root().display());
        Ok(Self {
            journal: Journal::open(&data.journal(), understudy_journal::Config::default())
                .with_context(|| attempt("journal"))?,
            registry: Arc::new(
                Registry::open(&data.registry(), &data.adapters())
                    .with_context(|| attempt("registry"))?,
            ),
            runs: RunStore::open(&data.runs_log(), Box::new(SystemClock))
                .with_context(|| attempt("run log"))?,
            clock: Arc::new(SystemClock),
            data: data.clone(),
        })
    }
}
