//! The short form of the fuzz target `requests`: bodies with one thing wrong, at every place.

use crate::{ChatRequest, CompletionRequest, DetokenizeBody, GenerateBody, LoadBody, TokenizeBody};

const BODIES: [&str; 6] = [
    r#"{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"hi"}]},{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c","content":"x"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],"temperature":0.5,"stop":["a"],"n":2,"logprobs":true,"top_logprobs":2,"response_format":{"type":"json_schema","json_schema":{"name":"j","schema":{"type":"object"}}},"stream":true,"stream_options":{"include_usage":true},"logit_bias":{"5":-1}}"#,
    r#"{"model":"m","prompt":["a","b"],"max_tokens":5,"echo":true,"logprobs":1,"seed":7}"#,
    r#"{"model":"m","token_ids":[1,2,3],"sampling_params":{"max_tokens":4,"temperature":0}}"#,
    r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"add_generation_prompt":true}"#,
    r#"{"model":"m","tokens":[1,2,3]}"#,
    r#"{"lora_name":"a","lora_path":"/tmp/a","load_inplace":true}"#,
];

const WORDS: [&str; 12] = [
    "null",
    "{}",
    "[]",
    "\"\"",
    "-1",
    "1e999",
    "true",
    "\u{0}",
    "99999999999999999999",
    "{",
    "\"x\":",
    "[[[",
];

#[test]
fn no_damage_stops_a_request_s_reader_and_every_refusal_is_short() {
    let (mut read, mut refused) = (0, 0);
    let mut look = |body: &[u8]| {
        let why = [
            ChatRequest::parse(body).err(),
            CompletionRequest::parse(body).err(),
            GenerateBody::parse(body).err(),
            TokenizeBody::parse(body).err(),
            DetokenizeBody::parse(body).err(),
            LoadBody::parse(body).err(),
        ];
        for why in why {
            let Some(why) = why else {
                read += 1;
                continue;
            };
            refused += 1;
            assert!(why.to_string().len() < 4096, "{why}");
        }
    };
    for body in BODIES {
        look(body.as_bytes());
        for at in 0..body.len() {
            for word in WORDS {
                look(format!("{}{word}{}", &body[..at], &body[at..]).as_bytes());
                look(format!("{}{word}{}", &body[..at], &body[at + 1..]).as_bytes());
            }
            look(&body.as_bytes()[..at]);
        }
    }
    assert!(read > 1000 && refused > 1000, "{read} read, {refused} refused");
}
