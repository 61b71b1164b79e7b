//! A request body, read whole and bounded.

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
};
use tokio_stream::StreamExt;
use understudy_openai::ErrorReply;

use crate::error::ApiError;

/// The longest body that is kept.
const LIMIT: usize = 4 << 20;
/// The longest body that is read to its end, though not kept, so that its sender, who does not
/// listen while sending, learns why it was refused.
const PATIENCE: usize = 64 << 20;

/// The bytes of a body. Handlers that need none take one all the same, because a connection whose
/// body was not read cannot be used again. One over the limit is refused in the same envelope as anything else.
#[derive(Debug)]
pub(crate) struct Body(pub(crate) Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let mut parts = request.into_body().into_data_stream();
        let (mut kept, mut size) = (Vec::new(), 0);
        while let Some(part) = parts.next().await {
            let part =
                part.map_err(|why| ApiError::bad_request(format!("the body broke off: {why}")))?;
            size += part.len();
            if size <= LIMIT {
                kept.extend_from_slice(&part);
            } else {
                kept = Vec::new();
            }
            if size > PATIENCE {
                break;
            }
        }
        if size > LIMIT {
            let why = format!("the body is larger than {LIMIT} bytes; send less at once");
            return Err(ApiError(ErrorReply::new(413, why)));
        }
        Ok(Self(kept.into()))
    }
}
