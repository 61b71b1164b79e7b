//! A deterministic backend for tests: it answers from a function, in word-sized deltas.

use std::{
    collections::BTreeMap,
    fmt,
    ops::ControlFlow,
    sync::{Mutex, MutexGuard, PoisonError},
};

use understudy_ident::Digest;
use understudy_message::Message;

use crate::{
    AdapterChoice, AdapterInfo, Backend, Completion, Delta, Event, FinishReason, GenerateRequest,
    InferenceError, LoadAdapter, LoadTiming, LoadedAdapter, Prompt, Served, ServedAdapter, Sink,
    Stats, Student, Timing, TokenRecord, Usage,
};

type Answer = Box<dyn Fn(&str, Option<&str>) -> Result<String, InferenceError> + Send + Sync>;

/// Answers with `answer(last user text, adapter alias)`. Tokens are bytes.
pub struct FakeBackend {
    base: String,
    answer: Answer,
    adapters: Mutex<BTreeMap<String, AdapterInfo>>,
}

impl FakeBackend {
    pub fn new(
        base: impl Into<String>,
        answer: impl Fn(&str, Option<&str>) -> Result<String, InferenceError> + Send + Sync + 'static,
    ) -> Self {
        Self { base: base.into(), answer: Box::new(answer), adapters: Mutex::default() }
    }

    fn served(&self, choice: Option<&AdapterChoice>) -> Result<Served, InferenceError> {
        let Some(choice) = choice else {
            return Ok(Served { base: self.base.clone(), adapter: None });
        };
        let adapters = self.lock();
        let found = match choice {
            AdapterChoice::Alias(alias) => adapters.get(alias),
            AdapterChoice::Generation(digest) => {
                adapters.values().find(|adapter| adapter.generation == *digest)
            }
        };
        let (AdapterChoice::Alias(name) | AdapterChoice::Generation(name)) = choice;
        let known = found.ok_or_else(|| unknown(&adapters, name))?;
        let (alias, generation) = (known.alias.clone(), known.generation.clone());
        Ok(Served { base: self.base.clone(), adapter: Some(ServedAdapter { alias, generation }) })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, AdapterInfo>> {
        self.adapters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown(adapters: &BTreeMap<String, AdapterInfo>, alias: &str) -> InferenceError {
    let loaded = adapters.keys().cloned().collect::<Vec<_>>().join(", ");
    InferenceError::UnknownAdapter { alias: alias.to_owned(), loaded }
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
        let served = self.served(request.adapter.as_ref())?;
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
    fn publish_adapter(&self, load: LoadAdapter) -> Result<LoadedAdapter, InferenceError> {
        let LoadAdapter { alias, directory, .. } = load;
        let read = |name: &str| {
            std::fs::read(directory.join(name)).map_err(|why| InferenceError::BadAdapter {
                alias: alias.clone(),
                why: format!("{} cannot be read: {why}", directory.join(name).display()),
            })
        };
        // The same identity a real engine gives it, so that a registry's record can be compared.
        let parts = [read("adapter_config.json")?, read("adapter_model.safetensors")?];
        let generation = Digest::of_parts(parts.iter().map(Vec::as_slice)).to_hex();
        let adapter = AdapterInfo {
            alias: alias.clone(),
            generation,
            directory: directory.display().to_string(),
            resident: true,
            ..AdapterInfo::default()
        };
        let replaced = self.lock().insert(alias, adapter.clone()).map(|old| old.generation);
        let timing = LoadTiming::default();
        Ok(LoadedAdapter { adapter, replaced, timing })
    }

    fn unload_adapter(&self, alias: &str) -> Result<(), InferenceError> {
        let mut adapters = self.lock();
        match adapters.remove(alias) {
            Some(_) => Ok(()),
            None => Err(unknown(&adapters, alias)),
        }
    }

    fn rollback_adapter(&self, _: &str, _: Option<&str>) -> Result<AdapterInfo, InferenceError> {
        Err(InferenceError::Unsupported("rollback"))
    }

    fn adapters(&self) -> Vec<AdapterInfo> {
        self.lock().values().cloned().collect()
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
