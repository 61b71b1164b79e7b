//! A journal to receive into, and telemetry to send.

mod delivery;
mod receiving;

use rand::{Rng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tempfile::TempDir;
use understudy_ident::Timestamp;
use understudy_ingest::telemetry::{Compression, assemble, decode, steps};
use understudy_journal::{Config, Journal, Query};
use understudy_trajectory::{Step, Trajectory};

use crate::{Intake, IntakeError, Limits, Progress, Received, Request};

struct Home {
    _directory: TempDir,
    journal: Journal,
    intake: Intake,
}

impl Home {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(&directory.path().join("j.db"), Config::default()).unwrap();
        let intake = Intake::new(journal.clone(), Limits::default());
        Self { _directory: directory, journal, intake }
    }

    fn send(&self, (payload, body): &Sent) -> Received {
        self.try_send((payload, body)).unwrap()
    }

    fn send_all(&self, bodies: &[Sent]) {
        for body in bodies {
            self.send(body);
        }
    }

    fn try_send(&self, (payload, body): (&str, &[u8])) -> Result<Received, IntakeError> {
        let mut received = self.intake.receive(Request {
            task: "triage".parse().unwrap(),
            payload,
            content_type: "application/json",
            compression: Compression::None,
            body,
        })?;
        if let Some(ack) = received.ack.take() {
            ack.wait()?;
        }
        Ok(received)
    }

    /// Reads everything there is.
    fn read(&self) -> Progress {
        let mut total = Progress::default();
        loop {
            let one = self.intake.advance().unwrap();
            total.bodies += one.bodies;
            total.told += one.told;
            total.withdrawn += one.withdrawn;
            total.refused += one.refused;
            if one.bodies == 0 {
                return total;
            }
        }
    }

    fn trajectories(&self) -> Vec<Trajectory> {
        self.journal.trajectories(&Query::default()).unwrap()
    }

    fn text(&self) -> String {
        serde_json::to_string(&self.trajectories()).unwrap()
    }
}

type Sent = (&'static str, Vec<u8>);

/// A request with these spans.
fn traces(spans: &[Value]) -> Sent {
    let scope = json!({"scope": {"name": "test"}, "spans": spans});
    let body = json!({"resourceSpans": [{"resource": {}, "scopeSpans": [scope]}]});
    ("otlp-traces", body.to_string().into_bytes())
}

fn score(trace: u32, span: Option<u32>, value: f64) -> Sent {
    let body = json!({
        "id": format!("score {trace} {span:?}"), "traceId": format!("{trace:032x}"),
        "observationId": span.map(|id| format!("{id:016x}")), "name": "liked", "value": value,
        "timestamp": "2026-01-01T00:00:00Z",
    });
    ("langfuse-scores", body.to_string().into_bytes())
}

/// A chat call: what was said so far, by turns of user and assistant, and the reply.
fn call(trace: u32, span: u32, at: u64, said: &[String], more: Value) -> Value {
    let message = |(n, text): (usize, &String)| {
        let role = if n % 2 == 0 { "user" } else { "assistant" };
        json!({"role": role, "parts": [{"type": "text", "content": text}]})
    };
    let messages: Vec<Value> = said.iter().enumerate().map(message).collect();
    let (reply, input) = messages.split_last().unwrap();
    let mut attributes = json!({
        "gen_ai.operation.name": "chat", "gen_ai.request.model": "m",
        "gen_ai.input.messages": json!(input).to_string(),
        "gen_ai.output.messages": json!([reply]).to_string(),
    });
    for (name, value) in more.as_object().unwrap() {
        attributes[name] = value.clone();
    }
    let pairs: Vec<Value> = attributes
        .as_object()
        .unwrap()
        .iter()
        .map(|(key, value)| json!({"key": key, "value": {"stringValue": value.as_str().unwrap()}}))
        .collect();
    json!({
        "traceId": format!("{trace:032x}"), "spanId": format!("{span:016x}"), "name": "chat",
        "startTimeUnixNano": (at * 1_000_000).to_string(),
        "endTimeUnixNano": (at * 1_000_000 + 500).to_string(), "attributes": pairs,
    })
}

/// A world of conversations that are named, share a trace, or are known by their words alone, with
/// scores about some; in bodies that mix them.
fn world(random: &mut ChaCha8Rng) -> Vec<Sent> {
    let (mut spans, mut sent) = (Vec::new(), Vec::new());
    let mut id = 0;
    for conversation in 0..random.random_range(3..8_u32) {
        let mut said: Vec<String> = Vec::new();
        let style = random.random_range(0..4);
        for turn in 0..random.random_range(1..4_u64) {
            id += 1;
            // Some open alike, so that words alone cannot tell whose the next call is.
            let topic = if style == 3 { 0 } else { conversation };
            said.push(format!("question {topic} {turn}"));
            said.push(format!("answer {topic} {turn}"));
            let trace = if style == 1 { 1000 + conversation } else { id };
            let more = match style {
                0 => json!({"gen_ai.conversation.id": format!("s{conversation}")}),
                2 => json!({"gen_ai.response.id": format!("resp-{id}")}),
                _ => json!({}),
            };
            let at = 1000 * u64::from(conversation) + turn;
            spans.push(call(trace, id, at, &said, more));
            if random.random_bool(0.3) {
                sent.push(score(trace, random.random_bool(0.5).then_some(id), 1.0));
            }
        }
    }
    spans.shuffle(random);
    for some in spans.chunks(random.random_range(1..5)) {
        sent.push(traces(some));
    }
    sent
}

fn content(sent: &Sent) -> Vec<understudy_ingest::telemetry::Item> {
    let payload = understudy_ingest::telemetry::Payload::named(sent.0, "application/json").unwrap();
    decode(&payload, &sent.1).unwrap().items
}

/// What all of it amounts to, read at once.
fn at_once(sent: &[Sent]) -> Vec<Step> {
    let items: Vec<_> = sent.iter().flat_map(content).collect();
    let task = "triage".parse().unwrap();
    let mut found: Vec<Step> = assemble(&items)
        .conversations
        .iter()
        .flat_map(|conversation| steps(conversation, &task).steps)
        .collect();
    found.sort_by(|a, b| a.id.cmp(&b.id));
    found
}
