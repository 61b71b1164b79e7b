//! A body has to come along.

use std::{
    error::Error as _,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    BoxError,
    body::{Body, BodyDataStream, Bytes, HttpBody as _},
};
use tokio::time::Instant;
use tokio_stream::{Stream, StreamExt as _, adapters::Timeout};

/// Bytes a second that a body has to bring on the whole, after the patience for one part.
const SLOWEST: u64 = 1024;

#[derive(Debug, thiserror::Error)]
#[error("it came too slowly")]
struct TooSlow;

/// The same body, which fails where nothing comes for so long, or too little on the whole.
pub(super) fn limited(body: Body, patience: Duration) -> Body {
    if body.is_end_stream() {
        return body;
    }
    let parts = Box::pin(body.into_data_stream().timeout(patience));
    Body::from_stream(Limited { parts, patience, begun: Instant::now(), bytes: 0, over: false })
}

struct Limited {
    parts: Pin<Box<Timeout<BodyDataStream>>>,
    patience: Duration,
    begun: Instant,
    bytes: u64,
    /// Who reads on after a failure would wait for ever.
    over: bool,
}

impl Limited {
    fn checked(&mut self, part: Result<Bytes, axum::Error>) -> Result<Bytes, BoxError> {
        let part = part.map_err(axum::Error::into_inner)?;
        self.bytes += part.len() as u64;
        if self.begun.elapsed() > self.patience + Duration::from_secs(self.bytes / SLOWEST) {
            return Err(TooSlow.into());
        }
        Ok(part)
    }
}

impl Stream for Limited {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        let part = match self.parts.as_mut().poll_next(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(Err(_))) => Err(TooSlow.into()),
            Poll::Ready(Some(Ok(part))) => self.checked(part),
        };
        self.over = part.is_err();
        Poll::Ready(Some(part))
    }
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
