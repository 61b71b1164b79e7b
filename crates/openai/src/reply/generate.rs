//! Replies of `/inference/v1/generate`: token ids and the weights that drew them.

use serde_json::{Value, json};
use understudy_inference::{Completion, Delta};

use super::{
    Answer, ReplyHead, ReplyWriter, Spent, ids,
    scores::{self, Spelling},
    stop_reason, weight_versions,
};
use crate::{
    ask::{Show, StreamOptions},
    generate::GenerateBody,
};

/// Writes the reply to one request in ids, whole or in chunks.
#[derive(Debug)]
pub struct GenerateWriter {
    head: ReplyHead,
    show: Show,
    stream: Option<StreamOptions>,
    spent: Spent,
}

impl GenerateWriter {
    /// The head's id is the `request_id`.
    pub fn new(head: ReplyHead, request: &GenerateBody) -> Self {
        let ask = &request.ask;
        let spent = Spent::new(1, ask.n as usize);
        Self { head, show: ask.show, stream: ask.stream, spent }
    }

    fn frame(&self, choices: Value) -> Value {
        json!({
            "request_id": self.head.id,
            "model": self.head.model,
            "adapter_generation": self.head.generation,
            "choices": choices,
        })
    }
}

impl ReplyWriter for GenerateWriter {
    fn whole(&mut self, answers: &[Answer]) -> Value {
        let mut choices = Vec::new();
        for (index, Answer { completion, scored }) in answers.iter().enumerate() {
            self.spent.settle(0, index, completion.usage);
            let spelling = Spelling { as_ids: self.show.tokens_as_ids };
            choices.push(json!({
                "index": index,
                "token_ids": ids(scored),
                "text": completion.text,
                "logprobs": self.show.log_probs.then(|| scores::chat(scored, spelling)),
                "finish_reason": completion.finish_reason.as_openai(),
                "stop_reason": stop_reason(completion.stop_reason.as_ref()),
                "weight_versions": weight_versions(completion),
            }));
        }
        let mut reply = self.frame(json!(choices));
        let scores = answers.first().and_then(|answer| answer.completion.prompt_scores.as_deref());
        reply["prompt_logprobs"] = scores.map_or(Value::Null, scores::prompt);
        reply["usage"] = self.spent.to_json();
        reply
    }

    fn open(&mut self) -> Vec<Value> {
        Vec::new()
    }

    fn delta(&mut self, choice: usize, delta: &Delta) -> Vec<Value> {
        self.spent.choices[choice] += delta.tokens.len() as u32;
        if delta.tokens.is_empty() {
            return Vec::new();
        }
        let spelling = Spelling { as_ids: self.show.tokens_as_ids };
        vec![self.frame(json!([{
            "index": choice,
            "token_ids": ids(&delta.tokens),
            "logprobs": self.show.log_probs.then(|| scores::chat(&delta.tokens, spelling)),
            "finish_reason": null,
        }]))]
    }

    fn done(&mut self, choice: usize, completion: &Completion) -> Vec<Value> {
        self.spent.settle(0, choice, completion.usage);
        vec![self.frame(json!([{
            "index": choice,
            "token_ids": [],
            "logprobs": null,
            "finish_reason": completion.finish_reason.as_openai(),
            "stop_reason": stop_reason(completion.stop_reason.as_ref()),
            "weight_versions": weight_versions(completion),
        }]))]
    }

    fn end(&mut self) -> Vec<Value> {
        if !self.stream.is_some_and(|options| options.usage) {
            return Vec::new();
        }
        let mut chunk = self.frame(json!([]));
        chunk["usage"] = self.spent.to_json();
        vec![chunk]
    }
}
