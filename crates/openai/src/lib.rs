//! What an OpenAI or vLLM client may say, and how replies are written.
//!
//! Bodies become typed requests ([`ChatRequest`], [`CompletionRequest`], [`GenerateBody`], …) and
//! completions become replies and stream chunks in the order clients rely on.
//!
//! Guarantees: `null` means absent; fields nobody knows pass; a known field that cannot be honoured
//! is refused by name; every message of an error is bounded. `docs/API.md` lists what is done with
//! each field, and a test holds that table against the parser.
//!
//! Never: does IO, routes, or generates.

mod adapter;
mod ask;
mod chat;
mod completion;
mod constraint;
mod error;
mod fields;
mod generate;
mod model;
mod refused;
mod reply;
mod sampling;
mod tokens;
mod tools;

pub use adapter::{LoadBody, RollbackBody, UnloadBody, adapter_status, loaded_adapter};
pub use ask::{Ask, Show, StreamOptions};
pub use chat::ChatRequest;
pub use completion::CompletionRequest;
pub use error::{ErrorReply, RequestError};
pub use generate::GenerateBody;
pub use model::{ModelCard, model_list};
pub use reply::{
    Answer, ChatWriter, CompletionWriter, GenerateWriter, ReplyHead, ReplyWriter, ShownPrompt,
    fingerprint,
};
pub use tokens::{DetokenizeBody, TokenizeBody, detokenized, tokenized};
pub use tools::{ToolGate, ToolPiece, ToolReading, Tools, call_id, read_calls};

#[cfg(test)]
mod tests;
