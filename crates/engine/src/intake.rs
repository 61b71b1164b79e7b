//! From a request to a job: checked, tokenised, and holding its generation. Runs on the caller's
//! thread, so that a wrong request costs the engine nothing.

use std::{sync::Arc, time::Instant};

use understudy_inference::{
    Chat, GenerateRequest, InferenceError, Prompt, Sampling, Served, ServedAdapter, Sink,
};
use understudy_model::{Conversation, Ending, ModelError};

use crate::{
    engine::Shared,
    grammar::{Grammars, Guide},
    sampler::{BadWords, Sampler, Spellings, Surroundings},
    sequence::Job,
    store::{Lease, Patience, Together},
};

impl Shared {
    /// All of a list, or the first reason why not.
    pub(crate) fn jobs(
        &self,
        requests: Vec<(GenerateRequest, Sink)>,
        submitted: Instant,
    ) -> Result<Vec<Job>, InferenceError> {
        let mut leases = self.store.together();
        let job = |(request, sink)| self.job(request, sink, submitted, &mut leases);
        requests.into_iter().map(job).collect()
    }

    fn job(
        &self,
        request: GenerateRequest,
        sink: Sink,
        submitted: Instant,
        leases: &mut Together<'_>,
    ) -> Result<Job, InferenceError> {
        let GenerateRequest { prompt, adapter, mut sampling, mut returns, admission } = request;
        sampling.validate()?;
        self.check_ids(&sampling)?;
        self.check_range("logprob_token_ids", returns.named.iter().copied())?;
        let patience = Patience::new(submitted, admission.timeout);
        let lease = adapter.map(|choice| leases.resolve(&choice, patience)).transpose();
        let lease = lease.inspect_err(|error| self.counters.turned_away(error))?;
        let (alias, lease, used) = match lease {
            Some(Lease { alias, generation, used }) => (Some(alias), Some(generation), Some(used)),
            None => (None, None, None),
        };
        let adapter = alias
            .zip(lease.as_ref())
            .map(|(alias, lease)| ServedAdapter { alias, generation: lease.digest.clone() });
        let served = Served { base: self.name.clone(), adapter };
        let prompt = self.prompt_ids(prompt)?;
        let (wanted, room) =
            (sampling.max_tokens as usize, self.context.saturating_sub(prompt.len()));
        if room == 0 || (admission.must_fit && wanted > room) {
            let (prompt_tokens, limit) = (prompt.len(), self.context);
            return Err(InferenceError::ContextOverflow {
                prompt_tokens,
                max_tokens: wanted,
                limit,
            });
        }
        let guide = self.guide(&sampling)?;
        let seed = sampling.seed.unwrap_or_else(rand::random);
        if !sampling.is_greedy() {
            sampling.seed = Some(seed);
        }
        let around = Surroundings {
            prompt: &prompt,
            ends: self.ends(&sampling),
            bad_words: self.bad_words(&sampling),
        };
        returns.log_probs.get_or_insert(self.config.logprobs_mode);
        let sampler = Sampler::new(&sampling, seed, returns.clone(), around);
        let most = room.min(wanted);
        Ok(Job {
            served,
            lease,
            _used: used,
            prompt,
            most,
            sampling,
            returns,
            admission,
            sampler,
            guide,
            sink,
            submitted,
        })
    }

    pub(crate) fn prompt_ids(&self, prompt: Prompt) -> Result<Vec<u32>, InferenceError> {
        let ids = match prompt {
            Prompt::Chat(chat) => self.chat_ids(&chat)?,
            Prompt::Text(text) => self
                .model
                .tokenizer
                .encode(&text)
                .map_err(|error| InferenceError::invalid("prompt", error.to_string()))?,
            Prompt::Tokens(ids) => {
                self.check_range("prompt", ids.iter().copied())?;
                ids
            }
        };
        if ids.is_empty() {
            return Err(InferenceError::invalid("prompt", "must hold at least one token"));
        }
        Ok(ids)
    }

    fn chat_ids(&self, chat: &Chat) -> Result<Vec<u32>, InferenceError> {
        let unusable = |field, error: ModelError| {
            InferenceError::invalid(field, format!("cannot be used: {error}"))
        };
        if chat.messages.is_empty() {
            return Err(InferenceError::invalid("messages", "must hold at least one message"));
        }
        let ending = match (chat.add_generation_prompt, chat.continue_final_message) {
            (true, true) => {
                let why = "cannot be asked for together with add_generation_prompt";
                return Err(InferenceError::invalid("continue_final_message", why));
            }
            (true, false) => Ending::Reply,
            (false, true) => Ending::Continued,
            (false, false) => Ending::Closed,
        };
        let conversation = Conversation {
            messages: &chat.messages,
            tools: &chat.tools,
            variables: Some(&chat.template_variables),
            ending,
        };
        let Some(source) = &chat.template else {
            let ids = self.model.encode_chat(&conversation);
            return ids.map_err(|error| unusable("messages", error));
        };
        let model = &self.model;
        let ids = model
            .template
            .replaced_by(source)
            .and_then(|template| model.render_chat_with(&template, &conversation))
            .and_then(|rendered| model.tokenizer.encode_rendered(&rendered));
        ids.map_err(|error| unusable("chat_template", error))
    }

    fn check_ids(&self, sampling: &Sampling) -> Result<(), InferenceError> {
        self.check_range("logit_bias", sampling.logit_bias.keys().copied())?;
        self.check_range("stop_token_ids", sampling.stop_token_ids.iter().copied())?;
        let allowed = sampling.allowed_token_ids.iter().flatten();
        self.check_range("allowed_token_ids", allowed.copied())
    }

    fn check_range(
        &self,
        field: &'static str,
        mut ids: impl Iterator<Item = u32>,
    ) -> Result<(), InferenceError> {
        let vocab = self.model.decoder.config().vocab;
        match ids.find(|id| *id as usize >= vocab) {
            None => Ok(()),
            Some(id) => {
                let why = format!("holds token {id}; the vocabulary has {vocab}");
                Err(InferenceError::invalid(field, why))
            }
        }
    }

    fn guide(&self, sampling: &Sampling) -> Result<Option<Guide>, InferenceError> {
        let Some(constraint) = &sampling.constraint else { return Ok(None) };
        let made = self.grammars.get_or_init(|| Grammars::new(&self.model.tokenizer));
        let grammars = made.as_ref().map_err(InferenceError::clone)?;
        grammars.guide(constraint).map(Some)
    }

    /// Where the completion may end, and before its least length does not.
    fn ends(&self, sampling: &Sampling) -> Vec<u32> {
        let own = if sampling.ignore_eos { &[][..] } else { self.model.tokenizer.eos() };
        own.iter().chain(&sampling.stop_token_ids).copied().collect()
    }

    fn bad_words(&self, sampling: &Sampling) -> Option<BadWords> {
        if sampling.bad_words.is_empty() {
            return None;
        }
        let shown = sampling.show_special;
        let spellings = self.spellings[usize::from(shown)]
            .get_or_init(|| Arc::new(Spellings::of(&self.model.tokenizer, shown)));
        Some(BadWords::new(&sampling.bad_words, Arc::clone(spellings)))
    }
}
