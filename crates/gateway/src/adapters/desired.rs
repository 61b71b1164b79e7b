//! Which adapters there should be. Nothing of it is remembered here: the registry says what it wants
//! of each task that it knows, the server that this one follows of the others, and the routes of
//! what nobody else decides.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use understudy_ident::TaskName;
use understudy_inference::{AdapterInfo, Attempt};
use understudy_openai::adapter_status;
use understudy_registry::{Registry, RegistryError, ReleaseState};
use understudy_router::{Route, Target};

use crate::{auth::Caller, state::Gateway};

/// A version that a task is, or is to be, answered by.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wish {
    task: TaskName,
    role: &'static str,
    generation: String,
    release: Option<String>,
}

/// Versions by the alias they are held under.
type Wishes = BTreeMap<String, Wish>;

/// What should be and what routes name, as read at one moment.
#[derive(Debug)]
pub(super) struct Desired {
    wishes: Wishes,
    /// Why what another server asks for could not be fetched.
    failed: BTreeMap<String, String>,
    /// What is routed to, and as what.
    routed: BTreeMap<String, &'static str>,
}

impl Desired {
    pub(super) fn read(gateway: &Gateway) -> Result<Self, RegistryError> {
        let mut wishes = Wishes::new();
        let known = gateway.registry.tasks()?;
        for task in &known {
            registered(&gateway.registry, task, &mut wishes)?;
        }
        let in_force = gateway.routes.snapshot();
        let routed = routed(gateway);
        let asked = gateway.routes.asked();
        let mut add = |task: &TaskName, route: &Route, release: &Option<String>| {
            if known.contains(task) {
                return;
            }
            for (role, version, generation) in targets(route) {
                let release = release.clone().filter(|_| role == CANARY);
                let (task, generation) = (task.clone(), generation.clone());
                wishes.insert(version.clone(), Wish { task, role, generation, release });
            }
        };
        match &asked {
            Some(asked) => asked.tasks.iter().for_each(|(task, told)| {
                add(task, &told.route, &told.release);
            }),
            None => in_force.iter().for_each(|(task, entry)| {
                add(task, &entry.route, &entry.release);
            }),
        }
        let failed = asked.map_or_else(BTreeMap::new, |asked| asked.failed.clone());
        Ok(Self { wishes, failed, routed })
    }

    /// Every adapter of the caller's that is held, is being loaded, or should be: what the engine
    /// says of it, beside what is asked for.
    pub(super) fn beside(
        &self,
        held: &[AdapterInfo],
        attempts: &BTreeMap<String, Attempt>,
        caller: &Caller,
    ) -> Vec<Value> {
        let mut rows: BTreeMap<&str, Option<&AdapterInfo>> =
            self.wishes.keys().map(|alias| (alias.as_str(), None)).collect();
        let underway = attempts.iter().filter(|(_, attempt)| **attempt == Attempt::Loading);
        rows.extend(underway.map(|(alias, _)| (alias.as_str(), None)));
        rows.extend(held.iter().map(|info| (info.alias.as_str(), Some(info))));
        rows.retain(|alias, _| caller.owns(alias));
        let row = |(alias, info)| self.row(alias, info, attempts.get(alias), caller);
        rows.into_iter().map(row).collect()
    }

    fn row(
        &self,
        alias: &str,
        info: Option<&AdapterInfo>,
        attempt: Option<&Attempt>,
        caller: &Caller,
    ) -> Value {
        let mut row = match info {
            Some(info) => adapter_status(info),
            None => json!({"object": "lora_adapter", "generation": null, "resident": false}),
        };
        let why = match attempt {
            Some(Attempt::Failed(why)) => Some(why),
            Some(Attempt::Loading) | None => self.failed.get(alias).filter(|_| info.is_none()),
        };
        row["alias"] = json!(caller.local(alias));
        row["state"] = json!(state(info, attempt, why.is_some()));
        row["why"] = json!(why);
        row["routed"] = json!(self.routed.get(alias));
        let Some(wish) = self.wishes.get(alias) else { return row };
        let Wish { task, role, generation, release } = wish;
        row["desired"] = json!({
            "generation": generation, "task": caller.local(task.as_str()), "role": role,
            "release": release,
        });
        row["in_sync"] = json!(info.is_some_and(|info| info.generation == *generation));
        row
    }
}

const STABLE: &str = "stable";
const CANARY: &str = "canary";

/// What stands behind a task's pointer, and what an open release brings to users or is about to.
fn registered(
    registry: &Registry,
    task: &TaskName,
    wishes: &mut Wishes,
) -> Result<(), RegistryError> {
    let stable = registry.stable(task)?.and_then(|target| target.adapter().cloned());
    let stable = stable.map(|version| (STABLE, version, None));
    let moving = [ReleaseState::Staging, ReleaseState::Ramping];
    let open = registry.open_release(task)?.filter(|open| moving.contains(&open.state));
    let canary = open.map(|open| (CANARY, open.candidate, Some(open.id.to_string())));
    for (role, version, release) in stable.into_iter().chain(canary) {
        let generation = registry.get(&version)?.record.generation.to_hex();
        let wish = Wish { task: task.clone(), role, generation, release };
        wishes.insert(version.to_string(), wish);
    }
    Ok(())
}

/// What requests reach by the routes in force, and as what.
pub(crate) fn routed(gateway: &Gateway) -> BTreeMap<String, &'static str> {
    let in_force = gateway.routes.snapshot();
    let all = in_force.values().flat_map(|entry| targets(&entry.route));
    all.map(|(role, version, _)| (version.clone(), role)).collect()
}

/// The adapters that a route names: as what, by what name, and with which content.
fn targets(route: &Route) -> impl Iterator<Item = (&'static str, &String, &String)> {
    let canary = route.canary.as_ref().map(|canary| (CANARY, &canary.target));
    let all = std::iter::once((STABLE, &route.stable)).chain(canary);
    all.filter_map(|(role, target)| match target {
        Target::Adapter { version, generation } => Some((role, version, generation)),
        Target::Teacher | Target::Base => None,
    })
}

/// How it is with an adapter in the engine.
fn state(info: Option<&AdapterInfo>, attempt: Option<&Attempt>, has_failed: bool) -> &'static str {
    match info {
        _ if attempt == Some(&Attempt::Loading) => "loading",
        Some(info) if info.resident => "resident",
        _ if has_failed => "failed",
        // It is read when it is next asked for.
        Some(_) => "on_demand",
        None => "missing",
    }
}
