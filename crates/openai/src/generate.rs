//! vLLM's `POST /inference/v1/generate`: token ids in, token ids out.

use understudy_inference::Prompt;

use crate::{
    ask::{Ask, Show},
    constraint::constraint,
    error::RequestError,
    fields::Fields,
    refused,
};

/// vLLM's default.
const DEFAULT_MAX_TOKENS: u32 = 16;

/// A request in ids only, as rollouts make it.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateBody {
    pub ask: Ask,
    pub prompt: Prompt,
}

impl GenerateBody {
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        let fields = Fields::parse(body)?;
        for name in ["features", "kv_transfer_params", "ec_transfer_params"] {
            if fields.named(name).is_some() {
                return Err(fields.refused(name));
            }
        }
        let ids = fields.ids("token_ids")?.ok_or_else(|| fields.missing("token_ids"))?;
        if ids.is_empty() {
            return Err(fields.wrong("token_ids", "must hold at least one id"));
        }
        let sampling = fields.inner("sampling_params", "sampling_params.")?;
        refused::in_sampling_params(&sampling)?;
        let top = sampling.count("logprobs")?;
        let mut inner =
            Ask::read(&sampling, sampling.count("max_tokens")?, DEFAULT_MAX_TOKENS, top)?;
        inner.sampling.constraint = constraint(&sampling)?;
        inner.sampling.validate().map_err(|why| sampling.at_fault(why))?;
        let outer = Ask::read(&fields, None, DEFAULT_MAX_TOKENS, None)?;
        if outer.stream.is_some() && inner.returns.prompt_top.is_some() {
            return Err(sampling.wrong("prompt_logprobs", "cannot be streamed"));
        }
        let ask = Ask {
            sampling: inner.sampling,
            returns: inner.returns,
            n: inner.n,
            admission: understudy_inference::Admission {
                must_fit: inner.admission.must_fit,
                ..outer.admission
            },
            show: Show { token_ids: true, weight_versions: true, ..inner.show },
            ..outer
        };
        Ok(Self { ask, prompt: Prompt::Tokens(ids) })
    }
}
