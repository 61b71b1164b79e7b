//! Whether two replies to the same come to the same.

use serde_json::Value;
use understudy_message::{Message, ToolCall};
use understudy_scorer::text::normalised;

/// The same calls with equal arguments, in the same order; without calls, the same text but for
/// spelling that does not matter. What is said beside calls is no part of what is done.
pub fn agrees(one: &Message, other: &Message) -> bool {
    if one.tool_calls.is_empty() && other.tool_calls.is_empty() {
        return normalised(&one.text()) == normalised(&other.text());
    }
    let same = |(a, b): (&ToolCall, &ToolCall)| {
        a.function.name == b.function.name
            && arguments(&a.function.arguments) == arguments(&b.function.arguments)
    };
    one.tool_calls.len() == other.tool_calls.len()
        && one.tool_calls.iter().zip(&other.tool_calls).all(same)
}

/// As a value, so that neither spaces nor the order of keys matter; an empty text is no arguments.
fn arguments(text: &str) -> Result<Value, &str> {
    let text = if text.trim().is_empty() { "{}" } else { text };
    serde_json::from_str(text).map_err(|_| text)
}
