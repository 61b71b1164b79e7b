//! How tokens are drawn, as OpenAI and vLLM spell it.

use std::collections::BTreeMap;

use serde_json::Value;
use understudy_inference::Sampling;

use crate::{error::RequestError, fields::Fields};

/// Everything but how many tokens and what they must form. Neutral values are OpenAI's defaults.
pub(crate) fn sampling(fields: &Fields, max_tokens: u32) -> Result<Sampling, RequestError> {
    let neutral = Sampling::default();
    let penalty = |name| Ok::<_, RequestError>(fields.number(name)?.unwrap_or(0.0));
    Ok(Sampling {
        temperature: fields.number("temperature")?.unwrap_or(neutral.temperature),
        top_p: fields.number("top_p")?.unwrap_or(neutral.top_p),
        top_k: top_k(fields)?,
        min_p: fields.number("min_p")?.unwrap_or(neutral.min_p),
        presence_penalty: penalty("presence_penalty")?,
        frequency_penalty: penalty("frequency_penalty")?,
        repetition_penalty: fields
            .number("repetition_penalty")?
            .unwrap_or(neutral.repetition_penalty),
        logit_bias: logit_bias(fields)?,
        allowed_token_ids: fields.ids("allowed_token_ids")?,
        bad_words: fields.texts("bad_words")?,
        constraint: None,
        // A seed is 64 bits, whatever its sign.
        seed: fields.integer("seed")?.map(|seed| seed as u64),
        max_tokens,
        min_tokens: fields.count("min_tokens")?.unwrap_or(0),
        stop: stop(fields)?,
        stop_token_ids: fields.ids("stop_token_ids")?.unwrap_or_default(),
        ignore_eos: fields.flag("ignore_eos")?,
        include_stop: fields.flag("include_stop_str_in_output")?,
        show_special: !fields.flag_or_none("skip_special_tokens")?.unwrap_or(true),
    })
}

/// vLLM's older clients say -1 for off.
fn top_k(fields: &Fields) -> Result<u32, RequestError> {
    match fields.integer("top_k")? {
        None | Some(-1) => Ok(0),
        Some(count) => u32::try_from(count)
            .map_err(|_| fields.wrong("top_k", "must be a whole number, 0 or -1 for off")),
    }
}

fn stop(fields: &Fields) -> Result<Vec<String>, RequestError> {
    match fields.get("stop") {
        Some(Value::String(one)) => Ok(vec![one.clone()]),
        Some(Value::Array(_)) | None => fields.texts("stop"),
        Some(_) => Err(fields.wrong("stop", "must be a string or a list of them")),
    }
}

fn logit_bias(fields: &Fields) -> Result<BTreeMap<u32, f32>, RequestError> {
    let wrong = || fields.wrong("logit_bias", "must map token ids to numbers");
    let Some(object) = fields.object("logit_bias")? else { return Ok(BTreeMap::new()) };
    let pair =
        |(id, bias): (&String, &Value)| Some((id.parse::<u32>().ok()?, bias.as_f64()? as f32));
    object.iter().map(|entry| pair(entry).ok_or_else(wrong)).collect()
}
