//! An engine without a model, for clients' tests and for trying the API out.
//!
//! It repeats what it was told last. Tokens are bytes, scores are made up but real: every sampling
//! parameter acts on them as it would on a model's, and nothing that was asked for is ignored. At
//! each `?` it hesitates between all letters, so that seeds and temperatures have something to
//! decide; under a constraint it says the shortest thing the constraint allows.

mod draw;
mod grammar;
mod plan;
mod schema;
mod sequence;
mod text;
mod worker;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use understudy_ident::Timestamp;

use self::{sequence::Sequence, worker::Shared};
use crate::{
    AdapterInfo, Attempt, Backend, GenerateRequest, InLine, InferenceError, LoadAdapter,
    LoadedAdapter, Loads, LogProbsOf, Prompt, Served, Sink, Stats, Student,
};

/// How large and how slow a mock is.
#[derive(Debug, Clone)]
pub struct MockConfig {
    pub base: String,
    /// Tokens of prompt and completion together.
    pub context: usize,
    /// Sequences decoded at once.
    pub running: usize,
    /// Requests that may wait beside them.
    pub waiting: usize,
    /// Time of a step, in which each running sequence gets a token.
    pub step: Duration,
    /// Time in which a prompt becomes tokens.
    pub tokenizing: Duration,
    /// The largest rank of an adapter that is served.
    pub max_lora_rank: usize,
    /// Which log-probabilities requests are told that do not say.
    pub logprobs_mode: LogProbsOf,
    /// What it says that decides its answers; nothing unless a test wants it to.
    pub identity: Option<String>,
}

impl Default for MockConfig {
    fn default() -> Self {
        Self {
            base: "mock".to_owned(),
            context: 4096,
            running: 8,
            waiting: 64,
            step: Duration::ZERO,
            tokenizing: Duration::ZERO,
            max_lora_rank: 512,
            logprobs_mode: LogProbsOf::Raw,
            identity: None,
        }
    }
}

/// See the module's description.
#[derive(Debug)]
pub struct MockEngine {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl MockEngine {
    pub fn start(config: MockConfig) -> Result<Self, InferenceError> {
        let shared = Arc::new(Shared::new(config));
        let working = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("mock-engine".to_owned())
            .spawn(move || worker::run(&working))
            .map_err(|why| InferenceError::Failed(format!("no thread for the mock: {why}")))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    fn sequence(
        &self,
        mut request: GenerateRequest,
        sink: Sink,
        submitted: Instant,
    ) -> Result<Sequence, InferenceError> {
        let Shared { config, shelf, counts, .. } = &*self.shared;
        request.sampling.validate()?;
        request.returns.log_probs.get_or_insert(config.logprobs_mode);
        text::check("logprob_token_ids", &request.returns.named)?;
        let prompt = text::tokenize(&request.prompt)?;
        let (limit, max_tokens) = (config.context, request.sampling.max_tokens as usize);
        let room = limit.saturating_sub(prompt.len());
        if room == 0 || (request.admission.must_fit && max_tokens > room) {
            let prompt_tokens = prompt.len();
            return Err(InferenceError::ContextOverflow { prompt_tokens, max_tokens, limit });
        }
        let lease = request.adapter.as_ref().map(|choice| shelf.lease(choice)).transpose()?;
        if let Some(lease) = &lease {
            let counter = if lease.missed { &counts.misses } else { &counts.hits };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let served = Served {
            base: config.base.clone(),
            adapter: lease.as_ref().map(|lease| lease.served.clone()),
        };
        let alias = served.adapter.as_ref().map(|adapter| adapter.alias.as_str());
        let plan = plan::plan(&request.prompt, &request.sampling, alias)?;
        let seed = match request.sampling.seed {
            Some(seed) => seed,
            None => counts.seeds.fetch_add(1, Ordering::Relaxed),
        };
        let most = room.min(max_tokens);
        Ok(Sequence::new(request, sink, submitted, served, lease, prompt, plan, seed, most))
    }
}

impl Drop for MockEngine {
    fn drop(&mut self) {
        self.shared.close();
        if let Some(thread) = self.thread.take() {
            // A panicked worker has nothing left to wait for.
            thread.join().ok();
        }
    }
}

impl Backend for MockEngine {
    fn base(&self) -> &str {
        &self.shared.config.base
    }

    fn submit(&self, request: GenerateRequest, sink: Sink) -> Result<(), InferenceError> {
        self.submit_all(vec![(request, sink)])
    }

    fn submit_all(&self, requests: Vec<(GenerateRequest, Sink)>) -> Result<(), InferenceError> {
        let now = Instant::now();
        let sequences = requests
            .into_iter()
            .map(|(request, sink)| self.sequence(request, sink, now))
            .collect::<Result<Vec<_>, _>>()?;
        self.shared.accept(sequences)
    }
}

impl Student for MockEngine {
    fn publish_adapter(&self, load: LoadAdapter) -> Result<LoadedAdapter, InferenceError> {
        self.shared.shelf.publish(load)
    }

    fn unload_adapter(&self, alias: &str) -> Result<(), InferenceError> {
        self.shared.shelf.unload(alias)
    }

    fn expire_adapters(
        &self,
        now: Timestamp,
        spared: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<String>, InferenceError> {
        Ok(self.shared.shelf.expire(now, spared))
    }

    fn in_flight(&self, alias: &str) -> usize {
        self.shared.shelf.in_flight(alias)
    }

    fn rollback_adapter(
        &self,
        alias: &str,
        to: Option<&str>,
    ) -> Result<AdapterInfo, InferenceError> {
        self.shared.shelf.rollback(alias, to)
    }

    fn adapters(&self) -> Vec<AdapterInfo> {
        self.shared.shelf.list()
    }

    fn tokenize(&self, prompt: &Prompt) -> Result<Vec<u32>, InferenceError> {
        thread::sleep(self.shared.config.tokenizing);
        text::tokenize(prompt)
    }

    fn detokenize(&self, ids: &[u32]) -> Result<String, InferenceError> {
        text::detokenize(ids)
    }

    fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        text::token_bytes(id)
    }

    fn context(&self) -> usize {
        self.shared.config.context
    }

    fn stats(&self) -> Stats {
        self.shared.stats()
    }

    fn identity(&self) -> Option<String> {
        self.shared.config.identity.clone()
    }

    fn in_line(&self) -> Option<Vec<InLine>> {
        Some(self.shared.in_line())
    }

    fn loads(&self) -> Loads {
        self.shared.shelf.loads()
    }

    fn attempts(&self) -> BTreeMap<String, Attempt> {
        self.shared.shelf.attempts()
    }

    fn check(&self) -> Result<(), InferenceError> {
        match &self.thread {
            Some(thread) if !thread.is_finished() => Ok(()),
            _ => Err(InferenceError::Failed("the mock's thread has ended".to_owned())),
        }
    }

    fn pause(&self) {
        self.shared.pause(true);
    }

    fn resume(&self) {
        self.shared.pause(false);
    }

    fn is_paused(&self) -> bool {
        self.shared.is_paused()
    }
}
