//! What the mock would like to say.

use understudy_message::Message;

use super::{grammar, schema, text};
use crate::{Constraint, InferenceError, Prompt, Sampling};

/// A completion, place by place; after the last place the turn ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) places: Vec<Place>,
    /// Nothing else may be said.
    pub(super) is_constrained: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Byte(u8),
    /// Any letter is as good as another.
    AnyLetter,
}

pub(super) fn plan(
    prompt: &Prompt,
    sampling: &Sampling,
    adapter: Option<&str>,
) -> Result<Plan, InferenceError> {
    let heard = heard(prompt)?;
    let Some(constraint) = &sampling.constraint else {
        let said = match adapter {
            Some(alias) => format!("{alias}: {heard}"),
            None => heard,
        };
        let place = |byte| if byte == b'?' { Place::AnyLetter } else { Place::Byte(byte) };
        return Ok(Plan { places: said.bytes().map(place).collect(), is_constrained: false });
    };
    let text = match constraint {
        Constraint::JsonObject => serde_json::json!({ "heard": heard }).to_string(),
        Constraint::JsonSchema(schema) => schema::instance(schema)?.to_string(),
        Constraint::Choice(texts) => {
            let named = texts.iter().find(|text| heard.contains(text.as_str()));
            named.or(texts.first()).cloned().unwrap_or_default()
        }
        Constraint::Grammar(source) => grammar::sentence(source, &heard)?,
        Constraint::Regex(_) => {
            return Err(InferenceError::Unsupported("constraints by regular expression"));
        }
    };
    Ok(Plan { places: text.bytes().map(Place::Byte).collect(), is_constrained: true })
}

/// What it was told last.
fn heard(prompt: &Prompt) -> Result<String, InferenceError> {
    Ok(match prompt {
        Prompt::Chat(chat) if chat.continue_final_message => " and so on".to_owned(),
        Prompt::Chat(chat) => chat.messages.last().map(Message::text).unwrap_or_default(),
        Prompt::Text(text) => text.clone(),
        Prompt::Tokens(ids) => text::detokenize(ids)?,
    })
}
