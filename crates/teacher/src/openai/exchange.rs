//! One request and its streamed answer.

use std::{
    io::{BufRead, BufReader, Read},
    net::IpAddr,
    ops::ControlFlow,
    time::Duration,
};

use understudy_inference::{
    Completion, Event, FinishReason, GenerateRequest, InferenceError, Served, Sink, Usage,
};
use understudy_message::{FunctionCall, ToolCall};
use ureq::{
    Agent, Body,
    http::{Response, StatusCode, header},
};

use super::{Endpoint, sse::Events, wire};
use crate::{TeacherError, pool::Closing, refuse, stopwatch::Stopwatch};

const LONGEST_ERROR_BODY: u64 = 64 << 10;

/// What every exchange with one endpoint shares.
pub(super) struct Exchange {
    endpoint: Endpoint,
    url: String,
    agent: Agent,
}

impl Exchange {
    pub(super) fn new(endpoint: Endpoint) -> Result<Self, TeacherError> {
        let wrong = |why| TeacherError::Endpoint { url: endpoint.url.clone(), why };
        let base: ureq::http::Uri = endpoint.url.parse().map_err(|_| wrong("it is not a URL"))?;
        if !matches!(base.scheme_str(), Some("http" | "https")) || base.host().is_none() {
            return Err(wrong("it has no http or https scheme and host"));
        }
        // What the URL says ends up in logs and `Debug` prints.
        if base.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(TeacherError::Endpoint {
                url: "https://…@…".to_owned(),
                why: "a secret belongs in the API key, not in the address",
            });
        }
        let url = format!("{}/chat/completions", endpoint.url.trim_end_matches('/'));
        let mut config = Agent::config_builder();
        if base.host().is_some_and(is_loopback) {
            // A proxy from the environment cannot reach this machine's own address for us.
            config = config.proxy(None);
        }
        let agent = config
            .http_status_as_error(false)
            // A redirect would carry the prompt, and maybe the key, to another host.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections_per_host(endpoint.concurrency)
            .timeout_connect(Some(endpoint.connect_timeout))
            .timeout_per_read(Some(endpoint.idle_timeout))
            .timeout_global(Some(endpoint.total_timeout))
            .build()
            .new_agent();
        Ok(Self { endpoint, url, agent })
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Asks and relays the answer; `Break` when the sink wants no more of it.
    pub(super) fn answer(
        &self,
        request: &GenerateRequest,
        closing: &Closing,
        watch: Stopwatch,
        sink: &mut Sink,
    ) -> Result<ControlFlow<(), Completion>, InferenceError> {
        closing.check()?;
        let response = self.ask(request, &watch)?;
        if response.status() != StatusCode::OK {
            return Err(self.refused(response));
        }
        let served = Served { base: self.endpoint.model.clone(), adapter: None };
        if sink(Event::Started(served.clone())).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        let events = Events::new(BufReader::new(response.into_body().into_reader()));
        let reply = Reply::new(watch);
        Ok(match self.relay(events, reply, closing, sink)? {
            ControlFlow::Continue(reply) => ControlFlow::Continue(reply.completion(served)?),
            ControlFlow::Break(()) => ControlFlow::Break(()),
        })
    }

    fn ask(
        &self,
        request: &GenerateRequest,
        watch: &Stopwatch,
    ) -> Result<Response<Body>, InferenceError> {
        let Endpoint { model, limit_field, total_timeout, .. } = &self.endpoint;
        let body =
            wire::Request::new(model, refuse::remote(request)?, &request.sampling, *limit_field);
        let mut post = self.agent.post(&self.url).header(header::ACCEPT, "text/event-stream");
        if let Some(deadline) = request.admission.timeout {
            // What was spent waiting in the queue is gone.
            let left = deadline.saturating_sub(Duration::from_secs_f64(watch.total_ms() / 1e3));
            if left.is_zero() {
                return Err(InferenceError::TimedOut(watch.total_ms() as u64));
            }
            post = post.config().timeout_global(Some(left.min(*total_timeout))).build();
        }
        if let Some(key) = &self.endpoint.api_key {
            post = post.header(header::AUTHORIZATION, key.bearer());
        }
        post.send_json(body).map_err(|error| self.failed(error, watch))
    }

    fn relay(
        &self,
        mut events: Events<impl BufRead>,
        mut reply: Reply,
        closing: &Closing,
        sink: &mut Sink,
    ) -> Result<ControlFlow<(), Reply>, InferenceError> {
        loop {
            closing.check()?;
            let event = events.next().map_err(|error| self.failed(error.into(), &reply.watch))?;
            let Some(data) = event.filter(|data| data.trim() != "[DONE]") else {
                return Ok(ControlFlow::Continue(reply));
            };
            let chunk: wire::Chunk = serde_json::from_str(&data).map_err(|error| {
                self.broken(&format!("sent an event that is no chat chunk ({error})"))
            })?;
            if let Some(error) = &chunk.error {
                let said = wire::message_of(error).unwrap_or("no reason given");
                return Err(self.broken(&format!("broke the answer off: {said}")));
            }
            if let Some(delta) = reply.take(chunk)
                && sink(Event::Delta(delta.as_str().into())).is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
        }
    }

    fn failed(&self, error: ureq::Error, watch: &Stopwatch) -> InferenceError {
        match error {
            ureq::Error::Timeout(_) => InferenceError::TimedOut(watch.total_ms() as u64),
            other => self.broken(&format!("could not be reached or broke off ({other})")),
        }
    }

    fn refused(&self, response: Response<Body>) -> InferenceError {
        let status = response.status();
        let wait = response.headers().get(header::RETRY_AFTER).and_then(|wait| wait.to_str().ok());
        let wait = wait.map_or_else(String::new, |wait| format!(", retry after {wait} s"));
        let mut body = Vec::new();
        let reader = response.into_body().into_reader();
        // Whatever arrived of the explanation is worth telling.
        let _: Result<usize, _> = reader.take(LONGEST_ERROR_BODY).read_to_end(&mut body);
        let said = self.scrub(&wire::error_text(&String::from_utf8_lossy(&body)));
        match status.as_u16() {
            400 | 413 | 422 => InferenceError::invalid(
                "request",
                format!("was refused by the teacher ({status}): {said}"),
            ),
            401 | 403 => self.broken(&format!("refused the API key ({status}), check it: {said}")),
            404 => self.broken(&format!(
                "knows no model `{}` or no such address ({status}): {said}",
                self.endpoint.model
            )),
            429 => self.broken(&format!("is limiting our rate ({status}{wait}): {said}")),
            500..=599 => self.broken(&format!("is in trouble ({status}{wait}): {said}")),
            _ => self.broken(&format!("answered {status}, which no chat endpoint should: {said}")),
        }
    }

    fn broken(&self, what: &str) -> InferenceError {
        InferenceError::Failed(self.scrub(&format!("the teacher at {} {what}", self.url)))
    }

    fn scrub(&self, text: &str) -> String {
        match &self.endpoint.api_key {
            Some(key) => key.scrub(text),
            None => text.to_owned(),
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// An answer as it grows.
struct Reply {
    text: String,
    calls: Vec<ToolCall>,
    finish: Option<FinishReason>,
    usage: Usage,
    watch: Stopwatch,
}

impl Reply {
    fn new(watch: Stopwatch) -> Self {
        let (text, calls) = (String::new(), Vec::new());
        Self { text, calls, finish: None, usage: Usage::default(), watch }
    }

    /// The chunk's text, if it has any.
    fn take(&mut self, chunk: wire::Chunk) -> Option<String> {
        if let Some(counts) = chunk.usage {
            self.usage = counts.into();
        }
        let choice = chunk.choices.into_iter().find(|choice| choice.index == 0)?;
        if let Some(word) = &choice.finish_reason {
            self.finish = Some(wire::finish_reason(word));
        }
        for call in choice.delta.tool_calls.into_iter().flatten() {
            self.watch.text();
            self.extend_call(call);
        }
        let delta = choice.delta.content.filter(|text| !text.is_empty())?;
        self.watch.text();
        self.text.push_str(&delta);
        Some(delta)
    }

    fn extend_call(&mut self, part: wire::CallDelta) {
        let known = self.calls.len();
        // An endpoint that counts wrongly must not make us reserve memory for it.
        if part.index > known {
            return;
        }
        if part.index == known {
            let function = FunctionCall { name: String::new(), arguments: String::new() };
            self.calls.push(ToolCall { id: String::new(), kind: "function".to_owned(), function });
        }
        let call = &mut self.calls[part.index];
        call.id.push_str(&part.id.unwrap_or_default());
        call.function.name.push_str(&part.function.name.unwrap_or_default());
        call.function.arguments.push_str(&part.function.arguments.unwrap_or_default());
    }

    fn completion(self, served: Served) -> Result<Completion, InferenceError> {
        let Self { text, calls, finish, usage, watch } = self;
        let finish_reason = finish.ok_or_else(|| {
            let model = &served.base;
            InferenceError::Failed(format!(
                "the teacher `{model}` ended its answer without a finish reason; it may be cut off"
            ))
        })?;
        let timing = watch.timing();
        let said = Completion::of_text(served, text, finish_reason, usage, timing);
        Ok(Completion { tool_calls: calls, ..said })
    }
}
