//! One exchange: who asked, which arm answers, and the step it becomes.

use axum::http::{HeaderMap, HeaderValue};
use understudy_ident::{StepId, TaskName, Timestamp, TrajectoryId};
use understudy_inference::{
    Completion, FinishReason, GenerateRequest, Prompt, Served, Timing, Usage,
};
use understudy_message::Message;
use understudy_router::Target;
use understudy_trajectory::{Arm, Assignment, Step};

use crate::{
    error::ApiError,
    openai::{ChatRequest, ReplyHead},
    state::Gateway,
};

/// A request with everything decided, before any token exists.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    pub(crate) request: ChatRequest,
    pub(crate) target: Target,
    step: StepId,
    trajectory: TrajectoryId,
    task: TaskName,
    session: Option<String>,
    assignment: Assignment,
    at: Timestamp,
}

impl Exchange {
    /// Decides once, from one reading of the route.
    pub(crate) fn open(
        gateway: &Gateway,
        request: ChatRequest,
        headers: &HeaderMap,
    ) -> Result<Self, ApiError> {
        let header =
            |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let session = header("x-session-id");
        let trajectory = match header("x-understudy-trajectory").or(header("x-trajectory-id")) {
            Some(id) => id.parse().map_err(|why| ApiError::bad_request(format!("{why}")))?,
            None => match &session {
                Some(session) => TrajectoryId::derived(&format!("{} {session}", request.model)),
                None => TrajectoryId::generate(),
            },
        };
        let unit =
            session.clone().or(request.user.clone()).unwrap_or_else(|| trajectory.to_string());
        let (task, target, assignment) = decide(gateway, &request.model, unit)?;
        let at = gateway.clock.now();
        let step = StepId::generate();
        Ok(Self { request, target, step, trajectory, task, session, assignment, at })
    }

    pub(crate) fn generate_request(&self) -> GenerateRequest {
        let adapter = match &self.target {
            Target::Adapter { version, .. } => Some(version.clone()),
            Target::Teacher | Target::Base => None,
        };
        let prompt = Prompt::messages(self.request.messages.clone());
        GenerateRequest::new(prompt, self.request.sampling.clone()).with_adapter(adapter)
    }

    /// The id clients quote in outcomes; it names the arm because ids survive in telemetry.
    pub(crate) fn response_id(&self) -> String {
        let suffix = self.step.as_str().trim_start_matches("step_");
        format!("chatcmpl-{}-{suffix}", self.assignment.arm.as_str())
    }

    pub(crate) fn head(&self, served: &Served) -> ReplyHead {
        let model = match &served.adapter {
            Some(adapter) => format!("{}#{}", adapter.alias, short(&adapter.generation)),
            None => served.base.clone(),
        };
        ReplyHead {
            id: self.response_id(),
            created: self.at.as_second(),
            fingerprint: format!("fp_{}", model.replace(['@', '#'], "_")),
            model,
        }
    }

    /// What the reply's headers say about who answered.
    pub(crate) fn headers(&self, served: &Served) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut put = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        put("x-understudy-trajectory", self.trajectory.as_str());
        put("x-understudy-arm", self.assignment.arm.as_str());
        if let Some(adapter) = &served.adapter {
            put("x-understudy-adapter", &format!("{} {}", adapter.alias, adapter.generation));
        }
        headers
    }

    /// The step of a finished generation.
    pub(crate) fn finished(self, completion: &Completion) -> Step {
        let reply = Message::assistant(completion.text.as_str());
        Step {
            finish_reason: completion.finish_reason,
            usage: completion.usage,
            timing: completion.timing,
            tokens: completion.tokens.clone(),
            ..self.step(reply, completion.served.clone(), None)
        }
    }

    /// The step of a generation that failed, or that the client walked away from.
    pub(crate) fn broken(self, sent: &str, served: Option<Served>, why: String) -> Step {
        let nobody = Served { base: "none".to_owned(), adapter: None };
        self.step(Message::assistant(sent), served.unwrap_or(nobody), Some(why))
    }

    fn step(self, reply: Message, served: Served, error: Option<String>) -> Step {
        let response_id = self.response_id();
        Step {
            id: self.step,
            trajectory: self.trajectory,
            task: self.task,
            session: self.session,
            subject: self.request.user,
            response_id,
            at: self.at,
            prompt: self.request.messages,
            reply,
            finish_reason: FinishReason::Aborted,
            assignment: Some(self.assignment),
            served,
            usage: Usage::default(),
            timing: Timing::default(),
            tokens: None,
            error,
        }
    }
}

/// Which arm answers for `model`: a routed task, an adapter version by name, or the base.
fn decide(
    gateway: &Gateway,
    model: &str,
    unit: String,
) -> Result<(TaskName, Target, Assignment), ApiError> {
    if let Ok(task) = model.parse::<TaskName>()
        && let Some(entry) = gateway.routes.get(&task)
    {
        let chosen = entry.route.assign(&unit);
        let assignment = Assignment {
            arm: chosen.arm,
            analysed: chosen.analysed,
            unit,
            u: chosen.u,
            release: chosen.analysed.then(|| entry.release.clone()).flatten(),
        };
        return Ok((task, chosen.target, assignment));
    }
    // Asked for by name: served, recorded, and never part of a comparison.
    let direct = |arm| Assignment { arm, analysed: false, unit, u: 0, release: None };
    if model == gateway.student.base() {
        let task = "base".parse().expect("`base` is a task name");
        return Ok((task, Target::Base, direct(Arm::Base)));
    }
    if let Some(adapter) = gateway.student.adapters().into_iter().find(|a| a.alias == model) {
        let task = model.split('@').next().unwrap_or(model).parse().map_err(|_| {
            ApiError::bad_field("model", format!("adapter `{model}` has no task name before `@`"))
        })?;
        let target = Target::Adapter { version: adapter.alias, generation: adapter.generation };
        return Ok((task, target, direct(Arm::Stable)));
    }
    let known: Vec<String> = gateway.routes.snapshot().keys().map(ToString::to_string).collect();
    Err(ApiError::not_found(format!(
        "no task, adapter or base model is called `{model}` (tasks: {}; base: {}); \
         GET /v1/models lists all of them",
        known.join(", "),
        gateway.student.base(),
    )))
}

fn short(generation: &str) -> &str {
    generation.get(..12).unwrap_or(generation)
}
