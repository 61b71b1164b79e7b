//! Which weights answer: a routed task's arm, an adapter by name, or the base.

use understudy_ident::TaskName;
use understudy_inference::AdapterChoice;
use understudy_openai::{Ask, ErrorReply};
use understudy_router::Target;
use understudy_trajectory::{Arm, Assignment};

use crate::{auth::Caller, error::ApiError, state::Gateway};

/// A request's way, decided once from one reading of the route.
#[derive(Debug, Clone)]
pub(crate) struct Routing {
    pub(crate) task: TaskName,
    pub(crate) assignment: Assignment,
    /// Whether the frontier model answers; our own engine otherwise.
    pub(crate) teacher: bool,
    pub(crate) adapter: Option<AdapterChoice>,
}

impl Routing {
    /// `unit` is what stays on one arm: a session, a user or a trajectory.
    pub(crate) fn decide(
        gateway: &Gateway,
        caller: &Caller,
        ask: &Ask,
        unit: String,
    ) -> Result<Self, ApiError> {
        let base = gateway.student.base();
        let asked = ask.model.as_deref().unwrap_or(base);
        // What the caller calls the base is the base, unless the caller has a task of that name.
        let model = caller.full(asked);
        let task: Option<TaskName> = model.as_deref().and_then(|model| model.parse().ok());
        if model.is_none() && asked != base {
            return Err(unknown(gateway, caller, asked));
        }
        // Asked for by name: served, recorded, and never part of a comparison.
        let direct = |unit, arm| Assignment { arm, analysed: false, unit, u: 0, release: None };
        if let Some(adapter) = &ask.adapter {
            let adapter = caller.adapter(gateway, adapter)?;
            let (AdapterChoice::Alias(name) | AdapterChoice::Generation(name)) = &adapter;
            let task = task.unwrap_or_else(|| task_of(caller, name));
            let assignment = direct(unit, Arm::Stable);
            return Ok(Self { task, assignment, teacher: false, adapter: Some(adapter) });
        }
        if let Some(task) = task
            && let Some(entry) = gateway.routes.get(&task)
        {
            let chosen = entry.route.assign(&unit);
            let release = chosen.analysed.then(|| entry.release.clone()).flatten();
            let assignment = Assignment {
                analysed: chosen.analysed,
                u: chosen.u,
                release,
                ..direct(unit, chosen.arm)
            };
            let (teacher, adapter) = match chosen.target {
                Target::Teacher => (true, None),
                Target::Base => (false, None),
                Target::Adapter { version, .. } => (false, Some(AdapterChoice::Alias(version))),
            };
            return Ok(Self { task, assignment, teacher, adapter });
        }
        if asked == base {
            let assignment = direct(unit, Arm::Base);
            return Ok(Self {
                task: task_of(caller, "base"),
                assignment,
                teacher: false,
                adapter: None,
            });
        }
        let adapters = gateway.student.adapters();
        if let Some(alias) = model.filter(|model| adapters.iter().any(|a| a.alias == *model)) {
            let task = task_of(caller, alias.split('@').next().unwrap_or(&alias));
            let adapter = Some(AdapterChoice::Alias(alias));
            let assignment = direct(unit, Arm::Stable);
            return Ok(Self { task, assignment, teacher: false, adapter });
        }
        Err(unknown(gateway, caller, asked))
    }
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
