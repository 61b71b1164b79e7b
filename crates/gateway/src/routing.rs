//! Which weights answer: a routed task's arm, an adapter by name, or the base; and who steps in.

use std::{collections::BTreeSet, sync::Arc};

use axum::http::{HeaderMap, HeaderValue};
use understudy_ident::TaskName;
use understudy_inference::AdapterChoice;
use understudy_manifest::{Cue, Fallback};
use understudy_openai::{Ask, ErrorReply};
use understudy_router::{Assignment as Assigned, Target, TaskRoute};
use understudy_trajectory::{Arm, Assignment, Course, Recalled, TapMode, Tapped};

use crate::{auth::Caller, error::ApiError, state::Gateway};

/// A request's way, decided once from one reading of the route.
#[derive(Debug, Clone)]
pub(crate) struct Routing {
    pub(crate) task: TaskName,
    pub(crate) assignment: Assignment,
    pub(crate) way: Way,
    /// Who steps in, the next one first.
    pub(crate) others: Vec<Other>,
    /// The route as it was read; none for what was asked for by name.
    pub(crate) entry: Option<Arc<TaskRoute>>,
    /// The client's data is for nobody else's ears.
    pub(crate) untapped: bool,
}

/// Who makes the tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Way {
    /// The frontier model; our own engine otherwise.
    pub(crate) teacher: bool,
    pub(crate) adapter: Option<AdapterChoice>,
}

/// Somebody who may step in.
#[derive(Debug, Clone)]
pub(crate) struct Other {
    pub(crate) way: Way,
    /// The tap did not take the unit after all, so it was assigned like this.
    pub(crate) instead: Option<Assignment>,
}

impl Way {
    pub(crate) const TEACHER: Self = Self { teacher: true, adapter: None };

    pub(crate) fn to(target: &Target) -> Self {
        match target {
            Target::Teacher => Self::TEACHER,
            Target::Base => Self { teacher: false, adapter: None },
            Target::Adapter { version, .. } => Self::student(AdapterChoice::Alias(version.clone())),
        }
    }

    fn student(adapter: AdapterChoice) -> Self {
        Self { teacher: false, adapter: Some(adapter) }
    }

    /// Whether it leads to one of these contents.
    fn is_among(&self, gateway: &Gateway, generations: &BTreeSet<String>) -> bool {
        match &self.adapter {
            None => false,
            Some(AdapterChoice::Generation(generation)) => generations.contains(generation),
            Some(AdapterChoice::Alias(name)) => {
                let adapters = gateway.student.adapters();
                let held = adapters.iter().find(|adapter| adapter.alias == *name);
                held.is_some_and(|adapter| generations.contains(&adapter.generation))
            }
        }
    }
}

/// What a request's headers say about the tap.
#[derive(Debug, Clone, Copy, Default)]
struct Wishes {
    untapped: bool,
    escalate: bool,
}

impl Wishes {
    fn read(headers: &HeaderMap) -> Result<Self, ApiError> {
        let flag = |name: &str| match headers.get(name).map(HeaderValue::as_bytes) {
            None | Some(b"false" | b"0") => Ok(false),
            Some(b"true" | b"1") => Ok(true),
            Some(_) => Err(ApiError::bad_field(name, format!("`{name}` must be true or false"))),
        };
        let wishes = Self { untapped: flag("x-no-tap")?, escalate: flag("x-understudy-escalate")? };
        if wishes.untapped && wishes.escalate {
            let why = "`x-understudy-escalate` asks for the teacher, which `x-no-tap` rules out";
            return Err(ApiError::bad_field("x-understudy-escalate", why));
        }
        Ok(wishes)
    }
}

impl Routing {
    /// `unit` is what stays on one arm: a session, a user or a trajectory.
    pub(crate) fn decide(
        gateway: &Gateway,
        from: (&Caller, &HeaderMap),
        ask: &Ask,
        unit: String,
    ) -> Result<Self, ApiError> {
        let mut routing = Self::chosen(gateway, from, ask, unit)?;
        let revoked = gateway.routes.numbered().revoked;
        if !revoked.is_empty() {
            let is_revoked = |way: &Way| way.is_among(gateway, &revoked);
            if is_revoked(&routing.way) {
                return Err(was_revoked(ask.model.as_deref().unwrap_or_default()));
            }
            routing.others.retain(|other| !is_revoked(&other.way));
        }
        Ok(routing)
    }

    fn chosen(
        gateway: &Gateway,
        (caller, headers): (&Caller, &HeaderMap),
        ask: &Ask,
        unit: String,
    ) -> Result<Self, ApiError> {
        let wishes = Wishes::read(headers)?;
        let base = gateway.student.base();
        let asked = ask.model.as_deref().unwrap_or(base);
        // What the caller calls the base is the base, unless the caller has a task of that name.
        let model = caller.full(asked);
        let task: Option<TaskName> = model.as_deref().and_then(|model| model.parse().ok());
        if model.is_none() && asked != base {
            return Err(unknown(gateway, caller, asked));
        }
        if let Some(adapter) = &ask.adapter {
            let adapter = caller.adapter(gateway, adapter)?;
            let (AdapterChoice::Alias(name) | AdapterChoice::Generation(name)) = &adapter;
            let task = task.unwrap_or_else(|| task_of(caller, name));
            return Ok(Self::direct(task, unit, Arm::Stable, Some(adapter)));
        }
        if let Some(task) = task
            && let Some(entry) = gateway.routes.get(&task)
        {
            return Ok(Self::routed(task, entry, unit, wishes));
        }
        if asked == base {
            return Ok(Self::direct(task_of(caller, "base"), unit, Arm::Base, None));
        }
        let adapters = gateway.student.adapters();
        if let Some(alias) = model.filter(|model| adapters.iter().any(|a| a.alias == *model)) {
            let task = task_of(caller, alias.split('@').next().unwrap_or(&alias));
            return Ok(Self::direct(task, unit, Arm::Stable, Some(AdapterChoice::Alias(alias))));
        }
        Err(unknown(gateway, caller, asked))
    }

    /// What is not journalled cannot be judged, so it is no traffic of a release: the stable arm alone
    /// answers, and neither a candidate nor the tap.
    pub(crate) fn unmeasured(self) -> Self {
        let others = Vec::new();
        let Some(entry) = &self.entry else { return Self { others, ..self } };
        let way = Way::to(&entry.route.stable);
        let Assignment { unit, u, .. } = self.assignment;
        let course = Course::default();
        let assignment =
            Assignment { arm: Arm::Stable, analysed: false, unit, u, release: None, course };
        Self { assignment, way, others, ..self }
    }

    /// Notes what the request remembers, whichever arm it ends up with.
    pub(crate) fn recalls(&mut self, recalled: &Recalled) {
        let others = self.others.iter_mut().filter_map(|other| other.instead.as_mut());
        for assignment in others.chain([&mut self.assignment]) {
            assignment.course.memory = Some(recalled.clone());
        }
    }

    /// Asked for by name: served, recorded, and never part of a comparison.
    fn direct(task: TaskName, unit: String, arm: Arm, adapter: Option<AdapterChoice>) -> Self {
        let course = Course::default();
        let assignment = Assignment { arm, analysed: false, unit, u: 0, release: None, course };
        let way = Way { teacher: false, adapter };
        Self { task, assignment, way, others: Vec::new(), entry: None, untapped: false }
    }

    fn routed(task: TaskName, entry: Arc<TaskRoute>, unit: String, wishes: Wishes) -> Self {
        let route = &entry.route;
        let drawn = route.assign(&unit);
        let is_tapped = drawn.arm == Arm::Teacher;
        let beneath = || route.assign_untapped(&unit);
        let chosen = if is_tapped && wishes.untapped { beneath() } else { drawn };
        let mut assignment = recorded(&entry, &unit, &chosen);
        let mut way = Way::to(&chosen.target);
        let mut others = Vec::new();
        if chosen.arm == Arm::Teacher {
            let share = chosen.tap_share.get();
            assignment.course.tap = Some(Tapped { mode: TapMode::Serve, share });
            let skipped = beneath();
            let instead = Some(recorded(&entry, &unit, &skipped));
            others.push(Other { way: Way::to(&skipped.target), instead });
        } else if wishes.escalate && !way.teacher && asks_may_escalate(&entry) {
            assignment.course.tap = Some(Tapped { mode: TapMode::Escalate, share: 1.0 });
            assignment.course.cues = vec![Cue::Asked.to_string()];
            others.push(Other { way: std::mem::replace(&mut way, Way::TEACHER), instead: None });
        }
        for fallback in &route.support.fallback {
            let next = match fallback {
                Fallback::Stable => Way::to(&route.stable),
                Fallback::Teacher => Way::TEACHER,
            };
            let forbidden = next.teacher && wishes.untapped;
            let known = way == next || others.iter().any(|other| other.way == next);
            if !known && !forbidden {
                others.push(Other { way: next, instead: None });
            }
        }
        Self { task, assignment, way, others, entry: Some(entry), untapped: wishes.untapped }
    }
}

fn asks_may_escalate(entry: &TaskRoute) -> bool {
    entry.route.support.escalate.as_ref().is_some_and(|rules| rules.on.contains(&Cue::Asked))
}

fn recorded(entry: &TaskRoute, unit: &str, chosen: &Assigned) -> Assignment {
    Assignment {
        arm: chosen.arm,
        analysed: chosen.analysed,
        unit: unit.to_owned(),
        u: chosen.u,
        release: chosen.analysed.then(|| entry.release.clone()).flatten(),
        course: Course::default(),
    }
}

fn was_revoked(model: &str) -> ApiError {
    let message = format!(
        "The model `{model}` leads to an adapter version that was revoked and answers nobody; ask the \
         task by its name"
    );
    ApiError(ErrorReply::new(404, message).about("model").because("version_revoked"))
}

/// The same text vLLM says, and what there is instead.
pub(crate) fn unknown(gateway: &Gateway, caller: &Caller, model: &str) -> ApiError {
    let routes = gateway.routes.snapshot();
    let known = routes.keys().map(TaskName::as_str).filter(|name| caller.owns(name));
    let known: Vec<&str> = known.map(|name| caller.local(name)).collect();
    let message = format!(
        "The model `{model}` does not exist. No task, adapter or base model has this name \
         (tasks: {}; base: {}); GET /v1/models lists all of them",
        known.join(", "),
        gateway.student.base(),
    );
    ApiError(ErrorReply::new(404, message).about("model"))
}

/// Adapters from elsewhere have all kinds of names; what they answer is still recorded by task.
fn task_of(caller: &Caller, alias: &str) -> TaskName {
    let alias = caller.local(alias);
    let allowed = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = alias.chars().map(allowed).collect();
    let whole = if name.starts_with(|c: char| c.is_ascii_lowercase()) {
        name
    } else {
        format!("adapter-{name}")
    };
    let text: String = whole.chars().take(64).collect();
    caller.task(&text).expect("lowercase letters, digits and dashes after a letter are a task name")
}
