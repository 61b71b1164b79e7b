//! vLLM's `POST /inference/v1/generate`: token ids in, token ids out.

use understudy_inference::{Admission, Prompt};

use crate::{
    ask::{Ask, Show},
    constraint::constraint,
    error::RequestError,
    fields::Fields,
    refused,
};

/// vLLM's default.
const DEFAULT_MAX_TOKENS: u32 = 16;

/// What belongs in `sampling_params`, and would say nothing beside it.
const INSIDE: &[&str] = &[
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logit_bias",
    "allowed_token_ids",
    "bad_words",
    "seed",
    "n",
    "stop",
    "stop_token_ids",
    "include_stop_str_in_output",
    "ignore_eos",
    "min_tokens",
    "skip_special_tokens",
    "logprobs",
    "prompt_logprobs",
    "logprobs_mode",
    "logprob_token_ids",
    "return_tokens_as_token_ids",
    "response_format",
    "structured_outputs",
];

/// What belongs beside `sampling_params`, and would say nothing in it.
const OUTSIDE: &[&str] = &[
    "model",
    "adapter",
    "stream",
    "stream_options",
    "priority",
    "cache_salt",
    "request_id",
    "session_id",
    "user",
];

/// What has no meaning for a prompt of ids, whose ids and weights are always told.
const NOWHERE: &[&str] = &["prompt", "messages", "echo", "return_prompt_text"];

/// A request in ids only, as rollouts make it.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateBody {
    pub ask: Ask,
    pub prompt: Prompt,
}

impl GenerateBody {
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        let fields = Fields::parse(body)?;
        if fields.named("features").is_some() {
            return Err(fields.refused("features"));
        }
        let sampling = fields.inner("sampling_params", "sampling_params.")?;
        refused::in_sampling_params(&fields)?;
        refused::in_sampling_params(&sampling)?;
        check_places(&fields, &sampling)?;
        let ids = fields.ids("token_ids")?.ok_or_else(|| fields.missing("token_ids"))?;
        if ids.is_empty() {
            return Err(fields.wrong("token_ids", "must hold at least one id"));
        }
        let top = sampling.count("logprobs")?;
        let mut inner =
            Ask::read(&sampling, sampling.count("max_tokens")?, DEFAULT_MAX_TOKENS, top)?;
        inner.check_named(&sampling)?;
        inner.sampling.constraint = constraint(&sampling)?;
        inner.sampling.validate().map_err(|why| sampling.at_fault(why))?;
        let outer = Ask::read(&fields, None, DEFAULT_MAX_TOKENS, None)?;
        if outer.stream.is_some() && inner.returns.prompt_top.is_some() {
            return Err(sampling.wrong("prompt_logprobs", "cannot be streamed"));
        }
        let must_fit = inner.admission.must_fit;
        let ask = Ask {
            sampling: inner.sampling,
            // What draws a rollout is what its trainer wrote, and nothing else.
            left_out: Vec::new(),
            returns: inner.returns,
            n: inner.n,
            admission: Admission { must_fit, ..outer.admission },
            show: Show { token_ids: true, weight_versions: true, ..inner.show },
            // vLLM has it among the parameters, and its other endpoints beside them.
            truncate: inner.truncate.or(outer.truncate),
            ..outer
        };
        Ok(Self { ask, prompt: Prompt::Tokens(ids) })
    }
}

/// A field in the wrong object would be read by nobody.
fn check_places(fields: &Fields, sampling: &Fields) -> Result<(), RequestError> {
    let there = |fields: &Fields, names: &[&'static str]| {
        names.iter().copied().find(|name| fields.named(name).is_some())
    };
    if let Some(name) = there(fields, INSIDE) {
        return Err(fields.wrong(name, "belongs in `sampling_params` here"));
    }
    if let Some(name) = there(sampling, OUTSIDE) {
        return Err(sampling.wrong(name, "belongs beside `sampling_params`, not in it"));
    }
    for fields in [fields, sampling] {
        if let Some(name) = there(fields, NOWHERE) {
            return Err(fields.refused(name));
        }
    }
    Ok(())
}

/// Where the fields belong, for the test that reads their table.
#[cfg(test)]
pub(crate) const PLACES: [&[&str]; 3] = [INSIDE, OUTSIDE, NOWHERE];
