//! One exchange: who asked, which arm answers, and the steps it becomes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, HeaderValue};
use understudy_conduct::Asked;
use understudy_ident::{StepId, Timestamp, TrajectoryId};
use understudy_inference::{
    Admission, Completion, FinishReason, GenerateRequest, SamplingDefaults, Served, Timing, Usage,
};
use understudy_message::Message;
use understudy_openai::{
    Ask, ChatRequest, ReplyHead, ToolReading, call_id, fingerprint, read_calls,
};
use understudy_trajectory::{Arm, Assignment, Course, Step};

use crate::{
    auth::Caller,
    error::ApiError,
    feedback::TokenKey,
    memory::{Met, Missed},
    routing::Routing,
    state::Gateway,
};

/// The header in which a client says how long it waits, in milliseconds.
const DEADLINE: &str = "x-request-timeout-ms";

/// A request with everything decided, before any token exists.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    pub(crate) ask: Arc<Ask>,
    pub(crate) routing: Routing,
    /// What is journalled, as it was asked; exchanges without messages are not.
    chat: Option<Arc<ChatRequest>>,
    /// How long the request's body was.
    pub(crate) bytes: usize,
    /// When the request was read, and when its client stops waiting.
    pub(crate) opened: Instant,
    pub(crate) until: Option<Instant>,
    /// What its client was given to wait, where it asked for more.
    shortened: Option<Duration>,
    /// The reply's id; it names the arm because ids survive in telemetry.
    reply_id: String,
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
    /// What stands in where the client says nothing of how to draw, when our own model answers.
    defaults: SamplingDefaults,
    /// What our own model is, where it knows.
    identity: Option<String>,
    /// For whom our engine's cached keys and values are.
    salt: Option<String>,
    /// Whose it is, and who pays for its tokens.
    caller: Caller,
    /// The lessons it was shown, where there is a memory.
    remembered: Option<Arc<Met>>,
    /// Why it was shown none, where looking for them went wrong.
    missed: Option<Missed>,
}

impl Exchange {
    /// A chat, whose choices become steps of one trajectory.
    pub(crate) fn chat(
        gateway: &Gateway,
        request: ChatRequest,
        bytes: usize,
        (headers, caller): (&HeaderMap, Caller),
    ) -> Result<Self, ApiError> {
        let choices = Some(request.ask.n as usize);
        let mut opened = Self::open(gateway, request.ask.clone(), (headers, caller), choices)?;
        let mut request = request;
        let memories = gateway.memories().filter(|memories| memories.are_for(&opened.caller));
        let found = memories.map_or(Ok(None), |memories| {
            let from = (&opened.routing, &opened.caller);
            memories.show(gateway, from, headers, &mut request.chat)
        });
        let (remembered, missed) = match found {
            Ok(met) => (met.map(Arc::new), None),
            Err(missed) => (None, Some(missed)),
        };
        if let Some(met) = &remembered {
            opened.routing.recalls(&met.recalled);
        }
        let chat = Some(Arc::new(request));
        let opened = Self { chat, bytes, remembered, missed, ..opened };
        let exchange = Self { prefix: "chatcmpl", ..opened }.named();
        if let (Some(memories), Some(met)) = (memories, &exchange.remembered) {
            memories.note(exchange.response_id().to_owned(), &met.retrieved, exchange.at);
        }
        Ok(exchange)
    }

    /// A generation without messages, which nobody will hear of again.
    pub(crate) fn plain(
        gateway: &Gateway,
        ask: &Ask,
        from: (&HeaderMap, Caller),
    ) -> Result<Self, ApiError> {
        Ok(Self::open(gateway, ask.clone(), from, None)?.named())
    }

    /// `choices` become steps; none where nothing is journalled.
    fn open(
        gateway: &Gateway,
        mut ask: Ask,
        (headers, caller): (&HeaderMap, Caller),
        choices: Option<usize>,
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
        let (wanted, longest) = (deadline(headers)?, gateway.longest_deadline());
        ask.admission.timeout = wanted.map(|wanted| wanted.min(longest));
        let unit = session.clone().or(ask.user.clone()).unwrap_or_else(|| trajectory.to_string());
        let mut routing = Routing::decide(gateway, (&caller, headers), &ask, unit)?;
        if choices.is_none() {
            routing = routing.unmeasured();
        }
        if routing.way.teacher && (ask.show.token_ids || ask.truncate.is_some()) {
            routing = ours(routing, &ask)?;
        }
        // A teacher has no cache of ours, and refuses salts rather than ignore them.
        let salt = caller.salt(ask.admission.cache_salt.clone());
        if !routing.way.teacher {
            ask.admission.cache_salt.clone_from(&salt);
        }
        let request_id = ask.request_id.clone().or(header("x-request-id"));
        let opened = Instant::now();
        Ok(Self {
            bytes: 0,
            opened,
            until: ask.admission.timeout.and_then(|timeout| opened.checked_add(timeout)),
            shortened: ask.admission.timeout.filter(|timeout| Some(*timeout) < wanted),
            reply_id: String::new(),
            ask: Arc::new(ask),
            routing,
            chat: None,
            steps: (0..choices.unwrap_or(1)).map(|_| caller.id(&StepId::generate())).collect(),
            trajectory,
            session,
            at: gateway.clock.now(),
            prefix: "cmpl",
            request_id,
            token_key: gateway.token_key()?,
            defaults: gateway.sampling_defaults(),
            identity: gateway.student.identity(),
            salt,
            caller,
            remembered: None,
            missed: None,
        })
    }

    /// The same under the id of its present arm: before anybody has been told one.
    pub(crate) fn named(self) -> Self {
        let suffix = self.steps[0].as_str().trim_start_matches("step_");
        let arm = self.routing.assignment.arm.as_str();
        Self { reply_id: format!("{}-{arm}-{suffix}", self.prefix), ..self }
    }

    pub(crate) fn response_id(&self) -> &str {
        &self.reply_id
    }

    /// The conversation as the model that now answers is to be asked: one that is not ours has its
    /// own way to call tools.
    pub(crate) fn chat_request(&self) -> Option<Arc<ChatRequest>> {
        let chat = self.chat.as_ref()?;
        if self.routing.way.teacher {
            return Some(Arc::new(ChatRequest::clone(chat).for_remote()));
        }
        Some(Arc::clone(chat))
    }

    /// What is asked of our own model: what its makers suggest where the client left it open.
    pub(crate) fn ask_of_student(&self) -> Ask {
        Ask::clone(&self.ask).with_defaults(&self.defaults)
    }

    /// Until the deadline, where the client named one.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// The generations of a chat, for whoever now answers.
    pub(crate) fn requests(&self) -> Vec<GenerateRequest> {
        let Some(chat) = self.chat_request() else { return Vec::new() };
        let mut ask = Ask { admission: self.ask.admission.clone(), ..chat.ask.clone() };
        ask.sampling.max_tokens = self.ask.sampling.max_tokens;
        if !self.routing.way.teacher {
            ask = ask.with_defaults(&self.defaults);
        }
        ask.admission.timeout = self.time_left();
        if self.routing.way.teacher {
            ask.admission.payer = self.caller.tenant().map(ToString::to_string);
        } else {
            ask.admission.cache_salt.clone_from(&self.salt);
        }
        ask.requests(&chat.prompt(), self.routing.way.adapter.clone())
    }

    /// The same for somebody who was not asked first: of wishes that only our own engine knows,
    /// those that do not change the text are left out.
    pub(crate) fn requests_of_another(&self) -> Vec<GenerateRequest> {
        let mut requests = self.requests();
        if self.routing.way.teacher {
            for request in &mut requests {
                let Admission { timeout, must_fit, .. } = request.admission;
                let payer = request.admission.payer.take();
                request.admission = Admission { timeout, must_fit, payer, ..Admission::default() };
            }
        }
        requests
    }

    /// Whether the conversation can be asked again: cut prompts are only known to those who cut.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.chat.is_some() && self.ask.truncate.is_none()
    }

    pub(crate) fn step_id(&self, choice: usize) -> &StepId {
        &self.steps[choice]
    }

    /// What the reply may do.
    pub(crate) fn asked(&self) -> Option<Asked<'_>> {
        let chat = self.chat.as_ref()?;
        // With tools, a constraint is our own grammar for calling them.
        let format = self.ask.sampling.constraint.as_ref();
        let format = format.filter(|_| chat.reading == ToolReading::Off);
        Some(Asked { tools: &chat.chat.tools, format })
    }

    /// What clients quote in outcomes: the reply's id, with the number of a further choice.
    fn choice_id(&self, choice: usize) -> String {
        match choice {
            0 => self.response_id().to_owned(),
            further => format!("{}.{further}", self.response_id()),
        }
    }

    /// The client's name for the request, or the reply's id.
    pub(crate) fn request_id(&self) -> String {
        self.request_id.clone().unwrap_or_else(|| self.reply_id.clone())
    }

    pub(crate) fn head(&self, served: &Served) -> ReplyHead {
        let model = match &served.adapter {
            Some(adapter) => format!("{}#{}", adapter.alias, short(&adapter.generation)),
            None => served.base.clone(),
        };
        let identity = self.identity.as_deref().filter(|_| !self.routing.way.teacher);
        ReplyHead {
            id: self.reply_id.clone(),
            created: self.at.as_second(),
            fingerprint: fingerprint(served, identity),
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
            let token = self.token_key.token(self.caller.tenant(), self.response_id(), self.at);
            put("x-feedback-token", &token);
        }
        if let Some(timeout) = self.shortened {
            put(DEADLINE, &timeout.as_millis().to_string());
        }
        put("x-understudy-arm", self.routing.assignment.arm.as_str());
        let course = &self.routing.assignment.course;
        if let Some(why) = &course.fallback {
            put("x-understudy-fallback", why);
        }
        if let Some(what) = &course.escalation {
            put("x-understudy-escalation", what);
        }
        if let Some(missed) = self.missed {
            put("x-memory", missed.as_str());
        }
        if let Some(met) = &self.remembered {
            let Met { retrieved, recalled } = &**met;
            if recalled.trial.is_some() {
                put("x-memory-arm", recalled.arm.as_str());
            }
            let release = retrieved.release.map(|release| release.short());
            put("x-memory-release", release.as_deref().unwrap_or("none"));
            put("x-memory-ids", &retrieved.ids_header());
        }
        if let Some(adapter) = served.and_then(|served| served.adapter.as_ref()) {
            put("x-understudy-adapter", &format!("{} {}", adapter.alias, adapter.generation));
        }
        headers
    }

    /// The step of a finished generation, if it is one to keep.
    pub(crate) fn finished(&self, choice: usize, completion: &Completion) -> Option<Step> {
        self.caller.spend(completion.usage, choice);
        let chat = self.chat.as_ref()?;
        let reply = self.reply(choice, completion)?;
        let called = !reply.tool_calls.is_empty();
        let called = called && completion.finish_reason == FinishReason::Stop;
        Some(Step {
            finish_reason: if called { FinishReason::ToolCalls } else { completion.finish_reason },
            usage: completion.usage,
            timing: completion.timing,
            tokens: completion.tokens.clone(),
            ..self.step(chat, choice, reply, completion.served.clone())
        })
    }

    /// A finished text as what was said and called.
    pub(crate) fn reply(&self, choice: usize, completion: &Completion) -> Option<Message> {
        let chat = self.chat.as_ref()?;
        let reading = if self.routing.way.teacher { ToolReading::Off } else { chat.reading };
        let id = self.response_id();
        let (text, mut calls) = read_calls(reading, &completion.text, id, choice);
        for call in &completion.tool_calls {
            let mut call = call.clone();
            if call.id.is_empty() {
                call.id = call_id(id, choice, calls.len());
            }
            calls.push(call);
        }
        Some(Message { tool_calls: calls, ..Message::assistant(text) })
    }

    /// A reply that nobody is shown, made beside the step of `choice`: a step of a trajectory of
    /// its own, so that no outcome and no conversation takes it for what was said.
    pub(crate) fn beside(&self, choice: usize, arm: Arm, course: Course) -> Self {
        let told = &self.steps[choice];
        let id = self.caller.id(&StepId::generate());
        let assignment = Assignment {
            arm,
            analysed: false,
            course: Course { beside: Some(told.clone()), ..course },
            ..self.routing.assignment.clone()
        };
        let routing = Routing { assignment, others: Vec::new(), ..self.routing.clone() };
        Self {
            routing,
            trajectory: self.caller.id(&TrajectoryId::derived(&format!("beside {told} {id}"))),
            // Nobody is charged for what nobody asked for.
            caller: Caller::of_tenant(self.caller.tenant().cloned()),
            session: None,
            steps: vec![id],
            ..self.clone()
        }
        .named()
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
            metadata: chat.metadata.clone(),
            response_id: self.choice_id(choice),
            at: self.at,
            prompt: chat.chat.messages.clone(),
            tools: chat.chat.tools.clone(),
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

/// A task's own student instead of the teacher that the tap drew, for what only it can do.
fn ours(routing: Routing, ask: &Ask) -> Result<Routing, ApiError> {
    let Routing { others, assignment, .. } = &routing;
    let student = others.iter().find(|other| !other.way.teacher);
    if let Some(student) = student.filter(|_| assignment.course.tap.is_some()) {
        let assignment = student.instead.clone().unwrap_or_else(|| assignment.clone());
        return Ok(Routing { way: student.way.clone(), assignment, ..routing });
    }
    if ask.show.token_ids {
        let why = "`return_token_ids` cannot be honoured: this task is answered by a teacher, \
                   whose tokens are not ours";
        return Err(ApiError::bad_field("return_token_ids", why));
    }
    let why = "`truncate_prompt_tokens` cannot be honoured: this task is answered by a teacher";
    Err(ApiError::bad_field("truncate_prompt_tokens", why))
}

/// How long the client says it waits, if it says so.
fn deadline(headers: &HeaderMap) -> Result<Option<Duration>, ApiError> {
    let Some(value) = headers.get(DEADLINE) else { return Ok(None) };
    match value.to_str().ok().and_then(|text| text.parse::<u64>().ok()) {
        Some(ms) if ms > 0 => Ok(Some(Duration::from_millis(ms))),
        _ => {
            let why = format!("`{DEADLINE}` must be a whole number of milliseconds, at least 1");
            Err(ApiError::bad_field(DEADLINE, why))
        }
    }
}

fn short(generation: &str) -> &str {
    generation.get(..12).unwrap_or(generation)
}
