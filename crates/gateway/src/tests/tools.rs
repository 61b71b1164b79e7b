use serde_json::{Value, json};

use super::{CHAT, chat, start, with};

fn weather() -> Value {
    json!({"type": "function", "function": {"name": "weather", "parameters": {
        "type": "object", "required": ["city", "days"],
        "properties": {"city": {"enum": ["Bern"]}, "days": {"type": "integer"}}}}})
}

/// The calls of a stream, put together as clients do.
fn assembled(chunks: &[Value]) -> Vec<(String, String, String)> {
    let mut calls: Vec<(String, String, String)> = Vec::new();
    for chunk in chunks {
        let deltas = chunk["choices"][0]["delta"]["tool_calls"].as_array();
        for delta in deltas.into_iter().flatten() {
            let index = delta["index"].as_u64().unwrap() as usize;
            if let Some(id) = delta["id"].as_str() {
                assert_eq!(index, calls.len());
                assert_eq!(
                    (&delta["type"], &delta["function"]["arguments"]),
                    (&json!("function"), &json!(""))
                );
                let name = delta["function"]["name"].as_str().unwrap();
                calls.push((id.to_owned(), name.to_owned(), String::new()));
            } else {
                calls[index].2 += delta["function"]["arguments"].as_str().unwrap();
            }
        }
    }
    calls
}

#[test]
fn a_required_call_is_made_in_form_and_journalled_as_one() {
    let server = start();
    for choice in [json!("required"), json!({"type": "function", "function": {"name": "weather"}})]
    {
        let asked = with(chat("hi"), json!({"tools": [weather()], "tool_choice": choice}));
        let body = server.post(CHAT, &asked).json();
        let message = &body["choices"][0]["message"];
        assert_eq!(body["choices"][0]["finish_reason"], "tool_calls", "{body}");
        assert!(message["content"].is_null());
        let call = &message["tool_calls"][0];
        assert_eq!(
            (&call["type"], &call["function"]["name"]),
            (&json!("function"), &json!("weather"))
        );
        let arguments = call["function"]["arguments"].as_str().unwrap();
        let arguments: Value = serde_json::from_str(arguments).unwrap();
        assert_eq!(arguments, json!({"city": "Bern", "days": 0}));
        let step = server.steps().pop().unwrap();
        assert_eq!(json!(step.reply.tool_calls[0].id), call["id"]);
        assert_eq!(step.reply.text(), "");
        assert_eq!(step.tools, [weather()], "what could be called is on record");
    }
}

#[test]
fn a_streamed_call_is_the_whole_one_in_pieces() {
    let server = start();
    let asked = json!({"tools": [weather()], "tool_choice": "required", "stream": true});
    let chunks = server.post(CHAT, &with(chat("hi"), asked)).events();
    let calls = assembled(&chunks);
    let [(id, name, arguments)] = &calls[..] else { panic!("{calls:?}") };
    assert_eq!((name.as_str(), arguments.as_str()), ("weather", r#"{"city":"Bern","days":0}"#));
    assert_eq!(server.steps()[0].reply.tool_calls[0].id, *id);
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
    let spoken = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
    assert_eq!(spoken.collect::<String>(), "", "no marker is shown");
}

#[test]
fn free_models_may_call_or_speak_and_broken_calls_are_text() {
    let server = start();
    let ask = |text: &str, stream: bool| {
        let more = json!({"tools": [weather()], "stream": stream});
        server.post(CHAT, &with(chat(text), more))
    };
    let two = "Let me see.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}}\n\
        </tool_call>\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {}}\n</tool_call>";
    let message = ask(two, false).json()["choices"][0]["message"].clone();
    assert_eq!(message["content"], "Let me see.\n");
    assert_eq!(message["tool_calls"].as_array().unwrap().len(), 2);
    let chunks = ask(two, true).events();
    let calls = assembled(&chunks);
    assert_eq!(calls.len(), 2);
    assert_eq!((calls[0].2.as_str(), calls[1].2.as_str()), (r#"{"city":"Bern"}"#, "{}"));
    assert_ne!(calls[0].0, calls[1].0);
    for text in ["plain < text", "<tool_call>not json</tool_call> after", "<tool_call>{\"name\":"] {
        let body = ask(text, false).json();
        assert_eq!(body["choices"][0]["message"]["content"], text);
        assert_eq!(body["choices"][0]["finish_reason"], "stop");
        let chunks = ask(text, true).events();
        let said =
            chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
        assert_eq!(said.collect::<String>(), text);
    }
}

#[test]
fn results_can_be_handed_back_and_strict_tools_leave_the_model_free_to_speak() {
    let server = start();
    let messages = json!([
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function",
            "function": {"name": "weather", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]);
    let body = json!({"model": "mock", "messages": messages, "tools": [weather()]});
    let answer = server.post(CHAT, &body).json();
    assert_eq!(answer["choices"][0]["message"]["content"], "sunny");
    let mut strict = weather();
    strict["function"]["strict"] = json!(true);
    let body = server.post(CHAT, &with(chat("speak"), json!({"tools": [strict]}))).json();
    let message = &body["choices"][0]["message"];
    assert!(message["content"] == "speak" || message["tool_calls"].is_array(), "{body}");
    let none = json!({"tools": [weather()], "tool_choice": "none"});
    let quoted = "<tool_call>\n{\"name\": \"weather\", \"arguments\": {}}\n</tool_call>";
    let body = server.post(CHAT, &with(chat(quoted), none)).json();
    assert_eq!(body["choices"][0]["message"]["content"], quoted);
}

#[test]
fn wrong_tools_are_refused() {
    let server = start();
    let refused =
        |more: Value, param: &str| server.refuses(CHAT, &with(chat("x"), more), 400, param);
    let other = json!({"type": "function", "function": {"name": "other"}});
    refused(json!({"tools": [weather()], "tool_choice": other}), "tool_choice");
    refused(json!({"tools": [weather()], "tool_choice": "maybe"}), "tool_choice");
    refused(json!({"tools": [{"type": "retrieval"}]}), "tools");
    refused(json!({"tools": [{"type": "function", "function": {}}]}), "tools");
    let both = json!({"tools": [weather()], "response_format": {"type": "json_object"}});
    refused(both, "response_format");
}
