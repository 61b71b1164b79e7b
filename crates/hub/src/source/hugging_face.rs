//! Files in a repository on the Hugging Face hub, or on a mirror of it.
//!
//! `hf-hub` keeps what it fetched in a cache of its own layout, which lies in this source's scratch
//! directory; a partial file in there is continued by the next attempt with a range request.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hf_hub::{Cache, Repo, RepoType, api};

use crate::{
    PinnedFile,
    error::chain,
    source::{
        Source,
        watch::{Lost, Patience, watch},
    },
};

/// hf-hub's client has no timeouts. A name server that does not answer, or a firewall that drops
/// packets, would hold up a start for minutes while the next source could have answered.
const PATIENCE: Patience =
    Patience { first: Duration::from_secs(8), later: Duration::from_mins(1) };

#[derive(Debug, Clone)]
pub(super) struct HuggingFace {
    repo: Repo,
    repository: String,
    endpoint: Option<String>,
    patience: Patience,
}

impl HuggingFace {
    pub(super) fn new(repository: &str, revision: &str, endpoint: Option<&str>) -> Self {
        Self {
            repo: Repo::with_revision(repository.into(), RepoType::Model, revision.into()),
            repository: repository.into(),
            endpoint: endpoint.map(|endpoint| endpoint.trim_end_matches('/').into()),
            patience: PATIENCE,
        }
    }

    /// Blocks until the file is there or the hub refused.
    fn download(&self, file: &str, scratch: &Path, meter: Meter) -> Result<PathBuf, String> {
        // What a killed attempt fetched whole, but was not around to hand over.
        if let Some(path) = Cache::new(scratch.into()).repo(self.repo.clone()).get(file) {
            return Ok(path);
        }
        let mut builder = api::sync::ApiBuilder::from_env().with_cache_dir(scratch.into());
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint.clone());
        }
        let api = builder.build().map_err(|error| chain(&error))?;
        api.repo(self.repo.clone())
            .download_with_progress(file, meter)
            .map_err(|error| chain(&error))
    }
}

impl Source for HuggingFace {
    fn label(&self) -> String {
        let mirror = self.endpoint.as_ref().map(|at| format!(" at {at}")).unwrap_or_default();
        format!("Hugging Face hub{mirror} ({})", self.repository)
    }

    fn fetch(
        &self,
        file: &PinnedFile,
        scratch: &Path,
        report: &mut dyn FnMut(u64, u64),
    ) -> Result<PathBuf, String> {
        let blobs = scratch.join(self.repo.folder_name()).join("blobs");
        clear_obstacles(&blobs, file.bytes)
            .map_err(|error| format!("cannot clear {}: {error}", blobs.display()))?;
        let meter = Meter::default();
        let (this, name, bytes) = (self.clone(), file.name, file.bytes);
        let (directory, counter) = (scratch.to_owned(), meter.clone());
        let fetched = watch(
            move || this.download(name, &directory, counter),
            || meter.read(),
            Some(self.patience),
            &mut |done| report(done, bytes),
        );
        let pointer = match fetched {
            Ok(result) => result?,
            Err(Lost::Stalled(limit)) => {
                return Err(format!("nothing arrived for {} s", limit.as_secs_f32()));
            }
            Err(Lost::Died) => return Err("the client broke down on the answer".into()),
        };
        // hf-hub's path is a symbolic link into its blobs, and it is the blob that can be moved.
        pointer.canonicalize().map_err(|error| format!("the download vanished: {error}"))
    }
}

/// Removes what would stop hf-hub for good: a partial file that is whole, for it would ask for the
/// range behind its end and be refused; and a lock held by a transfer given up earlier in this
/// process, which is not needed since only one pull works in this directory at a time. Should that
/// transfer wake up again and write, the digest will tell. Of several files the largest, the
/// weights, is asked for first, so what is partial here is never another, larger one's.
fn clear_obstacles(blobs: &Path, bytes: u64) -> io::Result<()> {
    let entries = match fs::read_dir(blobs) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result?,
    };
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        let is = |extension: &str| path.extension().is_some_and(|found| found == extension);
        if is("lock") || (is("part") && entry.metadata()?.len() >= bytes) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Counts the bytes hf-hub has written, readable from another thread.
#[derive(Debug, Clone, Default)]
struct Meter(Arc<AtomicU64>);

impl Meter {
    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl api::Progress for Meter {
    /// Called again when a transfer continues, which then adds what was there before.
    fn init(&mut self, _size: usize, _file: &str) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn update(&mut self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn finish(&mut self) {}
}

#[cfg(test)]
mod tests;
