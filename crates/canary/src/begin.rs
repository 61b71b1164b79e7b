//! Opening a release: the one way, whoever asks for it.

use understudy_ident::{AdapterVersion, TaskName};
use understudy_inference::Student;
use understudy_manifest::Recipe;
use understudy_registry::{
    Change, Override, Registry, ReleaseRecord, RollbackTarget, StartRelease, Target,
};
use understudy_trajectory::RewardPolicy;

use crate::{CanaryError, PolicyDefaults, Rules, fresh_salt};

/// What is to be released, and by which rules.
#[derive(Debug, Clone)]
pub struct Opening<'a> {
    pub candidate: &'a AdapterVersion,
    pub recipe: &'a Recipe,
    pub forced: Option<Override>,
    /// Gives up a release of another candidate that is open.
    pub supersede: bool,
    /// What serves a task before its first promotion.
    pub first: Target,
    /// For what the recipe does not say.
    pub defaults: &'a PolicyDefaults,
}

/// Opens a release after making sure that what it would return to loads with the content it was
/// registered with. `student` is asked for an engine only where there is something to load.
pub fn open<'s, E: From<CanaryError>>(
    registry: &Registry,
    student: impl FnOnce() -> Result<&'s dyn Student, E>,
    opening: Opening<'_>,
    change: Change<'_>,
) -> Result<ReleaseRecord, E> {
    let Opening { candidate, recipe, forced, supersede, first, defaults } = opening;
    let rules = rules_for(recipe, candidate, defaults)?;
    let task = &candidate.task;
    let rollback = rollback_target(registry, student, task, first)?;
    let open = registry.open_release(task).map_err(CanaryError::from)?;
    if let Some(open) = open.filter(|open| supersede && open.candidate != *candidate) {
        // The key is the whole command's, and its answer that of the release which is opened.
        let change = Change { request: None, ..change };
        registry.supersede(&open.id, change).map_err(CanaryError::from)?;
    }
    let start = StartRelease {
        candidate: candidate.clone(),
        rollback,
        policy: rules.to_value(),
        salt: fresh_salt().to_string(),
        forced,
    };
    Ok(registry.start_release(start, change).map_err(CanaryError::from)?)
}

/// The rules of a recipe's `[release]`, if the candidate is of its task.
fn rules_for(
    recipe: &Recipe,
    candidate: &AdapterVersion,
    defaults: &PolicyDefaults,
) -> Result<Rules, CanaryError> {
    if candidate.task != recipe.task {
        let (candidate, task) = (candidate.clone(), recipe.task.clone());
        return Err(CanaryError::OtherRecipe { candidate, task });
    }
    let release = recipe.release.as_ref().ok_or(CanaryError::NoRelease)?;
    let reward = RewardPolicy::named(&recipe.data.reward)
        .ok_or_else(|| CanaryError::UnknownReward { name: recipe.data.reward.clone() })?;
    Ok(Rules::under(defaults, release, reward)?)
}

fn rollback_target<'s, E: From<CanaryError>>(
    registry: &Registry,
    student: impl FnOnce() -> Result<&'s dyn Student, E>,
    task: &TaskName,
    first: Target,
) -> Result<RollbackTarget, E> {
    let target = registry.stable(task).map_err(CanaryError::from)?.unwrap_or(first);
    let Target::Adapter(version) = &target else {
        let verified_by = "needs no adapter to be loaded".to_owned();
        return Ok(RollbackTarget { target, loaded_generation: None, verified_by });
    };
    let directory = registry.verify(version).map_err(CanaryError::from)?;
    let alias = version.to_string();
    let student = student()?;
    let held = student.adapters().into_iter().find(|info| info.alias == alias);
    let (loaded, verified_by) = if let Some(info) = held {
        // What serves has proven that it loads, and is not loaded again under its users.
        (info, format!("held by the engine as {version}"))
    } else {
        let failed = |source| CanaryError::Load { what: alias.clone(), source };
        let info = student.load_adapter(&alias, &directory).map_err(failed)?;
        (info, format!("loaded by the engine as {version}"))
    };
    Ok(RollbackTarget { target, loaded_generation: Some(loaded.generation), verified_by })
}
