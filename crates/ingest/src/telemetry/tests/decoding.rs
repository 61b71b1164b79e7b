use std::io::Write as _;

use super::{captures::Capture, *};
use crate::telemetry::otlp::encode;

#[test]
fn both_encodings_of_a_capture_are_the_same_items() {
    for name in ["genai_span", "genai_event", "v2_legacy", "oi_openai", "traceloop", "langfuse"] {
        let items = Capture::load(name).items;
        let spans = encode::request(&items, false);
        let mut again = decode(&Payload::OtlpTraces(Encoding::Protobuf), &spans).unwrap();
        let records = encode::request(&items, true);
        let logs = decode(&Payload::OtlpLogs(Encoding::Protobuf), &records).unwrap();
        again.items.extend(logs.items);
        assert_eq!(again.rejected, [""; 0], "{name}");
        let otlp: Vec<Item> =
            items.into_iter().filter(|item| !matches!(item, Item::Feedback(_))).collect();
        assert_eq!(again.items, otlp, "{name}");
    }
}

#[test]
fn protobuf_of_the_official_definitions_is_the_same_items() {
    let of_kind = |name: &str, wanted: fn(&Item) -> bool| -> Vec<Item> {
        Capture::load(name).items.into_iter().filter(wanted).collect()
    };
    let traces = include_bytes!("captures/traceloop.traces.pb");
    let decoded = decode(&Payload::OtlpTraces(Encoding::Protobuf), traces).unwrap();
    assert_eq!(decoded.items, of_kind("traceloop", |item| matches!(item, Item::Span(_))));
    let logs = include_bytes!("captures/v2_legacy.logs.pb");
    let decoded = decode(&Payload::OtlpLogs(Encoding::Protobuf), logs).unwrap();
    assert_eq!(decoded.items, of_kind("v2_legacy", |item| matches!(item, Item::Log(_))));
}

#[test]
fn an_empty_request_is_a_success() {
    for encoding in [Encoding::Protobuf, Encoding::Json] {
        let body: &[u8] = if encoding == Encoding::Json { b"{}" } else { b"" };
        let decoded = decode(&Payload::OtlpTraces(encoding), body).unwrap();
        assert_eq!(decoded, Decoded::default());
        assert_eq!(decoded.partial_success(&Payload::OtlpTraces(encoding)), json!({}));
    }
}

#[test]
fn a_broken_span_is_counted_and_the_others_are_kept() {
    let good = span(1, 1, None, 1, json!({"a": 1}));
    let mut no_id = span(1, 2, None, 1, json!({}));
    no_id["spanId"] = json!("0000000000000000");
    let mut bad_id = span(1, 3, None, 1, json!({}));
    bad_id["traceId"] = json!("not an id");
    let body = traces("t", vec![no_id, good, bad_id, json!("no span")]);
    let payload = Payload::OtlpTraces(Encoding::Json);
    let decoded = decode(&payload, &body).unwrap();
    assert_eq!((decoded.items.len(), decoded.rejected.len()), (1, 3));
    let answer = decoded.partial_success(&payload);
    assert_eq!(answer["partialSuccess"]["rejectedSpans"], "3");
    assert!(answer["partialSuccess"]["errorMessage"].as_str().unwrap().contains("span id"));
}

#[test]
fn a_broken_span_of_a_protobuf_request_falls_alone() {
    let items = Capture::load("traceloop").items;
    let whole = encode::request(&items, false);
    let name = whole.windows(11).position(|bytes| bytes == b"openai.chat").unwrap();
    let mut broken = whole.clone();
    // No text: the span's own decoder refuses it, the request's never looks.
    broken[name] = 0xff;
    let decoded = decode(&Payload::OtlpTraces(Encoding::Protobuf), &broken).unwrap();
    assert_eq!((decoded.items.len(), decoded.rejected.len()), (items.len() - 1, 1));
    let cut = decode(&Payload::OtlpTraces(Encoding::Protobuf), &whole[..whole.len() - 9]);
    assert!(matches!(cut, Err(TelemetryError::Protobuf(_))), "{cut:?}");
}

/// A request of spans as text, the second of them changed by `damage`.
fn with_damaged_second(damage: impl Fn(String) -> String) -> Vec<u8> {
    let say = |text: &str| chat(json!([says("user", "Hi")]), &says("assistant", text));
    let spans = (1..4).map(|n| span(1, n, None, u64::from(n), say(&format!("reply {n}"))));
    let spans: Vec<String> = spans.map(|span| span.to_string()).collect();
    let texts = [spans[0].clone(), damage(spans[1].clone()), spans[2].clone()].join(" ,\n");
    format!(
        r#"{{"resourceSpans": [{{"resource": {{"attributes": [{{"key": "service.name",
        "value": {{"stringValue": "shop"}}}}]}}, "scopeSpans": [{{"scope": {{"name": "test"}},
        "spans": [{texts}]}}], "schemaUrl": ""}}]}}"#
    )
    .into_bytes()
}

#[test]
fn a_record_that_no_strict_parser_takes_is_mended() {
    let add = |value: &'static str| {
        move |span: String| {
            let more =
                format!(r#""attributes":[{{"key":"odd","value":{{"doubleValue":{value}}}}},"#);
            span.replacen(r#""attributes":["#, &more, 1)
        }
    };
    for odd in ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"] {
        let decoded = json_traces(&with_damaged_second(add(odd)));
        assert_eq!((decoded.items.len(), decoded.rejected.len()), (3, 0), "{odd}");
        assert_eq!(decoded.repaired, 1, "{odd}");
        let Item::Span(second) = &decoded.items[1] else { panic!("no span") };
        assert_eq!(second.attributes["odd"], Value::Null, "{odd}");
        assert_eq!((second.scope.service.as_str(), second.dropped_attributes), ("shop", 0));
        assert_eq!(assemble(&decoded.items).counts.spans, 3);
    }
    // A word that merely looks like one inside a text is left alone.
    let quoted = |span: String| add("NaN")(span.replace("reply 2", r#"NaN \\\" Infinity, 1e999"#));
    let decoded = json_traces(&with_damaged_second(quoted));
    let said = only(&assemble(&decoded.items)).messages.iter().any(|m| m.text().contains("1e999"));
    assert!(said && decoded.repaired == 1);
}

#[test]
fn half_a_character_is_replaced_and_its_call_is_not_trained_on() {
    let halves: [&[u8]; 4] = [br"\ud83d", br"\ude00 and", br"\ud83d\u0041", b"\xf0\x9f"];
    for half in halves {
        let whole =
            String::from_utf8(with_damaged_second(|s| s.replacen("\"op\"", "\"op HALF\"", 1)));
        let whole = whole.unwrap();
        let (before, after) = whole.split_once("HALF").unwrap();
        let body = [before.as_bytes(), half, after.as_bytes()].concat();
        let decoded = json_traces(&body);
        assert_eq!((decoded.items.len(), decoded.rejected.len()), (3, 0));
        assert_eq!(decoded.repaired, 1);
        let Item::Span(second) = &decoded.items[1] else { panic!("no span") };
        assert!(second.name.contains('\u{fffd}'), "{}", second.name);
        let assembled = assemble(&decoded.items);
        let task = "t".parse().unwrap();
        let made: usize = assembled.conversations.iter().map(|c| steps(c, &task).steps.len()).sum();
        assert_eq!(made, 2, "the call whose text was cut stays out");
    }
    let pair = with_damaged_second(|span| span.replacen("\"op\"", r#""\ud83d\ude00""#, 1));
    let decoded = json_traces(&pair);
    assert_eq!((decoded.items.len(), decoded.repaired), (3, 0));
}

#[test]
fn a_record_nested_too_deep_falls_alone() {
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let nested = |span: String| span.replacen("\"op\"", &format!("\"op\",\"flags\":{deep}"), 1);
    let payload = Payload::OtlpTraces(Encoding::Json);
    let decoded = decode(&payload, &with_damaged_second(nested)).unwrap();
    assert_eq!((decoded.items.len(), decoded.rejected.len()), (2, 1));
    let answer = decoded.partial_success(&payload);
    assert_eq!(answer["partialSuccess"]["rejectedSpans"], "1");
    assert!(
        answer["partialSuccess"]["errorMessage"].as_str().unwrap().contains("JSON"),
        "{answer}"
    );
    let record = json!({"eventName": "gen_ai.choice", "body": {"stringValue": "x"}}).to_string();
    let cut = record.replace("\"x\"", r#""\ud83d""#);
    let body = format!(
        r#"{{"resource_logs":[{{"scope_logs":[{{"log_records":[{record},{{"a":{deep}}},{cut}]}}]}}]}}"#
    );
    let decoded = decode(&Payload::OtlpLogs(Encoding::Json), body.as_bytes()).unwrap();
    assert_eq!((decoded.items.len(), decoded.rejected.len()), (2, 1));
    let Item::Log(last) = &decoded.items[1] else { panic!("no log") };
    assert_eq!(last.dropped_attributes, 1);
}

#[test]
fn what_holds_the_records_has_to_be_json() {
    for body in [&b"{\"resourceSpans\": [NaN"[..], b"[NaN", b"", b"{\"a\" NaN}", b"{} NaN", b"\xff"]
    {
        let refused = decode(&Payload::OtlpTraces(Encoding::Json), body);
        assert!(matches!(refused, Err(TelemetryError::Json(_))), "{refused:?}");
    }
}

#[test]
fn logs_sent_to_the_path_of_traces_are_refused_one_by_one() {
    let items = Capture::load("v2_legacy").items;
    let records = encode::request(&items, true);
    match decode(&Payload::OtlpTraces(Encoding::Protobuf), &records) {
        Ok(decoded) => assert_eq!(decoded.items, []),
        Err(error) => assert!(error.to_string().contains("another signal"), "{error}"),
    }
}

#[test]
fn json_is_taken_in_every_spelling_clients_use() {
    let attributes = json!([
        {"key": "text_int", "value": {"intValue": "7"}},
        {"key": "number_int", "value": {"intValue": 7}},
        {"key": "huge", "value": {"intValue": 1e21}},
        {"key": "nan", "value": {"doubleValue": "NaN"}},
        {"key": "infinite", "value": {"doubleValue": "Infinity"}},
        {"key": "no_values", "value": {"arrayValue": {}}},
        {"key": "null_array", "value": {"arrayValue": null}},
        {"key": "null_text", "value": {"stringValue": null}},
        {"key": "empty", "value": {}},
        {"key": "missing"},
        {"key": "snake", "value": {"kvlist_value": {"values": [{"key": "a", "value": {"bool_value": true}}]}}},
        {"key": "unknown", "value": {"futureValue": 3}},
    ]);
    let base64 = json!({
        "trace_id": "AAAAAAAAAAAAAAAAAAAAAQ==", "span_id": "AAAAAAAAAAE=",
        "parent_span_id": null, "name": null, "kind": "SPAN_KIND_CLIENT", "attributes": attributes,
        "start_time_unix_nano": 1.5e18, "endTimeUnixNano": "1500000000000000007", "events": null,
        "links": [{"traceId": "00000000000000000000000000000002", "spanId": "0000000000000003"}],
        "status": {"code": "STATUS_CODE_ERROR", "message": "late"}, "somethingNew": {"a": 1},
    });
    let decoded = json_traces(&traces("t", vec![base64]));
    assert_eq!(decoded.rejected, [""; 0]);
    let [Item::Span(span)] = &decoded.items[..] else { panic!("{decoded:?}") };
    assert_eq!(span.trace_id, format!("{:032x}", 1));
    assert_eq!((span.span_id.as_str(), &span.parent), ("0000000000000001", &None));
    assert_eq!(
        (span.started_ns, span.ended_ns),
        (1_500_000_000_000_000_000, 1_500_000_000_000_000_007)
    );
    assert_eq!(span.error.as_deref(), Some("late"));
    assert_eq!(span.links, [(format!("{:032x}", 2), format!("{:016x}", 3))]);
    let expected = json!({
        "text_int": 7, "number_int": 7, "huge": 1e21, "nan": null, "infinite": null,
        "no_values": [], "null_array": null, "null_text": null, "empty": null, "missing": null,
        "snake": {"a": true}, "unknown": 3,
    });
    assert_eq!(serde_json::to_value(&span.attributes).unwrap(), canonical(expected));
    assert_eq!(decoded.repaired, 2);
}

/// With the keys in order, as the attributes are.
fn canonical(value: Value) -> Value {
    serde_json::from_str(&understudy_manifest::canonical_json(&value)).unwrap()
}

#[test]
fn a_body_that_is_not_json_or_no_request_is_an_error() {
    let payload = Payload::OtlpLogs(Encoding::Json);
    assert!(matches!(decode(&payload, b"{\"resourceLogs\""), Err(TelemetryError::Json(_))));
    assert!(matches!(decode(&payload, b"[1]"), Err(TelemetryError::Shape { .. })));
    assert!(matches!(decode(&Payload::OpenaiAgents, b"{}"), Err(TelemetryError::Shape { .. })));
}

#[test]
fn bodies_are_decompressed_up_to_a_limit() {
    let body = traces("t", vec![span(1, 1, None, 1, json!({"a": "b"}))]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&body).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::stream::encode_all(&body[..], 1).unwrap();
    for (bytes, named) in [(&gzip, "gzip"), (&zstd, "zstd"), (&body, "identity")] {
        let compression = Compression::named(Some(named)).unwrap();
        assert_eq!(decompress(bytes, compression, body.len()).unwrap(), body, "{named}");
        let over = decompress(bytes, compression, body.len() - 1);
        assert_eq!(over, Err(TelemetryError::TooLarge { limit: body.len() - 1 }), "{named}");
    }
    assert_eq!(Compression::named(Some("br")), None);
    let bomb = zstd::stream::encode_all(&vec![0_u8; 1 << 24][..], 1).unwrap();
    let limit = 1 << 16;
    assert!(bomb.len() < limit);
    let burst = decompress(&bomb, Compression::Zstd, limit);
    assert_eq!(burst, Err(TelemetryError::TooLarge { limit }));
    let garbage = decompress(b"nonsense", Compression::Gzip, limit);
    assert!(matches!(garbage, Err(TelemetryError::Compression(_))), "{garbage:?}");
}

#[test]
fn langsmith_posts_and_patches_meet_in_one_run() {
    let post = json!({"id": "r1", "trace_id": "t1", "run_type": "llm", "name": "m",
        "start_time": "2026-01-02T03:04:05.000006", "inputs": {"messages": [["user", "hi"]]}});
    let patch = json!({"id": "r1", "trace_id": "t1", "end_time": "2026-01-02T03:04:06Z",
        "outputs": {"choices": [{"message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}], "id": "c1", "model": "m2"}});
    let feedback = json!({"id": "f1", "run_id": "r1", "key": "thumbs", "score": 0,
        "correction": {"text": "Hello!"}});
    let batch = json!({"post": [post], "patch": [patch]}).to_string();
    let decoded = decode(&Payload::LangsmithRuns, batch.as_bytes()).unwrap();
    let mut items = decoded.items;
    let said = decode(&Payload::LangsmithFeedback, feedback.to_string().as_bytes()).unwrap();
    // Feedback first: its target may come later.
    assert_eq!(assemble(&said.items).pending.len(), 2);
    items.splice(0..0, said.items);
    let assembled = assemble(&items);
    assert_eq!((assembled.counts.spans, assembled.counts.merged), (1, 1));
    let conversation = only(&assembled);
    let (span, call) = conversation.calls().next().unwrap();
    assert_eq!(conversation.said(&call.input), [Message::user("hi")]);
    assert_eq!(conversation.said(&call.output), [Message::assistant("hello")]);
    assert_eq!((call.response_id.as_deref(), &call.finish), (Some("c1"), &Some(Finish::Stop)));
    assert_eq!(span.ended_ns - span.started_ns, 999_994_000);
    let target = Target::Step(span.id.to_string());
    assert!(assembled.outcomes.iter().all(|outcome| outcome.target == target));
    let signals: Vec<&Signal> = assembled.outcomes.iter().map(|outcome| &outcome.signal).collect();
    let edit = Signal::Edit { text: "Hello!".to_owned() };
    assert_eq!(signals, [&Signal::Rating { value: 0.0 }, &edit]);
}

#[test]
fn a_multipart_body_is_taken_part_by_part() {
    let part = |name: &str, body: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{body}\r\n")
    };
    let text = [
        part("post.r1", r#"{"id": "r1", "run_type": "tool", "name": "look"}"#),
        part("post.r1.outputs", "{broken"),
        part("post.r1.inputs", r#"{"q": 1}"#),
        part("attachment.r1.file", "bytes"),
        part("feedback.f1", r#"{"run_id": "r1", "score": 7}"#),
        "--b--\r\n".to_owned(),
    ]
    .concat();
    let payload = Payload::LangsmithMultipart { boundary: "b".to_owned() };
    let decoded = decode(&payload, text.as_bytes()).unwrap();
    assert_eq!(decoded.items.len(), 1);
    assert_eq!(decoded.rejected.len(), 2);
    assert!(decoded.rejected[0].contains("post.r1.outputs"), "{:?}", decoded.rejected);
    assert!(decoded.rejected[1].contains("outside [0, 1]"), "{:?}", decoded.rejected);
    let cut = decode(&payload, &text.as_bytes()[..text.len() - 20]);
    assert!(matches!(cut, Err(TelemetryError::Multipart(_))), "{cut:?}");
    let other = Payload::LangsmithMultipart { boundary: "other".to_owned() };
    assert!(matches!(decode(&other, text.as_bytes()), Err(TelemetryError::Multipart(_))));
}

#[test]
fn every_recorded_body_survives_being_cut_anywhere() {
    for name in ["genai_event", "lg_ls_native", "agents_native", "langfuse"] {
        for (payload, body) in Capture::load(name).bodies {
            for at in (0..body.len()).step_by(body.len() / 40 + 1) {
                // It is refused or read in part; nothing else may happen.
                if let Ok(decoded) = decode(&payload, &body[..at]) {
                    assemble(&decoded.items);
                }
            }
        }
    }
}

#[test]
fn damaged_bodies_are_refused_or_read_in_part() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut bodies = Vec::new();
    for name in ["traceloop", "lg_ls_native", "pyai5", "v2_legacy"] {
        bodies.extend(Capture::load(name).bodies);
    }
    let spans = include_bytes!("captures/traceloop.traces.pb");
    bodies.push((Payload::OtlpTraces(Encoding::Protobuf), spans.to_vec()));
    for (payload, body) in &bodies {
        for _ in 0..40 {
            let mut damaged = body.clone();
            for _ in 0..rng.random_range(1..6) {
                let at = rng.random_range(0..damaged.len());
                damaged[at] = rng.random();
            }
            if let Ok(decoded) = decode(payload, &damaged) {
                assemble(&decoded.items);
            }
        }
    }
}

#[test]
fn categories_and_comments_are_remarks() {
    let said = |payload: &Payload, value: Value| {
        let decoded = decode(payload, value.to_string().as_bytes()).unwrap();
        assert_eq!(decoded.rejected, [""; 0], "{value}");
        let of = |item: &Item| match item {
            Item::Feedback(one) => (**one).clone(),
            other => panic!("{other:?}"),
        };
        decoded.items.iter().map(of).collect::<Vec<_>>()
    };
    let remark = |name: &str, text: &str| {
        Verdict::Signal(Signal::Remark { name: name.to_owned(), text: text.to_owned() })
    };
    let langfuse = |more: Value| {
        let mut score = json!({"traceId": "t", "name": "tone"});
        score.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        said(&Payload::LangfuseScores, score).remove(0)
    };
    let category = langfuse(json!({"value": "polite", "dataType": "CATEGORICAL", "comment": "so"}));
    assert_eq!(
        (category.verdict, category.note.as_deref()),
        (remark("tone", "polite"), Some("so"))
    );
    let numbered = json!({"value": 3, "stringValue": "polite", "dataType": "CATEGORICAL"});
    assert_eq!(langfuse(numbered).verdict, remark("tone", "polite"));
    assert_eq!(
        langfuse(json!({"value": "fine", "dataType": "TEXT"})).verdict,
        remark("tone", "fine")
    );
    assert_eq!(langfuse(json!({"value": "fine"})).verdict, remark("tone", "fine"));
    let comment = langfuse(json!({"comment": "hm"}));
    assert_eq!((comment.verdict, comment.note), (remark("tone", "hm"), None));
    let truth = json!({"value": 1, "stringValue": "True", "dataType": "BOOLEAN"});
    assert_eq!(langfuse(truth).verdict, Verdict::Score(1.0));

    let langsmith = |more: Value| {
        let mut feedback = json!({"run_id": "r", "key": "topic"});
        feedback.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        said(&Payload::LangsmithFeedback, feedback)
    };
    assert_eq!(langsmith(json!({"value": "billing"}))[0].verdict, remark("topic", "billing"));
    assert_eq!(langsmith(json!({"value": {"a": 1}}))[0].verdict, remark("topic", "{\"a\":1}"));
    assert_eq!(langsmith(json!({"comment": "hm"}))[0].verdict, remark("topic", "hm"));
    let both = langsmith(json!({"score": 1, "value": "great", "comment": "hm"}));
    assert_eq!(
        (both.len(), &both[0].verdict, both[0].note.as_deref()),
        (1, &Verdict::Score(1.0), Some("hm"))
    );
    assert_eq!(both[0].details.as_ref().unwrap().label.as_deref(), Some("great"));
    let nothing = json!({"run_id": "r", "key": "topic"}).to_string();
    let refused = decode(&Payload::LangsmithFeedback, nothing.as_bytes()).unwrap().rejected;
    assert!(refused[0].contains("none of a score"), "{refused:?}");

    let attribute = |key: &str, text: &str| json!({"key": key, "value": {"stringValue": text}});
    let mut record = json!({"eventName": "gen_ai.evaluation.result", "attributes": [
        attribute("gen_ai.evaluation.name", "tone"), attribute("gen_ai.response.id", "c1"),
        attribute("gen_ai.evaluation.score.label", "polite")]});
    let outcome = |record: &Value| {
        let body = logs(vec![record.clone()]);
        let items = decode(&Payload::OtlpLogs(Encoding::Json), &body).unwrap().items;
        assemble(&items).outcomes.remove(0)
    };
    let alone = outcome(&record);
    assert_eq!(alone.signal, Signal::Remark { name: "tone".to_owned(), text: "polite".to_owned() });
    let score = json!({"key": "gen_ai.evaluation.score.value", "value": {"doubleValue": 0.9}});
    record["attributes"].as_array_mut().unwrap().push(score);
    let scored = outcome(&record);
    assert_eq!(scored.signal, Signal::Verifier { name: "tone".to_owned(), score: 0.9 });
    assert_eq!(scored.details.unwrap().label.as_deref(), Some("polite"));
}
