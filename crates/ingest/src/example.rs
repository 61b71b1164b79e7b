//! What every bulk format comes down to: a prompt, a reply and what is known about the reply.

use serde_json::Value;
use understudy_message::{Message, Role};
use understudy_trajectory::Signal;

use crate::{
    Format, IngestError, Row, RowMapping, openai, rows::Document, telemetry::tool_definition, trl,
};

/// One row, understood.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Example {
    pub(crate) prompt: Vec<Message>,
    pub(crate) reply: Message,
    /// Definitions of what could be called.
    pub(crate) tools: Vec<Value>,
    pub(crate) signal: Signal,
}

/// How the rows of a document are read, decided once.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reader<'a> {
    Examples(Examples<'a>),
    Understudy,
    TauBench,
    Atif,
    Telemetry(Telemetry),
}

/// The formats that are read as a whole: their rows are parts of conversations.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Telemetry {
    Langsmith,
    Otlp,
}

/// The formats whose rows are examples.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Examples<'a> {
    OpenAi,
    Trl,
    Rows(&'a RowMapping),
}

impl<'a> Reader<'a> {
    /// Refuses a mapping that the rows cannot satisfy, or that would not be used.
    pub(crate) fn choose(
        format: Format,
        document: &Document<'_>,
        mapping: Option<&'a RowMapping>,
    ) -> Result<Self, IngestError> {
        let first = document.rows().find_map(|(_, row)| row.ok()).ok_or(IngestError::Empty)?;
        let format = match format {
            Format::Auto if mapping.is_some() => Format::Rows,
            Format::Auto => Format::of_row(&first),
            named => named,
        };
        match (format, mapping) {
            (Format::Rows | Format::Auto, Some(mapping)) => {
                mapping.check(document)?;
                Ok(Self::Examples(Examples::Rows(mapping)))
            }
            (Format::Rows | Format::Auto, None) => {
                let fields: Vec<String> = first.keys().map(|key| format!("`{key}`")).collect();
                Err(IngestError::NoMapping { fields: fields.join(", ") })
            }
            (_, Some(_)) => Err(IngestError::MappingUnused { format: format.as_str() }),
            (Format::OpenAi, None) => Ok(Self::Examples(Examples::OpenAi)),
            (Format::Trl, None) => Ok(Self::Examples(Examples::Trl)),
            (Format::Understudy, None) => Ok(Self::Understudy),
            (Format::TauBench, None) => Ok(Self::TauBench),
            (Format::Atif, None) => Ok(Self::Atif),
            (Format::Langsmith, None) => Ok(Self::Telemetry(Telemetry::Langsmith)),
            (Format::Otlp, None) => Ok(Self::Telemetry(Telemetry::Otlp)),
        }
    }
}

impl Examples<'_> {
    /// The example a row holds, or why it holds none.
    pub(crate) fn read(&self, row: &Row) -> Result<Example, String> {
        let example = match self {
            Self::OpenAi => openai::read(row)?,
            Self::Trl => trl::read(row)?,
            Self::Rows(mapping) => mapping.read(row)?,
        };
        if example.prompt.is_empty() {
            return Err("the prompt is empty".to_owned());
        }
        if example.reply.content.parts().is_empty() && example.reply.tool_calls.is_empty() {
            return Err("the reply is empty".to_owned());
        }
        Ok(example)
    }
}

/// A list of messages in the OpenAI form.
pub(crate) fn messages(field: &str, value: &Value) -> Result<Vec<Message>, String> {
    serde_json::from_value(value.clone())
        .map_err(|why| format!("`{field}` is not a list of messages: {why}"))
}

/// What came before the last message, and that message, which has to be the assistant's.
pub(crate) fn split_reply(
    field: &str,
    mut messages: Vec<Message>,
) -> Result<(Vec<Message>, Message), String> {
    match messages.pop() {
        Some(reply) if reply.role == Role::Assistant => Ok((messages, reply)),
        Some(other) => Err(format!(
            "`{field}` ends with a {} message, not with a reply of the assistant",
            other.role.as_str()
        )),
        None => Err(format!("`{field}` is empty")),
    }
}

/// Definitions of tools in the OpenAI form: from a list, from that list as JSON text, as exporters for
/// older readers write it, or from what OpenAI called `functions` before.
pub(crate) fn tools(row: &Row) -> Result<Vec<Value>, String> {
    for field in ["tools", "functions"] {
        let list = match row.get(field) {
            None | Some(Value::Null) => continue,
            Some(Value::String(text)) => serde_json::from_str(text)
                .map_err(|why| format!("`{field}` is text that is no JSON: {why}"))?,
            Some(value) => value.clone(),
        };
        let Value::Array(items) = list else {
            return Err(format!("`{field}` is not a list of tool definitions"));
        };
        let named = |(place, item): (usize, Value)| {
            let tool = tool_definition(item);
            let name = tool.pointer("/function/name").and_then(Value::as_str);
            match name {
                Some(name) if !name.is_empty() => Ok(tool),
                _ => Err(format!("`{field}`: definition {} has no `function.name`", place + 1)),
            }
        };
        return items.into_iter().enumerate().map(named).collect();
    }
    Ok(Vec::new())
}
