//! What real clients sent (`make_captures.py` says how it was trimmed), against what their model
//! server received.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::PathBuf,
};

use understudy_manifest::canonical_json;

use super::*;
use crate::telemetry::messages::Reader;

/// What a capture has to become.
struct Expected {
    name: &'static str,
    dialect: &'static str,
    calls: usize,
    /// Tool runs, and how many of them a span told of.
    runs: (usize, usize),
    /// Of the characters that went between the agent and its model.
    recovered: f64,
    /// Conversations of other requests beside the run's.
    apart: usize,
}

const fn whole(name: &'static str, dialect: &'static str, observed: usize) -> Expected {
    Expected { name, dialect, calls: 2, runs: (1, observed), recovered: 1.0, apart: 0 }
}

const EXPECTED: [Expected; 20] = [
    Expected { apart: 1, ..whole("genai_span", "gen-ai", 0) },
    Expected { apart: 1, ..whole("genai_event", "gen-ai", 0) },
    whole("genai_lg", "gen-ai", 1),
    whole("genai_json_lg", "gen-ai", 1),
    whole("v2_legacy", "gen-ai-events", 0),
    whole("v2_span", "gen-ai", 0),
    whole("oi_openai", "open-inference", 0),
    whole("agents_oi", "open-inference", 1),
    whole("lg_oi", "open-inference", 1),
    whole("lg_ls_native", "langsmith", 1),
    whole("lg_ls_otel", "langsmith-otel", 1),
    whole("llmetry_old", "open-llmetry", 0),
    whole("traceloop", "traceloop", 1),
    whole("pyai2", "pydantic-ai", 1),
    whole("pyai5", "pydantic-ai", 1),
    // One call each, of other prompts.
    Expected { calls: 1, runs: (0, 0), ..whole("langfuse", "langfuse", 0) },
    Expected { calls: 1, runs: (0, 0), ..whole("genai_json_event", "gen-ai", 0) },
    // These never send what the model was told or said.
    Expected {
        recovered: 0.0,
        apart: 2,
        calls: 1,
        runs: (0, 0),
        ..whole("genai_legacy", "gen-ai", 0)
    },
    Expected { recovered: 0.31, ..whole("agents_native", "openai-agents", 1) },
    Expected { recovered: 0.31, calls: 0, ..whole("genai_agents", "gen-ai", 1) },
];

#[test]
fn every_client_tells_of_the_same_run() {
    let mut table = String::from(
        "capture              dialect          conv calls runs observed response-ids usage unread text\n",
    );
    let mut runs: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for expected in &EXPECTED {
        let capture = Capture::load(expected.name);
        let assembled = assemble(&capture.items);
        let conversation = longest(&assembled);
        let recovered = recovered(conversation, &capture.said);
        let observed = conversation.runs().filter(|(_, run)| run.observed).count();
        let told = |what: usize| format!("{what}/{}", conversation.calls().count());
        let ids = conversation.calls().filter(|(_, call)| call.response_id.is_some()).count();
        let usage = conversation.calls().filter(|(_, call)| call.usage.input.is_some()).count();
        writeln!(
            table,
            "{:20} {:16} {:4} {:5} {:4} {:8} {:>12} {:>5} {:6} {:3.0} %",
            expected.name,
            expected.dialect,
            assembled.conversations.len(),
            conversation.calls().count(),
            conversation.runs().count(),
            observed,
            told(ids),
            told(usage),
            unread(conversation).len(),
            recovered * 100.0
        )
        .unwrap();
        assert_eq!(assembled.conversations.len(), 1 + expected.apart, "{}", expected.name);
        assert_eq!(conversation.dialects.last().unwrap(), expected.dialect, "{}", expected.name);
        assert_eq!(conversation.calls().count(), expected.calls, "{}", expected.name);
        let runs_told = (conversation.runs().count(), observed);
        assert_eq!(runs_told, expected.runs, "{}", expected.name);
        assert!(recovered >= expected.recovered, "{}: {recovered}", expected.name);
        if expected.calls == 2 && expected.recovered >= 1.0 {
            assert_eq!(conversation.paths().len(), 1, "{}", expected.name);
            assert_eq!(canonical(conversation), truth(&capture.said), "{}", expected.name);
            runs.entry(bare(conversation)).or_default().push(expected.name);
        }
    }
    eprintln!("{table}");
    // Whatever was written into the system prompt and around it, the run is the same one. Only one
    // client's tool answered with the weather alone.
    let sizes: Vec<usize> = runs.values().map(Vec::len).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 15);
    assert_eq!(sizes.len(), 2, "{runs:#?}");
    assert!(runs.values().any(|names| *names == ["llmetry_old"]), "{runs:#?}");
}

#[test]
fn a_session_a_subject_and_settings_are_found_where_the_client_keeps_them() {
    for (name, session, subject) in [
        ("genai_lg", Some("th-1"), None),
        ("oi_openai", Some("sess-1"), Some("user-9")),
        ("lg_oi", Some("sess-1"), Some("user-9")),
        ("lg_ls_native", Some("sess-1"), Some("user-9")),
        ("lg_ls_otel", Some("sess-1"), Some("user-9")),
        ("traceloop", Some("s1"), Some("u1")),
        ("langfuse", Some("s1"), Some("u1")),
        ("agents_native", Some("conv-1"), Some("u1")),
        ("genai_agents", Some("conv-1"), None),
    ] {
        let assembled = assemble(&Capture::load(name).items);
        let conversation = only(&assembled);
        assert_eq!(conversation.session.as_deref(), session, "{name}");
        assert_eq!(conversation.subject.as_deref(), subject, "{name}");
    }
    let assembled = assemble(&Capture::load("genai_span").items);
    let (_, call) = longest(&assembled).calls().next().unwrap();
    assert_eq!(call.params["temperature"], 0.2);
    assert_eq!(call.params["seed"], 7);
    assert_eq!(call.tools[0]["function"]["name"], "get_weather");
    let made = steps(longest(&assembled), &"t".parse().unwrap());
    assert_eq!(made.steps[0].tools, call.tools);
    assert_eq!(call.responded.as_deref(), Some("tiny-0807@adapter-v3"));
    assert_eq!(call.finish, Some(Finish::ToolCall));
    assert_eq!((call.usage.cache_read, call.usage.reasoning), (Some(4), Some(2)));
}

#[test]
fn feedback_inside_a_capture_finds_its_target_or_waits() {
    let langfuse = assemble(&Capture::load("langfuse").items);
    let [Outcome { target: Target::Trajectory(id), signal, source, .. }] = &langfuse.outcomes[..]
    else {
        panic!("{:?}", langfuse.outcomes)
    };
    assert_eq!(id, only(&langfuse).id.as_str());
    assert_eq!((signal, source), (&Signal::Rating { value: 1.0 }, &Source::Explicit));
    // The client was told to give feedback on a run that it had not sent.
    let langsmith = assemble(&Capture::load("lg_ls_native").items);
    assert_eq!(langsmith.outcomes, []);
    let waiting: Vec<&FeedbackTarget> =
        langsmith.pending.iter().map(|one| &one.targets[0]).collect();
    let run = FeedbackTarget::Run("4c98a006-8f96-4038-b4d5-338741a889b4".to_owned());
    assert_eq!(waiting, [&run, &run]);
}

#[test]
fn an_inline_image_is_kept_once_and_named_by_its_digest() {
    let assembled = assemble(&Capture::load("oi_openai").items);
    let blobs: Vec<&Vec<u8>> =
        assembled.blobs.values().filter(|bytes| bytes.starts_with(b"\x89PNG")).collect();
    assert_eq!(blobs.len(), 1);
    let conversation = only(&assembled);
    let user = conversation.messages.iter().find(|m| m.role == Role::User).unwrap();
    let text = text_of(user);
    assert!(text.contains(r#""mime":"image/png""#) && !text.contains("iVBOR"), "{text}");
}

#[test]
fn the_edge_cases_of_json_exporters_keep_their_span() {
    for name in ["json_edge", "js_edge"] {
        let assembled = assemble(&Capture::load(name).items);
        let [span] = &only(&assembled).spans[..] else { panic!("{name}") };
        assert_eq!(span.extra["empty"], json!([]), "{name}");
        assert!(!span.extra.contains_key("nan"), "{name}");
    }
    let assembled = assemble(&Capture::load("js_edge").items);
    assert_eq!(only(&assembled).spans[0].extra["big"], 1e21);
}

#[test]
fn whole_calls_become_steps_and_the_rest_says_why_not() {
    let task = "weather".parse().unwrap();
    let assembled = assemble(&Capture::load("traceloop").items);
    let found = steps(only(&assembled), &task);
    assert_eq!((found.steps.len(), found.left_out.len()), (2, 0));
    let last = &found.steps[1];
    assert_eq!(last.reply, Message::assistant("It is rainy in Paris, 14C."));
    assert_eq!(last.prompt.len(), 4);
    assert_eq!(last.session.as_deref(), Some("s1"));
    assert_eq!(last.response_id, "chatcmpl-a574b1a15c6e");
    assert_eq!(last.served.base, "tiny-0807@adapter-v3");
    let assembled = assemble(&Capture::load("agents_native").items);
    let found = steps(only(&assembled), &task);
    assert_eq!((found.steps.len(), found.left_out.len()), (0, 2));
    assert_eq!(found.left_out[0].1.to_string(), "the source sent no content");
}

#[test]
fn a_client_that_tells_only_response_ids_gets_the_words_our_server_recorded() {
    // What another client told of the same run stands for what a server would have recorded.
    let other = assemble(&Capture::load("traceloop").items);
    let recorded = steps(only(&other), &"weather".parse().unwrap()).steps;
    let mut capture = Capture::load("agents_native");
    let alone = assemble(&capture.items);
    let ids = only(&alone).calls().map(|(_, call)| call.response_id.clone().unwrap());
    for (mut step, id) in recorded.into_iter().zip(ids) {
        step.response_id = id;
        capture.items.insert(0, Item::Served(Box::new(step)));
    }
    let Item::Served(last) = capture.items[0].clone() else { panic!() };
    let score = json!({"traceId": only(&alone).traces[0], "name": "thumbs", "value": 1});
    let score = decode(&Payload::LangfuseScores, score.to_string().as_bytes()).unwrap();
    capture.items.extend(score.items);
    let assembled = assemble(&capture.items);
    let conversation = only(&assembled);
    assert_eq!(assembled.outcomes[0].target, Target::Step(last.id.to_string()));
    assert_eq!(recovered(conversation, &capture.said), 1.0);
    assert_eq!(canonical(conversation), truth(&capture.said));
    assert_eq!((conversation.paths().len(), conversation.paths()[0].len()), (1, 2));
    let [(_, run)] = conversation.runs().collect::<Vec<_>>()[..] else { panic!() };
    assert_eq!((run.observed, run.call_id.as_deref()), (true, Some("call_a6f32686")));
    // They are in the journal already.
    let again = steps(conversation, &"weather".parse().unwrap());
    assert_eq!((again.steps.len(), again.left_out.len()), (0, 2));
}

#[test]
fn shuffled_doubled_and_halved_deliveries_of_a_capture_end_the_same() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for expected in &EXPECTED {
        let items = Capture::load(expected.name).items;
        let once = text_of(&assemble(&items).conversations);
        for _ in 0..8 {
            let mut again: Vec<Item> = items.clone();
            again.extend(items.iter().filter(|_| rng.random_bool(0.5)).cloned());
            again.shuffle(&mut rng);
            assert_eq!(text_of(&assemble(&again).conversations), once, "{}", expected.name);
        }
    }
}

pub(super) struct Capture {
    pub(super) items: Vec<Item>,
    pub(super) bodies: Vec<(Payload, Vec<u8>)>,
    said: Vec<Message>,
}

impl Capture {
    pub(super) fn load(name: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/telemetry/tests/captures");
        let text = fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
        let file: Value = serde_json::from_str(&text).unwrap();
        let said = Reader::default().read(&file["said"], Role::User);
        let requests = file["requests"].as_array().unwrap().iter();
        let bodies: Vec<(Payload, Vec<u8>)> = requests.map(request).collect();
        let mut items = Vec::new();
        for (payload, body) in &bodies {
            let decoded = decode(payload, body).unwrap();
            assert_eq!(decoded.rejected, [""; 0], "{name}");
            items.extend(decoded.items);
        }
        Self { items, bodies, said }
    }
}

fn request(request: &Value) -> (Payload, Vec<u8>) {
    let body = &request["body"];
    let bytes = body.as_str().map_or_else(|| body.to_string(), str::to_owned).into_bytes();
    let payload = match request["payload"].as_str().unwrap() {
        "otlp_traces" => Payload::OtlpTraces(Encoding::Json),
        "otlp_logs" => Payload::OtlpLogs(Encoding::Json),
        "langsmith_multipart" => {
            let boundary = request["boundary"].as_str().unwrap().to_owned();
            Payload::LangsmithMultipart { boundary }
        }
        "langfuse_scores" => Payload::LangfuseScores,
        "openai_agents" => Payload::OpenaiAgents,
        other => panic!("{other}"),
    };
    (payload, bytes)
}

/// The conversation of the run: the one that says most.
fn longest(assembled: &Assembled) -> &Conversation {
    assembled.conversations.iter().max_by_key(|c| (c.calls().count(), c.messages.len())).unwrap()
}

/// Everything the last call was told, and its reply, in a spelling without ids and names.
fn canonical(conversation: &Conversation) -> Vec<String> {
    let (_, last) = conversation.calls().last().unwrap();
    let places: Vec<usize> = last.input.iter().chain(&last.output).copied().collect();
    conversation.said(&places).iter().map(line).collect()
}

fn truth(said: &[Message]) -> Vec<String> {
    said.iter().map(line).collect()
}

fn line(message: &Message) -> String {
    let calls = message.tool_calls.iter().map(|call| {
        let arguments: Value = serde_json::from_str(&call.function.arguments).unwrap();
        format!(" {}({})", call.function.name, canonical_json(&arguments))
    });
    format!("{}: {}{}", message.role.as_str(), message.text(), calls.collect::<String>())
}

/// The run without its system prompt, which the LangGraph client has none of.
fn bare(conversation: &Conversation) -> String {
    let lines = canonical(conversation);
    let runs = conversation.runs().map(|(_, run)| {
        let (given, result) = (run.arguments.as_ref().unwrap(), run.result.as_ref().unwrap());
        format!("run: {}({given}) = {result}", run.name)
    });
    let kept = lines.into_iter().filter(|line| !line.starts_with("system"));
    kept.chain(runs).collect::<Vec<_>>().join("\n")
}

/// The names of the attributes of calls and runs that no rule reads.
fn unread(conversation: &Conversation) -> BTreeSet<&str> {
    let calls = conversation.calls().map(|(span, _)| span);
    let spans = calls.chain(conversation.runs().map(|(span, _)| span));
    spans.flat_map(|span| span.extra.keys().map(String::as_str)).collect()
}

/// The share of the characters said that are found in the conversation, in messages or tool runs.
fn recovered(conversation: &Conversation, said: &[Message]) -> f64 {
    let mut found: Vec<String> = conversation.messages.iter().flat_map(pieces).collect();
    for (_, run) in conversation.runs() {
        found.extend(run.arguments.clone());
        found.extend(run.result.clone());
    }
    let wanted: Vec<String> = said.iter().flat_map(pieces).collect();
    let size =
        |pieces: &mut dyn Iterator<Item = &String>| -> usize { pieces.map(String::len).sum() };
    let known = size(&mut wanted.iter().filter(|piece| found.contains(piece)));
    known as f64 / size(&mut wanted.iter()).max(1) as f64
}

fn pieces(message: &Message) -> Vec<String> {
    let calls = message.tool_calls.iter().map(|call| call.function.arguments.clone());
    let text = message.text();
    calls.chain(Some(text).filter(|text| !text.is_empty())).collect()
}
