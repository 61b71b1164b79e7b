//! A deterministic backend for tests: it answers from a function, in word-sized deltas.

use std::{
    collections::BTreeMap,
    fmt,
    ops::ControlFlow,
    path::Path,
    sync::{Mutex, PoisonError},
};

use understudy_ident::Digest;
use understudy_message::Message;

use crate::{
    AdapterInfo, Backend, Completion, Event, FinishReason, GenerateRequest, InferenceError, Prompt,
    Served, ServedAdapter, Sink, Timing, TokenRecord, Usage,
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

    fn served(&self, alias: Option<&str>) -> Result<Served, InferenceError> {
        let adapters = self.adapters.lock().unwrap_or_else(PoisonError::into_inner);
        let adapter = match alias {
            None => None,
            Some(alias) => {
                let known = adapters.get(alias).ok_or_else(|| InferenceError::UnknownAdapter {
                    alias: alias.to_owned(),
                    loaded: adapters.keys().cloned().collect::<Vec<_>>().join(", "),
                })?;
                let generation = known.generation.clone();
                Some(ServedAdapter { alias: alias.to_owned(), generation })
            }
        };
        Ok(Served { base: self.base.clone(), adapter })
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
        let served = self.served(request.adapter.as_deref())?;
        let prompt = prompt_text(&request.prompt);
        let answered = (self.answer)(&prompt, request.adapter.as_deref());
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
            if sink(Event::Delta(word.to_owned())).is_break() {
                return Ok(());
            }
        }
        let _: ControlFlow<()> =
            sink(Event::Finished(Box::new(completion(served, &prompt, text, &request))));
        Ok(())
    }

    fn load_adapter(&self, alias: &str, directory: &Path) -> Result<AdapterInfo, InferenceError> {
        let read = |name: &str| {
            std::fs::read(directory.join(name)).map_err(|why| InferenceError::BadAdapter {
                alias: alias.to_owned(),
                why: format!("{} cannot be read: {why}", directory.join(name).display()),
            })
        };
        // The same identity a real engine gives it, so that a registry's record can be compared.
        let parts = [read("adapter_config.json")?, read("adapter_model.safetensors")?];
        let generation = Digest::of_parts(parts.iter().map(Vec::as_slice)).to_hex();
        let info = AdapterInfo {
            alias: alias.to_owned(),
            generation,
            rank: 0,
            bytes: 0,
            directory: directory.display().to_string(),
        };
        let mut adapters = self.adapters.lock().unwrap_or_else(PoisonError::into_inner);
        adapters.insert(alias.to_owned(), info.clone());
        Ok(info)
    }

    fn unload_adapter(&self, alias: &str) -> Result<(), InferenceError> {
        let mut adapters = self.adapters.lock().unwrap_or_else(PoisonError::into_inner);
        if adapters.remove(alias).is_none() {
            let loaded = adapters.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(InferenceError::UnknownAdapter { alias: alias.to_owned(), loaded });
        }
        Ok(())
    }

    fn adapters(&self) -> Vec<AdapterInfo> {
        let adapters = self.adapters.lock().unwrap_or_else(PoisonError::into_inner);
        adapters.values().cloned().collect()
    }
}

fn prompt_text(prompt: &Prompt) -> String {
    match prompt {
        Prompt::Messages(messages) => messages.last().map(Message::text).unwrap_or_default(),
        Prompt::Tokens(ids) => {
            let bytes: Vec<u8> = ids.iter().map(|id| *id as u8).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
    }
}

fn completion(served: Served, prompt: &str, text: String, request: &GenerateRequest) -> Completion {
    let ids = |text: &str| -> Vec<u32> { text.bytes().map(u32::from).collect() };
    let completion_ids = ids(&text);
    let tokens = TokenRecord {
        prompt_ids: ids(prompt),
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
    };
    let timing = Timing::default();
    let finish_reason = FinishReason::Stop;
    Completion { served, text, finish_reason, usage, timing, tokens: Some(tokens) }
}
