//! What an erasure takes out of the memory: a subject's own lessons, and what their runs have taught.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use understudy_ident::{Clock as _, SystemClock, TrajectoryId};
use understudy_journal::{Journal, Query};
use understudy_memory::{By, MemoryId, Principal};

use super::{Opened, lookup};
use crate::config::Config;

/// What became of the memory.
#[derive(Debug, Default)]
pub(crate) struct ErasedMemory {
    /// There was a file of the subject's own lessons, and it is gone.
    pub(crate) own_forgotten: bool,
    /// Lessons for everybody that wait for a person: runs that taught them are gone.
    pub(crate) suspended: Vec<MemoryId>,
}

/// Forgets what is the subject's own, and suspends what their runs have taught; before the journal
/// forgets which runs those were.
pub(crate) fn erase(
    (subject, steps): (&str, &BTreeSet<String>),
    journal: &Journal,
    (owner, reason): (&str, &str),
    config: &Config,
) -> Result<ErasedMemory> {
    let directory = config.data.memory();
    if !directory.join("tenants").is_dir() {
        return Ok(ErasedMemory::default());
    }
    let path = lookup()?;
    ensure!(
        path.is_some(),
        "nothing was erased: lessons lie in {}, and there is no memory.toml here or above that says \
         whose; run this where it is, or name it in UNDERSTUDY_MEMORY_FILE",
        directory.display()
    );
    let opened = Opened::at(path.as_deref(), &directory, None)?;
    let by = By::new(owner, &format!("traces were erased: {reason}"), SystemClock.now())?;
    let runs = runs_of(steps, journal)?;
    let suspended = opened.store.suspend_taught_by(&runs, &by)?;
    let principal = Principal::authenticated(opened.deployment.tenant.clone(), subject)?;
    Ok(ErasedMemory { own_forgotten: opened.root.forget_user(&principal)?, suspended })
}

/// The runs that have any of these steps.
fn runs_of(steps: &BTreeSet<String>, journal: &Journal) -> Result<Vec<TrajectoryId>> {
    let mut runs = Vec::new();
    if steps.is_empty() {
        return Ok(runs);
    }
    for trajectory in journal.scan(&Query::default())? {
        let trajectory = trajectory?;
        if trajectory.steps.iter().any(|judged| steps.contains(judged.step.id.as_str())) {
            runs.push(trajectory.id);
        }
    }
    Ok(runs)
}
