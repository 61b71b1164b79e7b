//! How a task stands: what serves it, what is under way, and what stands in the way.

use serde::Serialize;
use understudy_ident::{TaskName, Timestamp};

use crate::{Channel, Freeze, Protection, Registry, RegistryError, ReleaseRecord, Target};

/// Everything somebody looks at before they decide.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Standing {
    pub task: TaskName,
    pub stable: Option<Target>,
    pub channel: Channel,
    pub open: Option<ReleaseRecord>,
    /// Those in force that concern the task.
    pub freezes: Vec<Freeze>,
    pub protection: Protection,
}

impl Registry {
    /// How a task stands at this moment.
    pub fn standing(&self, task: &TaskName, now: Timestamp) -> Result<Standing, RegistryError> {
        let channel = self.channel(task)?;
        let mut freezes = self.freezes(now)?;
        freezes.retain(|freeze| freeze.task.as_ref().is_none_or(|frozen| frozen == task));
        Ok(Standing {
            task: task.clone(),
            stable: channel.stable.clone(),
            channel,
            open: self.open_release(task)?,
            freezes,
            protection: self.protection(task)?,
        })
    }
}
