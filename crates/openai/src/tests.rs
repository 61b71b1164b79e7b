//! The documentation held against the parser: a table that drifts fails here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use understudy_inference::LogProbsOf;

use crate::{
    ChatRequest, CompletionRequest, GenerateBody, RequestError, fields::asked, generate, refused,
};

const TABLE: &str = include_str!("../../../docs/API.md");

/// What the table says of each field: for chat, and for completions.
fn documented() -> BTreeMap<String, [String; 2]> {
    let rows = TABLE.lines().filter_map(|line| line.strip_prefix("| `"));
    let row = |row: &str| {
        let mut cells = row.split('|').map(str::trim);
        let name = cells.next()?.trim_matches('`').to_owned();
        let words = [cells.next()?.to_owned(), cells.next()?.to_owned()];
        let known = ["honoured", "accepted", "refused", "–"];
        words.iter().all(|word| known.contains(&word.as_str())).then_some((name, words))
    };
    rows.filter_map(row).collect()
}

fn chat(more: Value) -> Result<(), RequestError> {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    ChatRequest::parse(&merged(body, more)).map(|_| ())
}

fn completion(more: Value) -> Result<(), RequestError> {
    CompletionRequest::parse(&merged(json!({"model": "m", "prompt": "hi"}), more)).map(|_| ())
}

fn merged(mut body: Value, more: Value) -> Vec<u8> {
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string().into_bytes()
}

/// Checks one column of the table. `nonsense` is a value no field takes, so that an honoured field
/// must complain of it.
fn hold(column: usize, parse: impl Fn(Value) -> Result<(), RequestError>) {
    let documented = documented();
    assert!(documented.len() > 60, "only {} fields are documented", documented.len());
    let nonsense = json!([{"nonsense": [true]}]);
    for (name, words) in &documented {
        let mut more = serde_json::Map::new();
        more.insert(name.clone(), nonsense.clone());
        if name == "stream_options" {
            more.insert("stream".to_owned(), json!(true));
        }
        let result = parse(Value::Object(more));
        let complains = result.as_ref().err().and_then(RequestError::field) == Some(name);
        let is_refused = matches!(result, Err(RequestError::Refused { .. })) && complains;
        match words[column].as_str() {
            "honoured" => assert!(complains && !is_refused, "{name} is not read: {result:?}"),
            "refused" => assert!(is_refused, "{name} is not refused: {result:?}"),
            // Not a field of this endpoint, or one without an effect here: both pass.
            _ => assert!(result.is_ok(), "{name} does not pass: {result:?}"),
        }
    }
    let honoured: BTreeSet<&str> = documented
        .iter()
        .filter(|(_, words)| words[column] == "honoured")
        .map(|(name, _)| name.as_str())
        .collect();
    let refused: BTreeSet<&str> = documented
        .iter()
        .filter(|(_, words)| words[column] == "refused")
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(refused, refused::names()[column], "the table and the parser refuse the same");
    asked::take();
    parse(json!({"stream": true, "stream_options": {}, "tools": [
        {"type": "function", "function": {"name": "f"}}]}))
    .unwrap();
    // The fields of objects inside have no rows of their own.
    let inner = ["include_usage", "continuous_usage_stats", "include_obfuscation"];
    let read: BTreeSet<&str> =
        asked::take().into_iter().filter(|name| !inner.contains(name)).collect();
    let unwritten: Vec<_> = read.difference(&honoured).collect();
    assert!(unwritten.is_empty(), "read but not documented: {unwritten:?}");
}

/// What vLLM's two request classes and OpenAI's client know, as of November 2026.
const KNOWN: &str = "
    add_generation_prompt add_special_tokens allowed_token_ids audio bad_words best_of cache_salt \
    chat_template chat_template_kwargs continue_final_message documents ec_transfer_params echo \
    frequency_penalty function_call functions ignore_eos include_reasoning \
    include_stop_str_in_output kv_transfer_params length_penalty logit_bias logprob_token_ids \
    logprobs max_completion_tokens max_tokens media_io_kwargs messages metadata min_p min_tokens \
    mm_processor_kwargs modalities model moderation n parallel_tool_calls prediction \
    presence_penalty priority prompt prompt_cache_key prompt_cache_options \
    prompt_cache_retention prompt_embeds prompt_logprobs reasoning_effort repetition_detection \
    repetition_penalty request_id response_format return_mm_kwargs return_prompt_text \
    return_token_ids return_token_offsets return_tokens_as_token_ids \
    routed_experts_prompt_start safety_identifier seed service_tier session_id \
    skip_special_tokens spaces_between_special_tokens stop stop_token_ids store stream \
    stream_interval stream_options structured_outputs suffix temperature thinking_token_budget \
    tool_choice tools top_k top_logprobs top_p truncate_prompt_tokens truncation_side \
    use_beam_search user verbosity vllm_xargs watermarking web_search_options";

#[test]
fn every_field_that_openai_or_vllm_know_has_a_row() {
    let documented = documented();
    let missing: Vec<&str> =
        KNOWN.split_whitespace().filter(|name| !documented.contains_key(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_chat_column_of_the_table_is_what_the_parser_does() {
    hold(0, chat);
}

#[test]
fn the_completions_column_of_the_table_is_what_the_parser_does() {
    hold(1, completion);
}

/// In the wrong object a field would be read by nobody, which is a silent lie.
#[test]
fn every_field_that_completions_honour_has_one_place_in_a_request_of_ids() {
    let nonsense = json!([{"nonsense": [true]}]);
    let field = |body: Value| {
        let body = merged(json!({"token_ids": [1]}), body);
        let error = GenerateBody::parse(&body).unwrap_err();
        (error.field().unwrap().to_owned(), error)
    };
    let documented = documented();
    let honoured = documented.iter().filter(|(_, words)| words[1] == "honoured");
    let [inside, outside, nowhere] = generate::PLACES;
    for (name, _) in honoured {
        let beside = field(json!({"stream": true, name.as_str(): nonsense}));
        let within = field(json!({"sampling_params": {name.as_str(): nonsense}}));
        let full = format!("sampling_params.{name}");
        assert_eq!((&beside.0, &within.0), (name, &full), "{beside:?} {within:?}");
        let misplaced = |error: &RequestError| error.to_string().contains("belongs");
        let (wrong_beside, wrong_within) = (misplaced(&beside.1), misplaced(&within.1));
        if name == "truncate_prompt_tokens" || name.starts_with("return_") {
            assert!(!wrong_beside || inside.contains(&name.as_str()), "{name}");
        } else if nowhere.contains(&name.as_str()) {
            assert!(!wrong_beside && !wrong_within, "{name} is refused");
        } else {
            assert_eq!(wrong_beside, inside.contains(&name.as_str()), "{name}");
            assert_eq!(wrong_within, outside.contains(&name.as_str()), "{name}");
            assert!(wrong_beside != wrong_within, "{name} has one place");
        }
    }
    for name in ["best_of", "guided_json", "kv_transfer_params"] {
        let (_, error) = field(json!({name: nonsense}));
        assert!(matches!(error, RequestError::Refused { .. }), "{name}: {error:?}");
    }
}

#[test]
fn a_request_of_ids_is_cut_and_scored_as_it_says() {
    let parse =
        |body: Value| GenerateBody::parse(&merged(json!({"token_ids": [1]}), body)).unwrap();
    let asked = json!({"logprobs_mode": "processed_logprobs", "truncate_prompt_tokens": 3});
    let inside = parse(json!({"sampling_params": asked})).ask;
    assert_eq!(inside.returns.log_probs, Some(LogProbsOf::Processed));
    assert_eq!(inside.truncate, Some(3));
    assert_eq!(parse(json!({"truncate_prompt_tokens": 4})).ask.truncate, Some(4));
}

#[test]
fn what_a_message_says_beside_text_and_calls_is_refused() {
    let said = |more: Value| {
        let mut message = json!({"role": "assistant", "content": "hi"});
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        chat(json!({"messages": [{"role": "user", "content": "a"}, message]}))
    };
    for more in [
        json!({"audio": {"id": "audio_1"}}),
        json!({"function_call": {"name": "f", "arguments": "{}"}}),
    ] {
        let error = said(more.clone()).unwrap_err();
        assert_eq!(error.field(), Some("messages"), "{more}");
        assert!(error.to_string().contains("[1]: `"), "{error}");
    }
    said(json!({"audio": null, "function_call": null, "refusal": null})).unwrap();
    chat(json!({"service_tier": "auto"})).unwrap();
    completion(json!({"service_tier": "default"})).unwrap();
    chat(json!({"service_tier": "priority"})).unwrap_err();
}

#[test]
fn metadata_is_texts_by_name_and_not_many_of_them() {
    let parse = |metadata: Value| chat(json!({ "metadata": metadata }));
    parse(json!({})).unwrap();
    let names = |count: usize| (0..count).map(|n| (format!("n{n}"), json!("v"))).collect();
    parse(Value::Object(names(16))).unwrap();
    parse(json!({"é".repeat(64): "é".repeat(512)})).unwrap();
    for wrong in [
        Value::Object(names(17)),
        json!({"a": 1}),
        json!({"a": null}),
        json!({"a".repeat(65): "b"}),
        json!({"a": "b".repeat(513)}),
    ] {
        let error = parse(wrong.clone()).unwrap_err();
        assert_eq!(error.field(), Some("metadata"), "{wrong}");
    }
}

#[test]
fn null_is_absent_and_what_nobody_knows_passes() {
    let all: serde_json::Map<String, Value> =
        documented().into_keys().map(|name| (name, Value::Null)).collect();
    let mut all = Value::Object(all);
    for name in ["model", "messages", "prompt"] {
        all.as_object_mut().unwrap().remove(name);
    }
    chat(all.clone()).unwrap();
    completion(all).unwrap();
    chat(json!({"unheard_of": {"a": [1]}})).unwrap();
}

#[test]
fn values_that_ask_for_nothing_may_stay() {
    chat(json!({"modalities": ["text"], "echo": false, "best_of": 1, "length_penalty": 1.0}))
        .unwrap();
    completion(json!({"suffix": "", "use_beam_search": false})).unwrap();
    chat(json!({"structured_outputs": {"json": {}, "disable_any_whitespace": false}})).unwrap();
}

#[test]
fn what_lies_inside_a_field_is_refused_by_its_whole_name() {
    let refused = |result: Result<(), RequestError>| match result {
        Err(RequestError::Refused { field }) => field,
        other => panic!("{other:?}"),
    };
    let padded = json!({"stream": true, "stream_options": {"include_obfuscation": true}});
    assert_eq!(refused(chat(padded)), "stream_options.include_obfuscation");
    for (name, value) in [("structural_tag", json!("x")), ("disable_any_whitespace", json!(true))] {
        let asked = json!({"structured_outputs": {"json": {}, name: value}});
        assert_eq!(refused(chat(asked)), format!("structured_outputs.{name}"));
    }
    let body = json!({"token_ids": [1], "sampling_params": {"extra_args": {"a": 1}}});
    let result = GenerateBody::parse(body.to_string().as_bytes()).map(|_| ());
    assert_eq!(refused(result), "sampling_params.extra_args");
}

mod mutations;
