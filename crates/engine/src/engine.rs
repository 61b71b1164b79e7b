//! The handle others hold.

use std::{
    fmt,
    path::Path,
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use understudy_inference::{
    AdapterInfo, Backend, GenerateRequest, InferenceError, Prompt, Served, ServedAdapter, Sink,
};
use understudy_model::{BaseDigests, BaseModel, Lora, ModelError};

use crate::{
    Config, EngineError, Stats, counters::Counters, load, sequence::Job, store::AdapterStore,
    worker::Worker,
};

/// A running engine. Clones are handles to the same one; when the last is dropped, its thread
/// tells the requests in flight that it is shutting down, and ends before the drop returns.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    model: Arc<BaseModel>,
    config: Config,
    /// The longest sequence: what the model can do, or what fits in memory.
    context: usize,
    store: AdapterStore,
    counters: Arc<Counters>,
    jobs: Option<Sender<Vec<Job>>>,
    thread: Option<JoinHandle<()>>,
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
        let (model, counters) = (model.into(), Arc::<Counters>::default());
        let context = model.decoder.config().max_positions.min(config.kv_tokens);
        let (jobs, queue) = channel();
        let (owned_model, owned_counters) = (Arc::clone(&model), Arc::clone(&counters));
        let thread = thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || Worker::new(&owned_model, config, &owned_counters, queue).run())
            .map_err(EngineError::Thread)?;
        let shared = Shared {
            name: name.into(),
            model,
            config,
            context,
            store: AdapterStore::default(),
            counters,
            jobs: Some(jobs),
            thread: Some(thread),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// What exactly the base is; adapters must have been trained on it.
    pub fn digests(&self) -> &BaseDigests {
        &self.shared.model.digests
    }

    /// The longest prompt and completion together, in tokens.
    pub fn context(&self) -> usize {
        self.shared.context
    }

    /// Loads an adapter that exists only in memory, such as one that is being trained, under
    /// `alias`. Its generation is the digest of its values, so equal values are one generation and
    /// every optimiser step is another: nothing cached for the one is read for the other.
    pub fn load_lora(&self, alias: &str, lora: &Lora) -> Result<AdapterInfo, InferenceError> {
        let Shared { model, store, .. } = &*self.shared;
        self.shared.check_alias(alias)?;
        let generation = load::in_memory(model, alias, lora)?;
        Ok(store.publish(alias, generation))
    }

    /// Queues several generations as one: all of them join before the first runs, as far as there is
    /// room, so that the same list is batched the same way every time. Either all are accepted or
    /// none is.
    pub fn submit_all(&self, requests: Vec<(GenerateRequest, Sink)>) -> Result<(), InferenceError> {
        let submitted = Instant::now();
        let jobs: Vec<Job> = requests
            .into_iter()
            .map(|(request, sink)| self.shared.job(request, sink, submitted))
            .collect::<Result<_, _>>()?;
        self.shared.enqueue(jobs)
    }

    /// Points an alias back at the generation it meant before, which is still in memory.
    pub fn rollback(&self, alias: &str) -> Result<AdapterInfo, InferenceError> {
        self.shared.store.rollback(alias)
    }

    pub fn stats(&self) -> Stats {
        self.shared.counters.snapshot()
    }
}

impl Backend for Engine {
    fn base(&self) -> &str {
        &self.shared.name
    }

    fn submit(&self, request: GenerateRequest, sink: Sink) -> Result<(), InferenceError> {
        let job = self.shared.job(request, sink, Instant::now())?;
        self.shared.enqueue(vec![job])
    }

    fn load_adapter(&self, alias: &str, directory: &Path) -> Result<AdapterInfo, InferenceError> {
        let Shared { model, store, .. } = &*self.shared;
        self.shared.check_alias(alias)?;
        let generation = load::load(model, alias, directory)?;
        Ok(store.publish(alias, generation))
    }

    fn unload_adapter(&self, alias: &str) -> Result<(), InferenceError> {
        self.shared.store.unload(alias)
    }

    fn adapters(&self) -> Vec<AdapterInfo> {
        self.shared.store.list()
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
    fn check_alias(&self, alias: &str) -> Result<(), InferenceError> {
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

    fn job(
        &self,
        request: GenerateRequest,
        sink: Sink,
        submitted: Instant,
    ) -> Result<Job, InferenceError> {
        let GenerateRequest { prompt, adapter, sampling } = request;
        sampling.validate()?;
        let lease = adapter.as_deref().map(|alias| self.store.resolve(alias)).transpose()?;
        let prompt = self.prompt_ids(prompt)?;
        let room = self.context.saturating_sub(prompt.len());
        if room == 0 {
            let (prompt_tokens, limit) = (prompt.len(), self.context);
            return Err(InferenceError::ContextOverflow { prompt_tokens, limit });
        }
        let served_adapter = adapter
            .zip(lease.as_ref())
            .map(|(alias, lease)| ServedAdapter { alias, generation: lease.digest.clone() });
        let served = Served { base: self.name.clone(), adapter: served_adapter };
        let most = room.min(sampling.max_tokens as usize);
        let seed = sampling.seed.unwrap_or_else(rand::random);
        Ok(Job { served, lease, prompt, most, sampling, seed, sink, submitted })
    }

    fn enqueue(&self, mut jobs: Vec<Job>) -> Result<(), InferenceError> {
        let sender = self.jobs.as_ref().ok_or(InferenceError::ShuttingDown)?;
        for entered in 0..jobs.len() {
            if !self.counters.enter(self.config.max_waiting) {
                (0..entered).for_each(|_| self.counters.leave());
                // Dropped sinks of a refused list have promised nothing.
                jobs.clear();
                return Err(InferenceError::Busy(self.config.max_waiting));
            }
        }
        let count = jobs.len();
        sender.send(jobs).map_err(|_| {
            (0..count).for_each(|_| self.counters.leave());
            InferenceError::ShuttingDown
        })
    }

    fn prompt_ids(&self, prompt: Prompt) -> Result<Vec<u32>, InferenceError> {
        let wrong = |error: ModelError| {
            InferenceError::invalid("messages", format!("are not usable: {error}"))
        };
        match prompt {
            Prompt::Messages(messages) if messages.is_empty() => {
                Err(InferenceError::invalid("messages", "must hold at least one message"))
            }
            Prompt::Messages(messages) => {
                let text = self.model.template.render(&messages, None, true).map_err(wrong)?;
                self.model.tokenizer.encode(&text).map_err(wrong)
            }
            Prompt::Tokens(ids) => {
                let vocab = self.model.decoder.config().vocab;
                match ids.iter().find(|id| **id as usize >= vocab) {
                    None if ids.is_empty() => {
                        Err(InferenceError::invalid("prompt", "must hold at least one token"))
                    }
                    None => Ok(ids),
                    Some(id) => {
                        let why = format!("holds token {id}; the vocabulary has {vocab}");
                        Err(InferenceError::invalid("prompt", why))
                    }
                }
            }
        }
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
