use understudy_ident::{OutcomeId, StepId, Timestamp, TrajectoryId};
use understudy_message::Message;

use crate::{
    Conversation, FrameRole, ModelCall, Outcome, Phase, RewardPolicy, Signal, Source, Span,
    SpanBody, Target, ToolRun, edit_ratio,
};

fn outcome(signal: Signal, source: Source) -> Outcome {
    Outcome {
        id: OutcomeId::generate(),
        target: Target::Response("chatcmpl-1".to_owned()),
        signal,
        source,
        at: Timestamp::UNIX_EPOCH,
        note: None,
        details: None,
    }
}

fn reward(outcomes: &[Outcome]) -> Option<f64> {
    RewardPolicy::DefaultV1.reward("abcd", outcomes).map(|reward| reward.value)
}

#[test]
fn a_remark_counts_for_nothing() {
    let remark = Signal::Remark { name: "topic".to_owned(), text: "billing".to_owned() };
    for policy in [RewardPolicy::DefaultV1, RewardPolicy::CalibratedV1] {
        let alone = [outcome(remark.clone(), Source::Explicit)];
        assert_eq!(policy.reward("hi", &alone), None);
        let accepted = outcome(Signal::Accept, Source::Explicit);
        let both = [alone[0].clone(), accepted.clone()];
        let value = |said: &[Outcome]| policy.reward("hi", said).unwrap().value;
        assert_eq!(value(&both), value(&[accepted]));
    }
}

#[test]
fn silence_is_no_opinion() {
    assert_eq!(reward(&[]), None);
}

#[test]
fn an_edit_is_worth_what_it_kept() {
    let edit = Signal::Edit { text: "abcx".to_owned() };
    assert_eq!(reward(&[outcome(edit, Source::Explicit)]), Some(0.75));
}

#[test]
fn an_implicit_abandon_weighs_a_quarter_of_an_explicit_accept() {
    let said = outcome(Signal::Accept, Source::Explicit);
    let left = outcome(Signal::Abandon, Source::Implicit);
    assert_eq!(reward(&[said, left]), Some(0.8));
}

#[test]
fn a_flag_overrides_praise_but_its_components_stay() {
    let outcomes = [
        outcome(Signal::Accept, Source::Explicit),
        outcome(Signal::Flag { reason: "leaked".to_owned() }, Source::Explicit),
    ];
    let reward = RewardPolicy::DefaultV1.reward("abcd", &outcomes).unwrap();
    assert_eq!(reward.value, 0.0);
    assert_eq!(reward.components.len(), 2);
}

#[test]
fn edit_ratio_is_a_symmetric_share_of_characters() {
    assert_eq!(edit_ratio("", ""), 0.0);
    assert_eq!(edit_ratio("abc", ""), 1.0);
    assert_eq!(edit_ratio("kitten", "sitting"), edit_ratio("sitting", "kitten"));
    assert!((edit_ratio("kitten", "sitting") - 3.0 / 7.0).abs() < 1e-12);
    assert_eq!(edit_ratio("café", "cafe"), 0.25);
    assert_eq!(edit_ratio("aba", "aa"), 1.0 / 3.0);
}

#[test]
fn the_edit_of_a_long_text_is_measured_in_bounded_time() {
    let began = std::time::Instant::now();
    // What stays is skipped, so the one word is counted to the letter.
    let long = "same words over and over ".repeat(20_000);
    let changed = format!("{long}now {long}");
    assert!(
        (edit_ratio(&format!("{long}new {long}"), &changed) - 1.0 / changed.len() as f64).abs()
            < 1e-12
    );
    // Changed here and there: in words where these are few enough, by which there are otherwise.
    let text = |every: usize, words: usize| -> String {
        (0..words)
            .map(|n| if n % every == 1 { "other ".to_owned() } else { format!("word{n} ") })
            .collect()
    };
    let (few, many) = (1_500, 100_000);
    assert!((edit_ratio(&text(few, few), &text(10, few)) - 0.1).abs() < 0.01);
    assert!((edit_ratio(&text(many, many), &text(10, many)) - 0.1).abs() < 0.01);
    assert_eq!(edit_ratio(&"a ".repeat(many), &"b ".repeat(many)), 1.0);
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
}

#[test]
fn outcomes_read_the_same_after_a_round_trip() {
    let edit = outcome(Signal::Edit { text: "x".to_owned() }, Source::Explicit);
    let wire = serde_json::to_string(&edit).unwrap();
    assert!(wire.contains(r#""signal":{"kind":"edit","text":"x"}"#), "{wire}");
    assert_eq!(serde_json::from_str::<Outcome>(&wire).unwrap(), edit);
}

fn span(name: &str, ended_ns: u64, body: SpanBody) -> Span {
    Span {
        id: StepId::derived(name),
        parent: None,
        name: name.to_owned(),
        trace_id: "t".to_owned(),
        span_id: name.to_owned(),
        dialect: "generic".to_owned(),
        started_ns: ended_ns.saturating_sub(1),
        ended_ns,
        error: None,
        body,
        extra: [].into(),
    }
}

fn call(name: &str, continues: Option<&str>, ended_ns: u64) -> Span {
    let continues = continues.map(StepId::derived);
    let call = ModelCall { continues, input: vec![0], output: vec![1, 9], ..ModelCall::default() };
    span(name, ended_ns, SpanBody::Model(Box::new(call)))
}

fn conversation(spans: Vec<Span>) -> Conversation {
    Conversation {
        id: TrajectoryId::derived("c"),
        mapper: 1,
        session: None,
        subject: None,
        agent: None,
        workflow: None,
        traces: vec!["t".to_owned()],
        dialects: vec!["generic".to_owned()],
        sampled: 1.0,
        orphans: 0,
        messages: vec![Message::user("hi"), Message::assistant("hello")],
        spans,
    }
}

#[test]
fn a_tree_of_calls_has_a_path_to_each_leaf() {
    let tool = span("tool", 2, SpanBody::Tool(ToolRun::default()));
    let spans = vec![
        call("a", None, 1),
        tool,
        call("b", Some("a"), 3),
        call("c", Some("a"), 4),
        call("d", Some("c"), 5),
        call("alone", None, 6),
    ];
    let conversation = conversation(spans);
    let names =
        |names: &[&str]| -> Vec<StepId> { names.iter().map(|n| StepId::derived(n)).collect() };
    assert_eq!(
        conversation.paths(),
        [names(&["a", "b"]), names(&["a", "c", "d"]), names(&["alone"]),]
    );
    assert_eq!((conversation.calls().count(), conversation.runs().count()), (5, 1));
}

#[test]
fn a_circle_of_calls_does_not_hold_anybody_up() {
    let circle = vec![call("a", Some("b"), 1), call("b", Some("a"), 2), call("c", Some("a"), 3)];
    assert_eq!(conversation(circle).paths().len(), 1);
}

#[test]
fn messages_are_found_by_their_places() {
    let conversation = conversation(vec![call("a", None, 1)]);
    let (_, call) = conversation.calls().next().unwrap();
    assert_eq!(conversation.said(&call.input), [Message::user("hi")]);
    assert_eq!(conversation.said(&call.output), [Message::assistant("hello")]);
}

#[test]
fn a_conversation_is_over_when_it_has_been_silent_for_long_enough() {
    let second = 1_000_000_000;
    let frame = SpanBody::Frame { role: FrameRole::Agent };
    let rooted = conversation(vec![call("a", None, 50), span("root", 100, frame)]);
    let bare = conversation(vec![call("a", None, 100)]);
    for (silent, of_rooted, of_bare) in [
        (59, Phase::Open, Phase::Open),
        (61, Phase::Quiescent, Phase::Open),
        (31 * 60, Phase::Quiescent, Phase::Quiescent),
        (25 * 3600, Phase::Closed, Phase::Closed),
    ] {
        let now = 100 + silent * second;
        assert_eq!((rooted.phase(now), bare.phase(now)), (of_rooted, of_bare), "{silent} s");
    }
    let orphaned = Conversation { orphans: 1, ..rooted };
    assert_eq!(orphaned.phase(100 + 61 * second), Phase::Open, "a parent is still to come");
}

#[test]
fn a_conversation_reads_the_same_after_a_round_trip() {
    let told = conversation(vec![call("a", None, 1), call("b", Some("a"), 3)]);
    let wire = serde_json::to_string(&told).unwrap();
    assert!(wire.contains(r#""body":{"kind":"model""#), "{wire}");
    assert_eq!(serde_json::from_str::<Conversation>(&wire).unwrap(), told);
}
