//! `multipart/form-data`, as far as the LangSmith client uses it.

use super::TelemetryError;

/// One part: its name and its bytes.
pub(crate) type Part<'a> = (String, &'a [u8]);

/// Takes a body apart at its boundary.
pub(crate) fn parts<'a>(body: &'a [u8], boundary: &str) -> Result<Vec<Part<'a>>, TelemetryError> {
    if boundary.is_empty() || boundary.len() > 200 {
        return Err(TelemetryError::Multipart("its content type names no usable boundary"));
    }
    let line = [b"--", boundary.as_bytes()].concat();
    let mut rest = match find(body, &line) {
        Some(at) => &body[at + line.len()..],
        None => return Err(TelemetryError::Multipart("the boundary does not occur in it")),
    };
    let end = [b"\r\n", line.as_slice()].concat();
    let mut parts = Vec::new();
    while !rest.starts_with(b"--") {
        let Some(length) = find(rest, &end) else {
            return Err(TelemetryError::Multipart("it ends in the middle of a part"));
        };
        parts.push(part(&rest[..length])?);
        rest = &rest[length + end.len()..];
    }
    Ok(parts)
}

fn part(bytes: &[u8]) -> Result<Part<'_>, TelemetryError> {
    let bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        return Err(TelemetryError::Multipart("a part has no end of its headers"));
    };
    let headers = String::from_utf8_lossy(&bytes[..end]);
    let name = headers.split("name=\"").nth(1).and_then(|rest| rest.split('"').next());
    match name {
        Some(name) => Ok((name.to_owned(), &bytes[end + 4..])),
        None => Err(TelemetryError::Multipart("a part has no name")),
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
