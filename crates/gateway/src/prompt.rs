//! What can be known of a prompt before anything is generated. Long ones take a while to tokenise,
//! for which nobody else on the thread waits.

use tokio::task::block_in_place;
use understudy_inference::{AdapterChoice, Chat, GenerateRequest, Prompt};
use understudy_openai::{Ask, CompletionRequest, ShownPrompt};

use crate::{error::ApiError, exchange::Exchange, state::Gateway};

/// A template of the request's own is a program, which only those may send who are trusted with
/// this machine's memory.
pub(crate) fn check_template(gateway: &Gateway, chat: &Chat) -> Result<(), ApiError> {
    if chat.template.is_none() || gateway.request_templates {
        return Ok(());
    }
    let why = "`chat_template` is not taken from requests here; start the server with \
               --allow-request-templates to run templates of whoever may ask";
    Err(ApiError::bad_field("chat_template", why))
}

/// The prompt with only its last tokens, where what is asked of the student says so.
pub(crate) fn truncated(gateway: &Gateway, ask: &Ask, prompt: Prompt) -> Result<Prompt, ApiError> {
    let Some(most) = ask.truncate else { return Ok(prompt) };
    let wanted = ask.sampling.max_tokens as usize;
    let room = gateway.student.context().saturating_sub(wanted);
    let most = usize::try_from(most).unwrap_or(room.max(1));
    let ids = block_in_place(|| gateway.student.tokenize(&prompt))?;
    Ok(Prompt::Tokens(ids[ids.len().saturating_sub(most)..].to_vec()))
}

/// A prompt as a reply may have to show it.
pub(crate) fn shown(gateway: &Gateway, prompt: &Prompt) -> Result<ShownPrompt, ApiError> {
    let student = &gateway.student;
    let ids = block_in_place(|| student.tokenize(prompt))?;
    let text = match prompt {
        Prompt::Text(text) => text.clone(),
        Prompt::Chat(_) | Prompt::Tokens(_) => student.detokenize(&ids)?,
    };
    let first = ids.first().and_then(|id| student.token_bytes(*id)).unwrap_or_default();
    Ok(ShownPrompt { ids, text, first })
}

/// The prompts of a completions request, cut where it says so, with the generations of each.
pub(crate) fn of_completions(
    gateway: &Gateway,
    exchange: &Exchange,
    request: &CompletionRequest,
) -> Result<(Vec<ShownPrompt>, Vec<GenerateRequest>), ApiError> {
    let adapter: Option<AdapterChoice> = exchange.routing.way.adapter.clone();
    let ask = exchange.ask_of_student();
    let (mut prompts, mut requests) = (Vec::new(), Vec::new());
    for prompt in &request.prompts {
        let prompt = truncated(gateway, &ask, prompt.clone())?;
        prompts.push(shown(gateway, &prompt)?);
        requests.extend(ask.requests(&prompt, adapter.clone()));
    }
    Ok((prompts, requests))
}
