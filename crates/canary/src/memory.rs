//! The memory beside the adapters: its releases ramp by the same rules, on sessions of their own draw.
//!
//! The registry decides here as it does for adapters, and the memory's own store follows it: what was
//! promoted becomes what every session meets, a candidate that was taken off leaves its lessons
//! suspended, and when an agent gets other weights its lessons are measured anew.

use std::sync::Arc;

use understudy_ident::{AdapterVersion, Clock, Digest, TaskName};
use understudy_inference::Embedder;
use understudy_memory::{By, Catalogue, Deployment, DeploymentStore, MemoryRoot, Releases, Shelf};
use understudy_registry::{Registry, ReleaseState, Target as Serving};
use understudy_router::RouteTable;

use crate::CanaryError;

/// The memory of a deployment, as its releases are carried out.
#[derive(Debug)]
pub struct Lessons {
    channel: TaskName,
    catalogue: Catalogue,
    store: DeploymentStore,
    releases: Releases,
    embedder: Arc<dyn Embedder>,
    /// What sessions meet which release. In this table a target's version is a memory release's, its
    /// generation the release's digest, and the base is no memory at all.
    routes: Arc<RouteTable>,
}

impl Lessons {
    pub fn open(
        root: &MemoryRoot,
        deployment: &Deployment,
        embedder: Arc<dyn Embedder>,
        routes: Arc<RouteTable>,
    ) -> Result<Self, CanaryError> {
        let store = root.deployment(&deployment.tenant)?;
        let mut catalogue = deployment.catalogue.clone();
        catalogue.approved_terms.extend(store.approved_terms()?);
        let releases = root.releases(&deployment.tenant);
        Ok(Self { channel: deployment.channel(), catalogue, store, releases, embedder, routes })
    }

    pub(crate) fn channel(&self) -> &TaskName {
        &self.channel
    }

    pub(crate) fn routes(&self) -> &Arc<RouteTable> {
        &self.routes
    }

    /// Reads a release, compares it with its name and makes it ready as a server would.
    pub fn load(&self, version: &AdapterVersion, expected: Digest) -> Result<String, CanaryError> {
        let loaded = self.releases.read(&expected).and_then(|release| {
            let embedder = release.embedder(Arc::clone(&self.embedder));
            Shelf::of_release(expected, &release, Some(embedder.as_ref()), &self.catalogue)
        });
        let what = version.to_string();
        loaded.map_err(|source| CanaryError::Lessons { what, source: Box::new(source) })?;
        Ok(expected.to_hex())
    }

    /// Carries out what the registry has decided since the last time. Says what changed.
    pub fn follow(
        &self,
        registry: &Registry,
        clock: &dyn Clock,
    ) -> Result<Vec<String>, CanaryError> {
        let mut done = Vec::new();
        done.extend(self.follow_channel(registry, clock)?);
        let history = registry.history(&self.channel)?;
        for release in registry.releases(&self.channel)? {
            // What served and was taken back is the pointer's affair; its lessons may serve again.
            let served = history.iter().any(|made| made.release == release.id);
            let taken_off = release.state == ReleaseState::RolledBack && !served;
            let what = format!("taken off {}", release.id);
            if !taken_off || self.store.has_settled(&what)? {
                continue;
            }
            // A release whose lesson was forgotten is gone, and there is nothing left to suspend.
            if self.releases.read(&release.generation).is_ok() {
                let by = By::new(&release.changed_by, &release.changed_because, clock.now())?;
                let suspended = self.store.condemn(&self.releases, &release.generation, &by)?;
                let count = suspended.len();
                done.push(format!("{count} lessons of {} are suspended", release.candidate));
            }
            self.store.settle(&what, clock.now())?;
        }
        done.extend(self.rescore(registry, clock)?);
        Ok(done)
    }

    /// Serves what the channel points to, once for each of its moves.
    fn follow_channel(
        &self,
        registry: &Registry,
        clock: &dyn Clock,
    ) -> Result<Option<String>, CanaryError> {
        let history = registry.history(&self.channel)?;
        let Some(last) = history.last() else { return Ok(None) };
        let what = format!("move {}", history.len());
        if self.store.has_settled(&what)? {
            return Ok(None);
        }
        let release = match &last.to {
            Serving::Adapter(version) => Some(registry.get(version)?.record.generation),
            Serving::Base | Serving::Teacher => None,
        };
        let by = By::new(&last.owner, &last.reason, clock.now())?;
        self.store.serve(&self.releases, release.as_ref(), &by)?;
        self.store.settle(&what, clock.now())?;
        Ok(Some(match release {
            Some(_) => format!("{} is what sessions remember", last.to),
            None => "no lessons are shown any more".to_owned(),
        }))
    }

    /// Weights that learnt from what lessons brought about may need them no longer.
    fn rescore(&self, registry: &Registry, clock: &dyn Clock) -> Result<Vec<String>, CanaryError> {
        let mut done = Vec::new();
        for task in registry.tasks()? {
            let history = registry.history(&task)?;
            let Some(last) = history.last() else { continue };
            let Serving::Adapter(version) = &last.to else { continue };
            let what = format!("weights of {task}, move {}", history.len());
            if self.store.has_settled(&what)? {
                continue;
            }
            let again = self.store.rescore(
                task.as_str(),
                (&version.to_string(), last.moved_at),
                clock.now(),
            )?;
            self.store.settle(&what, clock.now())?;
            if !again.is_empty() {
                done.push(format!("{} lessons are measured anew under {version}", again.len()));
            }
        }
        Ok(done)
    }
}
