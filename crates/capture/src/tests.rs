use std::collections::BTreeMap;

use serde_json::json;
use understudy_ident::{OutcomeId, StepId, Timestamp, TrajectoryId};
use understudy_inference::{FinishReason, Served, Timing, Usage};
use understudy_ingest::telemetry::{Feedback, SpanRecord, Verdict};
use understudy_message::{Message, ToolCall};
use understudy_trajectory::{Details, Signal, Source, Target};

use super::*;

const SECRET: &str = "sk-proj-Zt9mQ4vR7xKp2LwB8nYc5HdJ3sGf6A";
const MAIL: &str = "ada@lovelace.example";

/// A step that says both in every place that holds words.
fn step() -> Step {
    let said = || format!("quokka {MAIL} {SECRET}");
    let call = json!({"id": "call_1", "type": "function",
        "function": {"name": "mail", "arguments": json!({"to": said()}).to_string()}});
    let mut reply = Message::assistant(said());
    reply.tool_calls = vec![serde_json::from_value::<ToolCall>(call).unwrap()];
    Step {
        id: StepId::derived("a"),
        trajectory: TrajectoryId::derived("t"),
        task: "triage".parse().unwrap(),
        session: Some("session".to_owned()),
        subject: Some("user-1".to_owned()),
        metadata: BTreeMap::from([("tier".to_owned(), "gold".to_owned())]),
        response_id: "chatcmpl-1".to_owned(),
        at: Timestamp::from_millisecond(7).unwrap(),
        prompt: vec![Message::system(said()), Message::user(said())],
        tools: vec![json!({"function": {"name": "mail", "description": said()}})],
        reply,
        finish_reason: FinishReason::Stop,
        assignment: None,
        served: Served { base: "b".to_owned(), adapter: None },
        usage: Usage::default(),
        timing: Timing::default(),
        tokens: None,
        error: Some(said()),
    }
}

fn outcome(signal: Signal) -> Outcome {
    Outcome {
        id: OutcomeId::derived("o"),
        target: Target::Response("chatcmpl-1".to_owned()),
        signal,
        source: Source::Explicit,
        at: Timestamp::from_millisecond(8).unwrap(),
        note: Some(format!("quokka {MAIL}")),
        details: Some(Box::new(Details {
            label: Some(format!("quokka {MAIL}")),
            ..Details::default()
        })),
    }
}

/// Every signal that holds words.
fn signals() -> [Signal; 3] {
    let said = || format!("quokka {MAIL} {SECRET}");
    [
        Signal::Edit { text: said() },
        Signal::Flag { reason: said() },
        Signal::Remark { name: "comment".to_owned(), text: said() },
    ]
}

fn items() -> Vec<Item> {
    let said = || format!("quokka {MAIL} {SECRET}");
    let span = SpanRecord {
        trace_id: "1".repeat(32),
        span_id: "1".repeat(16),
        error: Some(said()),
        attributes: BTreeMap::from([
            ("gen_ai.input.messages".to_owned(), json!(json!([{"content": said()}]).to_string())),
            ("input".to_owned(), json!({"list": [said()], "number": 4})),
            ("user.id".to_owned(), json!(MAIL)),
        ]),
        ..SpanRecord::default()
    };
    let feedback = |verdict| Feedback {
        id: "f".to_owned(),
        targets: Vec::new(),
        name: "helpful".to_owned(),
        verdict,
        source: Source::Explicit,
        at_ns: 0,
        note: Some(said()),
        details: None,
    };
    vec![
        Item::Span(Box::new(span)),
        Item::Feedback(Box::new(feedback(Verdict::Score(0.5)))),
        Item::Feedback(Box::new(feedback(Verdict::Correction(said())))),
    ]
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap()
}

#[test]
fn full_keeps_everything_and_none_keeps_nothing() {
    assert_eq!(Capture::Full.step(step()), Some(step()));
    assert_eq!(Capture::Full.items(items()), KeptItems { items: items(), left_out: 0 });
    assert_eq!(Capture::None.step(step()), None);
    assert_eq!(Capture::None.items(items()), KeptItems { items: Vec::new(), left_out: 3 });
    for signal in signals() {
        assert_eq!(Capture::Full.outcome(outcome(signal.clone())), Some(outcome(signal.clone())));
        assert_eq!(Capture::None.outcome(outcome(signal)), None);
    }
}

#[test]
fn metadata_keeps_not_a_word_and_everything_else() {
    let kept = Capture::Metadata.step(step()).unwrap();
    let said = text(&kept);
    assert!(!said.contains("quokka") && !said.contains(MAIL), "{said}");
    assert_eq!((kept.prompt.len(), kept.turn()), (2, step().turn()));
    assert!(kept.error.is_some() && kept.reply.tool_calls.is_empty());
    let Step { id, session, subject, metadata, response_id, at, .. } = step();
    assert_eq!((kept.id, kept.session, kept.subject), (id, session, subject));
    assert_eq!((kept.metadata, kept.response_id, kept.at), (metadata, response_id, at));
    let [edit, flag, remark] =
        signals().map(|one| Capture::Metadata.outcome(outcome(one)).unwrap());
    assert!(
        matches!(&edit.signal, Signal::Remark { name, text } if name == "edit" && text.is_empty())
    );
    assert!(matches!(&flag.signal, Signal::Flag { .. }), "it counts against safety all the same");
    let rating = Capture::Metadata.outcome(outcome(Signal::Rating { value: 0.25 })).unwrap();
    assert_eq!(rating.signal, Signal::Rating { value: 0.25 });
    let kept = Capture::Metadata.items(items());
    assert_eq!((kept.items.len(), kept.left_out), (2, 1));
    for said in [text(&edit), text(&flag), text(&remark), text(&rating), text(&kept.items)] {
        assert!(!said.contains("quokka") && !said.contains(MAIL), "{said}");
    }
}

#[test]
fn redacted_keeps_the_words_without_secrets_and_ids_as_they_are() {
    let kept = Capture::Redacted.step(step()).unwrap();
    let outcomes = signals().map(|one| Capture::Redacted.outcome(outcome(one)).unwrap());
    let kept_items = Capture::Redacted.items(items());
    assert_eq!((kept_items.items.len(), kept_items.left_out), (3, 0));
    for said in [text(&kept), text(&outcomes), text(&kept_items.items)] {
        assert!(said.contains("quokka <EMAIL> <SECRET>"), "{said}");
        assert!(!said.contains(SECRET), "{said}");
    }
    assert!(!text(&kept).contains(MAIL) && !text(&outcomes).contains(MAIL));
    let Item::Span(span) = &kept_items.items[0] else { panic!("a span") };
    assert_eq!(span.attributes["user.id"], MAIL, "by this somebody is forgotten");
    assert_eq!(text(&kept_items.items).matches(MAIL).count(), 1);
    assert_eq!(span.attributes["input"]["number"], 4);
    serde_json::from_str::<serde_json::Value>(&kept.reply.tool_calls[0].function.arguments)
        .unwrap();
    // The same words alone are the same text as where they are quoted.
    assert_eq!(Capture::Redacted.step(kept.clone()), Some(kept));
}

#[test]
fn a_level_is_read_by_its_name_and_an_unknown_one_is_refused_with_all_there_are() {
    for level in Capture::ALL {
        assert_eq!(level.to_string().parse(), Ok(level));
    }
    let error = "some".parse::<Capture>().unwrap_err().to_string();
    assert!(Capture::ALL.iter().all(|level| error.contains(level.as_str())), "{error}");
}
