//! How a candidate comes on stage: it is loaded before it meets anybody, here and on every server that
//! follows, and what it will be measured by is frozen.

use std::time::Instant;

use serde_json::json;
use understudy_ident::{ReleaseId, TaskName};
use understudy_registry::{RegistryError, ReleaseRecord, ReleaseState};

use super::{Controller, Note};
use crate::{
    CanaryError, LatencyLimits, Rules,
    watch::{READ_TO, SLOW},
};

/// A release whose candidate waits to come on stage.
#[derive(Debug)]
pub(super) struct Staging {
    release: ReleaseId,
    /// What will count as slow, once somebody has looked.
    limits: Option<LatencyLimits>,
    /// Since when the routes name the candidate, for nobody yet, and the number of that table.
    shown: Option<(Instant, u64)>,
}

/// What the servers that follow have of a candidate.
enum Fleet {
    Ready,
    Waits(Option<Note>),
    /// They are there, and did not get it in time.
    Lost(Vec<String>),
}

impl Controller {
    /// Loads a candidate that is waiting for it, before it meets anybody; one that cannot be loaded
    /// never does. In a freeze it goes on waiting.
    pub(super) fn stage(&mut self, task: &TaskName) -> Result<Option<Note>, CanaryError> {
        let open = self.parts.registry.open_release(task)?;
        let Some(release) = open.filter(|open| open.state == ReleaseState::Staging) else {
            self.staging.remove(task);
            return Ok(None);
        };
        let loaded = match self.loaded(&release.candidate) {
            Ok(generation) => match self.fleet(&release)? {
                Fleet::Waits(note) => return Ok(note),
                Fleet::Ready => Ok(generation),
                Fleet::Lost(names) => Err(format!(
                    "{} have not loaded {} within {} s",
                    names.join(", "),
                    release.candidate,
                    self.patience.as_secs()
                )),
            },
            Err(error) => Err(error.to_string()),
        };
        let text = match loaded {
            Ok(generation) => {
                let text = format!("loaded {} as {generation}", release.candidate);
                let limits = self.limits(&release)?;
                // Nobody has met the candidate yet, so its evidence begins here.
                let begun = json!({READ_TO: self.parts.journal.watermark()?, SLOW: limits});
                let change = self.change(&text, &begun);
                match self.parts.registry.staged(&release.id, &generation, change) {
                    Err(RegistryError::Frozen { .. }) => return Ok(None),
                    staged => staged.map(|_| text)?,
                }
            }
            Err(why) => {
                let text = format!("{why}; the release has failed");
                self.parts.registry.fail(&release.id, self.says(&text))?;
                text
            }
        };
        self.staging.remove(task);
        Ok(Some(Note { task: task.clone(), text }))
    }

    /// Whether the routes name a candidate that waits, so that other servers load it.
    pub(super) fn is_shown(&self, release: &ReleaseRecord) -> bool {
        let waiting = self.staging.get(&release.task);
        waiting.is_some_and(|waiting| waiting.release == release.id && waiting.shown.is_some())
    }

    /// Shows a candidate to the servers that follow, with a share of nothing, and waits until each has
    /// acknowledged that table or can route by none any longer.
    fn fleet(&mut self, release: &ReleaseRecord) -> Result<Fleet, CanaryError> {
        let (now, routes) = (Instant::now(), self.parts.routes.clone());
        // Lessons are not told to other servers.
        if self.lessons_of(&release.task).is_some() {
            return Ok(Fleet::Ready);
        }
        let known = self.waiting(release).shown;
        if known.is_none() && !routes.followers().are_there(now) {
            return Ok(Fleet::Ready);
        }
        let (since, sequence) = known.map_or_else(|| self.show(release, now), Ok)?;
        let behind = routes.followers().behind(sequence, now);
        if behind.is_empty() {
            return Ok(Fleet::Ready);
        }
        if now.saturating_duration_since(since) > self.patience {
            return Ok(Fleet::Lost(behind));
        }
        let text =
            format!("{} waits until {} have loaded it", release.candidate, behind.join(", "));
        Ok(Fleet::Waits(known.is_none().then(|| Note { task: release.task.clone(), text })))
    }

    /// Names a candidate in the routes, for nobody. Returns when, and the number of that table.
    fn show(
        &mut self,
        release: &ReleaseRecord,
        now: Instant,
    ) -> Result<(Instant, u64), CanaryError> {
        self.waiting(release).shown = Some((now, 0));
        self.follow_registry(&release.task)?;
        let shown = (now, self.parts.routes.numbered().sequence);
        self.waiting(release).shown = Some(shown);
        Ok(shown)
    }

    fn waiting(&mut self, release: &ReleaseRecord) -> &mut Staging {
        let begin = || Staging { release: release.id.clone(), limits: None, shown: None };
        let waiting = self.staging.entry(release.task.clone()).or_insert_with(begin);
        if waiting.release != release.id {
            *waiting = begin();
        }
        waiting
    }

    /// What counts as slow in a release, frozen when its candidate could first have come on stage.
    fn limits(&mut self, release: &ReleaseRecord) -> Result<LatencyLimits, CanaryError> {
        if let Some(known) = &self.waiting(release).limits {
            return Ok(known.clone());
        }
        let rules = Rules::read(release)?;
        // A memory's channel is no task that anything was served for.
        let limits = if self.lessons_of(&release.task).is_some() {
            LatencyLimits::said(&rules)
        } else {
            let stable = release.rollback.target.adapter();
            let stable = stable.map(|version| self.parts.registry.get(version)).transpose()?;
            let generation = stable.map(|stable| stable.record.generation.to_hex());
            let (journal, now) = (&self.parts.journal, self.parts.clock.now());
            LatencyLimits::freeze(&rules, journal, &release.task, generation.as_deref(), now)?
        };
        self.waiting(release).limits = Some(limits.clone());
        Ok(limits)
    }
}
