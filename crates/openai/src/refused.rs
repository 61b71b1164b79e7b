//! Known fields that this server does not honour, each with the values that ask for nothing.

use crate::{error::RequestError, fields::Fields};

/// A field's name and, as JSON, the values it may still have.
type Refused = (&'static str, &'static [&'static str]);

/// Neither chat nor completions do these.
const EVERYWHERE: &[Refused] = &[
    ("use_beam_search", &["false"]),
    ("length_penalty", &["1", "1.0"]),
    ("early_stopping", &["false"]),
    ("best_of", &["1"]),
    ("spaces_between_special_tokens", &["true"]),
    ("logits_processors", &["[]"]),
    ("kv_transfer_params", &[]),
    ("ec_transfer_params", &[]),
    ("vllm_xargs", &["{}"]),
    ("guided_json", &[]),
    ("guided_regex", &[]),
    ("guided_choice", &[]),
    ("guided_grammar", &[]),
    ("thinking_token_budget", &[]),
    ("repetition_detection", &[]),
    ("truncation_side", &["\"left\""]),
    ("watermarking", &["false"]),
    ("routed_experts_prompt_start", &["0"]),
    ("return_token_offsets", &["false"]),
    ("return_mm_kwargs", &["true"]),
    ("stream_interval", &["1"]),
    ("service_tier", &["\"auto\"", "\"default\""]),
];

const IN_CHAT: &[Refused] = &[
    ("functions", &[]),
    ("function_call", &["\"none\""]),
    ("modalities", &["[\"text\"]"]),
    ("audio", &[]),
    ("prediction", &[]),
    ("web_search_options", &[]),
    ("verbosity", &["\"medium\""]),
    ("echo", &["false"]),
    ("add_special_tokens", &["false"]),
    ("documents", &["[]"]),
    ("media_io_kwargs", &["{}"]),
    ("mm_processor_kwargs", &["{}"]),
    ("include_reasoning", &["true"]),
    ("return_assistant_tokens_mask", &["false"]),
    ("moderation", &[]),
    ("prompt_cache_options", &[]),
    ("prompt_cache_retention", &["\"in_memory\"", "\"in-memory\""]),
];

const IN_COMPLETIONS: &[Refused] =
    &[("suffix", &["\"\""]), ("prompt_embeds", &[]), ("add_special_tokens", &["true", "false"])];

/// What vLLM's clients can only say here.
const IN_SAMPLING_PARAMS: &[Refused] = &[
    ("extra_args", &["{}"]),
    ("flat_logprobs", &["false"]),
    ("skip_reading_prefix_cache", &["false"]),
];

pub(crate) fn in_chat(fields: &Fields) -> Result<(), RequestError> {
    refuse(fields, &[EVERYWHERE, IN_CHAT])
}

pub(crate) fn in_completions(fields: &Fields) -> Result<(), RequestError> {
    refuse(fields, &[EVERYWHERE, IN_COMPLETIONS])
}

/// For the parameters of `/inference/v1/generate`.
pub(crate) fn in_sampling_params(fields: &Fields) -> Result<(), RequestError> {
    refuse(fields, &[EVERYWHERE, IN_SAMPLING_PARAMS])
}

fn refuse(fields: &Fields, tables: &[&[Refused]]) -> Result<(), RequestError> {
    for (name, neutral) in tables.iter().copied().flatten() {
        let Some(value) = fields.named(name) else { continue };
        let asks_nothing = neutral.iter().any(|text| {
            serde_json::from_str::<serde_json::Value>(text).is_ok_and(|neutral| neutral == *value)
        });
        if !asks_nothing {
            return Err(fields.refused(name));
        }
    }
    Ok(())
}

/// The names refused for chat and for completions.
#[cfg(test)]
pub(crate) fn names() -> [std::collections::BTreeSet<&'static str>; 2] {
    let of = |tables: [&'static [Refused]; 2]| {
        tables.into_iter().flatten().map(|(name, _)| *name).collect()
    };
    [of([EVERYWHERE, IN_CHAT]), of([EVERYWHERE, IN_COMPLETIONS])]
}
