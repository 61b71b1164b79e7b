//! What users did, over a socket: every word of it, every target, and who may say it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use understudy_journal::Query;
use understudy_router::Target as Route;
use understudy_trajectory::{Outcome, Signal, Source};

use super::{CHAT, Reply, Server, chat, read, start};

const FEEDBACK: &str = "/v1/feedback";

impl Server {
    fn outcomes(&self) -> Vec<Outcome> {
        let trajectories = self.journal.trajectories(&Query::default()).unwrap();
        let steps = trajectories.into_iter().flat_map(|trajectory| trajectory.steps);
        steps.flat_map(|judged| judged.outcomes).collect()
    }

    /// Waits for the reader of telemetry.
    fn outcomes_become(&self, count: usize) -> Vec<Outcome> {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.outcomes().len() != count {
            assert!(Instant::now() < deadline, "{:?}", self.outcomes());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.outcomes()
    }

    /// The id of a reply, and the token that came with it.
    fn reply(&self) -> (String, String) {
        self.route("triage", Route::Base);
        let reply = self.post(CHAT, &chat("hi"));
        let token = reply.header("x-feedback-token").unwrap().to_owned();
        (reply.json()["id"].as_str().unwrap().to_owned(), token)
    }

    fn state(&self, path: &str, body: &Value) -> String {
        let reply = self.post(path, body);
        assert_eq!(reply.status, 202, "{body} gave {}", reply.text);
        reply.json()["results"][0]["state"].as_str().unwrap().to_owned()
    }

    fn delete(&self, path: &str) -> Reply {
        read(self.agent.delete(self.url(path)).call().unwrap())
    }
}

#[test]
fn every_signal_is_stored_as_what_it_means() {
    let server = start();
    let (id, _) = server.reply();
    let said = [
        (json!({"signal": "accept"}), Signal::Accept),
        (json!({"signal": "edit", "text": "t"}), Signal::Edit { text: "t".to_owned() }),
        (json!({"signal": "regenerate"}), Signal::Regenerate { kept: None }),
        (
            json!({"signal": "comparison", "kept": "other"}),
            Signal::Regenerate { kept: Some("other".to_owned()) },
        ),
        (json!({"signal": "abandon", "source": "implicit"}), Signal::Abandon),
        (
            json!({"signal": "rating", "value": 4, "min": 1, "max": 5}),
            Signal::Rating { value: 0.75 },
        ),
        (
            json!({"signal": "verifier", "name": "judge@2", "value": 0.5, "source": "teacher"}),
            Signal::Verifier { name: "judge@2".to_owned(), score: 0.5 },
        ),
        (json!({"signal": "flag", "reason": "rude"}), Signal::Flag { reason: "rude".to_owned() }),
        (
            json!({"signal": "label", "name": "topic", "label": "billing"}),
            Signal::Remark { name: "topic".to_owned(), text: "billing".to_owned() },
        ),
        (
            json!({"signal": "comment", "text": "hm"}),
            Signal::Remark { name: "comment".to_owned(), text: "hm".to_owned() },
        ),
    ];
    for (nth, (mut event, signal)) in said.into_iter().enumerate() {
        event["response_id"] = json!(id);
        event["at"] = json!(format!("2026-01-01T00:00:{nth:02}Z"));
        assert_eq!(server.state(FEEDBACK, &event), "linked");
        assert_eq!(server.outcomes()[nth].signal, signal);
    }
    let sources: Vec<Source> = server.outcomes().iter().map(|outcome| outcome.source).collect();
    assert_eq!(
        (sources[0], sources[4], sources[6]),
        (Source::Explicit, Source::Implicit, Source::Automated)
    );
    let listed = server.get(&format!("{FEEDBACK}?response_id={id}")).json();
    assert_eq!(listed["feedback"].as_array().unwrap().len(), 10);
    assert_eq!(server.get(FEEDBACK).status, 400);
}

#[test]
fn where_by_whom_and_how_surely_it_was_said_is_kept() {
    let server = start();
    let (id, token) = server.reply();
    let context =
        json!({"surface": "sidebar", "shown_prompt": true, "dwell_ms": 900, "position": 1});
    let details = json!({
        "level": "message", "message_id": "m-7", "label": "off topic", "confidence": 0.8,
        "source_id": "reviewer-3", "source_version": "2", "context": context,
    });
    let with = |more: Value| {
        let mut event = details.clone();
        event["signal"] = json!("rating");
        event["value"] = json!(0.2);
        event["response_id"] = json!(id);
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event
    };
    assert_eq!(server.state(FEEDBACK, &with(json!({"id": "one"}))), "linked");
    assert_eq!(server.state(FEEDBACK, &with(json!({"id": "one"}))), "duplicate");
    let listed = server.get(&format!("{FEEDBACK}?response_id={id}")).json();
    assert_eq!(listed["feedback"][0]["details"], details);
    // Told of what only telemetry knows, it comes back the same.
    let mut of_trace = with(json!({"id": "two", "trace_id": format!("{:032x}", 7)}));
    of_trace.as_object_mut().unwrap().remove("response_id");
    assert_eq!(server.state(FEEDBACK, &of_trace), "pending");
    let body = super::telemetry::export(7, "hello").to_string();
    let sent = server.bytes("/v1/traces", "application/json", "identity", body.as_bytes());
    assert_eq!(sent.status, 200);
    let outcomes = server.outcomes_become(2);
    assert!(outcomes.iter().all(|outcome| json!(outcome.details) == details));

    let refused = |event: &Value| server.post(FEEDBACK, event).text;
    assert!(refused(&with(json!({"confidence": 1.2}))).contains("`confidence` is a number"));
    assert!(refused(&with(json!({"level": "word"}))).contains("word"));
    assert!(refused(&with(json!({"context": {"page": 1}}))).contains("page"));
    let mut unnamed = with(json!({}));
    unnamed.as_object_mut().unwrap().remove("response_id");
    assert!(refused(&unnamed).contains("name at least one of step_id"));
    let signed = server.post("/v1/feedback/signed", &with(json!({"token": token})));
    assert!(signed.status == 400 && signed.text.contains("no `source_id`"), "{}", signed.text);
}

#[test]
fn a_turn_of_a_session_is_meant_also_before_it_comes() {
    let server = start();
    server.route("triage", Route::Base);
    let ask = |words: &[&str]| {
        let mut body = chat("hi");
        let said = words.iter().map(|word| json!({"role": "user", "content": word}));
        body["messages"] = said.collect();
        body["session_id"] = json!("s");
        assert_eq!(server.post(CHAT, &body).status, 200);
    };
    let waiting = || server.get("/v1/pending").json()["waiting"].as_u64().unwrap();
    let said = |turn: u32, signal: &str| json!({"session_id": "s", "turn": turn, "signal": signal});
    assert_eq!(server.state(FEEDBACK, &said(2, "accept")), "pending");
    ask(&["hi"]);
    assert_eq!(waiting(), 1, "the first turn is not the second");
    ask(&["hi", "and then?"]);
    assert_eq!(waiting(), 0);
    ask(&["hi", "and then?", "and?"]);
    let first = json!({"event": "undo", "target": {"session_id": "s", "turn": 1}});
    assert_eq!(server.state("/v1/outcomes", &first), "linked");
    let trajectories = server.journal.trajectories(&Query::default()).unwrap();
    let steps = trajectories.into_iter().flat_map(|trajectory| trajectory.steps);
    let said_of: Vec<Vec<Signal>> = steps
        .map(|judged| judged.outcomes.into_iter().map(|outcome| outcome.signal).collect())
        .collect();
    assert_eq!(said_of, [vec![Signal::Abandon], vec![Signal::Accept], vec![]]);
    let listed = server.get(&format!("{FEEDBACK}?session_id=s&turn=2")).json();
    assert_eq!(listed["feedback"].as_array().unwrap().len(), 1);
    for wrong in [json!({"turn": 1, "signal": "accept"}), said(0, "accept")] {
        assert_eq!(server.post(FEEDBACK, &wrong).status, 400, "{wrong}");
    }
}

#[test]
fn the_words_of_a_user_interface_mean_the_same() {
    let server = start();
    let (id, _) = server.reply();
    let events = [
        ("copy", json!({}), Signal::Accept, Source::Implicit),
        ("thumbs_down", json!({}), Signal::Rating { value: 0.0 }, Source::Explicit),
        ("rate", json!({"value": 0.5}), Signal::Rating { value: 0.5 }, Source::Explicit),
        ("edit", json!({"text": "t"}), Signal::Edit { text: "t".to_owned() }, Source::Explicit),
        ("rephrase", json!({}), Signal::Abandon, Source::Implicit),
        (
            "tests_passed",
            json!({}),
            Signal::Verifier { name: "tests".to_owned(), score: 1.0 },
            Source::Automated,
        ),
        (
            "report",
            json!({"reason": "rude"}),
            Signal::Flag { reason: "rude".to_owned() },
            Source::Explicit,
        ),
    ];
    for (nth, (event, payload, signal, source)) in events.into_iter().enumerate() {
        let at = format!("2026-01-01T00:00:{nth:02}Z");
        let body = json!({"event": event, "target": id, "at": at, "payload": payload});
        assert_eq!(server.state("/v1/outcomes", &body), "linked");
        let outcome = &server.outcomes()[nth];
        assert_eq!((&outcome.signal, outcome.source), (&signal, source), "{event}");
    }
    let other = json!({"event": "keep", "target": {"session_id": "s"}});
    assert_eq!(server.state("/v1/outcomes", &other), "pending");
    for wrong in [
        json!({"event": "shrug", "target": id}),
        json!({"event": "edit", "target": id}),
        json!({"event": "keep", "target": 7}),
        json!({"event": "keep", "target": {"moon": "x"}}),
    ] {
        assert_eq!(server.post("/v1/outcomes", &wrong).status, 400, "{wrong}");
    }
}

#[test]
fn an_event_counts_once_can_be_replaced_and_taken_back() {
    let server = start();
    let (id, _) = server.reply();
    let up = json!({"id": "mine", "response_id": id, "signal": "rating", "value": 1.0});
    assert_eq!(server.state(FEEDBACK, &up), "linked");
    assert_eq!(server.state(FEEDBACK, &up), "duplicate");
    let mut other = up.clone();
    other["value"] = json!(0.5);
    assert_eq!(server.post(FEEDBACK, &other).status, 409, "an id says one thing");
    let both = json!([other, {"response_id": id, "signal": "accept", "id": "second"}]);
    let results = server.post(FEEDBACK, &both).json()["results"].clone();
    assert_eq!(
        (&results[0]["state"], &results[1]["state"]),
        (&json!("rejected"), &json!("linked"))
    );

    let down = json!({"id": "new", "response_id": id, "signal": "rating", "value": 0.0, "supersedes": "mine"});
    assert_eq!(server.state(FEEDBACK, &down), "linked");
    assert_eq!(server.state(FEEDBACK, &down), "duplicate");
    let signals: Vec<Signal> = server.outcomes().into_iter().map(|one| one.signal).collect();
    assert_eq!(signals, [Signal::Accept, Signal::Rating { value: 0.0 }]);
    assert_eq!(server.state(FEEDBACK, &up), "duplicate", "what was replaced does not come back");
    assert_eq!(server.delete("/v1/feedback/new").json()["state"], "taken_back");
    assert_eq!(server.delete("/v1/feedback/new").json()["state"], "duplicate");
    assert_eq!(server.outcomes().len(), 1);

    let keyed = |key: &str| {
        let body = json!({"response_id": id, "signal": "abandon"});
        server.post_with(FEEDBACK, &body, &[("idempotency-key", key)]).json()["results"][0].clone()
    };
    assert_eq!(keyed("k")["id"], keyed("k")["id"]);
    assert_eq!(
        (&keyed("k")["state"], &keyed("l")["state"]),
        (&json!("duplicate"), &json!("linked"))
    );
}

#[test]
fn what_is_unknown_waits_and_is_listed() {
    let server = start();
    let early = json!({"response_id": "later", "signal": "accept", "at": "2026-01-01T00:00:00Z"});
    assert_eq!(server.state(FEEDBACK, &early), "pending");
    let listed = server.get("/v1/pending").json();
    assert_eq!((&listed["waiting"], &listed["pending"][0]["expired"]), (&json!(1), &json!(true)));
    assert_eq!(listed["pending"][0]["outcome"]["target"]["id"], "later");
}

#[test]
fn the_most_exact_name_counts_and_telemetry_tells_what_only_it_knows() {
    let server = start();
    let (id, _) = server.reply();
    let mixed =
        json!({"response_id": id, "session_id": "elsewhere", "trace_id": "ab", "signal": "accept"});
    assert_eq!(server.state(FEEDBACK, &mixed), "linked");

    let (trace, span) = (format!("{:032X}", 0xab), format!("{:016X}", 0xcd));
    let about = [
        json!({"trace_id": trace, "span_id": span, "signal": "rating", "value": 0.25, "id": "a"}),
        json!({"trace_id": trace, "signal": "rating", "value": 0.5, "id": "b"}),
        json!({"tool_call_id": "call_abcdef123456", "signal": "rating", "value": 1.0, "id": "c"}),
    ];
    for event in &about {
        assert_eq!(server.state(FEEDBACK, event), "pending");
    }
    let parts = |parts: Value| json!([{"role": "assistant", "parts": parts}]).to_string();
    let asked = parts(
        json!([{"type": "tool_call", "id": "call_abcdef123456", "name": "f", "arguments": {}}]),
    );
    let attributes = [
        ("gen_ai.operation.name", "chat".to_owned()),
        (
            "gen_ai.input.messages",
            json!([{"role": "user", "parts": [{"type": "text", "content": "q"}]}]).to_string(),
        ),
        ("gen_ai.output.messages", asked),
    ];
    let attributes: Vec<Value> = attributes
        .into_iter()
        .map(|(key, text)| json!({"key": key, "value": {"stringValue": text}}))
        .collect();
    let span = json!({
        "traceId": trace, "spanId": span, "name": "chat", "startTimeUnixNano": "1", "endTimeUnixNano": "2",
        "attributes": attributes,
    });
    let export = json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]});
    assert_eq!(server.post("/v1/traces", &export).status, 200);
    let mut values: Vec<f64> = server
        .outcomes_become(4)
        .into_iter()
        .filter_map(|outcome| match outcome.signal {
            Signal::Rating { value } => Some(value),
            _ => None,
        })
        .collect();
    values.sort_by(f64::total_cmp);
    assert_eq!(values, [0.25, 0.5, 1.0]);
    assert_eq!(server.delete("/v1/feedback/a").json()["state"], "taken_back");
    assert_eq!(server.outcomes().len(), 3);
    for wrong in
        [json!({"span_id": "1", "signal": "accept"}), json!({"choice": 1, "signal": "accept"})]
    {
        assert_eq!(server.post(FEEDBACK, &wrong).status, 400);
    }
}

#[test]
fn a_token_lets_its_holder_speak_of_one_reply() {
    let server = start();
    let ((id, token), (other, _)) = (server.reply(), server.reply());
    let signed = |token: &str, body: Value| {
        server.post_with("/v1/feedback/signed", &body, &[("x-feedback-token", token)])
    };
    let good = json!({"response_id": id, "signal": "accept", "id": "1"});
    let reply = signed(&token, good.clone());
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (202, Some("*")));
    assert_eq!(reply.json()["results"][0]["state"], "linked");
    let mut within = good.clone();
    within["token"] = json!(token);
    assert_eq!(server.state("/v1/feedback/signed", &within), "duplicate");

    let (end, hash) = token.split_once('.').unwrap();
    let longer = format!("{:x}.{hash}", i64::from_str_radix(end, 16).unwrap() + 1);
    let refused = [
        (token.as_str(), json!({"response_id": other, "signal": "accept"})),
        (longer.as_str(), good.clone()),
        ("", good.clone()),
        ("1.2", good.clone()),
        (token.as_str(), json!({"session_id": "s", "signal": "accept"})),
        (token.as_str(), json!({"response_id": id, "step_id": "x", "signal": "accept"})),
        (token.as_str(), json!({"response_id": id, "signal": "accept", "supersedes": "1"})),
        (token.as_str(), json!({"response_id": id, "signal": "accept", "source": "automated"})),
    ];
    for (token, body) in refused {
        assert_eq!(signed(token, body.clone()).status, 400, "{token} {body}");
    }
    assert_eq!(server.post("/v1/feedback/signed", &good).status, 400, "without any");
    assert_eq!(server.post(FEEDBACK, &within).status, 400, "a token is not silently ignored");
    assert_eq!(server.outcomes().len(), 1);
}

#[test]
fn a_token_ends() {
    let key = crate::feedback::TokenKey::derived(&[7; 32]);
    let at = |seconds| understudy_ident::Timestamp::from_second(seconds).unwrap();
    let token = key.token(None, "r", at(0));
    let month = 30 * 24 * 60 * 60;
    assert_eq!(key.check(&token, "r", at(month)), Ok(()));
    key.check(&token, "r", at(month + 1)).unwrap_err();
    crate::feedback::TokenKey::derived(&[8; 32]).check(&token, "r", at(0)).unwrap_err();
}
