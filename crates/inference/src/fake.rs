//! A deterministic backend for tests: it answers from a function, in word-sized deltas.

use std::{
    collections::BTreeMap,
    fmt,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use understudy_ident::Timestamp;
use understudy_message::Message;

use crate::{
    AdapterChoice, AdapterInfo, Attempt, Backend, Completion, Delta, Event, FinishReason,
    GenerateRequest, InferenceError, LoadAdapter, LoadedAdapter, Loads, Prompt, Served, Sink,
    Stats, Student, Timing, TokenRecord, Usage,
    shelf::{Lease, Shelf},
};

type Answer = Box<dyn Fn(&str, Option<&str>) -> Result<String, InferenceError> + Send + Sync>;

/// Answers with `answer(last user text, adapter alias)`. Tokens are bytes.
pub struct FakeBackend {
    base: String,
    answer: Answer,
    shelf: Shelf,
    /// Pretended replicas that are out, and how many there are.
    out: Option<(Arc<AtomicUsize>, usize)>,
}

impl FakeBackend {
    pub fn new(
        base: impl Into<String>,
        answer: impl Fn(&str, Option<&str>) -> Result<String, InferenceError> + Send + Sync + 'static,
    ) -> Self {
        Self { base: base.into(), answer: Box::new(answer), shelf: Shelf::default(), out: None }
    }

    /// The same as if it lived on `all` replicas, of which `out` are left alone for failing with
    /// whatever adapter.
    #[must_use]
    pub fn on_replicas(self, out: Arc<AtomicUsize>, all: usize) -> Self {
        Self { out: Some((out, all)), ..self }
    }

    fn lease(&self, choice: Option<&AdapterChoice>) -> Result<Option<Lease>, InferenceError> {
        choice.map(|choice| self.shelf.lease(choice)).transpose()
    }
}

impl fmt::Debug for FakeBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeBackend").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Backend for FakeBackend {
    fn base(&self) -> &str {
        &self.base
    }

    fn submit(&self, request: GenerateRequest, mut sink: Sink) -> Result<(), InferenceError> {
        request.sampling.validate()?;
        let lease = self.lease(request.adapter.as_ref())?;
        let adapter = lease.as_ref().map(|lease| lease.served.clone());
        let served = Served { base: self.base.clone(), adapter };
        let prompt = prompt_text(&request.prompt);
        let alias = served.adapter.as_ref().map(|adapter| adapter.alias.as_str());
        let answered = (self.answer)(&prompt, alias);
        if sink(Event::Started(served.clone())).is_break() {
            return Ok(());
        }
        let text = match answered {
            Ok(text) => text,
            Err(error) => {
                let _: ControlFlow<()> = sink(Event::Failed(error));
                return Ok(());
            }
        };
        for word in text.split_inclusive(' ') {
            if sink(Event::Delta(Delta::from(word))).is_break() {
                return Ok(());
            }
        }
        let _: ControlFlow<()> =
            sink(Event::Finished(Box::new(completion(served, &prompt, text, &request))));
        Ok(())
    }

    fn submit_all(&self, requests: Vec<(GenerateRequest, Sink)>) -> Result<(), InferenceError> {
        requests.into_iter().try_for_each(|(request, sink)| self.submit(request, sink))
    }
}

impl Student for FakeBackend {
    fn out_of_order(&self, _: &AdapterChoice) -> Option<(usize, usize)> {
        self.out.as_ref().map(|(out, all)| (out.load(Ordering::Relaxed), *all))
    }

    fn publish_adapter(&self, load: LoadAdapter) -> Result<LoadedAdapter, InferenceError> {
        self.shelf.publish(load)
    }

    fn unload_adapter(&self, alias: &str) -> Result<(), InferenceError> {
        self.shelf.unload(alias)
    }

    fn expire_adapters(
        &self,
        now: Timestamp,
        spared: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<String>, InferenceError> {
        Ok(self.shelf.expire(now, spared))
    }

    fn in_flight(&self, alias: &str) -> usize {
        self.shelf.in_flight(alias)
    }

    fn rollback_adapter(
        &self,
        alias: &str,
        to: Option<&str>,
    ) -> Result<AdapterInfo, InferenceError> {
        self.shelf.rollback(alias, to)
    }

    fn adapters(&self) -> Vec<AdapterInfo> {
        self.shelf.list()
    }

    fn tokenize(&self, prompt: &Prompt) -> Result<Vec<u32>, InferenceError> {
        Ok(bytes_of(&prompt_text(prompt)))
    }

    fn detokenize(&self, ids: &[u32]) -> Result<String, InferenceError> {
        Ok(prompt_text(&Prompt::Tokens(ids.to_vec())))
    }

    fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        u8::try_from(id).ok().map(|byte| vec![byte])
    }

    fn context(&self) -> usize {
        4096
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }

    fn loads(&self) -> Loads {
        self.shelf.loads()
    }

    fn attempts(&self) -> BTreeMap<String, Attempt> {
        self.shelf.attempts()
    }

    fn check(&self) -> Result<(), InferenceError> {
        Ok(())
    }

    fn pause(&self) {}

    fn resume(&self) {}

    fn is_paused(&self) -> bool {
        false
    }
}

fn bytes_of(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

fn prompt_text(prompt: &Prompt) -> String {
    match prompt {
        Prompt::Chat(chat) => chat.messages.last().map(Message::text).unwrap_or_default(),
        Prompt::Text(text) => text.clone(),
        Prompt::Tokens(ids) => {
            let bytes: Vec<u8> = ids.iter().map(|id| *id as u8).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
    }
}

fn completion(served: Served, prompt: &str, text: String, request: &GenerateRequest) -> Completion {
    let completion_ids = bytes_of(&text);
    let tokens = TokenRecord {
        prompt_ids: bytes_of(prompt),
        sampling_logprobs: vec![0.0; completion_ids.len()],
        forced: Vec::new(),
        completion_ids,
        sampling: request.sampling.clone(),
        logprobs_exact: request.sampling.is_exact(),
        base_digest: "fake".to_owned(),
        tokenizer_digest: "bytes".to_owned(),
        template_digest: "none".to_owned(),
    };
    let usage = Usage {
        prompt_tokens: tokens.prompt_ids.len() as u32,
        completion_tokens: tokens.completion_ids.len() as u32,
        cached_tokens: 0,
    };
    let timing = Timing::default();
    let whole = Completion::of_text(served, text, FinishReason::Stop, usage, timing);
    Completion { tokens: Some(tokens), ..whole }
}
