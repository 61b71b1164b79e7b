//! The handle others hold.

use std::{
    fmt,
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::Ordering::Relaxed,
        mpsc::{Sender, channel},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use understudy_ident::Digest;
use understudy_inference::{
    AdapterInfo, Admission, Backend, Expected, Gauge, GenerateRequest, InferenceError, LoadLog,
    Sink, Student,
};
use understudy_model::{BaseDigests, BaseModel, KvDtype, Lora};

use crate::{
    Config, EngineError,
    counters::Counters,
    grammar::Grammars,
    load::{self, Loader},
    sampler::Spellings,
    sequence::Job,
    store::{AdapterStore, Change, StateFile},
    worker::Worker,
};

/// A running engine. Clones are handles to the same one; when the last is dropped, its thread
/// tells the requests in flight that it is shutting down, and ends before the drop returns.
#[derive(Clone)]
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) model: Arc<BaseModel>,
    /// Of everything but the adapter that decides what is answered.
    pub(crate) identity: String,
    pub(crate) config: Config,
    pub(crate) kv_dtype: KvDtype,
    /// The longest sequence: what the model can do, or what fits in memory.
    pub(crate) context: usize,
    pub(crate) store: Arc<AdapterStore>,
    pub(crate) loader: Loader,
    pub(crate) loads: LoadLog,
    pub(crate) counters: Arc<Counters>,
    /// What constraints have in common; made for the first of them.
    pub(crate) grammars: OnceLock<Result<Grammars, InferenceError>>,
    /// What forbidden texts are looked up in, without and with special markers.
    pub(crate) spellings: [OnceLock<Arc<Spellings>>; 2],
    /// An empty list only wakes the engine.
    jobs: Option<Arc<Sender<Vec<Job>>>>,
    pub(crate) thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Starts the engine's thread. `name` is what the base is called in `/v1/models`. The base is
    /// shared: a trainer may hold the same weights while the engine samples from them.
    pub fn start(
        model: impl Into<Arc<BaseModel>>,
        name: impl Into<String>,
        config: Config,
    ) -> Result<Self, EngineError> {
        config.check()?;
        let model = model.into();
        let counters = Arc::<Counters>::default();
        let loader = Loader::new(Arc::clone(&model), &config, Arc::clone(&counters))?;
        let store = AdapterStore::new(Box::new(loader.clone()), config.limits());
        Self::over(model, name.into(), (config, counters), (loader, store))
    }

    /// The same, with every alias meaning what it meant when an engine last used this file, which
    /// from here on follows every change. What cannot be read any more, or reads differently, is
    /// in the list that comes back; its alias stays and answers with the reason.
    pub fn restore(
        model: impl Into<Arc<BaseModel>>,
        name: impl Into<String>,
        config: Config,
        state: &Path,
    ) -> Result<(Self, Vec<(String, InferenceError)>), EngineError> {
        config.check()?;
        let model = model.into();
        let counters = Arc::<Counters>::default();
        let loader = Loader::new(Arc::clone(&model), &config, Arc::clone(&counters))?;
        let store = AdapterStore::new(Box::new(loader.clone()), config.limits());
        let (store, missing) = store
            .restored(StateFile::new(state.to_owned()))
            .map_err(|source| EngineError::State { path: state.to_owned(), source })?;
        Ok((Self::over(model, name.into(), (config, counters), (loader, store))?, missing))
    }

    fn over(
        model: Arc<BaseModel>,
        name: String,
        (config, counters): (Config, Arc<Counters>),
        (loader, store): (Loader, AdapterStore),
    ) -> Result<Self, EngineError> {
        let context = model.decoder.config().max_positions.min(config.kv_tokens);
        let kv_dtype = config.kv_dtype(&model)?;
        let (jobs, queue) = channel();
        let store = Arc::new(store);
        let (owned_model, owned_counters) = (Arc::clone(&model), Arc::clone(&counters));
        let (known, door) = (Arc::clone(&store), Arc::clone(loader.door()));
        let thread = thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || {
                let is_in_memory = Box::new(move |digest: &str| known.resident(digest).is_some());
                let model = (&*owned_model, kv_dtype);
                Worker::new(model, config, &owned_counters, queue, &door, is_in_memory).run();
            })
            .map_err(EngineError::Thread)?;
        let shared = Shared {
            name,
            identity: identity(&model, kv_dtype),
            model,
            config,
            kv_dtype,
            context,
            store,
            loader,
            loads: LoadLog::default(),
            counters,
            grammars: OnceLock::new(),
            spellings: [OnceLock::new(), OnceLock::new()],
            jobs: Some(Arc::new(jobs)),
            thread: Some(thread),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// What exactly the base is; adapters must have been trained on it.
    pub fn digests(&self) -> &BaseDigests {
        &self.shared.model.digests
    }

    /// Loads an adapter that exists only in memory, such as one that is being trained, under
    /// `alias`. Its generation is the digest of its values, so equal values are one generation and
    /// every optimiser step is another: nothing cached for the one is read for the other.
    pub fn load_lora(&self, alias: &str, lora: &Lora) -> Result<AdapterInfo, InferenceError> {
        let Shared { model, store, .. } = &*self.shared;
        self.shared.check_alias(alias)?;
        let content = Arc::new(load::in_memory(model, alias, lora)?);
        let (expected, keep) = (&Expected::Anything, self.shared.config.keep_previous);
        let (pinned, on_demand, expires) = (false, false, None);
        let change = Change { alias, expected, pinned, on_demand, expires, keep };
        Ok(store.publish(&change, content)?.info)
    }
}

impl Backend for Engine {
    fn base(&self) -> &str {
        &self.shared.name
    }

    fn submit(&self, request: GenerateRequest, sink: Sink) -> Result<(), InferenceError> {
        self.submit_all(vec![(request, sink)])
    }

    /// All of a list join before the first runs, as far as there is room, so that the same list is
    /// batched the same way every time.
    fn submit_all(&self, requests: Vec<(GenerateRequest, Sink)>) -> Result<(), InferenceError> {
        let submitted = Instant::now();
        if self.shared.is_paused() {
            return Err(InferenceError::Paused);
        }
        in_time(requests.iter().map(|(request, _)| &request.admission), submitted)?;
        let jobs = self.shared.jobs(requests, submitted)?;
        // An adapter that had to be read first may have taken all the time there was.
        in_time(jobs.iter().map(|job| &job.admission), submitted)?;
        self.shared.enqueue(jobs)
    }

    fn gauges(&self) -> Vec<Gauge> {
        let Shared { model, counters, config, kv_dtype, .. } = &*self.shared;
        let bytes = model.decoder.kv_bytes(*kv_dtype);
        let of = |what: &str, tokens: usize| Gauge {
            name: "kv_cache_bytes",
            labels: vec![("of", what.to_owned())],
            value: (tokens * bytes) as f64,
            rises: false,
        };
        vec![
            of("capacity", config.kv_tokens + config.prefix_tokens),
            of("running", counters.kv_tokens.load(Relaxed)),
            of("kept", counters.kept_tokens.load(Relaxed)),
        ]
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("base", &self.shared.name)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn check_alias(&self, alias: &str) -> Result<(), InferenceError> {
        let bad = |why: &str| {
            Err(InferenceError::BadAdapter { alias: alias.to_owned(), why: why.to_owned() })
        };
        if alias == self.name {
            return bad("that is the base model's name; choose another");
        }
        if alias.is_empty() || alias.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return bad("an alias must be a word");
        }
        Ok(())
    }

    fn enqueue(&self, mut jobs: Vec<Job>) -> Result<(), InferenceError> {
        let sender = self.jobs.as_ref().ok_or(InferenceError::ShuttingDown)?;
        for job in &jobs {
            // Weak, so that a token somebody keeps does not keep the engine's thread waiting.
            let engine = Arc::downgrade(sender);
            job.admission.cancel.on_cancel(move || wake(engine.upgrade().as_deref()));
        }
        let prompts: Vec<usize> = jobs.iter().map(|job| job.prompt.len()).collect();
        let leave = |prompts: &[usize]| prompts.iter().for_each(|len| self.counters.leave(*len));
        for (entered, prompt) in prompts.iter().enumerate() {
            if let Err(busy) = self.counters.enter(*prompt, &self.config) {
                leave(&prompts[..entered]);
                // Dropped sinks of a refused list have promised nothing.
                jobs.clear();
                return Err(busy);
            }
        }
        sender.send(jobs).map_err(|_| {
            leave(&prompts);
            InferenceError::ShuttingDown
        })
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.counters.paused.load(Relaxed)
    }

    /// Holds steps back from the next one on, or lets them go on.
    pub(crate) fn hold(&self, paused: bool) {
        self.counters.paused.store(paused, Relaxed);
        wake(self.jobs.as_deref());
    }
}

/// Refuses those whose time is over before they would take a place in line.
fn in_time<'a>(
    mut admissions: impl Iterator<Item = &'a Admission>,
    submitted: Instant,
) -> Result<(), InferenceError> {
    let waited = submitted.elapsed();
    match admissions.find_map(|admission| admission.timeout.filter(|most| *most <= waited)) {
        None => Ok(()),
        Some(most) => Err(InferenceError::TimedOut(most.as_millis() as u64)),
    }
}

fn identity(model: &BaseModel, kv_dtype: KvDtype) -> String {
    let BaseDigests { base, tokenizer, template } = &model.digests;
    let precision = match kv_dtype {
        KvDtype::F32 => format!("{:?}", model.precision),
        KvDtype::F16 => format!("{:?}, keys and values in f16", model.precision),
    };
    let device = if model.decoder.device().is_cpu() { "cpu" } else { "gpu" };
    Digest::of_parts([base, tokenizer, template, &*precision, device].map(str::as_bytes)).to_hex()
}

fn wake(engine: Option<&Sender<Vec<Job>>>) {
    if let Some(engine) = engine {
        // One that has ended needs no waking.
        let _: Result<(), _> = engine.send(Vec::new());
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.jobs = None;
        let Some(thread) = self.thread.take() else { return };
        // The last handle may live in a sink, which the engine's own thread drops; that thread
        // finds the queue closed by itself and must not wait for its own end.
        if thread.thread().id() != thread::current().id() {
            let _: thread::Result<()> = thread.join();
        }
    }
}
