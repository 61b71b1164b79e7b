//! Chat templates: messages to the exact text a model was trained on.
//!
//! Templates are third-party programs. They run with a step limit, without a clock and without
//! any file or network function.

mod python;

use minijinja::{
    Environment, Error, ErrorKind, UndefinedBehavior, context, syntax::SyntaxConfig, value::Serde,
};
use serde_json::{Map, Value, json};
use understudy_ident::Digest;
use understudy_message::Message;

use crate::error::{Result, refuse};

/// A few hundred times what the longest published template needs for a long conversation.
const FUEL: u64 = 5_000_000;

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
}

impl ChatTemplate {
    /// Compiles a template; `special` are token texts it may refer to, such as `bos_token`.
    pub fn new(source: &str, special: Map<String, Value>) -> Result<Self> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| refuse!(Template, "{error}"))?);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_fuel(Some(FUEL));
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", python::to_json);
        environment.set_unknown_method_callback(python::call_method);
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(|error| refuse!(Template, "it does not compile: {error:#}"))?;
        let digest = Digest::of_parts([
            source.as_bytes(),
            Value::Object(special.clone()).to_string().as_bytes(),
        ]);
        Ok(Self { environment, special, digest: digest.to_hex() })
    }

    /// The template test models use.
    pub fn chatml() -> Result<Self> {
        Self::new(CHATML, Map::new())
    }

    /// The text of a conversation; with `add_generation_prompt` it ends where the assistant's next
    /// message begins. `tools` is the OpenAI list of tool definitions.
    pub fn render(
        &self,
        messages: &[Message],
        tools: Option<&Value>,
        add_generation_prompt: bool,
    ) -> Result<String> {
        let values = messages.iter().map(template_message).collect::<Result<Vec<Value>>>()?;
        self.render_values(&values, tools, add_generation_prompt)
    }

    /// The same for messages that are already JSON in the form templates expect.
    pub fn render_values(
        &self,
        messages: &[Value],
        tools: Option<&Value>,
        add_generation_prompt: bool,
    ) -> Result<String> {
        let template = self
            .environment
            .get_template(NAME)
            .map_err(|error| refuse!(Template, "it is missing: {error}"))?;
        let special = minijinja::Value::from(Serde(&self.special));
        let context = context! {
            messages => Serde(messages),
            tools => tools.map(Serde),
            add_generation_prompt,
            ..special
        };
        template.render(context).map_err(|error| refuse!(Template, "it did not render: {error:#}"))
    }

    /// Digest of the template's source and special tokens.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

/// A message as templates expect it: plain text content, and tool arguments as an object, although
/// the OpenAI wire has them as a string.
fn template_message(message: &Message) -> Result<Value> {
    if !message.content.is_text_only() {
        return Err(refuse!(
            Template,
            "this model reads text; a message has content of another kind"
        ));
    }
    let mut value = serde_json::to_value(message)
        .map_err(|error| refuse!(Template, "a message does not serialise: {error}"))?;
    value["content"] = json!(message.text());
    if let Some(Value::Array(calls)) = value.get_mut("tool_calls") {
        for call in calls {
            let Some(arguments) = call.pointer_mut("/function/arguments") else { continue };
            let parsed = arguments.as_str().and_then(|text| serde_json::from_str(text).ok());
            if let Some(parsed @ Value::Object(_)) = parsed {
                *arguments = parsed;
            }
        }
    }
    Ok(value)
}

fn raise_exception(message: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// A template that writes today's date would make the same conversation two different inputs.
fn strftime_now(_format: String) -> Result<String, Error> {
    let text = "the template asks for the current time, which would make prompts irreproducible";
    Err(Error::new(ErrorKind::InvalidOperation, text))
}

#[cfg(test)]
mod tests;
