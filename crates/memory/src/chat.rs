//! A model that makes runs: asked turn by turn, until it calls nothing more.

use std::{fmt, sync::Arc};

use serde_json::{Value, json};
use understudy_ident::Digest;
use understudy_inference::{
    Backend, Chat, Completion, GenerateRequest, Prompt, Sampling, complete,
};
use understudy_message::{Message, Role, ToolCall};

use crate::{
    Called, Conditions, Failure, MemoryError, Played, Player, Reply, Task, World, place,
    transcript::failure_in,
};

/// Reads the calls in a text, for models that have no other way to make them.
pub type ReadCalls = fn(&str) -> Vec<ToolCall>;

/// What one run may take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChatLimits {
    /// How often the model is asked, at most.
    pub turns: u32,
    /// Of each reply.
    pub max_tokens: u32,
    pub temperature: f32,
}

/// A backend that plays, with the adapter it answers with.
pub struct ChatPlayer {
    backend: Arc<dyn Backend>,
    adapter: Option<String>,
    read: ReadCalls,
    limits: ChatLimits,
}

impl fmt::Debug for ChatPlayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("ChatPlayer");
        debug.field("base", &self.backend.base()).field("adapter", &self.adapter);
        debug.finish_non_exhaustive()
    }
}

impl ChatPlayer {
    pub fn new(
        backend: Arc<dyn Backend>,
        adapter: Option<String>,
        read: ReadCalls,
        limits: ChatLimits,
    ) -> Self {
        Self { backend, adapter, read, limits }
    }

    fn reply(&self, messages: &[Message], task: &Task, seed: u64) -> Result<Reply, MemoryError> {
        let chat = Chat { tools: task.tools.clone(), ..Chat::new(messages.to_vec()) };
        let sampling = Sampling {
            temperature: self.limits.temperature,
            max_tokens: self.limits.max_tokens,
            seed: Some(seed),
            ..Sampling::default()
        };
        let request = GenerateRequest::new(Prompt::Chat(Box::new(chat)), sampling);
        let request = request.with_adapter(self.adapter.clone());
        let Completion { text, tool_calls, finish_reason, served, usage, timing, tokens, .. } =
            complete(self.backend.as_ref(), request)?;
        let calls = if tool_calls.is_empty() { (self.read)(&text) } else { tool_calls };
        let text = if calls.is_empty() { text } else { String::new() };
        let message = Message { tool_calls: calls, ..Message::assistant(text) };
        let prompt = messages.to_vec();
        Ok(Reply { prompt, message, finish_reason, served, usage, timing, tokens })
    }
}

impl Player for ChatPlayer {
    fn config(&self) -> Digest {
        let adapter = self.adapter.as_deref().unwrap_or_default();
        let limits = format!("{:?}", self.limits);
        Digest::of_parts([self.backend.base(), adapter, &limits].map(str::as_bytes))
    }

    fn play(
        &mut self,
        task: &Task,
        conditions: Conditions<'_>,
        world: &mut dyn World,
    ) -> Result<Played, MemoryError> {
        let mut messages = match conditions.block {
            Some(block) => place(&task.prompt, block),
            None => task.prompt.clone(),
        };
        let (mut calls, mut answer, mut replies) = (Vec::new(), String::new(), Vec::new());
        for turn in 0..self.limits.turns {
            let mut reply = self.reply(&messages, task, conditions.seed)?;
            // Ids of different turns must differ, whatever the model calls them.
            for (n, call) in reply.message.tool_calls.iter_mut().enumerate() {
                call.id = format!("call_{turn}_{n}");
            }
            let (said, tokens) = (reply.message.clone(), reply.usage.completion_tokens);
            replies.push(reply);
            if said.tool_calls.is_empty() {
                answer = said.text();
                break;
            }
            messages.push(said.clone());
            let share = tokens / said.tool_calls.len() as u32;
            for call in &said.tool_calls {
                let (called, told) = carry_out(call, (turn, share), world);
                calls.push(called);
                messages.push(told);
            }
        }
        let heard = messages.iter().map(Message::text).collect();
        Ok(Played { calls, answer, heard, replies })
    }
}

/// One call with what came of it, and how the model is told.
fn carry_out(
    call: &ToolCall,
    (batch, tokens): (u32, u32),
    world: &mut dyn World,
) -> (Called, Message) {
    let arguments: Value = serde_json::from_str(&call.function.arguments).unwrap_or(Value::Null);
    let result = world.call(&call.function.name, &arguments);
    let said = match &result {
        Ok(Value::String(text)) => text.clone(),
        Ok(value) => value.to_string(),
        Err(failure) => {
            let code = failure.code.map(|code| format!(" ({code})")).unwrap_or_default();
            json!({"error": format!("{}{code}", failure.message)}).to_string()
        }
    };
    let result = match (result, failure_in(&said)) {
        // A recording of a failure is read as one, as it was in the trace.
        (Ok(_), Some(message)) => Err(Failure { message, code: None }),
        (Ok(_), None) => Ok(said.clone()),
        (Err(failure), _) => Err(failure),
    };
    let called = Called {
        tool: call.function.name.clone(),
        arguments,
        result,
        batch,
        // What answers is no real tool, and tells nothing of how long one takes.
        latency_ms: 0,
        tokens,
    };
    let said = Message { tool_call_id: Some(call.id.clone()), ..Message::new(Role::Tool, said) };
    (called, said)
}
