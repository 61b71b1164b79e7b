//! Reading an adapter beside live traffic: an adapter acts or does not load.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use rayon::ThreadPool;
use understudy_ident::Digest;
use understudy_inference::InferenceError;
use understudy_model::{BaseModel, Lora, PeftFiles};
use understudy_team as team;

use crate::{
    Config, EngineError,
    counters::Counters,
    gap::Share,
    store::{Generation, Patience, Source},
    verify::Verifier,
    visit::Door,
};

/// The payload of a generation.
#[derive(Debug)]
pub(crate) struct Adapter {
    pub(crate) lora: Lora,
}

/// Reads adapters one after the other, on a thread whose loops are run between the steps of those who
/// decode.
#[derive(Debug, Clone)]
pub(crate) struct Loader {
    pool: Arc<ThreadPool>,
    verifier: Arc<Verifier>,
    turn: Arc<Turn>,
    /// Say whether anybody decodes.
    counters: Arc<Counters>,
    door: Arc<Door>,
    /// The largest weight file worth reading.
    most_bytes: u64,
    most_rank: usize,
}

impl Loader {
    pub(crate) fn new(
        model: Arc<BaseModel>,
        config: &Config,
        counters: Arc<Counters>,
    ) -> Result<Self, EngineError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .thread_name(|_| "adapter-loader".to_owned())
            .build()
            .map_err(|error| EngineError::Thread(std::io::Error::other(error)))?;
        let (verifier, door) = (Arc::new(Verifier::new(model)), Arc::default());
        let (pool, turn) = (Arc::new(pool), Arc::default());
        let (most_bytes, most_rank) = (config.adapter_bytes, config.max_lora_rank);
        Ok(Self { pool, verifier, turn, counters, door, most_bytes, most_rank })
    }

    /// Through which probes join a step of those who decode.
    pub(crate) fn door(&self) -> &Arc<Door> {
        &self.door
    }

    /// Held from reading to publishing, so that only one adapter at a time is in memory without
    /// being counted.
    pub(crate) fn turn(&self, patience: Patience) -> Result<Taken<'_>, InferenceError> {
        self.turn.take(patience)
    }

    /// Does something on the loading thread, between the steps of those who decode.
    fn beside<R: Send>(&self, share: Share, work: impl FnOnce() -> R + Send) -> R {
        let counters = Arc::clone(&self.counters);
        let is_stepping = move || counters.is_decoding();
        self.pool.install(|| self.door.gap().beside(share, is_stepping, work))
    }

    /// The files of an adapter that was made for this base and is not too large, and their digest.
    pub(crate) fn files(
        &self,
        alias: &str,
        directory: &Path,
        share: Share,
    ) -> Result<(PeftFiles, String), InferenceError> {
        self.beside(share, || {
            let bad = |why: String| InferenceError::BadAdapter { alias: alias.to_owned(), why };
            let size = PeftFiles::bytes_at(directory).map_err(|error| bad(error.to_string()))?;
            if size > self.most_bytes {
                let most = self.most_bytes;
                let why = format!("its files are {size} bytes; all adapters may take {most}");
                return Err(InferenceError::AdaptersFull { alias: alias.to_owned(), why });
            }
            team::once(|| self.verifier.lineage(directory)).map_err(bad)?;
            let files = PeftFiles::read(directory).map_err(|error| bad(error.to_string()))?;
            if let Some(rank) = files.rank().filter(|rank| *rank > self.most_rank) {
                let (alias, most) = (alias.to_owned(), self.most_rank);
                return Err(InferenceError::RankTooHigh { alias, rank, most });
            }
            let digest = files.digest().to_hex();
            Ok((files, digest))
        })
    }

    /// Content that has been read, if it does what it says.
    pub(crate) fn verified(
        &self,
        alias: &str,
        directory: &Path,
        files: PeftFiles,
        share: Share,
    ) -> Result<Generation, InferenceError> {
        let bad = |why: String| InferenceError::BadAdapter { alias: alias.to_owned(), why };
        self.beside(share, || {
            let company = || self.counters.is_decoding().then_some(&*self.door);
            let (digest, lora) = self.verifier.verify(directory, files, company).map_err(bad)?;
            Ok(generation(digest, lora, Some(directory.to_owned())))
        })
    }
}

/// One after the other, for those whose patience may end.
#[derive(Debug, Default)]
struct Turn {
    is_taken: Mutex<bool>,
    given_back: Condvar,
}

impl Turn {
    fn take(&self, patience: Patience) -> Result<Taken<'_>, InferenceError> {
        let mut is_taken = self.lock();
        while *is_taken {
            is_taken = patience.wait(&self.given_back, is_taken)?;
        }
        *is_taken = true;
        Ok(Taken(self))
    }

    /// It guards nothing that a panic could leave half done.
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.is_taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives the turn back when dropped.
#[derive(Debug)]
pub(crate) struct Taken<'a>(&'a Turn);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.0.lock() = false;
        self.0.given_back.notify_one();
    }
}

impl Source<Adapter> for Loader {
    fn read(
        &self,
        alias: &str,
        directory: &Path,
        patience: Patience,
    ) -> Result<Generation, InferenceError> {
        let _turn = self.turn(patience)?;
        let (files, _) = self.files(alias, directory, Share::WaitedFor)?;
        self.verified(alias, directory, files, Share::WaitedFor)
    }
}

/// Hashes an adapter that was never written. One whose B is still zero is welcome here: sampling
/// with it before the first step is how on-policy training begins.
pub(crate) fn in_memory(
    model: &BaseModel,
    alias: &str,
    lora: &Lora,
) -> Result<Generation, InferenceError> {
    let bad = |why: String| InferenceError::BadAdapter { alias: alias.to_owned(), why };
    let fits = Lora::fits(lora, model.decoder.config());
    if !fits {
        return Err(bad("it was made for a base of another shape".to_owned()));
    }
    if lora.values().iter().any(|value| !value.is_finite()) {
        return Err(bad("some of its values are not finite".to_owned()));
    }
    let values: Vec<u8> = lora.values().iter().flat_map(|value| value.to_le_bytes()).collect();
    let shape = format!("{:?} {}", lora.layout().parameters(), lora.scale());
    let digest = Digest::of_parts([shape.as_bytes(), &values]).to_string();
    Ok(generation(digest, lora.clone(), None))
}

fn generation(digest: String, lora: Lora, directory: Option<PathBuf>) -> Generation {
    let bytes = lora.bytes();
    Generation { digest, directory, rank: lora.rank(), bytes, content: Adapter { lora } }
}
