//! From a request's bytes to a place in the journal's queue.

use understudy_ident::TaskName;
use understudy_ingest::telemetry::{Compression, Decoded, Payload, decode, decompress};
use understudy_journal::{Ack, Journal, RawBody};

use crate::{IntakeError, Limits};

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
    limits: Limits,
    request: Request<'_>,
) -> Result<Received, IntakeError> {
    let Request { task, payload: name, content_type, compression, body } = request;
    let payload = Payload::named(name, content_type).ok_or_else(|| {
        let (name, content_type) = (name.to_owned(), content_type.to_owned());
        IntakeError::ContentType { wanted: wanted(&name), name, content_type }
    })?;
    let body = decompress(body, compression, limits.body_bytes)?;
    let decoded = decode(&payload, &body)?;
    if decoded.items.is_empty() && decoded.rejected.is_empty() {
        return Ok(Received { payload, decoded, ack: None });
    }
    let (payload_name, content_type) = (name.to_owned(), content_type.to_owned());
    let raw = RawBody { task, payload: payload_name, content_type, body };
    let ack = Some(journal.append_body(&raw)?);
    Ok(Received { payload, decoded, ack })
}

fn wanted(name: &str) -> &'static str {
    match name {
        "otlp-traces" | "otlp-logs" => "send application/x-protobuf or application/json",
        "langsmith-multipart" => "send multipart/form-data with its boundary",
        _ => "there is no such payload",
    }
}
