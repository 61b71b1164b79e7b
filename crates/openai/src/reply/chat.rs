//! Chat replies: role first, then text and calls, then the reason, then usage.

use serde_json::{Value, json};
use understudy_inference::{Completion, Delta, FinishReason};
use understudy_message::ToolCall;

use super::{
    Answer, ReplyHead, ReplyWriter, Spent, ids,
    scores::{self, Spelling},
    stop_reason, weight_versions,
};
use crate::{
    ask::{Ask, Show, StreamOptions},
    chat::ChatRequest,
    tools::{ToolGate, ToolPiece, ToolReading, call_id, read_calls},
};

/// Writes the reply to one chat request, whole or in chunks.
#[derive(Debug)]
pub struct ChatWriter {
    head: ReplyHead,
    show: Show,
    stream: Option<StreamOptions>,
    reading: ToolReading,
    prompt_ids: Option<Vec<u32>>,
    prompt_text: Option<String>,
    gates: Vec<ToolGate>,
    spent: Spent,
}

impl ChatWriter {
    /// `prompt_ids` and `prompt_text` are shown where the request asked for them.
    pub fn new(
        head: ReplyHead,
        request: &ChatRequest,
        prompt_ids: Option<Vec<u32>>,
        prompt_text: Option<String>,
    ) -> Self {
        let Ask { show, stream, n, .. } = &request.ask;
        let reading = request.reading;
        let mut spent = Spent::new(1, *n as usize);
        spent.prompts[0] = prompt_ids.as_ref().map_or(0, |ids| ids.len() as u32);
        Self {
            head,
            show: *show,
            stream: *stream,
            reading,
            prompt_ids,
            prompt_text,
            gates: (0..*n).map(|_| ToolGate::new(reading)).collect(),
            spent,
        }
    }

    fn choice(&self, index: usize, answer: &Answer) -> Value {
        let Answer { completion, scored } = answer;
        let (text, mut calls) = read_calls(self.reading, &completion.text, &self.head.id, index);
        calls.extend(completion.tool_calls.iter().cloned());
        let content = if text.is_empty() && !calls.is_empty() { Value::Null } else { json!(text) };
        let mut message = json!({"role": "assistant", "content": content, "refusal": null});
        if !calls.is_empty() {
            message["tool_calls"] = json!(calls);
        }
        let log_probs = self.show.log_probs.then(|| scores::chat(scored, self.spelling()));
        let mut choice = json!({
            "index": index,
            "message": message,
            "logprobs": log_probs,
            "finish_reason": finish_reason(completion, !calls.is_empty()),
            "stop_reason": stop_reason(completion.stop_reason.as_ref()),
        });
        if self.show.token_ids {
            choice["token_ids"] = json!(ids(scored));
        }
        if self.show.weight_versions {
            choice["weight_versions"] = weight_versions(completion);
        }
        choice
    }

    fn piece(&self, choice: usize, piece: ToolPiece) -> Value {
        match piece {
            ToolPiece::Text(text) => json!({ "content": text }),
            ToolPiece::Call { index, name } => {
                let id = call_id(&self.head.id, choice, index);
                let function = json!({"name": name, "arguments": ""});
                json!({"tool_calls": [
                    {"index": index, "id": id, "type": "function", "function": function}
                ]})
            }
            ToolPiece::Arguments { index, fragment } => {
                json!({"tool_calls": [{"index": index, "function": {"arguments": fragment}}]})
            }
        }
    }

    /// A call a remote model made, in the same two chunks.
    fn remote_call(&self, choice: usize, index: usize, call: &ToolCall) -> [Value; 2] {
        let function = json!({"name": call.function.name, "arguments": ""});
        let begin = json!({"tool_calls": [
            {"index": index, "id": call.id, "type": "function", "function": function}
        ]});
        let arguments = json!({"arguments": call.function.arguments});
        let rest = json!({"tool_calls": [{"index": index, "function": arguments}]});
        [self.chunk(choice, begin), self.chunk(choice, rest)]
    }

    fn chunk(&self, choice: usize, delta: Value) -> Value {
        let choice =
            json!({"index": choice, "delta": delta, "logprobs": null, "finish_reason": null});
        let mut chunk = self.frame("chat.completion.chunk", json!([choice]));
        if let Some(usage) = self.spent.running(self.stream) {
            chunk["usage"] = usage;
        }
        chunk
    }

    fn frame(&self, object: &str, choices: Value) -> Value {
        let mut frame = json!({
            "id": self.head.id,
            "object": object,
            "created": self.head.created,
            "model": self.head.model,
            "system_fingerprint": self.head.fingerprint,
            "choices": choices,
        });
        if let Some(generation) = &self.head.generation {
            frame["adapter_generation"] = json!(generation);
        }
        frame
    }

    fn about_prompt(&self, reply: &mut Value) {
        if let Some(ids) = self.prompt_ids.as_ref().filter(|_| self.show.token_ids) {
            reply["prompt_token_ids"] = json!(ids);
        }
        if let Some(text) = self.prompt_text.as_ref().filter(|_| self.show.prompt_text) {
            reply["prompt_text"] = json!(text);
        }
    }

    fn spelling(&self) -> Spelling {
        Spelling { as_ids: self.show.tokens_as_ids }
    }
}

impl ReplyWriter for ChatWriter {
    fn whole(&mut self, answers: &[Answer]) -> Value {
        let choices = answers.iter().enumerate().map(|(index, answer)| self.choice(index, answer));
        let choices: Vec<Value> = choices.collect();
        for (index, answer) in answers.iter().enumerate() {
            self.spent.settle(0, index, answer.completion.usage);
        }
        let mut reply = self.frame("chat.completion", json!(choices));
        reply["usage"] = self.spent.to_json();
        self.about_prompt(&mut reply);
        let scores = answers.first().and_then(|answer| answer.completion.prompt_scores.as_ref());
        if let Some(scores) = scores.filter(|_| self.show.prompt_log_probs) {
            reply["prompt_logprobs"] = scores::prompt(scores);
        }
        reply
    }

    fn open(&mut self) -> Vec<Value> {
        let role = |choice| self.chunk(choice, json!({"role": "assistant", "content": ""}));
        let mut chunks: Vec<Value> = (0..self.gates.len()).map(role).collect();
        if let Some(first) = chunks.first_mut() {
            self.about_prompt(first);
        }
        chunks
    }

    fn delta(&mut self, choice: usize, delta: &Delta) -> Vec<Value> {
        self.spent.choices[choice] += delta.tokens.len() as u32;
        let mut pieces = self.gates[choice].push(&delta.text);
        let shows_tokens = self.show.log_probs || self.show.token_ids;
        if pieces.is_empty() && shows_tokens && !delta.tokens.is_empty() {
            pieces.push(ToolPiece::Text(String::new()));
        }
        let mut chunks: Vec<Value> =
            pieces.into_iter().map(|piece| self.chunk(choice, self.piece(choice, piece))).collect();
        if let Some(first) = chunks.first_mut() {
            if self.show.log_probs {
                first["choices"][0]["logprobs"] = scores::chat(&delta.tokens, self.spelling());
            }
            if self.show.token_ids {
                first["choices"][0]["token_ids"] = json!(ids(&delta.tokens));
            }
        }
        chunks
    }

    fn done(&mut self, choice: usize, completion: &Completion) -> Vec<Value> {
        self.spent.settle(0, choice, completion.usage);
        let rest = self.gates[choice].finish();
        let mut chunks: Vec<Value> =
            rest.into_iter().map(|piece| self.chunk(choice, self.piece(choice, piece))).collect();
        let own = self.gates[choice].calls();
        for (n, call) in completion.tool_calls.iter().enumerate() {
            chunks.extend(self.remote_call(choice, own + n, call));
        }
        let called = own + completion.tool_calls.len() > 0;
        let mut last = self.chunk(choice, json!({}));
        let written = &mut last["choices"][0];
        written["finish_reason"] = json!(finish_reason(completion, called));
        written["stop_reason"] = stop_reason(completion.stop_reason.as_ref());
        if self.show.weight_versions {
            written["weight_versions"] = weight_versions(completion);
        }
        chunks.push(last);
        chunks
    }

    fn end(&mut self) -> Vec<Value> {
        if !self.stream.is_some_and(|options| options.usage) {
            return Vec::new();
        }
        let mut chunk = self.frame("chat.completion.chunk", json!([]));
        chunk["usage"] = self.spent.to_json();
        vec![chunk]
    }
}

fn finish_reason(completion: &Completion, called: bool) -> &'static str {
    match completion.finish_reason {
        FinishReason::Stop if called => FinishReason::ToolCalls.as_openai(),
        other => other.as_openai(),
    }
}
