//! A teacher that words a lesson better than a template does. It sees the draft, which has no word of
//! any user, and what it writes goes through the same sanitizer as everything else.

use std::{collections::BTreeSet, fmt, sync::Arc};

use serde::Deserialize;
use understudy_inference::{Backend, GenerateRequest, InferenceError, Prompt, Sampling, complete};
use understudy_message::Message;

use crate::{Distil, Draft, words::numbers};

const TASK: &str = "You improve the wording of short lessons for software agents. Keep the meaning \
    and every name between backticks exactly; add no other name, number, place or person; at most \
    two sentences. The situation begins with \"When\", the strategy with \"prefer\" or \"avoid\". \
    Answer with JSON only: {\"situation\": \"…\", \"strategy\": \"…\"}.";

/// Asks a model for the two sentences.
pub struct TeacherDistiller {
    backend: Arc<dyn Backend>,
    max_tokens: u32,
}

impl TeacherDistiller {
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend, max_tokens: 200 }
    }
}

impl fmt::Debug for TeacherDistiller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TeacherDistiller")
            .field("base", &self.backend.base())
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Written {
    situation: String,
    strategy: String,
}

impl Distil for TeacherDistiller {
    fn write(&self, draft: &Draft) -> Result<(String, String), InferenceError> {
        let lesson = serde_json::json!({"situation": draft.situation, "strategy": draft.strategy});
        let messages = vec![Message::system(TASK), Message::user(lesson.to_string())];
        let sampling =
            Sampling { temperature: 0.0, max_tokens: self.max_tokens, ..Sampling::default() };
        let request = GenerateRequest::new(Prompt::messages(messages), sampling);
        let text = complete(self.backend.as_ref(), request)?.text;
        let json = text.find('{').zip(text.rfind('}')).and_then(|(from, to)| text.get(from..=to));
        let written = json.and_then(|json| serde_json::from_str::<Written>(json).ok());
        let written = written.ok_or_else(|| {
            InferenceError::Failed("it answered with no lesson in JSON".to_owned())
        })?;
        if names([&written.situation, &written.strategy])
            != names([&draft.situation, &draft.strategy])
        {
            let why = "it changed the names or numbers in the lesson";
            return Err(InferenceError::Failed(why.to_owned()));
        }
        Ok((written.situation, written.strategy))
    }
}

/// The names between backticks, and the numbers.
fn names<'a>(texts: [&'a str; 2]) -> BTreeSet<&'a str> {
    let quoted = |text: &'a str| text.split('`').skip(1).step_by(2);
    texts.into_iter().flat_map(|text| quoted(text).chain(numbers(text))).collect()
}
