//! Log-probabilities: the chat form, the completions form, and vLLM's of a prompt.

use serde_json::{Map, Value, json};
use understudy_inference::ScoredToken;

/// JSON has no infinity; OpenAI and vLLM write this for what cannot happen.
const LEAST: f32 = -9999.0;

/// How tokens are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spelling {
    /// `token_id:7` instead of the text.
    pub(super) as_ids: bool,
}

impl Spelling {
    fn token(self, id: u32, bytes: &[u8]) -> String {
        match std::str::from_utf8(bytes) {
            _ if self.as_ids => format!("token_id:{id}"),
            Ok(text) => text.to_owned(),
            // A part of a character: OpenAI's way to keep such tokens apart.
            Err(_) => {
                bytes.iter().fold("bytes:".to_owned(), |text, byte| format!("{text}\\x{byte:02x}"))
            }
        }
    }
}

/// `logprobs.content` of a chat choice.
pub(super) fn chat(scored: &[ScoredToken], spelling: Spelling) -> Value {
    let entry = |id: u32, bytes: &[u8], log_prob: f32| {
        json!({
            "token": spelling.token(id, bytes), "logprob": finite(log_prob), "bytes": bytes,
        })
    };
    let content: Vec<Value> = scored
        .iter()
        .map(|token| {
            let mut written = entry(token.id, &token.bytes, token.log_prob);
            let top = token.top.iter().map(|top| entry(top.id, &top.bytes, top.log_prob));
            written["top_logprobs"] = top.collect();
            written
        })
        .collect();
    json!({"content": content, "refusal": null})
}

/// A place in a text: what stands there, and how likely it was, which is unknown for a prompt's
/// first token.
pub(super) enum Place<'a> {
    Unscored { id: u32, bytes: &'a [u8] },
    Scored(&'a ScoredToken),
}

/// `logprobs` of a completions choice; `offset` is how many characters stand before it.
pub(super) fn completion(places: &[Place<'_>], spelling: Spelling, offset: usize) -> Value {
    let (mut tokens, mut log_probs, mut tops, mut offsets) = (vec![], vec![], vec![], vec![]);
    let mut at = offset;
    for place in places {
        let (id, bytes) = match place {
            Place::Unscored { id, bytes } => (*id, *bytes),
            Place::Scored(token) => (token.id, token.bytes.as_slice()),
        };
        offsets.push(at);
        at += String::from_utf8_lossy(bytes).chars().count();
        tokens.push(spelling.token(id, bytes));
        match place {
            Place::Unscored { .. } => {
                log_probs.push(Value::Null);
                tops.push(Value::Null);
            }
            Place::Scored(token) => {
                log_probs.push(json!(finite(token.log_prob)));
                tops.push(alternatives(token, spelling));
            }
        }
    }
    json!({
        "tokens": tokens, "token_logprobs": log_probs, "top_logprobs": tops,
        "text_offset": offsets,
    })
}

/// The likeliest and the token itself, by text.
fn alternatives(token: &ScoredToken, spelling: Spelling) -> Value {
    let mut map = Map::new();
    for top in &token.top {
        map.entry(spelling.token(top.id, &top.bytes)).or_insert(json!(finite(top.log_prob)));
    }
    map.entry(spelling.token(token.id, &token.bytes)).or_insert(json!(finite(token.log_prob)));
    Value::Object(map)
}

/// vLLM's `prompt_logprobs`: by id, `null` for the first.
pub(super) fn prompt(scores: &[Option<ScoredToken>]) -> Value {
    let place = |token: &ScoredToken| {
        let mut map = Map::new();
        let written = |log_prob: f32, rank: Option<u32>, bytes: &[u8]| {
            json!({
                "logprob": finite(log_prob), "rank": rank,
                "decoded_token": String::from_utf8_lossy(bytes),
            })
        };
        let own = written(token.log_prob, token.rank, &token.bytes);
        map.insert(token.id.to_string(), own);
        for (index, top) in token.top.iter().enumerate() {
            let other = written(top.log_prob, Some(index as u32 + 1), &top.bytes);
            map.entry(top.id.to_string()).or_insert(other);
        }
        Value::Object(map)
    };
    scores.iter().map(|token| token.as_ref().map_or(Value::Null, place)).collect()
}

fn finite(log_prob: f32) -> f32 {
    if log_prob.is_finite() { log_prob } else { LEAST }
}
