//! The memory's own canary: which requests meet the candidate's lessons, and which are compared.
//!
//! Who meets it is drawn by the release's salt, apart from any adapter's canary. Both arms' lessons are
//! looked up for a request of either slice, and only where they differ is it compared: the rest, which
//! no lesson of the release concerns, would drown what they do.

use std::sync::{Arc, PoisonError};

use understudy_ident::Digest;
use understudy_memory::{MemoryError, Query, Retrieved, Shelf};
use understudy_router::{Target, TaskRoute};
use understudy_trajectory::{Arm, Recalled};

use super::{Finder, Met, Shared, View, Window};

/// How one request meets a release in progress.
pub(super) struct Trial {
    /// As it would be recorded, before anything was looked up.
    recalled: Recalled,
    candidate: Shelved,
}

/// A release's lessons, and by what they are found.
pub(super) type Shelved = (Arc<Shelf>, Arc<Finder>);

impl Shared {
    /// The release in progress, as it concerns this unit; none where there is none.
    pub(super) fn trial(&self, unit: &str) -> Result<Option<Trial>, MemoryError> {
        let Some((entry, release)) = self.in_progress()? else { return Ok(None) };
        // Until it has been read, its sessions go on with what serves, and are not compared.
        let Some(candidate) = self.candidate(&release) else { return Ok(None) };
        let drawn = entry.route.assign(unit);
        let recalled = Recalled {
            release: None,
            shown: Vec::new(),
            arm: drawn.arm,
            analysed: drawn.analysed,
            u: drawn.u,
            trial: entry.release.clone(),
        };
        Ok(Some(Trial { recalled, candidate }))
    }

    /// What a request meets: of the release that serves, or of the one on trial.
    pub(super) fn meet(
        &self,
        trial: Option<Trial>,
        view: &View,
        query: &Query<'_>,
        window: Window<'_>,
    ) -> Result<Met, MemoryError> {
        let Some(Trial { recalled, candidate }) = trial else {
            let retrieved = self.retrieve(view, query, window)?;
            let recalled = plain(&retrieved);
            return Ok(Met { retrieved, recalled });
        };
        let (shelf, finder) = candidate;
        let other = View { shelf, finder, ..view.clone() };
        let is_canary = recalled.arm == Arm::Canary;
        let [own, opposite] = if is_canary { [&other, view] } else { [view, &other] };
        let retrieved = self.retrieve(own, query, window)?;
        let differs = || -> Result<bool, MemoryError> {
            let shown = self.retrieve(opposite, query, window)?.shown_ids();
            Ok(shown != retrieved.shown_ids())
        };
        let analysed = recalled.analysed && differs()?;
        let recalled = Recalled {
            arm: recalled.arm,
            analysed,
            u: recalled.u,
            trial: recalled.trial,
            ..plain(&retrieved)
        };
        Ok(Met { retrieved, recalled })
    }

    /// The release in progress, with the route to it.
    fn in_progress(&self) -> Result<Option<(Arc<TaskRoute>, Digest)>, MemoryError> {
        let Some(entry) = self.routes.get(&self.channel) else { return Ok(None) };
        let Some(canary) = &entry.route.canary else { return Ok(None) };
        let Target::Adapter { generation, .. } = &canary.target else { return Ok(None) };
        let unknown = |_| MemoryError::UnknownRelease { text: generation.clone() };
        let release = generation.parse().map_err(unknown)?;
        Ok(Some((entry, release)))
    }

    /// The release in progress, while its lessons have not been read.
    pub(super) fn candidate_waited_for(&self) -> Result<Option<Digest>, MemoryError> {
        let release = self.in_progress()?.map(|(_, release)| release);
        Ok(release.filter(|release| self.candidate(release).is_none()))
    }

    /// A candidate's lessons, once they have been read.
    fn candidate(&self, release: &Digest) -> Option<Shelved> {
        let known = self.candidate.read().unwrap_or_else(PoisonError::into_inner).clone();
        known.filter(|(shelf, _)| shelf.release() == Some(release))
    }

    /// Reads the lessons of a release in progress, which embeds them: no request waits for that.
    pub(super) fn warm_trial(&self) -> Result<(), MemoryError> {
        let Some(release) = self.candidate_waited_for()? else { return Ok(()) };
        let (shelf, finder) = self.shelf(Some(&release))?;
        let finder = finder.unwrap_or_else(|| Arc::clone(&self.preferred));
        let read = (Arc::new(shelf.on_trial()), finder);
        *self.candidate.write().unwrap_or_else(PoisonError::into_inner) = Some(read);
        Ok(())
    }
}

/// What is recorded of a request outside of any release in progress.
fn plain(retrieved: &Retrieved) -> Recalled {
    Recalled {
        release: retrieved.release.map(|release| release.to_string()),
        shown: shown(retrieved),
        arm: Arm::Stable,
        analysed: false,
        u: 0,
        trial: None,
    }
}

fn shown(retrieved: &Retrieved) -> Vec<String> {
    let shown = retrieved.shown.iter();
    shown.map(|shown| format!("{}@{}", shown.id, shown.rev)).collect()
}
