use serde_json::{Value, json};
use understudy_router::{Canary, Exposure, Route, Salt, Tap, Target};

use super::{COMPLETIONS, start, with};

fn ask(prompt: Value) -> Value {
    json!({"model": "mock", "prompt": prompt, "max_tokens": 8})
}

#[test]
fn every_kind_of_prompt_is_answered() {
    let server = start();
    let texts = |prompt: Value| {
        let body = server.post(COMPLETIONS, &ask(prompt)).json();
        assert_eq!(body["object"], "text_completion", "{body}");
        let choices = body["choices"].as_array().unwrap().clone();
        for (n, choice) in choices.iter().enumerate() {
            assert_eq!(choice["index"], n);
        }
        let texts: Vec<Value> = choices.into_iter().map(|choice| choice["text"].clone()).collect();
        json!(texts)
    };
    assert_eq!(texts(json!("one")), json!(["one"]));
    assert_eq!(texts(json!(["one", "two"])), json!(["one", "two"]));
    assert_eq!(texts(json!([104, 105])), json!(["hi"]));
    assert_eq!(texts(json!([[104, 105], [111]])), json!(["hi", "o"]));
    for wrong in [json!([]), json!(7), json!([[]]), json!(["a", 7])] {
        server.refuses(COMPLETIONS, &ask(wrong), 400, "prompt");
    }
    assert!(server.steps().is_empty(), "there is no conversation to journal");
}

#[test]
fn choices_of_several_prompts_come_prompt_by_prompt() {
    let server = start();
    let more = json!({"n": 2, "seed": 1});
    let body = server.post(COMPLETIONS, &with(ask(json!(["a?", "bc?"])), more)).json();
    let firsts: Vec<char> = body["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|choice| choice["text"].as_str().unwrap().chars().next().unwrap())
        .collect();
    assert_eq!(firsts, ['a', 'a', 'b', 'b']);
    assert_eq!(body["usage"]["prompt_tokens"], 5, "each prompt once");
    assert_eq!(body["usage"]["completion_tokens"], 14);
}

#[test]
fn echo_with_scores_is_what_an_evaluation_harness_reads() {
    let server = start();
    let more = json!({"echo": true, "logprobs": 1, "max_tokens": 1, "temperature": 0});
    let body = server.post(COMPLETIONS, &with(ask(json!("abc")), more)).json();
    let choice = &body["choices"][0];
    assert_eq!(choice["text"], "abca");
    let scores = &choice["logprobs"];
    assert_eq!(scores["tokens"], json!(["a", "b", "c", "a"]));
    assert_eq!(scores["text_offset"], json!([0, 1, 2, 3]));
    assert!(scores["token_logprobs"][0].is_null() && scores["top_logprobs"][0].is_null());
    assert!(scores["token_logprobs"][1].as_f64().unwrap() < 0.0);
    assert!(scores["top_logprobs"][1]["b"].is_f64(), "{scores}");
    let nothing = json!({"echo": true, "logprobs": 1, "max_tokens": 0});
    let body = server.post(COMPLETIONS, &with(ask(json!("abc")), nothing)).json();
    assert_eq!(body["choices"][0]["text"], "abc");
    assert_eq!(body["choices"][0]["logprobs"]["tokens"].as_array().unwrap().len(), 3);
    assert_eq!(body["usage"]["completion_tokens"], 0);
}

#[test]
fn streams_carry_text_echo_scores_and_usage() {
    let server = start();
    let more = json!({"stream": true, "stream_options": {"include_usage": true}});
    let streamed = with(ask(json!("abc")), more);
    let chunks = server.post(COMPLETIONS, &with(streamed.clone(), json!({"echo": true}))).events();
    let text: String =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
    assert_eq!(text, "abcabc");
    assert_eq!(chunks.last().unwrap()["usage"]["total_tokens"], 7);
    let chunks = server.post(COMPLETIONS, &with(streamed.clone(), json!({"logprobs": 0}))).events();
    let offsets: Vec<&Value> = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["logprobs"]["text_offset"].as_array())
        .flatten()
        .collect();
    assert_eq!(offsets, [0, 1, 2, 3]);
    let refused = with(streamed, json!({"echo": true, "logprobs": 0}));
    server.refuses(COMPLETIONS, &refused, 400, "echo");
}

#[test]
fn what_completions_do_not_do_is_refused_by_name() {
    let server = start();
    let refused = |more: Value, param: &str| {
        server.refuses(COMPLETIONS, &with(ask(json!("a")), more), 400, param);
    };
    refused(json!({"suffix": "end"}), "suffix");
    refused(json!({"best_of": 3}), "best_of");
    refused(json!({"use_beam_search": true}), "use_beam_search");
    refused(json!({"logprobs": 99}), "logprobs");
    refused(json!({"max_tokens": 0}), "max_tokens");
    refused(json!({"n": 100, "prompt": ["a", "b", "c"]}), "prompt");
    server.refuses(COMPLETIONS, &json!({"model": "mock"}), 400, "prompt");
}

#[test]
fn ids_go_in_and_ids_come_out() {
    let server = start();
    let path = "/inference/v1/generate";
    let body = json!({"request_id": "r1", "token_ids": [104, 63], "sampling_params":
        {"max_tokens": 9, "seed": 4, "logprobs": 1, "n": 2, "prompt_logprobs": 0}});
    let reply = server.post(path, &body).json();
    assert_eq!(reply["request_id"], "r1");
    let choice = &reply["choices"][1];
    assert_eq!(choice["token_ids"][0], 104);
    assert_eq!(choice["token_ids"].as_array().unwrap().len(), 3);
    assert_eq!(choice["logprobs"]["content"].as_array().unwrap().len(), 3);
    assert_eq!(choice["weight_versions"], json!([{"version": "mock", "start": 0, "end": 3}]));
    assert_eq!(reply["prompt_logprobs"].as_array().unwrap().len(), 2);
    let stream = json!({"token_ids": [104, 105], "sampling_params": {"max_tokens": 9},
        "stream": true, "stream_options": {"include_usage": true}});
    let chunks = server.post(path, &stream).events();
    let ids: Vec<Value> = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["token_ids"].as_array())
        .flatten()
        .cloned()
        .collect();
    assert_eq!(json!(ids), json!([104, 105, 256]));
    assert_eq!(chunks.last().unwrap()["usage"]["completion_tokens"], 3);
    server.refuses(path, &json!({}), 400, "token_ids");
    let wrong = json!({"token_ids": [1], "sampling_params": {"temperature": "hot"}});
    server.refuses(path, &wrong, 400, "sampling_params.temperature");
    server.refuses(path, &json!({"token_ids": [1], "features": "x"}), 400, "features");
    server.refuses(path, &json!({"token_ids": [9999]}), 400, "token_ids");
}

/// Every token that a place's alternatives tell, with how likely it was, by the token's number.
fn by_id(entry: &Value) -> std::collections::BTreeMap<u32, f64> {
    let id = |name: &str| name.strip_prefix("token_id:").unwrap().parse().unwrap();
    match entry {
        Value::Object(map) => {
            map.iter().map(|(name, value)| (id(name), value.as_f64().unwrap())).collect()
        }
        Value::Array(list) => {
            let one = |one: &Value| {
                (id(one["token"].as_str().unwrap()), one["logprob"].as_f64().unwrap())
            };
            list.iter().map(one).collect()
        }
        other => panic!("{other}"),
    }
}

#[test]
fn named_tokens_are_scored_wherever_tokens_are() {
    let server = start();
    let shown = json!({"return_tokens_as_token_ids": true, "temperature": 1, "seed": 1});
    let ask = |more: Value| with(with(ask(json!("a?c")), shown.clone()), more);
    // The mock's whole vocabulary, in as many pieces as a request may name.
    let mut whole = std::collections::BTreeMap::new();
    for ids in [(0..128).collect::<Vec<u32>>(), (128..256).collect(), vec![256]] {
        let body = ask(json!({"logprobs": 0, "logprob_token_ids": ids}));
        let reply = server.post(COMPLETIONS, &body).json();
        let places = &reply["choices"][0]["logprobs"]["top_logprobs"];
        assert_eq!(places.as_array().unwrap().len(), 4, "{reply}");
        let told = by_id(&places[1]);
        assert!(ids.iter().all(|id| told.contains_key(id)), "{told:?}");
        whole.extend(told);
    }
    let sum: f64 = whole.values().map(|log_prob| log_prob.exp()).sum();
    assert!((sum - 1.0).abs() < 1e-4, "together they are certain: {sum}");
    let named = json!([33, 104, 256, 33]);
    let expected = |ids: &[u32]| ids.iter().map(|id| (*id, whole[id])).collect();
    let generate = json!({"token_ids": [97, 63, 99], "sampling_params": with(shown.clone(),
        json!({"max_tokens": 9, "logprobs": 0, "logprob_token_ids": named}))});
    let reply = server.post("/inference/v1/generate", &generate).json();
    let place = &reply["choices"][0]["logprobs"]["content"][1];
    assert_eq!(by_id(&place["top_logprobs"]), expected(&[33, 104, 256]), "{place}");
    let streamed = with(generate, json!({"stream": true}));
    let chunks = server.post("/inference/v1/generate", &streamed).events();
    let content = |chunk: &Value| chunk["choices"][0]["logprobs"]["content"].as_array().cloned();
    let content: Vec<Value> = chunks.iter().filter_map(content).flatten().collect();
    assert_eq!(&content[1], place);
    let chat = with(
        with(super::chat("a?c"), shown.clone()),
        json!({"logprobs": true, "logprob_token_ids": named}),
    );
    let reply = server.post(super::CHAT, &chat).json();
    let place = &reply["choices"][0]["logprobs"]["content"][1];
    assert_eq!(by_id(&place["top_logprobs"]), expected(&[33, 104, 256]), "{place}");

    let field = "logprob_token_ids";
    server.refuses(COMPLETIONS, &ask(json!({field: [1]})), 400, field);
    server.refuses(COMPLETIONS, &ask(json!({"logprobs": 0, field: [257]})), 400, field);
    server.refuses(COMPLETIONS, &ask(json!({"logprobs": 0, field: vec![1; 129]})), 400, field);
    server.refuses(super::CHAT, &with(super::chat("a"), json!({field: [1]})), 400, field);
    assert_eq!(server.post(COMPLETIONS, &ask(json!({field: []}))).status, 200, "asks for nothing");
}

#[test]
fn texts_and_conversations_are_counted_and_read_back() {
    let server = start();
    let body = json!({"model": "mock", "prompt": "hé", "return_token_strs": true});
    let reply = server.post("/tokenize", &body).json();
    assert_eq!((&reply["count"], &reply["max_model_len"]), (&json!(3), &json!(4096)));
    assert_eq!(reply["tokens"], json!([104, 195, 169]));
    assert_eq!(reply["token_strs"][0], "h");
    let back = server.post("/detokenize", &json!({"tokens": reply["tokens"]})).json();
    assert_eq!(back["prompt"], "hé");
    let messages = json!([{"role": "user", "content": "hi"}]);
    let open = server.post("/tokenize", &json!({ "messages": messages })).json();
    let closed = json!({"messages": messages, "add_generation_prompt": false});
    let closed = server.post("/tokenize", &closed).json();
    assert!(open["count"].as_u64() > closed["count"].as_u64());
    server.refuses("/tokenize", &json!({}), 400, "prompt");
    server.refuses("/tokenize", &json!({"prompt": "a", "model": "x"}), 404, "model");
    server.refuses("/detokenize", &json!({"tokens": [9999]}), 400, "tokens");
}

#[test]
fn what_nobody_can_judge_is_answered_by_the_stable_arm_alone() {
    let server = start();
    let [stable, canary] = ["one", "two"].map(|weights| {
        let name = format!("triage@{weights}");
        let generation = server.load(&name, weights)["generation"].as_str().unwrap().to_owned();
        Target::Adapter { version: name, generation }
    });
    let canary = Canary { target: canary, share: Exposure::HALF, salt: Salt::new([3; 16]) };
    let tap = Tap { share: Exposure::new(0.5).unwrap(), salt: Salt::new([4; 16]) };
    let route = Route { canary: Some(canary), tap: Some(tap), ..Route::to(stable) };
    server.publish("triage", route);
    let asks = [
        (COMPLETIONS, with(ask(json!("hi")), json!({"model": "triage"}))),
        (
            "/inference/v1/generate",
            json!({
                "model": "triage", "token_ids": [104, 105], "sampling_params": {"max_tokens": 2}
            }),
        ),
    ];
    for n in 0..16 {
        let session = format!("visitor-{n}");
        for (path, body) in &asks {
            let reply = server.post_with(path, body, &[("x-session-id", &session)]);
            assert_eq!(reply.status, 200, "{path}: {}", reply.text);
            assert_eq!(reply.header("x-understudy-arm"), Some("stable"));
            let adapter = reply.header("x-understudy-adapter").unwrap();
            assert!(adapter.starts_with("triage@one "), "{adapter}");
        }
    }
}
