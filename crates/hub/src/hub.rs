//! The catalog over a cache directory: pull, list, verify.
//!
//! ```text
//! <cache>/<name>/<file>             verified, and only then there; one or several
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
    Base, CatalogEntry, HubError, PinnedFile, Progress, Purpose, Refusal, Sha256,
    catalog::CATALOG,
    error::{Attempt, chain},
    resolve,
    source::{self, Source},
};

/// The label of the first source of every model.
const LOCAL_CACHE: &str = "local cache";

/// The named models, kept in one cache directory. Several processes may share it.
#[derive(Debug, Clone)]
pub struct Hub {
    cache_dir: PathBuf,
    endpoint: Option<String>,
    catalog: &'static [CatalogEntry],
}

/// A model that was just found to be what its name promises.
#[derive(Debug, Clone, Serialize)]
pub struct PulledModel {
    pub name: &'static str,
    /// The file, or the directory of a model of several files.
    pub path: PathBuf,
    /// Of the weights.
    pub digest: Sha256,
    /// Of all files.
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
    pub purpose: Purpose,
    /// Of all files.
    pub bytes: u64,
    /// Of the weights.
    pub digest: Sha256,
    /// Where the file is, or the directory of several, or will be.
    pub path: PathBuf,
    /// Whether files of the right size are there; their digests are the business of `verify`.
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

    /// What a user meant by a base model: a name of the catalog, or a path of their own.
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

    /// Gets a model's files into the cache, each from the first source that has it, and verifies
    /// them.
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

    /// Recomputes the digests of a model's files and changes nothing.
    pub fn verify(&self, name: &str) -> Result<PulledModel, HubError> {
        let entry = resolve::find(self.catalog, name)?;
        for file in entry.files {
            let path = self.path_of(entry, file);
            if !path.is_file() {
                return Err(HubError::NotPulled { name: entry.name, path });
            }
            check(file, &path)?;
        }
        Ok(self.pulled(entry, LOCAL_CACHE))
    }

    /// Where a model is, if files of the right size are there.
    pub fn path_if_present(&self, name: &str) -> Result<Option<PathBuf>, HubError> {
        let entry = resolve::find(self.catalog, name)?;
        Ok(self.is_present(entry).then(|| self.path(entry)))
    }

    /// Every model that has a name.
    pub fn list(&self) -> Vec<CatalogRow> {
        self.catalog.iter().map(|entry| self.row(entry)).collect()
    }

    fn row(&self, entry: &CatalogEntry) -> CatalogRow {
        let sources = source::sources(entry, self.endpoint.as_deref());
        CatalogRow {
            name: entry.name,
            summary: entry.summary,
            licence: entry.licence,
            purpose: entry.purpose,
            bytes: entry.bytes(),
            digest: entry.weights().digest,
            present: self.is_present(entry),
            path: self.path(entry),
            sources: sources.iter().map(|source| source.label()).collect(),
        }
    }

    fn pull_from(
        &self,
        entry: &CatalogEntry,
        sources: &[Box<dyn Source>],
        progress: &mut dyn FnMut(Progress),
    ) -> Result<PulledModel, HubError> {
        let partials = self.cache_dir.join("partial");
        let partial = partials.join(entry.name);
        atomic::create_dir(&partials)?;
        let _lock = lock(&partials.join(format!("{}.lock", entry.name)), progress)?;

        let mut refusals = Vec::new();
        let mut missing = self.look_into_cache(entry, &mut refusals, progress)?;
        if missing.is_empty() {
            progress(Progress::Done);
            return Ok(self.pulled(entry, LOCAL_CACHE));
        }
        for (position, source) in sources.iter().enumerate() {
            let label = source.label();
            progress(Progress::Trying { source: label.clone() });
            let scratch = partial.join(position.to_string());
            match self.bring_all(entry, &mut missing, source.as_ref(), &scratch, progress) {
                Ok(()) => {
                    // Of no more use, and a leftover costs disk space but no correctness.
                    fs::remove_dir_all(&partial).ok();
                    progress(Progress::Done);
                    return Ok(self.pulled(entry, &label));
                }
                Err(why) => refuse(label, why, &mut refusals, progress),
            }
        }
        let missing =
            missing.into_iter().map(|file| (self.path_of(entry, file), file.digest)).collect();
        Err(HubError::NoSource { name: entry.name, refusals, missing })
    }

    /// Brings what is missing from one source, as far as it has it; what arrived stays.
    fn bring_all(
        &self,
        entry: &CatalogEntry,
        missing: &mut Vec<&PinnedFile>,
        source: &dyn Source,
        scratch: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), String> {
        while let Some(file) = missing.first() {
            bring(file, source, scratch, &self.path_of(entry, file), progress)?;
            missing.remove(0);
        }
        Ok(())
    }

    /// The first source; what it lacks. A file there may have been copied by hand, as the advice of a failed pull
    /// suggests, so it is believed no more than any other.
    fn look_into_cache<'a>(
        &self,
        entry: &'a CatalogEntry,
        refusals: &mut Vec<Refusal>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<&'a PinnedFile>, HubError> {
        progress(Progress::Trying { source: LOCAL_CACHE.into() });
        let mut missing = Vec::new();
        for file in entry.files {
            let path = self.path_of(entry, file);
            let why = if path.is_file() {
                progress(Progress::Verifying);
                match check(file, &path) {
                    Ok(()) => continue,
                    Err(HubError::WrongDigest { found, .. }) => {
                        self.set_aside(entry, file, found)?
                    }
                    Err(error) => return Err(error),
                }
            } else {
                format!("{} is not there", path.display())
            };
            refuse(LOCAL_CACHE.into(), why, refusals, progress);
            missing.push(file);
        }
        Ok(missing)
    }

    /// Set aside rather than deleted: it may be somebody's hour of downloading.
    fn set_aside(
        &self,
        entry: &CatalogEntry,
        file: &PinnedFile,
        found: Sha256,
    ) -> Result<String, HubError> {
        let path = self.path_of(entry, file);
        let aside = self.cache_dir.join(entry.name).join(format!("{}.refused", file.name));
        fs::rename(&path, &aside).attempt("set aside", &path)?;
        Ok(format!("sha256 {found} is not the pinned one; moved to {}", aside.display()))
    }

    fn is_present(&self, entry: &CatalogEntry) -> bool {
        entry.files.iter().all(|file| has_size(&self.path_of(entry, file), file.bytes))
    }

    /// What is handed out to load: a file, or the directory of several.
    fn path(&self, entry: &CatalogEntry) -> PathBuf {
        match entry.files {
            [file] => self.path_of(entry, file),
            _ => self.cache_dir.join(entry.name),
        }
    }

    fn path_of(&self, entry: &CatalogEntry, file: &PinnedFile) -> PathBuf {
        self.cache_dir.join(entry.name).join(file.name)
    }

    fn pulled(&self, entry: &CatalogEntry, source: &str) -> PulledModel {
        PulledModel {
            name: entry.name,
            path: self.path(entry),
            digest: entry.weights().digest,
            bytes: entry.bytes(),
            source: source.into(),
        }
    }
}

/// Fetches from one source, verifies, and publishes. What is in `scratch` afterwards is worth
/// keeping for the next attempt.
fn bring(
    file: &PinnedFile,
    source: &dyn Source,
    scratch: &Path,
    path: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), String> {
    atomic::create_dir(scratch).map_err(|error| chain(&error))?;
    let report = &mut |done, total| progress(Progress::Bytes { done, total });
    let fetched = source.fetch(file, scratch, report)?;
    progress(Progress::Verifying);
    if let Err(error) = check(file, &fetched) {
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

fn check(file: &PinnedFile, path: &Path) -> Result<(), HubError> {
    let found = Sha256::of_file(path).attempt("read base model", path)?;
    if found == file.digest {
        Ok(())
    } else {
        Err(HubError::WrongDigest { path: path.to_owned(), expected: file.digest, found })
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

fn has_size(path: &Path, bytes: u64) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == bytes)
}

#[cfg(test)]
mod tests;
