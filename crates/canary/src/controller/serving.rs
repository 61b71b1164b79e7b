//! What serves: loaded with the content it was registered with, and nothing that was taken off or
//! revoked.

use understudy_ident::{AdapterVersion, TaskName};
use understudy_registry::Target as Serving;
use understudy_router::{Target, TaskRoute};

use super::{Controller, Note};
use crate::CanaryError;

impl Controller {
    /// What the channel points to. Where that cannot be loaded, and something else is routed that was
    /// taken off, then what served before and can: what was taken off serves nobody in the meantime.
    pub(super) fn serving(
        &self,
        task: &TaskName,
        stable: &Serving,
        routed: Option<&TaskRoute>,
    ) -> Result<Target, CanaryError> {
        let why = match self.target(stable) {
            Ok(target) => return Ok(target),
            Err(why) => why,
        };
        let names = |target: &Target| match (target, stable.adapter()) {
            (Target::Adapter { version, .. }, Some(stable)) => *version == stable.to_string(),
            _ => false,
        };
        let registry = &self.parts.registry;
        let history = registry.history(task)?;
        if routed.is_none_or(|routed| names(&routed.route.stable)) || history.is_empty() {
            return Err(why);
        }
        let taken_off = history.last().map(|last| last.from.clone());
        for earlier in history.into_iter().rev().map(|made| made.from) {
            let fits = match earlier.adapter() {
                None => true,
                Some(version) => registry.unservable(version)?.is_none(),
            };
            if fits
                && Some(&earlier) != taken_off.as_ref()
                && let Ok(target) = self.target(&earlier)
            {
                return Ok(target);
            }
        }
        let first =
            if self.lessons_of(task).is_some() { &Serving::Base } else { &self.parts.first };
        self.target(first)
    }

    /// What was revoked answers nobody from now on, by whatever name, and leaves the engine.
    pub(super) fn follow_revocations(&self) -> Result<Vec<Note>, CanaryError> {
        let revoked = self.parts.registry.revoked()?;
        if revoked.is_empty() {
            return Ok(Vec::new());
        }
        self.parts.routes.revoke(revoked.clone());
        let mut notes = Vec::new();
        let student = &self.parts.student;
        for info in student.adapters().iter().filter(|info| revoked.contains(&info.generation)) {
            // Another may have unloaded it meanwhile; requests in flight finish on what they began with.
            let is_gone = student.unload_adapter(&info.alias).is_ok();
            if let (true, Ok(version)) = (is_gone, info.alias.parse::<AdapterVersion>()) {
                let text = format!("{version} was revoked, and is no longer held");
                notes.push(Note { task: version.task, text });
            }
        }
        Ok(notes)
    }

    fn target(&self, serving: &Serving) -> Result<Target, CanaryError> {
        match serving {
            Serving::Teacher => Ok(Target::Teacher),
            Serving::Base => Ok(Target::Base),
            Serving::Adapter(version) => self.load(version),
        }
    }

    pub(super) fn load(&self, version: &AdapterVersion) -> Result<Target, CanaryError> {
        let generation = self.loaded(version)?;
        Ok(Target::Adapter { version: version.to_string(), generation })
    }

    /// Makes sure the student holds exactly the registered content of a version, and names it.
    pub(super) fn loaded(&self, version: &AdapterVersion) -> Result<String, CanaryError> {
        let expected = self.parts.registry.get(version)?.record.generation;
        if let Some(lessons) = self.lessons_of(&version.task) {
            return lessons.load(version, expected);
        }
        let expected = expected.to_hex();
        let alias = version.to_string();
        let loaded = self.parts.student.adapters().into_iter().find(|info| info.alias == alias);
        let found = if let Some(info) = loaded {
            info.generation
        } else {
            let directory = self.parts.registry.directory(version);
            let load = |source| CanaryError::Load { what: alias.clone(), source };
            self.parts.student.load_adapter(&alias, &directory).map_err(load)?.generation
        };
        if found != expected {
            return Err(CanaryError::OtherContent { what: alias, expected, found });
        }
        Ok(found)
    }
}
