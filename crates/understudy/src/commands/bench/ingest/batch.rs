//! One export request, made once and numbered anew each time it is sent.

use std::ops::Range;

use serde::Serialize;
use serde_json::json;

/// How spans are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }
}

/// The spans of one request: chat calls of about a kilobyte, each in a trace of its own.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    encoding: Encoding,
    bytes: Vec<u8>,
    /// Where each span has its trace id, its span id and the number of its ticket.
    ids: Vec<Range<usize>>,
}

const ANSWER_WORDS: usize = 60;

impl Batch {
    pub(super) fn new(encoding: Encoding, spans: usize) -> Self {
        let bytes = match encoding {
            Encoding::Protobuf => protobuf(spans),
            Encoding::Json => json_text(spans).into_bytes(),
        };
        let ids = (0..spans).flat_map(|span| {
            let [trace, own] = [trace_mark(span).to_vec(), span_mark(span).to_vec()];
            let ticket = ticket(span).into_bytes();
            match encoding {
                Encoding::Protobuf => [trace, own, ticket],
                Encoding::Json => [hex(&trace).into_bytes(), hex(&own).into_bytes(), ticket],
            }
        });
        let mut from = 0;
        let place = |id: Vec<u8>| {
            let found = bytes[from..].windows(id.len()).position(|window| window == id);
            let start = from + found.expect("an id was written where its span is");
            from = start + id.len();
            start..from
        };
        let ids = ids.map(place).collect();
        Self { encoding, bytes, ids }
    }

    pub(super) fn encoding(&self) -> Encoding {
        self.encoding
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Gives every span ids and words that no other batch has.
    pub(super) fn number(&mut self, batch: u64) {
        for (n, place) in self.ids.iter().enumerate() {
            let number = (batch << 16) + (n as u64 / IDS as u64) + 1;
            let own = &mut self.bytes[place.clone()];
            let is_text = self.encoding == Encoding::Json || n % IDS == IDS - 1;
            // The last eight bytes, or their digits; what is before them stays.
            if is_text {
                let start = own.len() - 16;
                own[start..].copy_from_slice(hex(&number.to_be_bytes()).as_bytes());
            } else {
                let start = own.len() - 8;
                own[start..].copy_from_slice(&number.to_be_bytes());
            }
        }
    }
}

/// What of a span is numbered.
const IDS: usize = 3;

fn ticket(span: usize) -> String {
    format!("ticket {}", hex(&span_mark(span)))
}

fn trace_mark(span: usize) -> [u8; 16] {
    let mut id = [0xa5; 16];
    id[8..].copy_from_slice(&(span as u64 + 1).to_be_bytes());
    id
}

fn span_mark(span: usize) -> [u8; 8] {
    (span as u64 + 1).to_be_bytes()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// The attributes of one span.
fn attributes(span: usize) -> Vec<(&'static str, String)> {
    let message = |role: &str, text: String| json!([{"role": role, "parts": [{"type": "text", "content": text}]}]);
    let question =
        format!("{}: where is my order, and what does sending it back cost?", ticket(span));
    let answer: Vec<String> =
        (0..ANSWER_WORDS).map(|n| format!("word{}", (n * 7 + span) % 97)).collect();
    vec![
        ("gen_ai.operation.name", "chat".to_owned()),
        ("gen_ai.provider.name", "openai".to_owned()),
        ("gen_ai.request.model", "gpt-test".to_owned()),
        ("gen_ai.input.messages", message("user", question).to_string()),
        ("gen_ai.output.messages", message("assistant", answer.join(" ")).to_string()),
    ]
}

fn json_text(spans: usize) -> String {
    let span = |n: usize| {
        let attributes: Vec<_> = attributes(n)
            .into_iter()
            .map(|(key, text)| json!({"key": key, "value": {"stringValue": text}}))
            .collect();
        json!({
            "traceId": hex(&trace_mark(n)), "spanId": hex(&span_mark(n)), "name": "chat gpt-test",
            "kind": 3, "startTimeUnixNano": "1767225600000000000",
            "endTimeUnixNano": "1767225601000000000", "attributes": attributes,
        })
    };
    let spans: Vec<_> = (0..spans).map(span).collect();
    json!({"resourceSpans": [{"scopeSpans": [{"scope": {"name": "bench"}, "spans": spans}]}]})
        .to_string()
}

/// As opentelemetry-proto's `trace.proto` has it.
fn protobuf(spans: usize) -> Vec<u8> {
    let mut list = field(1, &field(1, b"bench"));
    for n in 0..spans {
        let ids = [field(1, &trace_mark(n)), field(2, &span_mark(n))].concat();
        let mut span = [ids, field(5, b"chat gpt-test")].concat();
        for (number, at) in [(7, 1_767_225_600_u64), (8, 1_767_225_601)] {
            // A fixed 64-bit field.
            span.push(number << 3 | 1);
            span.extend((at * 1_000_000_000).to_le_bytes());
        }
        for (key, text) in attributes(n) {
            let pair = [field(1, key.as_bytes()), field(2, &field(1, text.as_bytes()))].concat();
            span.extend(field(9, &pair));
        }
        list.extend(field(2, &span));
    }
    field(1, &field(2, &list))
}

/// A length-delimited field.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(content);
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use understudy_ingest::telemetry::{self, Item, Payload};

    use super::*;

    #[test]
    fn every_batch_reads_as_calls_with_ids_of_their_own() {
        for encoding in [Encoding::Protobuf, Encoding::Json] {
            let payload = Payload::named("otlp-traces", encoding.content_type()).unwrap();
            let mut batch = Batch::new(encoding, 300);
            let mut ids = BTreeSet::new();
            for number in 0..3 {
                batch.number(number);
                let decoded = telemetry::decode(&payload, batch.bytes()).unwrap();
                assert_eq!((decoded.items.len(), decoded.rejected.len()), (300, 0));
                ids.extend(decoded.items.iter().map(|item| match item {
                    Item::Span(span) => (span.trace_id.clone(), span.span_id.clone()),
                    other => panic!("{other:?}"),
                }));
                let assembled = telemetry::assemble(&decoded.items);
                let steps = assembled.conversations.iter().flat_map(|conversation| {
                    telemetry::steps(conversation, &"t".parse().unwrap()).steps
                });
                assert_eq!(steps.count(), 300, "{encoding:?}");
            }
            assert_eq!(ids.len(), 900);
        }
    }
}
