//! Who is asking, and whether they may.
//!
//! Every request passes [`admit`] before anything else sees it: by the route's row in [`table`] it
//! needs nothing, a feedback token, or a key with a scope. What follows reads from its [`Caller`]
//! whose names and ids it may touch.

mod caller;
mod credential;
mod door;
mod held;
mod origin;
mod table;

use std::{net::IpAddr, time::Duration};

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio_stream::StreamExt as _;
use understudy_access::{Denied, Exceeded, Permit, Principal};
use understudy_openai::ErrorReply;

pub use self::door::Door;
#[cfg(test)]
pub(crate) use self::table::TABLE;
pub(crate) use self::{
    caller::{Caller, Holding},
    door::follow_keys,
    table::Needs,
};
use self::{credential::presented, held::Held, table::Row};
use crate::{
    body::BodyLimit,
    error::{ApiError, seconds},
    state::Gateway,
};

/// Who is at the other end of the connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Of a request that is refused, so much is read that its sender, who does not listen while
/// sending, learns why.
const PATIENCE: usize = 8 << 20;

/// Lets a request in, or says why not.
pub(crate) async fn admit(
    State(gateway): State<Gateway>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let row = table::row_of(request.method(), path);
    let entry = match enter(gateway.door(), &request, row) {
        Ok(entry) => entry,
        Err(refusal) => {
            drain(request.into_body()).await;
            return refusal.into_response();
        }
    };
    let Entry { caller, permit } = entry;
    request.extensions_mut().insert(BodyLimit(row.body_bytes));
    request.extensions_mut().insert(caller.clone());
    let mut response = next.run(request).await;
    caller.say_what_is_left(response.headers_mut());
    match permit {
        None => response,
        Some(permit) => response.map(|body| Body::new(Held { body, _place: permit })),
    }
}

/// Whoever was let in, and how long they hold a place.
struct Entry {
    caller: Caller,
    permit: Option<Permit>,
}

fn enter(door: &Door, request: &Request, row: &Row) -> Result<Entry, Refusal> {
    let headers = request.headers();
    let from = request.extensions().get::<Peer>().map(|Peer(address)| *address);
    if door.is_open() {
        origin::check(request, from, row.needs == Needs::Token)?;
        return Ok(Entry { caller: Caller::default(), permit: None });
    }
    match &row.needs {
        Needs::Nothing | Needs::Token => Ok(Entry { caller: Caller::default(), permit: None }),
        needs => {
            let text = presented(headers).ok_or(Refusal::NoKey)?;
            let who = door.check(from, &text)?;
            allow(&who, needs)?;
            let permit = door.begin(&who)?;
            let bytes = headers.get(header::CONTENT_LENGTH).and_then(|text| text.to_str().ok());
            let bytes = bytes.and_then(|text| text.parse().ok()).unwrap_or(0);
            Ok(Entry { caller: door.holder(who, bytes), permit: Some(permit) })
        }
    }
}

fn allow(who: &Principal, needs: &Needs) -> Result<(), Refusal> {
    let (scope, whole) = match needs {
        Needs::Nothing | Needs::Token | Needs::AnyKey => return Ok(()),
        Needs::Scope(scope) => (scope, false),
        Needs::Whole(scope) => (scope, true),
    };
    if !who.scopes.allows(scope) {
        return Err(Refusal::Scope { needs: scope.to_string(), has: who.scopes.to_string() });
    }
    if whole && let Some(tenant) = &who.tenant {
        return Err(Refusal::Whole { tenant: tenant.to_string() });
    }
    Ok(())
}

/// Why somebody is not let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("an API key is needed: send `authorization: Bearer us_…`, or `x-api-key`")]
    NoKey,
    #[error("{0}")]
    Denied(#[from] Denied),
    #[error("too many wrong API keys came from here; wait {} seconds", seconds(*.0))]
    Locked(Duration),
    #[error("this API key may not do that: it needs the scope `{needs}` and has `{has}`")]
    Scope { needs: String, has: String },
    #[error("this is about the whole server, and this API key is the tenant {tenant}'s alone")]
    Whole { tenant: String },
    #[error("{0}")]
    Exceeded(#[from] Exceeded),
    #[error(
        "no API key was ever made here, so only this machine is answered; make one with \
         `understudy key create`"
    )]
    NotHere,
    #[error(
        "{name:?} is not a name of this machine: as long as no API key was made, requests for other \
         names are refused, because web pages could make them. Make a key with `understudy key \
         create`"
    )]
    Host { name: String },
    #[error(
        "this request came through a proxy: behind one an API key is needed, because whoever it \
         answers could ask; make one with `understudy key create`"
    )]
    Proxied,
    #[error(
        "web pages of {origin:?} may not make requests here as long as no API key was made; post \
         their feedback to /v1/feedback/signed"
    )]
    Origin { origin: String },
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, reason) = match &self {
            Self::NoKey | Self::Denied(Denied::Unknown | Denied::Expired | Denied::Revoked) => {
                (401, "invalid_api_key")
            }
            Self::Denied(Denied::Stale) => (503, "keys_unreadable"),
            Self::Locked(_) => (429, "too_many_wrong_keys"),
            Self::Exceeded(_) => (429, "rate_limit_exceeded"),
            Self::Scope { .. } | Self::Whole { .. } => (403, "missing_scope"),
            Self::NotHere | Self::Proxied | Self::Host { .. } | Self::Origin { .. } => {
                (403, "forbidden_origin")
            }
        };
        let reply = ErrorReply::new(status, self.to_string()).because(reason);
        let retry_after = self.retry_after().or(reply.retry_after);
        let mut response = ApiError(ErrorReply { retry_after, ..reply }).into_response();
        if status == 401 {
            // Not `Basic`, for which a browser would ask its user.
            let challenge = match self {
                Self::NoKey => "Bearer realm=\"understudy\"",
                _ => "Bearer realm=\"understudy\", error=\"invalid_token\"",
            };
            let challenge = HeaderValue::from_static(challenge);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl Refusal {
    /// How long to wait, where waiting helps.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Locked(wait) | Self::Exceeded(Exceeded { retry_after: wait, .. }) => Some(*wait),
            _ => None,
        }
    }
}

async fn drain(body: Body) {
    let (mut parts, mut passed) = (body.into_data_stream(), 0);
    while passed < PATIENCE {
        let Some(Ok(part)) = parts.next().await else { break };
        passed += part.len();
    }
}

/// OpenAI's names of what is left of a key's limits.
const LEFT: [(HeaderName, HeaderName); 2] = [
    (
        HeaderName::from_static("x-ratelimit-limit-requests"),
        HeaderName::from_static("x-ratelimit-remaining-requests"),
    ),
    (
        HeaderName::from_static("x-ratelimit-limit-tokens"),
        HeaderName::from_static("x-ratelimit-remaining-tokens"),
    ),
];
