//! One exchange: who asked, which arm answers, and the steps it becomes.

use std::{sync::Arc, time::Duration};

use axum::http::{HeaderMap, HeaderValue};
use understudy_ident::{StepId, Timestamp, TrajectoryId};
use understudy_inference::{Completion, FinishReason, Served, Timing, Usage};
use understudy_message::Message;
use understudy_openai::{Ask, ChatRequest, ReplyHead, call_id, fingerprint, read_calls};
use understudy_trajectory::Step;

use crate::{auth::Caller, error::ApiError, feedback::TokenKey, routing::Routing, state::Gateway};

/// A request with everything decided, before any token exists.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    pub(crate) ask: Arc<Ask>,
    pub(crate) routing: Routing,
    /// What is journalled; exchanges without messages are not.
    chat: Option<Arc<ChatRequest>>,
    /// One per choice.
    steps: Vec<StepId>,
    trajectory: TrajectoryId,
    session: Option<String>,
    at: Timestamp,
    /// `chatcmpl` or `cmpl`.
    prefix: &'static str,
    /// The client's own name for the request.
    request_id: Option<String>,
    token_key: TokenKey,
    /// Whose it is, and who pays for its tokens.
    caller: Caller,
}

impl Exchange {
    /// A chat, whose choices become steps of one trajectory.
    pub(crate) fn chat(
        gateway: &Gateway,
        request: ChatRequest,
        (headers, caller): (&HeaderMap, Caller),
    ) -> Result<(Self, Arc<ChatRequest>), ApiError> {
        let choices = request.ask.n as usize;
        let opened = Self::open(gateway, request.ask.clone(), (headers, caller), choices)?;
        let request = if opened.routing.teacher { request.for_remote() } else { request };
        let mut ask = Ask { admission: opened.ask.admission.clone(), ..request.ask.clone() };
        ask.sampling.max_tokens = opened.ask.sampling.max_tokens;
        let (ask, chat) = (Arc::new(ask), Arc::new(request));
        let exchange = Self { ask, chat: Some(Arc::clone(&chat)), prefix: "chatcmpl", ..opened };
        Ok((exchange, chat))
    }

    /// A generation without messages.
    pub(crate) fn plain(
        gateway: &Gateway,
        ask: &Ask,
        from: (&HeaderMap, Caller),
    ) -> Result<Self, ApiError> {
        Self::open(gateway, ask.clone(), from, 1)
    }

    fn open(
        gateway: &Gateway,
        mut ask: Ask,
        (headers, caller): (&HeaderMap, Caller),
        choices: usize,
    ) -> Result<Self, ApiError> {
        let header =
            |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        caller.may_ask(&ask, gateway.student.base())?;
        caller.shorten(&mut ask)?;
        let session = ask.session.clone().or(header("x-session-id"));
        let trajectory = match header("x-understudy-trajectory").or(header("x-trajectory-id")) {
            Some(id) => {
                let wrong = |why| ApiError::bad_field("x-understudy-trajectory", format!("{why}"));
                caller.id(&id.parse().map_err(wrong)?)
            }
            None => match &session {
                Some(session) => {
                    let model = ask.model.as_deref().unwrap_or_default();
                    caller.id(&TrajectoryId::derived(&format!("{model} {session}")))
                }
                None => caller.id(&TrajectoryId::generate()),
            },
        };
        ask.admission.timeout = deadline(header("x-request-timeout-ms").as_deref())?;
        let unit = session.clone().or(ask.user.clone()).unwrap_or_else(|| trajectory.to_string());
        let routing = Routing::decide(gateway, &caller, &ask, unit)?;
        // A teacher has no cache of ours, and refuses salts rather than ignore them.
        if !routing.teacher {
            ask.admission.cache_salt = caller.salt(ask.admission.cache_salt.take());
        }
        if routing.teacher && ask.show.token_ids {
            let why = "`return_token_ids` cannot be honoured: this task is answered by a teacher, \
                       whose tokens are not ours";
            return Err(ApiError::bad_field("return_token_ids", why));
        }
        let request_id = ask.request_id.clone().or(header("x-request-id"));
        Ok(Self {
            ask: Arc::new(ask),
            routing,
            chat: None,
            steps: (0..choices).map(|_| caller.id(&StepId::generate())).collect(),
            trajectory,
            session,
            at: gateway.clock.now(),
            prefix: "cmpl",
            request_id,
            token_key: gateway.token_key()?,
            caller,
        })
    }

    /// The reply's id; it names the arm because ids survive in telemetry.
    pub(crate) fn response_id(&self) -> String {
        let suffix = self.steps[0].as_str().trim_start_matches("step_");
        format!("{}-{}-{suffix}", self.prefix, self.routing.assignment.arm.as_str())
    }

    /// What clients quote in outcomes: the reply's id, with the number of a further choice.
    fn choice_id(&self, choice: usize) -> String {
        match choice {
            0 => self.response_id(),
            further => format!("{}.{further}", self.response_id()),
        }
    }

    /// The client's name for the request, or the reply's id.
    pub(crate) fn request_id(&self) -> String {
        self.request_id.clone().unwrap_or_else(|| self.response_id())
    }

    pub(crate) fn head(&self, served: &Served) -> ReplyHead {
        let model = match &served.adapter {
            Some(adapter) => format!("{}#{}", adapter.alias, short(&adapter.generation)),
            None => served.base.clone(),
        };
        ReplyHead {
            id: self.response_id(),
            created: self.at.as_second(),
            fingerprint: fingerprint(served),
            model,
            generation: served.adapter.as_ref().map(|adapter| adapter.generation.clone()),
        }
    }

    /// What the reply's headers say about who answered; less while that is not known.
    pub(crate) fn headers(&self, served: Option<&Served>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut put = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        put("x-request-id", &self.request_id());
        put("x-understudy-trajectory", self.trajectory.as_str());
        if self.chat.is_some() {
            let token = self.token_key.token(self.caller.tenant(), &self.response_id(), self.at);
            put("x-feedback-token", &token);
        }
        put("x-understudy-arm", self.routing.assignment.arm.as_str());
        if let Some(adapter) = served.and_then(|served| served.adapter.as_ref()) {
            put("x-understudy-adapter", &format!("{} {}", adapter.alias, adapter.generation));
        }
        headers
    }

    /// The step of a finished generation, if it is one to keep.
    pub(crate) fn finished(&self, choice: usize, completion: &Completion) -> Option<Step> {
        self.caller.spend(completion.usage, choice);
        let chat = self.chat.as_ref()?;
        let (text, mut calls) =
            read_calls(chat.reading, &completion.text, &self.response_id(), choice);
        for call in &completion.tool_calls {
            let mut call = call.clone();
            if call.id.is_empty() {
                call.id = call_id(&self.response_id(), choice, calls.len());
            }
            calls.push(call);
        }
        let called = !calls.is_empty() && completion.finish_reason == FinishReason::Stop;
        let reply = Message { tool_calls: calls, ..Message::assistant(text) };
        Some(Step {
            finish_reason: if called { FinishReason::ToolCalls } else { completion.finish_reason },
            usage: completion.usage,
            timing: completion.timing,
            tokens: completion.tokens.clone(),
            ..self.step(chat, choice, reply, completion.served.clone())
        })
    }

    /// The step of a generation that failed, or that the client walked away from.
    pub(crate) fn broken(
        &self,
        choice: usize,
        sent: &str,
        served: Option<Served>,
        why: String,
    ) -> Option<Step> {
        self.caller.spend_about(sent);
        let chat = self.chat.as_ref()?;
        let nobody = Served { base: "none".to_owned(), adapter: None };
        let served = served.unwrap_or(nobody);
        Some(Step { error: Some(why), ..self.step(chat, choice, Message::assistant(sent), served) })
    }

    fn step(&self, chat: &ChatRequest, choice: usize, reply: Message, served: Served) -> Step {
        Step {
            id: self.steps[choice].clone(),
            trajectory: self.trajectory.clone(),
            task: self.routing.task.clone(),
            session: self.session.clone(),
            subject: self.ask.user.clone(),
            response_id: self.choice_id(choice),
            at: self.at,
            prompt: chat.chat.messages.clone(),
            reply,
            finish_reason: FinishReason::Aborted,
            assignment: Some(self.routing.assignment.clone()),
            served,
            usage: Usage::default(),
            timing: Timing::default(),
            tokens: None,
            error: None,
        }
    }
}

fn deadline(header: Option<&str>) -> Result<Option<Duration>, ApiError> {
    let Some(text) = header else { return Ok(None) };
    match text.parse::<u64>() {
        Ok(ms) if ms > 0 => Ok(Some(Duration::from_millis(ms))),
        _ => {
            let why = "`x-request-timeout-ms` must be a whole number of milliseconds, at least 1";
            Err(ApiError::bad_field("x-request-timeout-ms", why))
        }
    }
}

fn short(generation: &str) -> &str {
    generation.get(..12).unwrap_or(generation)
}
