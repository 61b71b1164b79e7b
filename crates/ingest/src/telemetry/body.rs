//! Compressed bodies, with a limit that holds before and after.

use std::io::Read;

use super::TelemetryError;

/// How a body was packed, by its `Content-Encoding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// `None` for an encoding that is not read.
    pub fn named(content_encoding: Option<&str>) -> Option<Self> {
        match content_encoding.map(|name| name.trim().to_ascii_lowercase()).as_deref() {
            None | Some("" | "identity" | "none") => Some(Self::None),
            Some("gzip" | "x-gzip") => Some(Self::Gzip),
            Some("zstd") => Some(Self::Zstd),
            Some(_) => None,
        }
    }
}

/// Unpacks a body of at most `limit` bytes. A few hundred bytes can claim to be gigabytes, so what
/// comes out is counted while it comes, and no size a header states is believed.
pub fn decompress(
    body: &[u8],
    compression: Compression,
    limit: usize,
) -> Result<Vec<u8>, TelemetryError> {
    if body.len() > limit {
        return Err(TelemetryError::TooLarge { limit });
    }
    let failed = |why: std::io::Error| TelemetryError::Compression(why.to_string());
    match compression {
        Compression::None => Ok(body.to_vec()),
        Compression::Gzip => bounded(flate2::read::MultiGzDecoder::new(body), limit),
        Compression::Zstd => {
            bounded(zstd::stream::read::Decoder::with_buffer(body).map_err(failed)?, limit)
        }
    }
}

fn bounded(unpacked: impl Read, limit: usize) -> Result<Vec<u8>, TelemetryError> {
    let mut bytes = Vec::new();
    let one_over = limit as u64 + 1;
    unpacked
        .take(one_over)
        .read_to_end(&mut bytes)
        .map_err(|why| TelemetryError::Compression(why.to_string()))?;
    if bytes.len() > limit {
        return Err(TelemetryError::TooLarge { limit });
    }
    Ok(bytes)
}
