//! A backend that is asked without the personal data and the secrets in a conversation.
//!
//! What patterns find leaves as `<EMAIL_1>` and stands in the reply again, in its text and in the
//! arguments of its calls. What stands for what is kept in memory, for one request.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use understudy_inference::{
    Backend, Completion, Delta, Event, Gauge, GenerateRequest, InferenceError, Prompt, Sink,
};
use understudy_redact::{Policy, Redactor};

/// Longer than any pseudonym: so much text at most is held back until it is known to be none.
const LONGEST: usize = 24;

/// Masks what it sends on, and unmasks what comes back.
#[derive(Debug)]
pub struct Redacted {
    backend: Arc<dyn Backend>,
    redactor: Redactor,
}

impl Redacted {
    pub fn new(backend: Arc<dyn Backend>, policy: Policy) -> Self {
        Self { backend, redactor: Redactor::new(policy) }
    }
}

impl Backend for Redacted {
    fn base(&self) -> &str {
        self.backend.base()
    }

    fn gauges(&self) -> Vec<Gauge> {
        self.backend.gauges()
    }

    fn submit(&self, mut request: GenerateRequest, mut sink: Sink) -> Result<(), InferenceError> {
        let mut masker = self.redactor.masker();
        match &mut request.prompt {
            Prompt::Chat(chat) => {
                for message in &mut chat.messages {
                    *message = message.map_text(|text| masker.mask(text));
                }
            }
            Prompt::Text(text) => *text = masker.mask(text),
            // Nobody can read those but whoever drew them.
            Prompt::Tokens(_) => {}
        }
        let mut reply = Reply { originals: masker.originals().clone(), held: String::new() };
        if reply.originals.is_empty() {
            return self.backend.submit(request, sink);
        }
        self.backend.submit(request, Box::new(move |event| reply.pass_on(event, &mut sink)))
    }
}

/// One reply on its way back.
struct Reply {
    originals: BTreeMap<String, String>,
    /// Text that may be the beginning of a pseudonym.
    held: String,
}

impl Reply {
    fn pass_on(&mut self, event: Event, sink: &mut Sink) -> ControlFlow<()> {
        match event {
            Event::Delta(delta) => {
                self.held.push_str(&delta.text);
                let rest = self.held.split_off(self.certain());
                let certain = std::mem::replace(&mut self.held, rest);
                let text = self.restored(&certain);
                sink(Event::Delta(Delta { text, ..delta }))
            }
            Event::Finished(completion) => {
                let rest = std::mem::take(&mut self.held);
                if !rest.is_empty() {
                    sink(Event::Delta(Delta::from(self.restored(&rest).as_str())))?;
                }
                sink(Event::Finished(Box::new(self.whole(*completion))))
            }
            other => sink(other),
        }
    }

    /// How much of the held text no pseudonym can begin in any more.
    fn certain(&self) -> usize {
        match self.held.rfind('<') {
            Some(start)
                if self.held.len() - start < LONGEST && !self.held[start..].contains('>') =>
            {
                start
            }
            _ => self.held.len(),
        }
    }

    fn restored(&self, text: &str) -> String {
        self.replaced(text, str::to_owned)
    }

    fn replaced(&self, text: &str, spell: impl Fn(&str) -> String) -> String {
        let mut text = text.to_owned();
        for (pseudonym, original) in &self.originals {
            if text.contains(pseudonym) {
                text = text.replace(pseudonym, &spell(original));
            }
        }
        text
    }

    fn whole(&self, mut completion: Completion) -> Completion {
        completion.text = self.restored(&completion.text);
        for call in &mut completion.tool_calls {
            // Within a string of JSON.
            let spell = |original: &str| {
                let quoted = serde_json::Value::from(original).to_string();
                quoted[1..quoted.len() - 1].to_owned()
            };
            call.function.arguments = self.replaced(&call.function.arguments, spell);
        }
        completion
    }
}
