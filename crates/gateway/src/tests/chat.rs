use serde_json::{Value, json};
use understudy_inference::MockConfig;
use understudy_router::Target;

use super::{CHAT, chat, start, start_with, with};

#[test]
fn a_whole_reply_has_every_field_clients_read() {
    let server = start();
    let reply = server.post_with(CHAT, &chat("hello"), &[("x-request-id", "req-7")]);
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.header("x-request-id"), Some("req-7"));
    assert_eq!(reply.header("x-understudy-arm"), Some("base"));
    let body = reply.json();
    assert_eq!(body["object"], "chat.completion");
    assert!(body["id"].as_str().unwrap().starts_with("chatcmpl-base-"));
    assert!(body["system_fingerprint"].as_str().unwrap().starts_with("fp_mock_base_"));
    let choice = &body["choices"][0];
    assert_eq!(choice["message"]["role"], "assistant");
    assert_eq!(choice["message"]["content"], "hello");
    assert!(choice["message"].get("tool_calls").is_none());
    assert_eq!(choice["finish_reason"], "stop");
    let usage = &body["usage"];
    // "hello" and the end of the turn.
    assert_eq!(usage["completion_tokens"], 6);
    let sum = usage["prompt_tokens"].as_u64().unwrap() + 6;
    assert_eq!(usage["total_tokens"], sum);
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 0);
}

#[test]
fn a_server_tells_what_decides_its_answers_and_its_replies_name_it() {
    let identity = Some("0123456789abcdef".to_owned());
    let server = start_with(MockConfig { identity, ..MockConfig::default() }, true);
    let card = server.get("/v1/models/mock").json();
    assert_eq!(card["identity"], "0123456789abcdef");
    let reply = server.post(CHAT, &chat("hello")).json();
    assert!(reply["system_fingerprint"].as_str().unwrap().ends_with("_0123456789ab"), "{reply}");
    assert_eq!(start().get("/v1/models/mock").json().get("identity"), None);
}

#[test]
fn metadata_is_on_record_with_the_step() {
    let server = start();
    let noted = json!({"ticket": "T-7", "page": "/billing"});
    for more in [json!({"metadata": noted}), json!({"metadata": noted, "stream": true})] {
        assert_eq!(server.post(CHAT, &with(chat("hi"), more)).status, 200);
    }
    for step in server.steps_of(2) {
        assert_eq!(json!(step.metadata), noted);
    }
    server.post(CHAT, &chat("hi"));
    let plain = server.steps_of(3).into_iter().find(|step| step.metadata.is_empty()).unwrap();
    assert!(serde_json::to_value(&plain).unwrap().get("metadata").is_none());
    server.refuses(CHAT, &with(chat("hi"), json!({"metadata": {"a": [1]}})), 400, "metadata");
}

#[test]
fn a_stream_says_role_text_reason_usage_and_done_in_that_order() {
    let server = start();
    let more = json!({"stream": true, "stream_options": {"include_usage": true}});
    let reply = server.post(CHAT, &with(chat("grüß dich"), more));
    assert_eq!(reply.header("content-type"), Some("text/event-stream"));
    let chunks = reply.events();
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    let (usage, rest) = chunks.split_last().unwrap();
    let (last, middle) = rest.split_last().unwrap();
    assert_eq!(last["choices"][0]["delta"], json!({}));
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    assert_eq!(usage["choices"], json!([]));
    assert!(usage["usage"]["completion_tokens"].as_u64().unwrap() > 8);
    assert!(rest.iter().all(|chunk| chunk["usage"].is_null()));
    assert!(middle.iter().all(|chunk| chunk["choices"][0]["finish_reason"].is_null()));
    let said: String = middle
        .iter()
        .map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().unwrap())
        .collect();
    assert_eq!(said, "grüß dich");
}

#[test]
fn several_choices_are_seeded_one_by_one_and_each_is_a_step() {
    let server = start();
    let several = server.post(CHAT, &with(chat("????????"), json!({"n": 3, "seed": 5}))).json();
    let texts: Vec<&Value> = (0..3).map(|n| &several["choices"][n]["message"]["content"]).collect();
    assert_ne!(texts[0], texts[1]);
    let alone = server.post(CHAT, &with(chat("????????"), json!({"seed": 7}))).json();
    assert_eq!(&alone["choices"][0]["message"]["content"], texts[2], "seed + index");
    assert_eq!(several["usage"]["completion_tokens"], 27);
    let steps = server.steps();
    assert_eq!(steps.len(), 4);
    let id = several["id"].as_str().unwrap();
    let of_reply: Vec<_> = steps.iter().filter(|step| step.response_id.starts_with(id)).collect();
    assert_eq!(of_reply.len(), 3);
    assert!(of_reply.iter().any(|step| step.response_id == format!("{id}.2")));
    assert!(of_reply.iter().all(|step| step.trajectory == of_reply[0].trajectory));
}

#[test]
fn several_choices_stream_side_by_side() {
    let server = start();
    let more = json!({"n": 2, "seed": 1, "stream": true, "stream_options":
        {"include_usage": true, "continuous_usage_stats": true}});
    let chunks = server.post(CHAT, &with(chat("????"), more)).events();
    let mut texts = [String::new(), String::new()];
    let mut finished = 0;
    for chunk in &chunks {
        assert!(chunk["usage"]["prompt_tokens"].as_u64().unwrap() > 0, "{chunk}");
        let choice = &chunk["choices"][0];
        if let (Some(n), Some(text)) =
            (choice["index"].as_u64(), choice["delta"]["content"].as_str())
        {
            texts[n as usize] += text;
        }
        finished += usize::from(choice["finish_reason"] == "stop");
    }
    assert_eq!(finished, 2);
    assert_eq!((texts[0].len(), texts[1].len()), (4, 4));
    assert_eq!(chunks.last().unwrap()["usage"]["completion_tokens"], 10);
}

#[test]
fn log_probabilities_and_ids_come_with_every_token() {
    let server = start();
    let more = json!({"logprobs": true, "top_logprobs": 2, "return_token_ids": true,
        "prompt_logprobs": 1, "return_weight_versions": true, "return_prompt_text": true});
    let body = server.post(CHAT, &with(chat("hi"), more)).json();
    let choice = &body["choices"][0];
    let content = choice["logprobs"]["content"].as_array().unwrap();
    assert_eq!(content.len(), 3);
    assert_eq!((&content[0]["token"], &content[0]["bytes"]), (&json!("h"), &json!([104])));
    assert!(content[0]["logprob"].as_f64().unwrap() > -0.001);
    assert_eq!(content[0]["top_logprobs"].as_array().unwrap().len(), 2);
    assert_eq!(choice["token_ids"], json!([104, 105, 256]));
    assert_eq!(choice["weight_versions"], json!([{"version": "mock", "start": 0, "end": 3}]));
    let prompt = body["prompt_token_ids"].as_array().unwrap();
    let scores = body["prompt_logprobs"].as_array().unwrap();
    assert_eq!(prompt.len(), scores.len());
    assert!(scores[0].is_null());
    let second = &scores[1][prompt[1].to_string()];
    assert!(second["logprob"].as_f64().unwrap() < 0.0 && second["rank"].is_u64(), "{second}");
    assert!(body["prompt_text"].as_str().unwrap().contains("hi"));
}

#[test]
fn streamed_log_probabilities_are_those_of_the_whole_reply() {
    let server = start();
    let asked = with(
        chat("a?b?"),
        json!({"logprobs": true, "top_logprobs": 1, "seed": 3,
        "return_token_ids": true, "return_tokens_as_token_ids": true}),
    );
    let whole = server.post(CHAT, &asked).json();
    let chunks = server.post(CHAT, &with(asked, json!({"stream": true}))).events();
    let scores: Vec<Value> = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["logprobs"]["content"].as_array())
        .flatten()
        .cloned()
        .collect();
    assert_eq!(json!(scores), whole["choices"][0]["logprobs"]["content"]);
    assert!(scores[0]["token"].as_str().unwrap().starts_with("token_id:"));
    let ids: Vec<Value> = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["token_ids"].as_array())
        .flatten()
        .cloned()
        .collect();
    assert_eq!(json!(ids), whole["choices"][0]["token_ids"]);
}

#[test]
fn every_sampling_parameter_acts() {
    let server = start();
    let said = |text: &str, more: Value| {
        let body = server.post(CHAT, &with(chat(text), more)).json();
        let choice = &body["choices"][0];
        let text = choice["message"]["content"].as_str().unwrap_or_else(|| panic!("{body}"));
        (text.to_owned(), choice["finish_reason"].clone(), choice["stop_reason"].clone())
    };
    let text = |text: &str, more: Value| said(text, more).0;
    assert_eq!(said("one two", json!({"max_tokens": 3})).1, "length");
    assert_eq!(said("one two", json!({"stop": "tw"})), ("one ".into(), json!("stop"), json!("tw")));
    let kept = json!({"stop": ["tw"], "include_stop_str_in_output": true});
    assert_eq!(text("one two", kept), "one tw");
    assert_eq!(said("one two", json!({"stop_token_ids": [116]})).2, 116);
    assert_eq!(text("ab", json!({"logit_bias": {"98": -100}, "temperature": 0})).len(), 2);
    assert_ne!(text("ab", json!({"logit_bias": {"98": -100}, "temperature": 0})), "ab");
    assert!(text("ab", json!({"allowed_token_ids": [97], "max_tokens": 4})).eq("aaaa"));
    assert!(!text("ab", json!({"bad_words": ["ab"], "temperature": 0})).contains("ab"));
    assert_eq!(text("ab", json!({"min_tokens": 9, "temperature": 0})).len() + 1, 10);
    assert_eq!(text("ab", json!({"ignore_eos": true, "max_tokens": 7})).len(), 7);
    assert_eq!(text("ab", json!({"skip_special_tokens": false})), "ab<|end|>");
    let repeated = text("????????", json!({"temperature": 0}));
    assert_eq!(repeated, "aaaaaaaa", "the first of equals");
    let varied = text("????????", json!({"temperature": 0, "frequency_penalty": 2}));
    assert_eq!(varied, "abcdefgh");
    let varied = text("???", json!({"temperature": 0, "presence_penalty": 1}));
    assert_eq!(varied, "abc");
    assert_ne!(text("???", json!({"temperature": 0, "repetition_penalty": 1.5})), "aaa");
    assert_eq!(text("????????", json!({"top_k": 1})), "aaaaaaaa");
    assert_eq!(text("????????", json!({"top_p": 0.01})), "aaaaaaaa");
    let hot = json!({"temperature": 2, "seed": 11, "min_p": 0.9});
    assert_eq!(text("hot", hot), "hot");
    let open = json!({"model": "mock", "continue_final_message": true,
        "messages": [{"role": "assistant", "content": "so"}]});
    let body = server.post(CHAT, &open).json();
    assert_eq!(body["choices"][0]["message"]["content"], " and so on");
    assert_eq!(text("a long text", json!({"truncate_prompt_tokens": 3})), "t|>");
}

#[test]
fn constraints_hold() {
    let server = start();
    let said = |more: Value| {
        let body = server.post(CHAT, &with(chat("blue or red"), more)).json();
        body["choices"][0]["message"]["content"]
            .as_str()
            .unwrap_or_else(|| panic!("{body}"))
            .to_owned()
    };
    let object = said(json!({"response_format": {"type": "json_object"}}));
    assert!(serde_json::from_str::<Value>(&object).unwrap().is_object());
    let schema = json!({"type": "object", "required": ["n"],
        "properties": {"n": {"type": "integer", "minimum": 3}}});
    let format = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}});
    assert_eq!(said(json!({ "response_format": format })), r#"{"n":3}"#);
    assert_eq!(said(json!({"structured_outputs": {"choice": ["red", "green"]}})), "red");
    let regex = json!({"structured_outputs": {"regex": "[a-z]+"}});
    let reply = server.post(CHAT, &with(chat("x"), regex));
    assert_eq!(reply.status, 400, "the mock says that it cannot: {}", reply.text);
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name_and_stores_nothing() {
    let server = start();
    let refused =
        |more: Value, param: &str| server.refuses(CHAT, &with(chat("x"), more), 400, param);
    refused(json!({"stream_options": {"include_usage": true}}), "stream_options");
    refused(json!({"top_logprobs": 2}), "top_logprobs");
    refused(json!({"prompt_logprobs": 1, "stream": true}), "prompt_logprobs");
    refused(json!({"tools": []}), "tools");
    refused(json!({"tool_choice": "auto"}), "tool_choice");
    refused(json!({"response_format": {"type": "json_schema"}}), "response_format");
    let both = json!({"continue_final_message": true, "add_generation_prompt": true});
    refused(both, "continue_final_message");
    refused(json!({"n": 0}), "n");
    refused(json!({"temperature": 9}), "temperature");
    refused(json!({"functions": []}), "functions");
    refused(json!({"messages": []}), "messages");
    server.refuses(CHAT, &json!({"messages": []}), 400, "model");
    server.refuses(CHAT, &with(chat("x"), json!({"model": "nobody"})), 404, "model");
    let long = with(chat("x"), json!({"max_tokens": 5000}));
    let reply = server.post(CHAT, &long);
    let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(
        reply.status == 400 && message.contains("4096") && message.contains("5000"),
        "{message}"
    );
    let ignored = json!({"store": true, "metadata": {"a": "b"}, "unheard_of": 1, "seed": null});
    assert_eq!(server.post(CHAT, &with(chat("x"), ignored)).status, 200);
    assert_eq!(server.steps().len(), 1);
}

#[test]
fn errors_are_bounded_and_bad_bodies_named() {
    let server = start();
    let huge =
        json!({"model": "x".repeat(100_000), "messages": [{"role": "user", "content": "a"}]});
    assert!(server.post(CHAT, &huge).text.len() < 2000);
    let too_large = chat(&"x".repeat(5 << 20));
    let reply = server.post(CHAT, &too_large);
    assert_eq!((reply.status, &reply.json()["error"]["type"]), (413, &json!("RequestTooLarge")));
    assert_eq!(server.get("/nowhere").json()["error"]["code"], 404);
    assert_eq!(server.get(CHAT).status, 405);
}

#[test]
fn an_adapter_can_be_named_beside_the_model_by_alias_or_generation() {
    let server = start();
    let loaded = server.load("My_Lora", "one");
    let generation = loaded["generation"].as_str().unwrap().to_owned();
    for adapter in [json!("My_Lora"), json!({ "generation": generation })] {
        let reply = server.post(CHAT, &with(chat("hi"), json!({ "adapter": adapter })));
        let body = reply.json();
        assert_eq!(body["choices"][0]["message"]["content"], "My_Lora: hi");
        assert_eq!(body["adapter_generation"], json!(generation));
        assert_eq!(reply.header("x-understudy-adapter").unwrap(), format!("My_Lora {generation}"));
    }
    let direct = server.post(CHAT, &with(chat("hi"), json!({"model": "My_Lora"}))).json();
    assert_eq!(direct["choices"][0]["message"]["content"], "My_Lora: hi");
    server.refuses(CHAT, &with(chat("x"), json!({"adapter": "none"})), 404, "model");
    assert_eq!(server.steps().iter().filter(|step| step.task.as_str() == "my-lora").count(), 1);
}

#[test]
fn a_routed_task_answers_under_its_own_name() {
    let server = start();
    server.load("triage@1", "one");
    let target = Target::Adapter { version: "triage@1".to_owned(), generation: "g".to_owned() };
    server.route("triage", target);
    server.route("lost", Target::Teacher);
    let reply = server.post(CHAT, &with(chat("hi"), json!({"model": "triage"})));
    assert_eq!(reply.header("x-understudy-arm"), Some("stable"));
    assert!(reply.json()["model"].as_str().unwrap().starts_with("triage@1#"));
    let lost = server.post(CHAT, &with(chat("hi"), json!({"model": "lost"})));
    assert_eq!((lost.status, lost.header("retry-after")), (503, Some("1")));
}
