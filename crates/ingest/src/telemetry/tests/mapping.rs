//! Shapes that the captures have none of, written from the sources' own documentation.

use super::*;
use crate::telemetry::messages::Reader;

fn read(value: Value) -> Vec<Message> {
    Reader::default().read(&value, Role::User)
}

fn calling(id: &str, name: &str, arguments: &str) -> Value {
    let function = json!({"name": name, "arguments": arguments});
    json!({"role": "assistant", "content": "", "tool_calls": [{"id": id, "type": "function", "function": function}]})
}

fn message(value: Value) -> Message {
    serde_json::from_value(value).unwrap()
}

#[test]
fn one_conversation_in_every_shape_reads_the_same() {
    let expected: Vec<Message> = [
        json!({"role": "user", "content": "Weather?"}),
        calling("call_1", "look", r#"{"city":"Paris"}"#),
        json!({"role": "tool", "content": "rain", "tool_call_id": "call_1"}),
        json!({"role": "assistant", "content": "Rain."}),
    ]
    .map(message)
    .to_vec();
    let shapes = [
        // OpenAI chat.
        json!([
            {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
            calling("call_1", "look", "{\"city\": \"Paris\"}"),
            {"role": "tool", "content": "rain", "tool_call_id": "call_1"},
            {"role": "assistant", "content": "Rain.", "tool_calls": null},
        ]),
        // OpenAI responses.
        json!([
            {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
            {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": "{\"city\":\"Paris\"}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "rain"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Rain."}]},
        ]),
        // Anthropic.
        json!([
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "call_1", "name": "look", "input": {"city": "Paris"}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": [{"type": "text", "text": "rain"}]}]},
            {"role": "assistant", "content": [{"type": "text", "text": "Rain."}]},
        ]),
        // LangChain: a pair, a constructor, a dump, a flat one.
        json!([[
            ["user", "Weather?"],
            {"lc": 1, "type": "constructor", "id": ["langchain", "AIMessage"], "kwargs": {"content": "", "tool_calls": [{"name": "look", "args": {"city": "Paris"}, "id": "call_1", "type": "tool_call"}]}},
            {"type": "tool", "data": {"content": "rain", "tool_call_id": "call_1", "id": "m3"}},
            {"type": "ai", "content": "Rain.", "id": "m4"},
        ]]),
        // The Vercel SDK.
        json!([
            {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
            {"role": "assistant", "content": [{"type": "tool-call", "toolCallId": "call_1", "toolName": "look", "input": {"city": "Paris"}}]},
            {"role": "tool", "content": [{"type": "tool-result", "toolCallId": "call_1", "output": {"type": "text", "value": "rain"}}]},
            {"role": "assistant", "content": [{"type": "text", "text": "Rain."}]},
        ]),
        // GenAI, with the result where the registry's examples have it.
        json!([
            {"role": "user", "parts": [{"type": "text", "content": "Weather?"}]},
            {"role": "assistant", "parts": [{"type": "tool_call", "id": "call_1", "name": "look", "arguments": {"city": "Paris"}}]},
            {"role": "user", "parts": [{"type": "tool_call_response", "id": "call_1", "result": "rain"}]},
            {"role": "assistant", "parts": [{"type": "text", "content": "Rain."}]},
        ]),
    ];
    for shape in shapes {
        assert_eq!(read(shape.clone()), expected, "{shape}");
    }
}

#[test]
fn parts_that_are_not_text_are_kept() {
    let parts = json!([{"role": "assistant", "parts": [
        {"type": "reasoning", "content": "Hm."},
        {"type": "uri", "modality": "image", "uri": "s3://a/b.png"},
        {"type": "blob", "mime_type": "audio/wav", "modality": "audio", "content": "AQID"},
        {"type": "server_tool_call", "name": "search"},
        {"type": "text", "content": "Yes."},
    ]}]);
    let mut reader = Reader::default();
    let messages = reader.read(&parts, Role::User);
    assert_eq!(messages[0].text(), "Yes.");
    assert_eq!(messages[0].content.parts().len(), 5);
    assert_eq!(reader.blobs.values().collect::<Vec<_>>(), [&vec![1, 2, 3]]);
    assert!(text_of(&messages).contains("s3://a/b.png"));
}

#[test]
fn media_of_every_vendor_leave_their_bytes_beside_the_message() {
    for part in [
        json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AQID"}}),
        json!({"type": "input_image", "image_url": "data:image/png;base64,AQID"}),
        json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AQID"}}),
        json!({"type": "file", "mediaType": "image/png", "data": "AQID"}),
        json!({"type": "blob", "mime_type": "image/png", "content": "AQID"}),
    ] {
        let mut reader = Reader::default();
        let messages = reader.read(&json!([{"role": "user", "content": [part]}]), Role::User);
        assert_eq!(reader.blobs.values().collect::<Vec<_>>(), [&vec![1, 2, 3]], "{part}");
        let text = text_of(&messages);
        assert!(text.contains("image/png") && !text.contains("AQID"), "{text}");
    }
    let mut reader = Reader::default();
    let elsewhere = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a/b.png"}}]}]);
    assert!(text_of(&reader.read(&elsewhere, Role::User)).contains("https://a/b.png"));
    assert!(reader.blobs.is_empty());
}

#[test]
fn the_vercel_sdk_is_read() {
    let call = json!({
        "ai.operationId": "ai.generateText.doGenerate", "ai.model.id": "tiny",
        "ai.model.provider": "openai.chat", "ai.response.model": "tiny-1", "ai.response.id": "r1",
        "ai.response.finishReason": "tool-calls", "ai.usage.promptTokens": 5,
        "ai.usage.completionTokens": 6, "ai.telemetry.metadata.userId": "u", "ai.telemetry.metadata.sessionId": "s",
        "ai.prompt.tools": ["{\"type\":\"function\",\"name\":\"look\",\"parameters\":{}}"],
        "ai.prompt.messages": json!([{"role": "user", "content": [{"type": "text", "text": "Weather?"}]}]).to_string(),
        "ai.response.toolCalls": json!([{"toolCallType": "function", "toolCallId": "c1", "toolName": "look", "args": "{\"a\": 1}"}]).to_string(),
    });
    let tool = json!({
        "ai.operationId": "ai.toolCall", "ai.toolCall.name": "look", "ai.toolCall.id": "c1",
        "ai.toolCall.args": "{\"a\":1}", "ai.toolCall.result": "\"rain\"",
    });
    let frame = json!({"ai.operationId": "ai.generateText", "ai.prompt": "{}"});
    let assembled = assemble(
        &json_traces(&traces(
            "ai",
            vec![
                span(1, 1, None, 1, frame),
                span(1, 2, Some(1), 2, call),
                span(1, 3, Some(1), 3, tool),
            ],
        ))
        .items,
    );
    let conversation = only(&assembled);
    assert_eq!(
        (conversation.session.as_deref(), conversation.subject.as_deref()),
        (Some("s"), Some("u"))
    );
    let (_, call) = conversation.calls().next().unwrap();
    assert_eq!(conversation.said(&call.output), [message(calling("c1", "look", "{\"a\":1}"))]);
    assert_eq!((call.finish.as_ref(), call.usage.input), (Some(&Finish::ToolCall), Some(5)));
    assert_eq!(call.tools[0]["function"]["name"], "look");
    let (_, run) = conversation.runs().next().unwrap();
    assert_eq!((run.result.as_deref(), run.observed), (Some("rain"), true));
}

#[test]
fn retrievals_of_two_dialects_are_read() {
    let genai = json!({
        "gen_ai.operation.name": "retrieval", "gen_ai.retrieval.query.text": "fares",
        "gen_ai.data_source.id": "docs",
        "gen_ai.retrieval.documents": json!([{"id": "d1", "score": 0.5}]).to_string(),
    });
    let openinference = json!({
        "openinference.span.kind": "RETRIEVER", "input.value": "fares",
        "retrieval.documents.0.document.id": "d1", "retrieval.documents.0.document.score": 0.5,
    });
    for attributes in [genai, openinference] {
        let assembled = assembled(vec![span(1, 1, None, 1, attributes)]);
        let understudy_trajectory::SpanBody::Retrieval(found) = &only(&assembled).spans[0].body
        else {
            panic!("{assembled:?}")
        };
        assert_eq!(found.query.as_deref(), Some("fares"));
        assert_eq!(found.documents, [json!({"id": "d1", "score": 0.5})]);
    }
}

#[test]
fn content_kept_elsewhere_is_said_to_be() {
    let attributes = json!({
        "gen_ai.operation.name": "chat", "gen_ai.input.messages_ref": "s3://bucket/input.json",
    });
    let assembled = assembled(vec![span(1, 1, None, 1, attributes)]);
    let (span, call) = only(&assembled).calls().next().unwrap();
    assert_eq!(call.content, Fidelity::References);
    assert_eq!(span.extra["gen_ai.input.messages_ref"], "s3://bucket/input.json");
}

#[test]
fn what_no_rule_reads_is_kept() {
    let mut attributes = chat(json!([says("user", "Hi")]), &says("assistant", "Hello!"));
    attributes["acme.tier"] = json!("gold");
    attributes["server.address"] = json!("localhost");
    let assembled = assembled(vec![span(1, 1, None, 1, attributes)]);
    let extra = &only(&assembled).spans[0].extra;
    assert_eq!(text_of(extra), r#"{"acme.tier":"gold","server.address":"localhost"}"#);
}

#[test]
fn an_openinference_annotation_judges_the_span_its_carrier_links_to() {
    let call = span(1, 1, None, 1, chat(json!([says("user", "Hi")]), &says("assistant", "Hello!")));
    let mut carrier = span(
        2,
        1,
        None,
        2,
        json!({
            "openinference.span.kind": "EVALUATOR", "annotations.0.annotation.name": "kind",
            "annotations.0.annotation.score": 1.0, "annotations.0.annotation.annotator_kind": "HUMAN",
        }),
    );
    carrier["links"] = json!([{"traceId": format!("{:032x}", 1), "spanId": format!("{:016x}", 1)}]);
    let assembled = assembled(vec![call, carrier]);
    let [outcome] = &assembled.outcomes[..] else { panic!("{:?}", assembled.outcomes) };
    let called = assembled.conversations.iter().find_map(|c| c.calls().next()).unwrap();
    assert_eq!(outcome.target, Target::Step(called.0.id.to_string()));
    assert_eq!(outcome.signal, Signal::Rating { value: 1.0 });
}

#[test]
fn span_events_of_the_older_conventions_are_read() {
    let mut call =
        span(1, 1, None, 1, json!({"gen_ai.operation.name": "chat", "gen_ai.system": "openai"}));
    let event = |at: u64, name: &str, attributes: Value| {
        let pairs: Vec<Value> = attributes
            .as_object()
            .unwrap()
            .iter()
            .map(|(key, value)| json!({"key": key, "value": any(value)}))
            .collect();
        json!({"name": name, "timeUnixNano": at, "attributes": pairs})
    };
    call["events"] = json!([
        event(1, "gen_ai.user.message", json!({"content": "Hi"})),
        event(
            2,
            "gen_ai.choice",
            json!({"index": 0, "finish_reason": "stop", "message": "{\"content\":\"Hello!\"}"})
        ),
    ]);
    let assembled = assembled(vec![call]);
    let conversation = only(&assembled);
    let (_, call) = conversation.calls().next().unwrap();
    assert_eq!(conversation.said(&call.input), [Message::user("Hi")]);
    assert_eq!(conversation.said(&call.output), [Message::assistant("Hello!")]);
    assert_eq!(call.finish, Some(Finish::Stop));
}

#[test]
fn the_first_token_is_timed_in_every_spelling() {
    let told = |items: &[Item]| {
        let assembled = assemble(items);
        only(&assembled).calls().next().unwrap().1.first_token_ns
    };
    let spans = |spans: Vec<Value>| json_traces(&traces("langfuse-sdk", spans)).items;
    let chat = json!({"gen_ai.operation.name": "chat", "gen_ai.response.time_to_first_chunk": 0.5});
    assert_eq!(told(&spans(vec![span(1, 1, None, 1, chat)])), Some(500_000_000));
    let langfuse = json!({
        "langfuse.observation.type": "generation",
        "langfuse.observation.completion_start_time": "\"1970-01-01T00:00:00.000003Z\"",
    });
    assert_eq!(told(&spans(vec![span(1, 1, None, 1, langfuse)])), Some(2000));
    let run = json!({
        "id": "r", "run_type": "llm", "start_time": "2026-01-02T03:04:05Z",
        "events": [{"name": "start"}, {"name": "new_token", "time": "2026-01-02T03:04:06"}],
    });
    let run = decode(&Payload::LangsmithRuns, run.to_string().as_bytes()).unwrap();
    assert_eq!(told(&run.items), Some(1_000_000_000));
}

#[test]
fn a_name_with_too_many_dots_is_only_a_name() {
    let name = format!("llm.input_messages.0{}", ".a".repeat(200_000));
    let mut attributes = json!({"openinference.span.kind": "LLM"});
    attributes[name] = json!("deep");
    let assembled = assembled(vec![span(1, 1, None, 1, attributes)]);
    assert_eq!(only(&assembled).calls().count(), 1);
}

#[test]
fn message_events_of_one_instant_begin_with_the_system_and_end_with_the_reply() {
    let event = |name: &str, body: Value| {
        json!({
            "traceId": format!("{:032x}", 1), "spanId": format!("{:016x}", 1), "eventName": name,
            "timeUnixNano": "5", "body": any(&body),
        })
    };
    let records = vec![
        event("gen_ai.choice", json!({"finish_reason": "stop", "message": {"content": "A"}})),
        event("gen_ai.user.message", json!({"content": "B"})),
        event("gen_ai.system.message", json!({"content": "C"})),
    ];
    let items = decode(&Payload::OtlpLogs(Encoding::Json), &logs(records)).unwrap().items;
    let assembled = assemble(&items);
    let conversation = only(&assembled);
    let (_, call) = conversation.calls().next().unwrap();
    assert_eq!(conversation.said(&call.input), [Message::system("C"), Message::user("B")]);
    assert_eq!(conversation.said(&call.output), [Message::assistant("A")]);
}
