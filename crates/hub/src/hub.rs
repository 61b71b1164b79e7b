//! The catalog over a cache directory: pull, list, verify.
//!
//! ```text
//! <cache>/<name>/<file>             verified, and only then there
//! <cache>/<name>/<file>.refused     lay there with the wrong digest
//! <cache>/partial/<name>/<n>/       what source n has fetched so far
//! <cache>/partial/<name>.lock       held while one process pulls
//! ```

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use serde::Serialize;
use understudy_storage::atomic;

use crate::{
    Base, CatalogEntry, HubError, Progress, Refusal, Sha256,
    catalog::CATALOG,
    error::{Attempt, chain},
    resolve,
    source::{self, Source},
};

/// The label of the first source of every model.
const LOCAL_CACHE: &str = "local cache";

/// The named base models, kept in one cache directory. Several processes may share it.
#[derive(Debug, Clone)]
pub struct Hub {
    cache_dir: PathBuf,
    endpoint: Option<String>,
    catalog: &'static [CatalogEntry],
}

/// A file that was just found to be what its name promises.
#[derive(Debug, Clone, Serialize)]
pub struct PulledModel {
    pub name: &'static str,
    pub path: PathBuf,
    pub digest: Sha256,
    pub bytes: u64,
    /// Who brought it this time; `local cache` if nobody had to.
    pub source: String,
}

/// One line of `understudy model list`.
#[derive(Debug, Clone, Serialize)]
pub struct CatalogRow {
    pub name: &'static str,
    pub summary: &'static str,
    pub licence: &'static str,
    pub bytes: u64,
    pub digest: Sha256,
    /// Where the file is, or will be.
    pub path: PathBuf,
    /// Whether a file of the right size is there; its digest is the business of `verify`.
    pub present: bool,
    /// Where it can be pulled from, in order.
    pub sources: Vec<String>,
}

impl Hub {
    /// Nothing is created before the first pull.
    pub fn new(cache_dir: impl Into<PathBuf>) -> Self {
        Self { cache_dir: cache_dir.into(), endpoint: None, catalog: CATALOG }
    }

    /// Asks this mirror instead of the Hugging Face hub; wins over `HF_ENDPOINT`.
    pub fn with_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// What a user meant: a name of the catalog, or a path of their own.
    pub fn resolve(&self, name_or_path: &str) -> Result<Base, HubError> {
        resolve::resolve(self.catalog, name_or_path)
    }

    /// A path to load: pulled if it is a name, checked to look like a model if it is a path.
    pub fn obtain(
        &self,
        name_or_path: &str,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<PathBuf, HubError> {
        match self.resolve(name_or_path)? {
            Base::Named(name) => self.pull(name, progress).map(|pulled| pulled.path),
            Base::Gguf(path) | Base::HuggingFaceDirectory(path) => Ok(path),
        }
    }

    /// Gets a model's file into the cache, from the first source that has it, and verifies it.
    ///
    /// A file that is there already is verified too, which costs a fraction of a second; if it is
    /// wrong it is set aside and pulled anew.
    pub fn pull(
        &self,
        name: &str,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<PulledModel, HubError> {
        let entry = resolve::find(self.catalog, name)?;
        self.pull_from(entry, &source::sources(entry, self.endpoint.as_deref()), progress)
    }

    /// Recomputes the digest of a model's file and changes nothing.
    pub fn verify(&self, name: &str) -> Result<PulledModel, HubError> {
        let entry = resolve::find(self.catalog, name)?;
        let path = self.path(entry);
        if !path.is_file() {
            return Err(HubError::NotPulled { name: entry.name, path });
        }
        check(entry, &path)?;
        Ok(pulled(entry, path, LOCAL_CACHE))
    }

    /// Where a model's file is, if a file of the right size is there.
    pub fn path_if_present(&self, name: &str) -> Result<Option<PathBuf>, HubError> {
        let entry = resolve::find(self.catalog, name)?;
        Ok(Some(self.path(entry)).filter(|path| has_size(path, entry.bytes)))
    }

    /// Every model that has a name.
    pub fn list(&self) -> Vec<CatalogRow> {
        self.catalog.iter().map(|entry| self.row(entry)).collect()
    }

    fn row(&self, entry: &CatalogEntry) -> CatalogRow {
        let path = self.path(entry);
        let sources = source::sources(entry, self.endpoint.as_deref());
        CatalogRow {
            name: entry.name,
            summary: entry.summary,
            licence: entry.licence,
            bytes: entry.bytes,
            digest: entry.digest,
            present: has_size(&path, entry.bytes),
            path,
            sources: sources.iter().map(|source| source.label()).collect(),
        }
    }

    fn pull_from(
        &self,
        entry: &CatalogEntry,
        sources: &[Box<dyn Source>],
        progress: &mut dyn FnMut(Progress),
    ) -> Result<PulledModel, HubError> {
        let path = self.path(entry);
        let partials = self.cache_dir.join("partial");
        let partial = partials.join(entry.name);
        atomic::create_dir(&partials)?;
        let _lock = lock(&partials.join(format!("{}.lock", entry.name)), progress)?;

        let mut refusals = Vec::new();
        if let Some(model) = self.look_into_cache(entry, &mut refusals, progress)? {
            return Ok(model);
        }
        for (position, source) in sources.iter().enumerate() {
            let label = source.label();
            progress(Progress::Trying { source: label.clone() });
            let scratch = partial.join(position.to_string());
            match bring(entry, source.as_ref(), &scratch, &path, progress) {
                Ok(()) => {
                    // Of no more use, and a leftover costs disk space but no correctness.
                    fs::remove_dir_all(&partial).ok();
                    progress(Progress::Done);
                    return Ok(pulled(entry, path, &label));
                }
                Err(why) => refuse(label, why, &mut refusals, progress),
            }
        }
        Err(HubError::NoSource { name: entry.name, refusals, path, digest: entry.digest })
    }

    /// The first source. A file there may have been copied by hand, as the advice of a failed pull
    /// suggests, so it is believed no more than any other.
    fn look_into_cache(
        &self,
        entry: &CatalogEntry,
        refusals: &mut Vec<Refusal>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Option<PulledModel>, HubError> {
        progress(Progress::Trying { source: LOCAL_CACHE.into() });
        let path = self.path(entry);
        if !path.is_file() {
            let why = format!("{} is not there", path.display());
            refuse(LOCAL_CACHE.into(), why, refusals, progress);
            return Ok(None);
        }
        progress(Progress::Verifying);
        match check(entry, &path) {
            Ok(()) => {
                progress(Progress::Done);
                Ok(Some(pulled(entry, path, LOCAL_CACHE)))
            }
            Err(HubError::WrongDigest { found, .. }) => {
                // Set aside rather than deleted: it may be somebody's hour of downloading.
                let aside = self.cache_dir.join(entry.name).join(format!("{}.refused", entry.file));
                fs::rename(&path, &aside).attempt("set aside", &path)?;
                let why =
                    format!("sha256 {found} is not the pinned one; moved to {}", aside.display());
                refuse(LOCAL_CACHE.into(), why, refusals, progress);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn path(&self, entry: &CatalogEntry) -> PathBuf {
        self.cache_dir.join(entry.name).join(entry.file)
    }
}

/// Fetches from one source, verifies, and publishes. What is in `scratch` afterwards is worth
/// keeping for the next attempt.
fn bring(
    entry: &CatalogEntry,
    source: &dyn Source,
    scratch: &Path,
    path: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), String> {
    atomic::create_dir(scratch).map_err(|error| chain(&error))?;
    let report = &mut |done, total| progress(Progress::Bytes { done, total });
    let fetched = source.fetch(scratch, report)?;
    progress(Progress::Verifying);
    if let Err(error) = check(entry, &fetched) {
        // Resuming on top of wrong bytes would only bring the same wrong bytes again.
        fs::remove_dir_all(scratch).ok();
        return Err(match error {
            HubError::WrongDigest { expected, found, .. } => {
                format!("it sent another file: expected sha256 {expected}, got {found}")
            }
            error => chain(&error),
        });
    }
    atomic::publish_file(&fetched, path).map_err(|error| chain(&error))
}

fn check(entry: &CatalogEntry, path: &Path) -> Result<(), HubError> {
    let found = Sha256::of_file(path).attempt("read base model", path)?;
    if found == entry.digest {
        Ok(())
    } else {
        Err(HubError::WrongDigest { path: path.to_owned(), expected: entry.digest, found })
    }
}

fn refuse(
    source: String,
    why: String,
    refusals: &mut Vec<Refusal>,
    progress: &mut dyn FnMut(Progress),
) {
    progress(Progress::Failed { source: source.clone(), why: why.clone() });
    refusals.push(Refusal { source, why });
}

/// One process pulls a model at a time; a second one waits and then finds it in the cache.
fn lock(path: &Path, progress: &mut dyn FnMut(Progress)) -> Result<File, HubError> {
    let file = File::create(path).attempt("open the lock file", path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            progress(Progress::Waiting);
            file.lock().attempt("lock", path)?;
        }
        Err(TryLockError::Error(error)) => Err(error).attempt("lock", path)?,
    }
    Ok(file)
}

fn pulled(entry: &CatalogEntry, path: PathBuf, source: &str) -> PulledModel {
    PulledModel {
        name: entry.name,
        path,
        digest: entry.digest,
        bytes: entry.bytes,
        source: source.into(),
    }
}

fn has_size(path: &Path, bytes: u64) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == bytes)
}

#[cfg(test)]
mod tests;
