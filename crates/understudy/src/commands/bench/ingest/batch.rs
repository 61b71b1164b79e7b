//! One export request, made once and numbered anew each time it is sent.

use std::{fmt, ops::Range};

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

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Protobuf => "protobuf",
            Self::Json => "json",
        })
    }
}

/// The spans of one request: traces of an agent and the chat calls it made, a call of about a
/// kilobyte; where a trace has one span, that is a call.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    encoding: Encoding,
    shape: Shape,
    bytes: Vec<u8>,
    /// Where there is something that no other batch has, and of which span it is the number.
    places: Vec<(Range<usize>, Mark)>,
}

/// How many spans, and how many of them in a trace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) spans: usize,
    pub(super) a_trace: usize,
}

impl Shape {
    /// The span its trace begins with.
    fn root(self, span: usize) -> usize {
        span - span % self.a_trace
    }

    fn is_agent(self, span: usize) -> bool {
        self.a_trace > 1 && self.root(span) == span
    }

    /// Calls of a model, which are what steps are made of.
    pub(super) fn calls(self) -> usize {
        (0..self.spans).filter(|span| !self.is_agent(*span)).count()
    }
}

/// The number of a span, as its bytes or, with what stands before it, as text.
#[derive(Debug, Clone, Copy)]
enum Mark {
    Trace(usize),
    Span(usize),
    Ticket(usize),
}

impl Mark {
    fn of(self) -> usize {
        let (Self::Trace(span) | Self::Span(span) | Self::Ticket(span)) = self;
        span
    }

    fn is_text(self, encoding: Encoding) -> bool {
        encoding == Encoding::Json || matches!(self, Self::Ticket(_))
    }

    fn bytes(self, encoding: Encoding) -> Vec<u8> {
        let own = (self.of() as u64 + 1).to_be_bytes();
        let id = match self {
            // The first half is the same everywhere.
            Self::Trace(_) => [[0xa5; 8], own].concat(),
            Self::Span(_) => own.to_vec(),
            Self::Ticket(_) => return format!("ticket {}", hex(&own)).into_bytes(),
        };
        if encoding == Encoding::Json { hex(&id).into_bytes() } else { id }
    }
}

const ANSWER_WORDS: usize = 60;

impl Batch {
    pub(super) fn new(encoding: Encoding, shape: Shape) -> Self {
        let bytes = match encoding {
            Encoding::Protobuf => protobuf(shape),
            Encoding::Json => json_text(shape).into_bytes(),
        };
        let marks = (0..shape.spans).flat_map(|span| {
            let root = shape.root(span);
            let parent = (root != span).then_some(Mark::Span(root));
            let ticket = (!shape.is_agent(span)).then_some(Mark::Ticket(span));
            [Some(Mark::Trace(root)), Some(Mark::Span(span)), parent, ticket].into_iter().flatten()
        });
        let mut from = 0;
        let place = |mark: Mark| {
            let wanted = mark.bytes(encoding);
            let found = bytes[from..].windows(wanted.len()).position(|window| window == wanted);
            let start = from + found.expect("an id was written where its span is");
            from = start + wanted.len();
            (start..from, mark)
        };
        let places = marks.map(place).collect();
        Self { encoding, shape, bytes, places }
    }

    pub(super) fn encoding(&self) -> Encoding {
        self.encoding
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Gives every span ids and words that no other batch has.
    pub(super) fn number(&mut self, batch: u64) {
        for (place, mark) in &self.places {
            let number = ((batch << 16) + mark.of() as u64 + 1).to_be_bytes();
            let own = &mut self.bytes[place.clone()];
            // The last eight bytes, or their digits; what is before them stays.
            if mark.is_text(self.encoding) {
                let start = own.len() - 16;
                own[start..].copy_from_slice(hex(&number).as_bytes());
            } else {
                let start = own.len() - 8;
                own[start..].copy_from_slice(&number);
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn text_of(mark: Mark, encoding: Encoding) -> String {
    String::from_utf8(mark.bytes(encoding)).expect("digits and letters are UTF-8")
}

/// The attributes of one span.
fn attributes(shape: Shape, span: usize) -> Vec<(&'static str, String)> {
    if shape.is_agent(span) {
        return vec![
            ("gen_ai.operation.name", "invoke_agent".to_owned()),
            ("gen_ai.agent.name", "support".to_owned()),
        ];
    }
    let message = |role: &str, text: String| json!([{"role": role, "parts": [{"type": "text", "content": text}]}]);
    let ticket = text_of(Mark::Ticket(span), Encoding::Json);
    let question = format!("{ticket}: where is my order, and what does sending it back cost?");
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

fn name(shape: Shape, span: usize) -> &'static str {
    if shape.is_agent(span) { "invoke_agent support" } else { "chat gpt-test" }
}

fn json_text(shape: Shape) -> String {
    let id = |mark| text_of(mark, Encoding::Json);
    let span = |n: usize| {
        let attributes: Vec<_> = attributes(shape, n)
            .into_iter()
            .map(|(key, text)| json!({"key": key, "value": {"stringValue": text}}))
            .collect();
        let root = shape.root(n);
        let parent = if root == n { String::new() } else { id(Mark::Span(root)) };
        // Written in this order, which is the order that they are looked for in.
        format!(
            "{{\"traceId\":\"{}\",\"spanId\":\"{}\",\"parentSpanId\":\"{parent}\",\"name\":\"{}\",\
             \"kind\":3,\"startTimeUnixNano\":\"1767225600000000000\",\
             \"endTimeUnixNano\":\"1767225601000000000\",\"attributes\":{}}}",
            id(Mark::Trace(root)),
            id(Mark::Span(n)),
            name(shape, n),
            json!(attributes),
        )
    };
    let spans: Vec<String> = (0..shape.spans).map(span).collect();
    let spans = spans.join(",");
    format!(
        "{{\"resourceSpans\":[{{\"scopeSpans\":[{{\"scope\":{{\"name\":\"bench\"}},\"spans\":[{spans}]}}]}}]}}"
    )
}

/// As opentelemetry-proto's `trace.proto` has it.
fn protobuf(shape: Shape) -> Vec<u8> {
    let id = |mark: Mark| mark.bytes(Encoding::Protobuf);
    let mut list = field(1, &field(1, b"bench"));
    for n in 0..shape.spans {
        let root = shape.root(n);
        let mut span = [field(1, &id(Mark::Trace(root))), field(2, &id(Mark::Span(n)))].concat();
        if root != n {
            span.extend(field(4, &id(Mark::Span(root))));
        }
        span.extend(field(5, name(shape, n).as_bytes()));
        // Its kind: a client's.
        span.extend([6 << 3, 3]);
        for (number, at) in [(7, 1_767_225_600_u64), (8, 1_767_225_601)] {
            // A fixed 64-bit field.
            span.push(number << 3 | 1);
            span.extend((at * 1_000_000_000).to_le_bytes());
        }
        for (key, text) in attributes(shape, n) {
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
        let encodings = [Encoding::Protobuf, Encoding::Json];
        for encoding in encodings {
            reads_as_calls(encoding, 1);
            reads_as_calls(encoding, 8);
        }
    }

    fn reads_as_calls(encoding: Encoding, a_trace: usize) {
        let payload = Payload::named("otlp-traces", encoding.content_type()).unwrap();
        let shape = Shape { spans: 300, a_trace };
        let mut batch = Batch::new(encoding, shape);
        let (mut spans, mut traces) = (BTreeSet::new(), BTreeSet::new());
        for number in 0..3 {
            batch.number(number);
            let decoded = telemetry::decode(&payload, batch.bytes()).unwrap();
            assert_eq!((decoded.items.len(), decoded.rejected.len()), (300, 0));
            for item in &decoded.items {
                let Item::Span(span) = item else { panic!("{item:?}") };
                spans.insert((span.trace_id.clone(), span.span_id.clone()));
                traces.insert(span.trace_id.clone());
            }
            let assembled = telemetry::assemble(&decoded.items);
            let task = "t".parse().unwrap();
            let steps = assembled.conversations.iter();
            let steps = steps.map(|one| telemetry::steps(one, &task).steps.len());
            assert_eq!(steps.sum::<usize>(), shape.calls(), "{encoding:?}, {a_trace} a trace");
        }
        assert_eq!((spans.len(), traces.len()), (900, 3 * 300_usize.div_ceil(a_trace)));
    }
}
