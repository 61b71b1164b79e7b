//! A body has to come along.

use std::{error::Error as _, time::Duration};

use axum::{
    BoxError,
    body::{Body, HttpBody as _},
};
use tokio::time::Instant;
use tokio_stream::StreamExt as _;

/// Bytes a second that a body has to bring on the whole, after the patience for one part.
const SLOWEST: u64 = 1024;

#[derive(Debug, thiserror::Error)]
#[error("the body came too slowly")]
struct TooSlow;

/// The same body, which fails where nothing comes for so long, or too little on the whole.
pub(super) fn limited(body: Body, patience: Duration) -> Body {
    if body.is_end_stream() {
        return body;
    }
    let begun = Instant::now();
    let mut bytes: u64 = 0;
    let parts = body.into_data_stream().timeout(patience).map(move |part| {
        let part = part.map_err(|_| BoxError::from(TooSlow))?;
        let part = part.map_err(axum::Error::into_inner)?;
        bytes += part.len() as u64;
        if begun.elapsed() > patience + Duration::from_secs(bytes / SLOWEST) {
            return Err(BoxError::from(TooSlow));
        }
        Ok(part)
    });
    Body::from_stream(parts)
}

/// Whether a body broke off because of its sender's slowness.
pub(crate) fn is_slow(error: &axum::Error) -> bool {
    let mut next = error.source();
    while let Some(cause) = next {
        if cause.is::<TooSlow>() {
            return true;
        }
        next = cause.source();
    }
    false
}
