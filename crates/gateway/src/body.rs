//! A request body, read whole and bounded.

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
};
use tokio_stream::StreamExt;
use understudy_openai::ErrorReply;

use crate::{error::ApiError, server::is_slow};

/// The longest body that is kept, where nothing else is said.
const LIMIT: usize = 4 << 20;
/// The longest body that is read to its end, though not kept, so that its sender, who does not
/// listen while sending, learns why it was refused.
const PATIENCE: usize = 64 << 20;

/// The bytes of a body. Handlers that need none take one all the same, because a connection whose
/// body was not read cannot be used again. One over the limit is refused in the same envelope as anything else.
#[derive(Debug)]
pub(crate) struct Body(pub(crate) Bytes);

/// How long a body of this request may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimit(pub(crate) usize);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let limit = request.extensions().get::<BodyLimit>().map_or(LIMIT, |BodyLimit(most)| *most);
        let mut parts = request.into_body().into_data_stream();
        let (mut kept, mut size) = (Vec::new(), 0);
        while let Some(part) = parts.next().await {
            let part = part.map_err(broken)?;
            size += part.len();
            if size <= limit {
                kept.extend_from_slice(&part);
            } else {
                kept = Vec::new();
            }
            if size > PATIENCE {
                break;
            }
        }
        if size > limit {
            let why = format!("the body is larger than {limit} bytes; send less at once");
            return Err(ApiError(ErrorReply::new(413, why)));
        }
        Ok(Self(kept.into()))
    }
}

fn broken(why: axum::Error) -> ApiError {
    let status = if is_slow(&why) { 408 } else { 400 };
    ApiError(ErrorReply::new(status, format!("the body broke off: {why}")))
}
