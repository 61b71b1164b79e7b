//! The memory of a server.

use std::sync::Arc;

use anyhow::{Context, Result};
use understudy_canary::Lessons;
use understudy_gateway::Memories;
use understudy_inference::Embedder;
use understudy_memory::{Deployment, MemoryRoot};
use understudy_router::RouteTable;

use super::Stores;

/// Whose lessons a server shows, and by what it finds them.
pub(crate) struct ServedMemory {
    pub(crate) deployment: Deployment,
    pub(crate) embedder: Arc<dyn Embedder>,
}

impl ServedMemory {
    /// Releases of lessons, as the controller carries them out.
    pub(super) fn lessons(&self, stores: &Stores, routes: &Arc<RouteTable>) -> Result<Lessons> {
        let root = MemoryRoot::open(&stores.data.memory(), self.deployment.settings.clone())?;
        let (embedder, routes) = (Arc::clone(&self.embedder), Arc::clone(routes));
        Lessons::open(&root, &self.deployment, embedder, routes)
            .context("failed to open the memory")
    }

    /// Lessons, as the gateway shows them.
    pub(super) fn open(self, stores: &Stores, routes: Arc<RouteTable>) -> Result<Memories> {
        let (journal, clock) = (stores.journal.clone(), Arc::clone(&stores.clock));
        let directory = stores.data.memory();
        Memories::open(&directory, self.deployment, self.embedder, journal, clock, routes)
            .context("failed to open the memory")
    }
}
