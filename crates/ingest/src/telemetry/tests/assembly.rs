use super::*;

fn question(text: &str) -> Value {
    json!([says("system", "Be brief."), says("user", text)])
}

fn on(before: &Value, more: &[Value]) -> Value {
    let mut list = before.as_array().unwrap().clone();
    list.extend_from_slice(more);
    Value::Array(list)
}

#[test]
fn calls_without_a_session_are_stitched_by_what_was_said() {
    let first = question("Hi");
    let reply = says("assistant", "Hello, what is it?");
    let second = on(&first, &[reply.clone(), says("user", "A fare.")]);
    let spans = vec![
        span(1, 1, None, 1, chat(first.clone(), &reply)),
        span(2, 1, None, 2, chat(second.clone(), &says("assistant", "To where?"))),
        span(3, 1, None, 3, chat(question("Bye"), &says("assistant", "Bye."))),
    ];
    let assembled = assembled(spans);
    let sizes: Vec<usize> = assembled.conversations.iter().map(|c| c.calls().count()).collect();
    assert_eq!(sizes.iter().max(), Some(&2));
    assert_eq!(sizes.len(), 2, "an unrelated call stays apart");
}

#[test]
fn a_beginning_that_two_conversations_share_joins_neither() {
    let first = question("Hi");
    let reply = says("assistant", "Hello!");
    let second = on(&first, &[reply.clone(), says("user", "A fare.")]);
    let spans = vec![
        span(1, 1, None, 1, chat(first.clone(), &reply)),
        span(2, 1, None, 2, chat(first, &reply)),
        span(3, 1, None, 3, chat(second, &says("assistant", "To where?"))),
    ];
    let assembled = assembled(spans);
    assert_eq!((assembled.conversations.len(), assembled.counts.ambiguous), (3, 1));
}

#[test]
fn conversations_of_two_people_are_never_joined_by_what_they_say() {
    let first = question("Hi");
    let reply = says("assistant", "Hello!");
    let second = on(&first, &[reply.clone(), says("user", "A fare.")]);
    let with_user = |mut attributes: Value, user: &str| {
        attributes["user.id"] = json!(user);
        attributes
    };
    let spans = vec![
        span(1, 1, None, 1, with_user(chat(first, &reply), "ann")),
        span(2, 1, None, 2, with_user(chat(second, &reply), "bob")),
    ];
    assert_eq!(assembled(spans).conversations.len(), 2);
    // Named at the root alone, as most clients do.
    let first = question("Hi");
    let second = on(&first, &[reply.clone(), says("user", "A fare.")]);
    let root = |user: &str| json!({"gen_ai.operation.name": "invoke_agent", "user.id": user});
    let spans = |other: &str| {
        vec![
            span(1, 9, None, 1, root("ann")),
            span(1, 1, Some(9), 1, chat(first.clone(), &reply)),
            span(2, 9, None, 2, root(other)),
            span(2, 1, Some(9), 2, chat(second.clone(), &reply)),
        ]
    };
    assert_eq!(assembled(spans("bob")).conversations.len(), 2);
    assert_eq!(assembled(spans("ann")).conversations.len(), 1);
}

#[test]
fn an_edit_halfway_is_a_branch_with_the_shared_beginning() {
    let first = question("Hi");
    let reply = says("assistant", "Hello!");
    let turn = |text: &str| on(&first, &[reply.clone(), says("user", text)]);
    let mut spans = vec![
        span(1, 1, None, 1, chat(first.clone(), &reply)),
        span(2, 1, None, 2, chat(turn("A fare."), &says("assistant", "To where?"))),
        span(3, 1, None, 3, chat(turn("A seat."), &says("assistant", "Which row?"))),
    ];
    let assembled = assembled(spans.clone());
    let paths = only(&assembled).paths();
    assert_eq!(paths.len(), 2);
    assert_eq!(paths[0][0], paths[1][0]);
    assert_ne!(paths[0][1], paths[1][1]);
    assert_eq!(only(&assembled).messages.len(), 7, "each message is kept once");
    spans.reverse();
    assert_eq!(super::assembled(spans), assembled);
}

#[test]
fn a_span_whose_parent_never_comes_is_kept_as_an_orphan() {
    let call = chat(question("Hi"), &says("assistant", "Hello!"));
    let assembled = assembled(vec![span(1, 2, Some(9), 5, call.clone())]);
    let conversation = only(&assembled);
    assert_eq!((conversation.orphans, conversation.calls().count()), (1, 1));
    // The parent is late: the step keeps its id and is no orphan any more.
    let late = super::assembled(vec![
        span(1, 2, Some(9), 5, call),
        span(1, 9, None, 1, json!({"gen_ai.operation.name": "invoke_agent"})),
    ]);
    let whole = only(&late);
    assert_eq!((whole.orphans, whole.spans.len()), (0, 2));
    assert_eq!(whole.id, conversation.id);
    assert_eq!(whole.spans[1].id, conversation.spans[0].id);
    assert_eq!(whole.spans[1].parent.as_ref(), Some(&whole.spans[0].id));
}

#[test]
fn sessions_that_share_a_trace_are_conversations_of_their_own() {
    let job = json!({"gen_ai.operation.name": "invoke_workflow"});
    let agent =
        |session: &str| json!({"gen_ai.operation.name": "invoke_agent", "session.id": session});
    let call = || chat(question("Hi"), &says("assistant", "Hello!"));
    let assembled = assembled(vec![
        span(1, 1, None, 1, job),
        span(1, 2, Some(1), 2, agent("a")),
        span(1, 3, Some(2), 3, call()),
        span(1, 4, Some(1), 4, agent("b")),
        span(1, 5, Some(4), 5, call()),
    ]);
    let mut told: Vec<(Option<&str>, usize, usize)> = assembled
        .conversations
        .iter()
        .map(|c| (c.session.as_deref(), c.spans.len(), c.orphans))
        .collect();
    told.sort_unstable();
    assert_eq!(told, [(None, 1, 0), (Some("a"), 2, 0), (Some("b"), 2, 0)]);
}

#[test]
fn versions_of_a_span_are_merged_field_by_field() {
    let early = span(1, 1, None, 1, json!({"gen_ai.operation.name": "chat", "a": 1, "b": 2}));
    let mut late = span(1, 1, None, 1, json!({"b": 3, "a": null}));
    late["endTimeUnixNano"] = json!("9000");
    for spans in [vec![early.clone(), late.clone()], vec![late, early.clone(), early]] {
        let assembled = assembled(spans);
        assert_eq!((assembled.counts.spans, assembled.counts.merged), (1, 1));
        let span = &only(&assembled).spans[0];
        assert_eq!((&span.extra["a"], &span.extra["b"]), (&json!(1), &json!(3)));
        assert_eq!((span.started_ns, span.ended_ns), (1000, 9000));
    }
}

#[test]
fn an_event_whose_span_never_comes_is_a_call_by_itself() {
    let attributes = chat(question("Hi"), &says("assistant", "Hello!"));
    let mut record = span(1, 1, None, 1, attributes);
    record["eventName"] = json!("gen_ai.client.inference.operation.details");
    record["observedTimeUnixNano"] = json!("77");
    let payload = Payload::OtlpLogs(Encoding::Json);
    let with_ids = decode(&payload, &logs(vec![record.clone()])).unwrap().items;
    let alone = assemble(&with_ids);
    assert_eq!(only(&alone).calls().next().unwrap().1.content, Fidelity::Full);
    assert_eq!(only(&alone).spans[0].started_ns, 77);
    // Its span is late: the two are one call.
    let late = json_traces(&traces(
        "t",
        vec![span(1, 1, None, 5, json!({"gen_ai.operation.name": "chat"}))],
    ));
    let both = assemble(&[with_ids, late.items].concat());
    assert_eq!(only(&both).calls().count(), 1);
    assert_eq!(only(&both).spans[0].id, only(&alone).spans[0].id);
    record.as_object_mut().unwrap().remove("traceId");
    record.as_object_mut().unwrap().remove("spanId");
    let without_ids = decode(&payload, &logs(vec![record])).unwrap().items;
    assert_eq!(only(&assemble(&without_ids)).calls().count(), 1);
}

#[test]
fn a_tool_run_that_no_span_tells_of_is_read_off_the_messages() {
    let first = question("Weather?");
    let call =
        json!({"type": "tool_call", "id": "call_1", "name": "look", "arguments": {"b": 1, "a": 2}});
    let asks = json!({"role": "assistant", "parts": [call]});
    let result = json!({"type": "tool_call_response", "id": "call_1", "response": {"rain": true}});
    let second = on(&first, &[asks.clone(), json!({"role": "tool", "parts": [result]})]);
    let assembled = assembled(vec![
        span(1, 1, None, 1, chat(first, &asks)),
        span(1, 2, None, 5, chat(second, &says("assistant", "Rain."))),
    ]);
    let runs: Vec<_> = only(&assembled).runs().collect();
    let [(span, run)] = runs[..] else { panic!("{runs:?}") };
    assert!(!run.observed);
    assert_eq!(run.arguments.as_deref(), Some(r#"{"a":2,"b":1}"#));
    assert_eq!(run.result.as_deref(), Some(r#"{"rain":true}"#));
    assert_eq!((span.started_ns, span.ended_ns), (1500, 5000));
}

#[test]
fn truncated_content_is_saved_as_far_as_it_goes_and_not_trained_on() {
    let whole = question("Hi").to_string();
    let mut attributes = chat(json!([]), &says("assistant", "Hello!"));
    attributes["gen_ai.input.messages"] = json!(whole[..whole.len() - 20]);
    let assembled = assembled(vec![span(1, 1, None, 1, attributes)]);
    let conversation = only(&assembled);
    let (_, call) = conversation.calls().next().unwrap();
    assert_eq!(call.content, Fidelity::Truncated);
    assert_eq!(conversation.said(&call.input), [Message::system("Be brief.")]);
    let found = steps(conversation, &"t".parse().unwrap());
    assert_eq!((found.steps.len(), found.left_out.len()), (0, 1));
}

#[test]
fn masked_content_is_marked_and_not_trained_on() {
    let assembled = assembled(vec![span(
        1,
        1,
        None,
        1,
        chat(question("__REDACTED__"), &says("assistant", "x")),
    )]);
    let conversation = only(&assembled);
    assert_eq!(conversation.calls().next().unwrap().1.content, Fidelity::Hidden);
    assert!(!text_of(conversation).contains("__REDACTED__"));
}

#[test]
fn the_share_a_sampler_kept_is_read_from_the_trace_state() {
    let share = |state: &str| {
        let mut span = span(1, 1, None, 1, json!({"gen_ai.operation.name": "chat"}));
        span["traceState"] = json!(state);
        only(&assembled(vec![span])).sampled
    };
    assert_eq!(share(""), 1.0);
    assert_eq!(share("vendor=x,ot=rv:abc;th:c"), 0.25);
    assert_eq!(share("ot=th:8"), 0.5);
    assert_eq!(share("ot=th:00000000000000"), 1.0);
    assert_eq!(share("ot=th:not hex"), 1.0);
}

#[test]
fn large_attributes_stand_beside_the_conversation_and_nothing_is_lost() {
    let state = "x".repeat(100_000);
    let attributes = json!({"gen_ai.operation.name": "chain", "state": state, "small": "y"});
    let assembled = assembled(vec![
        span(1, 1, None, 1, attributes.clone()),
        span(1, 2, Some(1), 2, attributes),
    ]);
    let conversation = only(&assembled);
    assert!(text_of(conversation).len() < 2000);
    assert_eq!(assembled.blobs.len(), 1, "the same state is kept once");
    assert_eq!(conversation.spans[0].extra["state"]["bytes"], 100_000);
    assert_eq!(assembled.blobs.values().next().unwrap(), state.as_bytes());
}

#[test]
fn a_call_told_by_two_instrumentations_counts_once() {
    let with_id = |mut attributes: Value, id: &str| {
        attributes["gen_ai.response.id"] = json!(id);
        attributes
    };
    let full = chat(question("Hi"), &says("assistant", "Hello!"));
    let bare = json!({"gen_ai.operation.name": "chat"});
    let assembled = assembled(vec![
        span(1, 1, None, 1, with_id(bare, "r1")),
        span(1, 2, Some(1), 2, with_id(full.clone(), "r1")),
    ]);
    assert_eq!(assembled.counts.told_twice, 1);
    let (_, call) = only(&assembled).calls().next().unwrap();
    assert_eq!((only(&assembled).calls().count(), call.content), (1, Fidelity::Full));
    // A mock that gives every answer the same id makes no two calls one.
    let other = chat(question("Bye"), &says("assistant", "Bye!"));
    let mocked = super::assembled(vec![
        span(1, 1, None, 1, with_id(full, "r1")),
        span(2, 2, None, 2, with_id(other, "r1")),
    ]);
    let calls: Vec<usize> = mocked.conversations.iter().map(|c| c.calls().count()).collect();
    assert_eq!(calls, [1, 1]);
}

#[test]
fn an_evaluation_event_judges_the_span_it_names() {
    let call = span(1, 1, None, 1, chat(question("Hi"), &says("assistant", "Hello!")));
    let attributes =
        json!({"gen_ai.evaluation.name": "polite", "gen_ai.evaluation.score.value": 0.5});
    let mut event = span(1, 1, None, 1, attributes);
    event["eventName"] = json!("gen_ai.evaluation.result");
    let mut items = json_traces(&traces("t", vec![call])).items;
    items.extend(decode(&Payload::OtlpLogs(Encoding::Json), &logs(vec![event])).unwrap().items);
    let assembled = assemble(&items);
    let [outcome] = &assembled.outcomes[..] else { panic!("{:?}", assembled.outcomes) };
    assert_eq!(outcome.target, Target::Step(only(&assembled).spans[0].id.to_string()));
    assert_eq!(outcome.signal, Signal::Verifier { name: "polite".to_owned(), score: 0.5 });
    assert_eq!(outcome.source, Source::Automated);
}

/// A bag of conversations of random shape: turns, tools, branches, frames, sessions and none.
fn random_bag(rng: &mut ChaCha8Rng) -> Vec<Value> {
    let mut spans = Vec::new();
    for conversation in 0..rng.random_range(1..5_u8) {
        let session = rng.random_bool(0.5).then(|| format!("s{}", rng.random_range(0..3)));
        let one_trace = rng.random_bool(0.5);
        let mut input = question(&format!("topic {}", rng.random_range(0..3)));
        for turn in 1..=rng.random_range(1..5_u8) {
            let reply = says("assistant", &format!("reply {}", rng.random_range(0..4)));
            let mut attributes = chat(input.clone(), &reply);
            if let Some(session) = &session {
                attributes["session.id"] = json!(session);
            }
            let trace = if one_trace { 1 + conversation } else { 10 * (1 + conversation) + turn };
            let parent = rng.random_bool(0.3).then_some(99);
            let at = u64::from(conversation) * 3 + u64::from(turn) * rng.random_range(1..3);
            spans.push(span(trace, turn, parent, at, attributes));
            if rng.random_bool(0.2) {
                let partial =
                    json!({"gen_ai.operation.name": "chat", "late": rng.random_range(0..9)});
                spans.push(span(trace, turn, parent, at, partial));
            }
            if rng.random_bool(0.8) {
                input =
                    on(&input, &[reply, says("user", &format!("more {}", rng.random_range(0..2)))]);
            }
        }
    }
    spans
}

#[test]
fn any_order_and_number_of_deliveries_gives_the_same_bytes() {
    for seed in 0..200 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let items = json_traces(&traces("test", random_bag(&mut rng))).items;
        let expected = assemble(&items);
        let calls = |assembled: &Assembled| -> usize {
            assembled.conversations.iter().map(|c| c.calls().count()).sum()
        };
        assert_eq!(calls(&expected), expected.counts.spans, "seed {seed}: no call is lost");
        for _ in 0..4 {
            let mut again = items.clone();
            again.extend(items.iter().filter(|_| rng.random_bool(0.5)).cloned());
            again.shuffle(&mut rng);
            // A part that arrives first is assembled by itself, and changes nothing later.
            let early = assemble(&again[..again.len() / 2]);
            assert!(calls(&early) <= calls(&expected));
            let whole = assemble(&again);
            assert_eq!(
                text_of(&whole.conversations),
                text_of(&expected.conversations),
                "seed {seed}"
            );
            let known: Vec<_> = expected.conversations.iter().flat_map(|c| &c.spans).collect();
            for span in early.conversations.iter().flat_map(|c| &c.spans) {
                assert!(
                    known.iter().any(|later| later.id == span.id),
                    "seed {seed}: an id changed"
                );
            }
        }
    }
}

#[test]
fn a_call_whose_client_dropped_attributes_or_events_is_kept_and_not_trained_on() {
    let task = "t".parse().unwrap();
    let reply = says("assistant", "Hello!");
    let call = || span(1, 1, None, 1, chat(question("Hi"), &reply));
    let event = |name: &str| json!({"name": name, "timeUnixNano": "1", "attributes": []});
    let with = |name: &str, value: Value| {
        let mut call = call();
        call[name] = value;
        call
    };
    let mut chunks = with("droppedEventsCount", json!(3));
    chunks["events"] = json!([event("gen_ai.content.completion.chunk"), event("exception")]);
    for whole in [call(), with("droppedLinksCount", json!(1)), chunks] {
        let assembled = assembled(vec![whole]);
        assert_eq!(steps(only(&assembled), &task).steps.len(), 1);
    }
    let mut told = with("droppedEventsCount", json!(1));
    told["events"] = json!([event("gen_ai.user.message")]);
    let mut held = call();
    held["events"] = json!([event("gen_ai.client.inference.operation.details")]);
    held["events"][0]["droppedAttributesCount"] = json!(1);
    let counted = [json!(2), json!("2")].map(|count| with("droppedAttributesCount", count));
    for cut in counted.into_iter().chain([told, held]) {
        let decoded = json_traces(&traces("test", vec![cut]));
        let bytes = crate::telemetry::otlp::encode::request(&decoded.items, false);
        let again = decode(&Payload::OtlpTraces(Encoding::Protobuf), &bytes).unwrap();
        assert_eq!(again.items, decoded.items, "both encodings tell of it");
        // Delivered again without the count, as a retry of another exporter may be.
        let mut items = decoded.items;
        items.extend(json_traces(&traces("test", vec![call()])).items);
        let assembled = assemble(&items);
        let (_, call) = only(&assembled).calls().next().unwrap();
        assert_eq!(call.content, Fidelity::Truncated);
        let made = steps(only(&assembled), &task);
        assert_eq!((made.steps.len(), made.left_out.len()), (0, 1));
    }
}
