//! Chat templates: messages to the exact text a model was trained on.
//!
//! Templates are third-party programs. They run with a step limit, without a clock and without
//! any file or network function. `strftime_now` is not defined: today's date would make the same
//! conversation two different inputs, and templates that look for it have a date of their own, which
//! a request may replace by a variable.

mod conversation;
mod python;
mod tools;

use std::{
    borrow::Cow,
    sync::{Arc, LazyLock, OnceLock},
};

use minijinja::{
    Environment, Error, ErrorKind, UndefinedBehavior, context, syntax::SyntaxConfig, value::Serde,
};
use regex::{Captures, Regex};
use serde_json::{Map, Value};
use understudy_ident::Digest;
use understudy_message::Message;

pub use conversation::{Conversation, Ending};

use crate::{
    error::{ModelError, Result, refuse},
    tokenizer::{Markers, Rendered, Voice},
};
use conversation::{guarded, guarded_message, template_message};

/// A few hundred times what the longest published template needs for a long conversation.
const FUEL: u64 = 5_000_000;

/// What a template that came with a request may use: it must write one prompt, once.
const REQUEST_FUEL: u64 = 500_000;

/// Bytes of a template that came with a request; published ones have a tenth.
const LONGEST_REQUEST: usize = 64 * 1024;

/// Bytes a template may write: more than any context holds, and less than a machine does.
const LONGEST_RENDERED: usize = 16 << 20;

/// Characters of a template's complaint that are passed on.
const LONGEST_COMPLAINT: usize = 400;

const NAME: &str = "chat";

/// The template SmolLM2 and Qwen share in essence: `<|im_start|>role\n…<|im_end|>\n`.
pub(crate) const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] \
    + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// A compiled chat template.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// `bos_token`, `eos_token` and the like, by the names templates use.
    special: Map<String, Value>,
    digest: String,
    /// Found out when first asked.
    places: OnceLock<Places>,
}

/// What a template has a place for.
#[derive(Debug, Clone, Copy)]
struct Places {
    /// Tool definitions.
    definitions: bool,
    /// Calls of earlier messages.
    calls: bool,
}

impl ChatTemplate {
    /// Compiles a template; `special` are token texts it may refer to, such as `bos_token`.
    pub fn new(source: &str, special: Map<String, Value>) -> Result<Self> {
        Self::with_fuel(source, special, FUEL)
    }

    /// A template that came with a request, with this one's special tokens and a tighter limit on
    /// its steps. What it writes is limited, what it holds meanwhile is not: texts can be made to
    /// double, so a server must offer this to those it trusts and to nobody else.
    pub fn replaced_by(&self, source: &str) -> Result<Self> {
        if source.len() > LONGEST_REQUEST {
            return Err(refuse!(Template, "it is longer than {LONGEST_REQUEST} bytes"));
        }
        Self::with_fuel(source, self.special.clone(), REQUEST_FUEL)
    }

    fn with_fuel(source: &str, special: Map<String, Value>, fuel: u64) -> Result<Self> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| refuse!(Template, "{error}"))?);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_fuel(Some(fuel));
        environment.add_function("raise_exception", raise_exception);
        environment.add_filter("tojson", python::to_json);
        environment.set_unknown_method_callback(python::call_method);
        environment
            .add_template_owned(NAME, without_marks(source).into_owned())
            .map_err(|error| refuse!(Template, "it does not compile: {}", complaint(&error)))?;
        let digest = Digest::of_parts([
            source.as_bytes(),
            Value::Object(special.clone()).to_string().as_bytes(),
        ]);
        let places = OnceLock::new();
        Ok(Self { environment, special, digest: digest.to_hex(), places })
    }

    /// The template test models use.
    pub fn chatml() -> Result<Self> {
        Self::new(CHATML, Map::new())
    }

    /// The text of a conversation; with `add_generation_prompt` it ends where the assistant's next
    /// message begins. `tools` is the OpenAI list of tool definitions. For readers: what it becomes
    /// as ids is [`crate::BaseModel::encode_chat`]'s to say.
    pub fn render(
        &self,
        messages: &[Message],
        tools: Option<&Value>,
        add_generation_prompt: bool,
    ) -> Result<String> {
        let values = messages.iter().map(template_message).collect::<Result<Vec<Value>>>()?;
        let tools = tools.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let (messages, tools) = self.placed(values, tools);
        self.render_values(&messages, tools.as_ref(), add_generation_prompt)
    }

    /// The same for messages that are already JSON in the form templates expect.
    pub fn render_values(
        &self,
        messages: &[Value],
        tools: Option<&Value>,
        add_generation_prompt: bool,
    ) -> Result<String> {
        self.run(messages, tools, add_generation_prompt, &self.special)
    }

    /// A conversation written down so that the markers in it are the template's own.
    pub(crate) fn write(&self, chat: &Conversation<'_>, markers: &Markers) -> Result<Rendered> {
        let guard = |message| guarded_message(message, markers);
        let mut messages = chat.messages.iter().map(guard).collect::<Result<Vec<Value>>>()?;
        let tools: Vec<Value> =
            chat.tools.iter().map(|tool| guarded(tool, markers, Voice::Other)).collect();
        let mut variables = self.special.clone();
        for (name, value) in chat.variables.into_iter().flatten() {
            variables.insert(name.clone(), guarded(value, markers, Voice::Other));
        }
        let seam = markers.seam();
        // Blank at its end, so that it shows whether the template trims.
        let tag = format!("{seam}{seam} ");
        if chat.ending == Ending::Continued {
            let last = messages.last_mut().map(|message| &mut message["content"]);
            let Some(Value::String(text)) = last else {
                return Err(refuse!(Template, "there is no final message to continue"));
            };
            text.push_str(&tag);
        }
        let reply = chat.ending == Ending::Reply;
        let (messages, tools) = self.placed(messages, &tools);
        let mut text = self
            .run(&messages, tools.as_ref(), reply, &variables)
            .map_err(|error| without_seams(error, seam))?;
        if chat.ending == Ending::Continued {
            text = continued(&text, &tag)?;
        }
        Ok(Rendered { text, seam: Arc::clone(seam) })
    }

    fn run(
        &self,
        messages: &[Value],
        tools: Option<&Value>,
        add_generation_prompt: bool,
        variables: &Map<String, Value>,
    ) -> Result<String> {
        let template = self
            .environment
            .get_template(NAME)
            .map_err(|error| refuse!(Template, "it is missing: {error}"))?;
        let variables = minijinja::Value::from(Serde(variables));
        let context = context! {
            messages => Serde(messages),
            tools => tools.map(Serde),
            add_generation_prompt,
            ..variables
        };
        let mut written = Bounded::default();
        let rendered = template.render_captured_to(context, &mut written);
        if written.overflowed {
            return Err(refuse!(Template, "it writes more than {LONGEST_RENDERED} bytes"));
        }
        rendered.map_err(|error| refuse!(Template, "it did not render: {}", complaint(&error)))?;
        String::from_utf8(written.bytes)
            .map_err(|error| refuse!(Template, "it did not render text: {error}"))
    }

    /// Messages and definitions where the template looks for them: what it has no place for is
    /// written into the messages' text.
    fn placed(&self, messages: Vec<Value>, tools: &[Value]) -> (Vec<Value>, Option<Value>) {
        let Places { definitions, calls } = self.places();
        let messages = if calls { messages } else { tools::spell_out_calls(messages) };
        match tools {
            [] => (messages, None),
            tools if definitions => (messages, Some(Value::Array(tools.to_vec()))),
            tools => (tools::spell_out_definitions(messages, tools), None),
        }
    }

    /// A template that shows nothing of what it is given has no place for it.
    fn places(&self) -> Places {
        *self.places.get_or_init(|| {
            let (messages, tools) = tools::definition_probe();
            let render = |messages: &[Value], tools| self.run(messages, tools, true, &self.special);
            let tells_apart = |a: Result<String>, b: Result<String>| match (a, b) {
                (Ok(a), Ok(b)) => a != b,
                _ => true,
            };
            let definitions = tells_apart(render(&messages, Some(&tools)), render(&messages, None));
            let [with, without] = tools::call_probe();
            let calls = tells_apart(render(&with, None), render(&without, None));
            Places { definitions, calls }
        })
    }

    /// Digest of the template's source and special tokens.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

/// What a template writes, up to a limit.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    overflowed: bool,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > LONGEST_RENDERED {
            self.overflowed = true;
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The text up to the tag in its last message, without the blanks a template that trims would have
/// left out there.
fn continued(text: &str, tag: &str) -> Result<String> {
    let trimmed = tag.trim_end();
    let at = text.rfind(trimmed).ok_or_else(|| {
        refuse!(Template, "it does not show the final message, which so cannot be continued")
    })?;
    let kept = &text[..at];
    Ok(if text[at..].starts_with(tag) { kept } else { kept.trim_end() }.to_owned())
}

/// A template may quote a message in its complaint, whose reader is not to see how it was guarded.
fn without_seams(error: ModelError, seam: &str) -> ModelError {
    match error {
        ModelError::Template { what } => ModelError::Template { what: what.replace(seam, "") },
        other => other,
    }
}

/// What a template complains of, short enough to pass on.
fn complaint(error: &Error) -> String {
    let whole = format!("{error:#}");
    match whole.char_indices().nth(LONGEST_COMPLAINT) {
        Some((end, _)) => format!("{}…", &whole[..end]),
        None => whole,
    }
}

fn raise_exception(message: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// What transformers marks the assistant's words with writes nothing; a condition that always holds
/// stands in for it, so that blanks are trimmed as around any block.
fn without_marks(source: &str) -> Cow<'_, str> {
    static MARK: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}").expect("the pattern is one")
    });
    MARK.replace_all(source, |found: &Captures<'_>| {
        let tag = if found.get(2).is_some() { "endif" } else { "if true" };
        format!("{{%{} {tag} {}%}}", &found[1], &found[3])
    })
}

#[cfg(test)]
mod tests;
