//! What a model's makers suggest: for chats and completions that leave it open, of our own model.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use understudy_inference::{
    Backend, GenerateRequest, InferenceError, Sampling, SamplingDefaults, Sink,
};
use understudy_router::Target;

use super::{CHAT, COMPLETIONS, Server, Settings, chat, start_and, with};

const SUGGESTED: SamplingDefaults = SamplingDefaults {
    temperature: Some(0.5),
    top_p: Some(0.75),
    top_k: Some(20),
    min_p: Some(0.25),
    repetition_penalty: Some(1.5),
    max_tokens: Some(3),
};

/// Refuses everybody, and remembers what it was asked for.
#[derive(Debug, Default)]
struct Listener(Mutex<Vec<Sampling>>);

impl Backend for Listener {
    fn base(&self) -> &'static str {
        "frontier"
    }

    fn submit(&self, request: GenerateRequest, _: Sink) -> Result<(), InferenceError> {
        self.0.lock().unwrap().push(request.sampling);
        Err(InferenceError::Busy(0))
    }
}

fn start() -> (Server, Arc<Listener>) {
    let teacher = Arc::<Listener>::default();
    let settings =
        Settings { teacher: Some(Arc::clone(&teacher) as Arc<dyn Backend>), ..Settings::default() };
    (start_and(settings, |gateway, _, _| gateway.draw_like(SUGGESTED)), teacher)
}

fn drawn_like(server: &Server, more: Value) -> Sampling {
    let reply = server.post(CHAT, &with(chat("hello"), more));
    assert_eq!(reply.status, 200, "{}", reply.text);
    let id = reply.json()["id"].as_str().unwrap().to_owned();
    let step = server.steps().into_iter().find(|step| step.response_id == id).unwrap();
    step.tokens.unwrap().sampling
}

#[test]
fn a_chat_that_says_nothing_is_drawn_as_the_models_makers_suggest() {
    let (server, _) = start();
    let silent = drawn_like(&server, json!({"seed": 1}));
    let expected = Sampling {
        temperature: 0.5,
        top_p: 0.75,
        top_k: 20,
        min_p: 0.25,
        repetition_penalty: 1.5,
        max_tokens: 3,
        seed: Some(1),
        ..Sampling::default()
    };
    assert_eq!(silent, expected);
    let said = json!({"temperature": 1, "top_p": 1, "top_k": -1, "min_p": 0,
        "repetition_penalty": 1, "max_completion_tokens": 9, "seed": 1});
    let spoken = drawn_like(&server, said);
    assert_eq!(spoken, Sampling { max_tokens: 9, seed: Some(1), ..Sampling::default() });
    let nulls = drawn_like(&server, json!({"temperature": null, "seed": 1, "max_tokens": 9}));
    assert_eq!(nulls, Sampling { max_tokens: 9, ..expected });
    let cut = drawn_like(&server, json!({"truncate_prompt_tokens": 4, "seed": 1}));
    assert_eq!((cut.top_k, cut.max_tokens), (20, 3));
}

#[test]
fn completions_are_drawn_so_too_and_rollouts_only_as_they_say() {
    let (server, _) = start();
    let count = |path: &str, body: &Value| {
        let reply = server.post(path, body);
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()["usage"]["completion_tokens"].as_u64().unwrap()
    };
    let prompt = json!({"model": "mock", "prompt": "abcdefgh"});
    assert_eq!(count(COMPLETIONS, &prompt), 3);
    assert_eq!(count(COMPLETIONS, &with(prompt, json!({"max_tokens": 5}))), 5);
    let ids: Vec<u32> = "abcdefghijklmnopqrstuvwxyz".bytes().map(u32::from).collect();
    let params = json!({"ignore_eos": true, "logprobs": 0});
    let rollout = json!({"token_ids": ids, "model": "mock", "sampling_params": params});
    let reply = server.post("/inference/v1/generate", &rollout).json();
    assert_eq!(reply["choices"][0]["token_ids"].as_array().unwrap().len(), 16, "{reply}");
}

#[test]
fn a_teacher_has_makers_of_its_own() {
    let (server, teacher) = start();
    server.route("triage", Target::Teacher);
    let body = with(chat("hello"), json!({"model": "triage"}));
    assert_eq!(server.post(CHAT, &body).status, 503);
    let asked = teacher.0.lock().unwrap().pop().unwrap();
    assert_eq!(asked, Sampling { max_tokens: 4096, ..Sampling::default() });
}
