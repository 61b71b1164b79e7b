//! From a request's bytes to a place in the journal's queue.

use understudy_capture::Capture;
use understudy_ident::TaskName;
use understudy_ingest::telemetry::{
    Compression, Decoded, Payload, TelemetryError, decode, decompress,
};
use understudy_journal::{Ack, Journal, RawBody};

use crate::{IntakeError, Limits};

/// What a body is stored as that is not kept as it was sent.
const ITEMS: (&str, &str) = ("understudy-items", "application/json");

/// A body as it was sent.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The task its calls are counted to.
    pub task: TaskName,
    /// One of [`Payload::NAMES`].
    pub payload: &'a str,
    pub content_type: &'a str,
    pub compression: Compression,
    pub body: &'a [u8],
}

/// A body that can be read.
#[derive(Debug)]
pub struct Received {
    pub payload: Payload,
    pub decoded: Decoded,
    /// Resolves once the body is durable; `None` if it held nothing at all, which is no mistake.
    pub ack: Option<Ack>,
}

pub(crate) fn receive(
    journal: &Journal,
    (limits, level): (Limits, Capture),
    request: Request<'_>,
) -> Result<Received, IntakeError> {
    let Request { task, payload: name, content_type, compression, body } = request;
    let payload = Payload::named(name, content_type).ok_or_else(|| {
        let (name, content_type) = (name.to_owned(), content_type.to_owned());
        IntakeError::ContentType { wanted: wanted(&name), name, content_type }
    })?;
    let body = decompress(body, compression, limits.body_bytes)?;
    let mut decoded = decode(&payload, &body)?;
    if decoded.items.is_empty() && decoded.rejected.is_empty() {
        return Ok(Received { payload, decoded, ack: None });
    }
    let Some((name, content_type, body)) = (match level {
        Capture::Full => Some((name, content_type, body)),
        level => reduced(level, &mut decoded)?.map(|body| (ITEMS.0, ITEMS.1, body)),
    }) else {
        return Ok(Received { payload, decoded, ack: None });
    };
    let (name, content_type) = (name.to_owned(), content_type.to_owned());
    let ack = Some(journal.append_body(&RawBody { task, payload: name, content_type, body })?);
    Ok(Received { payload, decoded, ack })
}

/// What a level keeps of a body, as a body of its own; the sender is told how much it does not keep.
fn reduced(level: Capture, decoded: &mut Decoded) -> Result<Option<Vec<u8>>, IntakeError> {
    if level == Capture::None {
        return Err(IntakeError::NotKept);
    }
    let kept = level.items(std::mem::take(&mut decoded.items));
    let why = format!("nothing of it is kept at capture level `{level}`");
    decoded.rejected.extend(std::iter::repeat_n(why, kept.left_out));
    let body = serde_json::to_vec(&kept.items);
    let body = body.map_err(|why| TelemetryError::Json(why.to_string()))?;
    decoded.items = kept.items;
    Ok((!decoded.items.is_empty()).then_some(body))
}

fn wanted(name: &str) -> &'static str {
    match name {
        "otlp-traces" | "otlp-logs" => "send application/x-protobuf or application/json",
        "langsmith-multipart" => "send multipart/form-data with its boundary",
        _ => "there is no such payload",
    }
}
