//! From a request to a job: checked, tokenised, and holding its generation. Runs on the caller's
//! thread, so that a wrong request costs the engine nothing.

use std::time::Instant;

use understudy_inference::{
    Admission, Chat, GenerateRequest, InferenceError, Prompt, Returns, Sampling, Served,
    ServedAdapter, Sink,
};
use understudy_model::ModelError;

use crate::{
    engine::Shared,
    sequence::Job,
    store::{Lease, Together},
};

impl Shared {
    pub(crate) fn job(
        &self,
        request: GenerateRequest,
        sink: Sink,
        submitted: Instant,
        leases: &mut Together<'_>,
    ) -> Result<Job, InferenceError> {
        let GenerateRequest { prompt, adapter, sampling, returns, admission } = request;
        sampling.validate()?;
        let Sampling { temperature, top_p, top_k, seed, max_tokens, .. } = sampling;
        let stop = sampling.stop.clone();
        let done =
            Sampling { temperature, top_p, top_k, seed, max_tokens, stop, ..Sampling::default() };
        if sampling != done || returns != Returns::default() || admission != Admission::default() {
            return Err(InferenceError::Unsupported("these sampling parameters yet"));
        }
        let lease = adapter.map(|choice| leases.resolve(&choice)).transpose()?;
        let (alias, lease) = lease.map(|Lease { alias, generation }| (alias, generation)).unzip();
        let prompt = self.prompt_ids(prompt)?;
        let room = self.context.saturating_sub(prompt.len());
        if room == 0 {
            let (prompt_tokens, limit) = (prompt.len(), self.context);
            let max_tokens = sampling.max_tokens as usize;
            return Err(InferenceError::ContextOverflow { prompt_tokens, max_tokens, limit });
        }
        let served_adapter = alias
            .zip(lease.as_ref())
            .map(|(alias, lease)| ServedAdapter { alias, generation: lease.digest.clone() });
        let served = Served { base: self.name.clone(), adapter: served_adapter };
        let most = room.min(sampling.max_tokens as usize);
        let seed = sampling.seed.unwrap_or_else(rand::random);
        Ok(Job { served, lease, prompt, most, sampling, seed, sink, submitted })
    }

    pub(crate) fn prompt_ids(&self, prompt: Prompt) -> Result<Vec<u32>, InferenceError> {
        let wrong = |error: ModelError| {
            InferenceError::invalid("messages", format!("are not usable: {error}"))
        };
        match prompt {
            Prompt::Chat(chat) if chat.messages.is_empty() => {
                Err(InferenceError::invalid("messages", "must hold at least one message"))
            }
            Prompt::Chat(chat) if *chat != Chat::new(chat.messages.clone()) => {
                Err(InferenceError::Unsupported("tools or other templates"))
            }
            Prompt::Chat(chat) => {
                let text = self.model.template.render(&chat.messages, None, true).map_err(wrong)?;
                self.model.tokenizer.encode(&text).map_err(wrong)
            }
            Prompt::Text(text) => self.model.tokenizer.encode(&text).map_err(wrong),
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
