//! One sending of a request to one replica, up to the first token; and what its failure allows.
//!
//! | failure | class | sent again |
//! | --- | --- | --- |
//! | not connected, 429, 503, an adapter the replica has lost | not taken up | always |
//! | 408, 5xx | refused | unless [`Replay::Never`] |
//! | no first token in time, connection lost after sending | uncertain | only with [`Replay::Always`] |
//! | other 4xx; anything after the first token | final | never |

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER},
};
use tokio::time::{Instant as At, timeout_at};
use understudy_inference::{Delta, InferenceError, Stopwatch};

use crate::{Endpoint, Replay, client::Client, live::Reply, pick::Blame, sse::Events, wire};

const LONGEST_ERROR_BODY: usize = 64 << 10;
/// A server that asks for more patience than this is taken for one that refuses.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(30);

/// What a failure allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    NotTaken,
    Refused,
    Uncertain,
    Final,
}

impl Class {
    pub(crate) fn may_repeat(self, replay: Replay) -> bool {
        match self {
            Self::NotTaken => true,
            Self::Refused => replay != Replay::Never,
            Self::Uncertain => replay == Replay::Always,
            Self::Final => false,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) class: Class,
    pub(crate) blame: Blame,
    pub(crate) error: InferenceError,
    pub(crate) retry_after: Option<Duration>,
    /// The replica does not know the adapter, though it was told of it.
    pub(crate) lost_adapter: bool,
}

impl Failure {
    fn new(class: Class, blame: Blame, error: InferenceError) -> Self {
        Self { class, blame, error, retry_after: None, lost_adapter: false }
    }
}

/// What is sent, the same to every replica.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(crate) path: &'static str,
    pub(crate) bytes: Bytes,
    /// What `model` in the answer must be, where weights are ours to choose: the name that was
    /// asked for, which our own servers write with the content's digest.
    pub(crate) models: Vec<String>,
    /// Where the server was told no limit, ours.
    pub(crate) most_tokens: Option<usize>,
    pub(crate) until: Instant,
}

/// An answer of which something has come.
#[derive(Debug)]
pub(crate) struct Live {
    body: Incoming,
    events: Events,
    pub(crate) reply: Reply,
    /// What came until now.
    pub(crate) pending: Vec<Delta>,
    over: bool,
    pub(crate) most_tokens: Option<usize>,
    until: Instant,
}

/// How an endpoint is talked to.
pub(crate) struct Talk<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) client: &'a Client,
    pub(crate) url: &'a str,
}

impl Talk<'_> {
    /// Sends, and waits for the first token.
    pub(crate) async fn open(
        &self,
        prepared: &Prepared,
        watch: Stopwatch,
    ) -> Result<Live, Failure> {
        let limit = Instant::now() + self.endpoint.timeouts.first_token;
        let until = limit.min(prepared.until);
        let response = self.send(prepared, until, &watch).await?;
        if response.status() != StatusCode::OK {
            return Err(self.refused(response, until).await);
        }
        let mut live = Live {
            body: response.into_body(),
            events: Events::default(),
            reply: Reply::new(watch),
            pending: Vec::new(),
            over: false,
            most_tokens: prepared.most_tokens,
            until: prepared.until,
        };
        while !live.reply.has_begun() && !live.over {
            live.read(self, until)
                .await
                .map_err(|error| Failure::new(Class::Uncertain, Blame::Replica, error))?;
        }
        if !live.reply.has_begun() {
            let what = "ended its answer without a finish reason, and without a word before it";
            return Err(Failure::new(Class::Uncertain, Blame::Replica, self.broken(what)));
        }
        match (prepared.models.first(), &live.reply.model) {
            (Some(asked), Some(found)) if !prepared.models.contains(found) => {
                let what = format!("answers as `{found}`, not as `{asked}`: other weights");
                let mut failure = Failure::new(Class::NotTaken, Blame::Adapter, self.broken(&what));
                failure.lost_adapter = true;
                Err(failure)
            }
            _ => Ok(live),
        }
    }

    async fn send(
        &self,
        prepared: &Prepared,
        until: Instant,
        watch: &Stopwatch,
    ) -> Result<Response<Incoming>, Failure> {
        let request = self.request(prepared.path, prepared.bytes.clone());
        let request = request.map_err(|error| Failure::new(Class::Final, Blame::Nobody, error))?;
        match timeout_at(At::from_std(until), self.client.send(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                let class = if error.is_connect() { Class::NotTaken } else { Class::Uncertain };
                let why = format!("could not be reached or broke off ({})", chain(&error));
                Err(Failure::new(class, Blame::Replica, self.broken(&why)))
            }
            Err(_) => {
                let error = InferenceError::TimedOut(watch.total_ms() as u64);
                Err(Failure::new(Class::Uncertain, Blame::Replica, error))
            }
        }
    }

    /// A POST of JSON; `path` is below the endpoint's address, or beside its `/v1`.
    pub(crate) fn request(
        &self,
        path: &str,
        bytes: Bytes,
    ) -> Result<Request<Full<Bytes>>, InferenceError> {
        let mut request = Request::post(format!("{}{path}", self.url))
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "text/event-stream, application/json");
        if let Some(key) = &self.endpoint.api_key {
            request = request.header(AUTHORIZATION, key.bearer());
        }
        let wrong = |why| self.broken(&format!("has an address that cannot be asked ({why})"));
        request.body(Full::new(bytes)).map_err(wrong)
    }

    async fn refused(&self, response: Response<Incoming>, until: Instant) -> Failure {
        let status = response.status();
        let wait = response.headers().get(RETRY_AFTER).and_then(|wait| wait.to_str().ok());
        let wait: Option<u64> = wait.and_then(|wait| wait.trim().parse().ok());
        let body = Limited::new(response.into_body(), LONGEST_ERROR_BODY).collect();
        // Whatever arrived of the explanation is worth telling.
        let body = timeout_at(At::from_std(until), body).await.ok().and_then(Result::ok);
        let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let said = self.scrub(&wire::error_text(&String::from_utf8_lossy(&body)));
        let after = wait.map_or_else(String::new, |wait| format!(", retry after {wait} s"));
        let code = status.as_u16();
        let lost = code == 404 && said.to_lowercase().contains("does not exist");
        let (class, blame, error) = match code {
            400 | 413 | 422 => {
                let why = format!("was refused by {} ({status}): {said}", self.endpoint.role);
                (Class::Final, Blame::Nobody, InferenceError::invalid("request", why))
            }
            401 | 403 => {
                let what = format!("refused the API key ({status}), check it: {said}");
                (Class::Final, Blame::Nobody, self.broken(&what))
            }
            404 => {
                let model = &self.endpoint.model;
                let what =
                    format!("knows no model `{model}` or no such address ({status}): {said}");
                let class = if lost { Class::NotTaken } else { Class::Final };
                (class, Blame::Nobody, self.broken(&what))
            }
            429 => {
                let what = format!("is limiting our rate ({status}{after}): {said}");
                (Class::NotTaken, Blame::Adapter, self.broken(&what))
            }
            503 => {
                let what = format!("is in trouble ({status}{after}): {said}");
                (Class::NotTaken, Blame::Adapter, self.broken(&what))
            }
            408 | 500..=599 => {
                let what = format!("is in trouble ({status}{after}): {said}");
                (Class::Refused, Blame::Adapter, self.broken(&what))
            }
            _ => {
                let what = format!("answered {status}, which no model endpoint should: {said}");
                (Class::Final, Blame::Nobody, self.broken(&what))
            }
        };
        let wait = wait.map(Duration::from_secs);
        let impatient = wait.is_some_and(|wait| wait > LONGEST_RETRY_AFTER);
        let class = if impatient && class == Class::NotTaken { Class::Refused } else { class };
        let retry_after = wait.filter(|_| !impatient);
        Failure { class, blame, error, retry_after, lost_adapter: lost }
    }

    pub(crate) fn broken(&self, what: &str) -> InferenceError {
        let text = format!("{} at {} {what}", self.endpoint.role, self.url);
        InferenceError::Failed(self.scrub(&text))
    }

    fn scrub(&self, text: &str) -> String {
        match &self.endpoint.api_key {
            Some(key) => key.scrub(text),
            None => text.to_owned(),
        }
    }
}

impl Live {
    /// Until something can be passed on, or the answer is over.
    pub(crate) async fn next(&mut self, talk: &Talk<'_>) -> Result<Option<Delta>, InferenceError> {
        loop {
            if !self.pending.is_empty() {
                return Ok(Some(self.pending.remove(0)));
            }
            if self.over {
                return Ok(None);
            }
            let limit = Instant::now() + talk.endpoint.timeouts.between_tokens;
            self.read(talk, limit.min(self.until)).await?;
        }
    }

    async fn read(&mut self, talk: &Talk<'_>, until: Instant) -> Result<(), InferenceError> {
        let frame = timeout_at(At::from_std(until), self.body.frame()).await;
        let Ok(frame) = frame else {
            return Err(InferenceError::TimedOut(self.reply.watch.total_ms() as u64));
        };
        let Some(frame) = frame else {
            self.over = true;
            return Ok(());
        };
        let frame =
            frame.map_err(|error| talk.broken(&format!("broke off ({})", chain(&error))))?;
        let Some(bytes) = frame.data_ref() else { return Ok(()) };
        self.events.push(bytes);
        while let Some(data) = self.events.next().map_err(|what| talk.broken(what))? {
            if data.trim() == "[DONE]" {
                self.over = true;
                break;
            }
            let chunk: wire::Chunk = serde_json::from_str(&data).map_err(|error| {
                talk.broken(&format!("sent an event that is no chat chunk ({error})"))
            })?;
            if let Some(error) = &chunk.error {
                let said = wire::message_of(error).unwrap_or("no reason given");
                return Err(talk.broken(&format!("broke the answer off: {said}")));
            }
            self.pending.extend(self.reply.take(chunk));
        }
        Ok(())
    }
}

/// An error with those beneath it: the outermost says only that something went wrong.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut beneath = error.source();
    while let Some(error) = beneath {
        text = format!("{text}: {error}");
        beneath = error.source();
    }
    text
}
