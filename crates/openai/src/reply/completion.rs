//! Replies of `/v1/completions`: one choice per prompt and completion, prompts first.

use serde_json::{Value, json};
use understudy_inference::{Completion, Delta, ScoredToken};

use super::{
    Answer, ReplyHead, ReplyWriter, Spent, ids,
    scores::{self, Place, Spelling},
    stop_reason, weight_versions,
};
use crate::{
    ask::{Show, StreamOptions},
    completion::CompletionRequest,
};

/// Writes the reply to one completions request, whole or in chunks.
#[derive(Debug)]
pub struct CompletionWriter {
    head: ReplyHead,
    show: Show,
    stream: Option<StreamOptions>,
    echo: bool,
    prompt_only: bool,
    /// Choices of each prompt.
    n: usize,
    prompts: Vec<ShownPrompt>,
    /// Characters shown so far, by choice.
    offsets: Vec<usize>,
    spent: Spent,
}

/// What of a prompt a reply may have to show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShownPrompt {
    pub ids: Vec<u32>,
    pub text: String,
    /// What the first token is; it has no score to say so.
    pub first: Vec<u8>,
}

impl CompletionWriter {
    /// One of `prompts` for each of the request's.
    pub fn new(head: ReplyHead, request: &CompletionRequest, prompts: Vec<ShownPrompt>) -> Self {
        let n = request.ask.n as usize;
        let mut spent = Spent::new(prompts.len(), prompts.len() * n);
        for (count, prompt) in spent.prompts.iter_mut().zip(&prompts) {
            *count = prompt.ids.len() as u32;
        }
        Self {
            head,
            show: request.ask.show,
            stream: request.ask.stream,
            echo: request.echo,
            prompt_only: request.prompt_only,
            n,
            offsets: vec![0; prompts.len() * n],
            prompts,
            spent,
        }
    }

    fn choice(&self, index: usize, answer: &Answer) -> Value {
        let Answer { completion, scored } = answer;
        let prompt = &self.prompts[index / self.n];
        let scored: &[ScoredToken] = if self.prompt_only { &[] } else { scored };
        let said = if self.prompt_only { "" } else { completion.text.as_str() };
        let before = if self.echo { prompt.text.as_str() } else { "" };
        let mut choice = json!({
            "index": index,
            "text": format!("{before}{said}"),
            "logprobs": self.show.log_probs.then(|| self.scores(prompt, completion, scored)),
            "finish_reason": if self.prompt_only { "length" } else {
                completion.finish_reason.as_openai()
            },
            "stop_reason": stop_reason(completion.stop_reason.as_ref()),
        });
        if self.show.token_ids {
            choice["token_ids"] = json!(ids(scored));
            choice["prompt_token_ids"] = json!(prompt.ids);
        }
        if self.show.weight_versions {
            choice["weight_versions"] = weight_versions(completion);
        }
        if self.show.prompt_text {
            choice["prompt_text"] = json!(prompt.text);
        }
        if self.show.prompt_log_probs {
            let scores = completion.prompt_scores.as_deref();
            choice["prompt_logprobs"] = scores.map_or(Value::Null, scores::prompt);
        }
        choice
    }

    fn scores(
        &self,
        prompt: &ShownPrompt,
        completion: &Completion,
        scored: &[ScoredToken],
    ) -> Value {
        let mut places = Vec::new();
        let echoed = completion.prompt_scores.as_deref().filter(|_| self.echo).unwrap_or_default();
        for (at, token) in echoed.iter().enumerate() {
            places.push(match token {
                Some(token) => Place::Scored(token),
                None => Place::Unscored {
                    id: prompt.ids.get(at).copied().unwrap_or_default(),
                    bytes: &prompt.first,
                },
            });
        }
        places.extend(scored.iter().map(Place::Scored));
        scores::completion(&places, self.spelling(), 0)
    }

    fn settle(&mut self, choice: usize, completion: &Completion) {
        self.spent.settle(choice / self.n, choice, completion.usage);
        if self.prompt_only {
            self.spent.choices[choice] = 0;
        }
    }

    fn chunk(&self, choice: usize, text: &str) -> Value {
        let choice =
            json!({"index": choice, "text": text, "logprobs": null, "finish_reason": null});
        let mut chunk = self.frame(json!([choice]));
        if let Some(usage) = self.spent.running(self.stream) {
            chunk["usage"] = usage;
        }
        chunk
    }

    fn frame(&self, choices: Value) -> Value {
        let mut frame = json!({
            "id": self.head.id,
            "object": "text_completion",
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

    fn spelling(&self) -> Spelling {
        Spelling { as_ids: self.show.tokens_as_ids }
    }
}

impl ReplyWriter for CompletionWriter {
    fn whole(&mut self, answers: &[Answer]) -> Value {
        let choices = answers.iter().enumerate().map(|(index, answer)| self.choice(index, answer));
        let choices: Vec<Value> = choices.collect();
        for (index, answer) in answers.iter().enumerate() {
            self.settle(index, &answer.completion);
        }
        let mut reply = self.frame(json!(choices));
        reply["usage"] = self.spent.to_json();
        reply
    }

    fn open(&mut self) -> Vec<Value> {
        if !self.echo && !self.show.token_ids {
            return Vec::new();
        }
        let mut chunks = Vec::new();
        for choice in 0..self.offsets.len() {
            let prompt = &self.prompts[choice / self.n];
            let text = if self.echo { prompt.text.as_str() } else { "" };
            let mut chunk = self.chunk(choice, text);
            if self.show.token_ids {
                chunk["choices"][0]["prompt_token_ids"] = json!(prompt.ids);
            }
            self.offsets[choice] = text.chars().count();
            chunks.push(chunk);
        }
        chunks
    }

    fn delta(&mut self, choice: usize, delta: &Delta) -> Vec<Value> {
        if self.prompt_only {
            return Vec::new();
        }
        self.spent.choices[choice] += delta.tokens.len() as u32;
        let shows_tokens = self.show.log_probs || self.show.token_ids;
        if delta.text.is_empty() && (!shows_tokens || delta.tokens.is_empty()) {
            return Vec::new();
        }
        let mut chunk = self.chunk(choice, &delta.text);
        if self.show.log_probs {
            let places: Vec<Place<'_>> = delta.tokens.iter().map(Place::Scored).collect();
            chunk["choices"][0]["logprobs"] =
                scores::completion(&places, self.spelling(), self.offsets[choice]);
        }
        if self.show.token_ids {
            chunk["choices"][0]["token_ids"] = json!(ids(&delta.tokens));
        }
        self.offsets[choice] += delta.text.chars().count();
        vec![chunk]
    }

    fn done(&mut self, choice: usize, completion: &Completion) -> Vec<Value> {
        self.settle(choice, completion);
        let mut last = self.chunk(choice, "");
        let written = &mut last["choices"][0];
        let reason = if self.prompt_only { "length" } else { completion.finish_reason.as_openai() };
        written["finish_reason"] = json!(reason);
        written["stop_reason"] = stop_reason(completion.stop_reason.as_ref());
        if self.show.weight_versions {
            written["weight_versions"] = weight_versions(completion);
        }
        vec![last]
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
