//! Who asks for a change, why, at which revision, and under which key.

use axum::http::{HeaderMap, header};
use serde::{Deserialize, de::DeserializeOwned};
use understudy_ident::Clock;
use understudy_openai::ErrorReply;
use understudy_registry::{Change, Override};

use crate::{auth::Caller, error::ApiError};

/// The longest idempotency key.
const LONGEST_KEY: usize = 256;

/// The part of a body that every change has.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Who {
    pub(super) reason: String,
    /// Who answers for it, where no key says so.
    #[serde(default)]
    pub(super) owner: Option<String>,
    /// Goes past gate and freeze, as far as the owner may; recorded for ever.
    #[serde(default)]
    pub(super) force: bool,
}

/// What `if-match` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IfMatch {
    Any,
    Revision(u64),
}

#[derive(Debug)]
pub(super) struct Said {
    owner: String,
    reason: String,
    key: Option<String>,
    if_match: Option<IfMatch>,
    pub(super) forced: Option<Override>,
}

/// A body, with the field at fault named.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body)
        .map_err(|why| ApiError::bad_request(format!("the body cannot be understood: {why}")))
}

impl Said {
    pub(super) fn read(caller: &Caller, headers: &HeaderMap, who: Who) -> Result<Self, ApiError> {
        let Who { reason, owner, force } = who;
        let owner = match (caller.owner(), owner) {
            (Some(known), Some(said)) if said != known => {
                let why = format!("this API key is {known}'s, who cannot act as {said}");
                return Err(ApiError::forbidden(why));
            }
            (Some(known), _) => known.to_owned(),
            (None, Some(said)) => said,
            (None, None) => {
                let why = "`owner` must say who answers for it, as long as no API key does";
                return Err(ApiError::bad_field("owner", why));
            }
        };
        let forced = force.then(|| Override { owner: owner.clone(), reason: reason.clone() });
        let (key, if_match) = (key(headers)?, if_match(headers)?);
        Ok(Self { owner, reason, key, if_match, forced })
    }

    pub(super) fn change<'a>(&'a self, clock: &'a dyn Clock) -> Change<'a> {
        let change = Change::new(&self.owner, &self.reason, clock);
        let (forced, request) = (self.forced.as_ref(), self.key.as_deref());
        Change { forced, request, ..change }.if_revision(self.revision())
    }

    pub(super) fn revision(&self) -> Option<u64> {
        match self.if_match? {
            IfMatch::Any => None,
            IfMatch::Revision(revision) => Some(revision),
        }
    }

    pub(super) fn require_if_match(&self) -> Result<(), ApiError> {
        if self.if_match.is_some() {
            return Ok(());
        }
        let why = "what adds exposure names the revision it was decided at: send the release's \
                   `etag` as `if-match`, or `if-match: *` for whatever it is at";
        Err(ApiError(ErrorReply::new(428, why).about("if-match").because("if_match_required")))
    }

    pub(super) fn refuse_if_match(&self, why: &str) -> Result<(), ApiError> {
        refuse("if-match", self.if_match.is_some(), why)
    }

    pub(super) fn refuse_force(&self, why: &str) -> Result<(), ApiError> {
        refuse("force", self.forced.is_some(), why)
    }
}

fn refuse(field: &'static str, is_said: bool, why: &str) -> Result<(), ApiError> {
    if is_said { Err(ApiError::bad_field(field, format!("`{field}` {why}"))) } else { Ok(()) }
}

fn key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    const NAME: &str = "idempotency-key";
    let Some(value) = headers.get(NAME) else { return Ok(None) };
    let key = value.to_str().unwrap_or_default().trim();
    if key.is_empty() || key.len() > LONGEST_KEY {
        let why = format!("`{NAME}` must be 1 to {LONGEST_KEY} characters of ASCII");
        return Err(ApiError::bad_field(NAME, why));
    }
    Ok(Some(key.to_owned()))
}

fn if_match(headers: &HeaderMap) -> Result<Option<IfMatch>, ApiError> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(Some(IfMatch::Any));
    }
    let revision = text.trim_matches('"').parse().map_err(|_| {
        let why = "`if-match` must be a release's `etag` as it was told, such as \"7\", or *";
        ApiError::bad_field("if-match", why)
    })?;
    Ok(Some(IfMatch::Revision(revision)))
}
