//! A request body, read whole and bounded.

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    response::IntoResponse,
};
use understudy_openai::ErrorReply;

use crate::error::ApiError;

/// The bytes of a body. One over the limit is refused in the same envelope as anything else.
#[derive(Debug)]
pub(crate) struct Body(pub(crate) Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        Bytes::from_request(request, state).await.map(Self).map_err(|refused| {
            let text = refused.body_text();
            let status = refused.into_response().status();
            ApiError(ErrorReply::new(status.as_u16(), format!("the body was refused: {text}")))
        })
    }
}
