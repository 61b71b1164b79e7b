//! Tools in Hermes' syntax, which Qwen, SmolLM2 and most small models were trained on:
//! `<tool_call>\n{"name": …, "arguments": {…}}\n</tool_call>`.

mod choice;
mod gate;
mod grammar;

use understudy_message::{FunctionCall, ToolCall};

pub use choice::{ToolReading, Tools};
pub use gate::{ToolGate, ToolPiece};

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// The id of a reply's call: the same in a stream, in a whole reply and in the journal.
pub fn call_id(response_id: &str, choice: usize, call: usize) -> String {
    let tail = response_id.rsplit('-').next().unwrap_or(response_id);
    format!("call_{tail}_{choice}_{call}")
}

/// A finished text as what was said and what was called.
pub fn read_calls(
    reading: ToolReading,
    text: &str,
    response_id: &str,
    choice: usize,
) -> (String, Vec<ToolCall>) {
    let mut gate = ToolGate::new(reading);
    let mut pieces = gate.push(text);
    pieces.extend(gate.finish());
    let (mut said, mut calls) = (String::new(), Vec::<ToolCall>::new());
    for piece in pieces {
        match piece {
            ToolPiece::Text(text) => said.push_str(&text),
            ToolPiece::Call { index, name } => calls.push(ToolCall {
                id: call_id(response_id, choice, index),
                kind: "function".to_owned(),
                function: FunctionCall { name, arguments: String::new() },
            }),
            ToolPiece::Arguments { index, fragment } => {
                if let Some(call) = calls.get_mut(index) {
                    call.function.arguments.push_str(&fragment);
                }
            }
        }
    }
    (said, calls)
}

#[cfg(test)]
mod tests;
