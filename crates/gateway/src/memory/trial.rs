//! The memory's own canary: which requests meet the candidate's lessons, and which are compared.
//!
//! Who meets it is drawn by the release's salt, apart from any adapter's canary. Both arms' lessons are
//! looked up for a request of either slice, and only where they differ is it compared: the rest, which
//! no lesson of the release concerns, would drown what they do.

use std::sync::{Arc, PoisonError};

use understudy_ident::Digest;
use understudy_memory::{MemoryError, Query, Retrieved, Room, Shelf};
use understudy_router::Target;
use understudy_trajectory::{Arm, Recalled};

use super::{Finder, Met, Shared, View};

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
        let Some(entry) = self.routes.get(&self.channel) else { return Ok(None) };
        let Some(canary) = &entry.route.canary else { return Ok(None) };
        let Target::Adapter { generation, .. } = &canary.target else { return Ok(None) };
        let unknown = |_| MemoryError::UnknownRelease { text: generation.clone() };
        let candidate = self.candidate(generation.parse().map_err(unknown)?)?;
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
        room: Room<'_>,
    ) -> Result<Met, MemoryError> {
        let Some(Trial { recalled, candidate }) = trial else {
            let retrieved = self.retrieve(view, query, room)?;
            let recalled = plain(&retrieved);
            return Ok(Met { retrieved, recalled });
        };
        let (shelf, finder) = candidate;
        let other = View { shelf, finder, ..view.clone() };
        let is_canary = recalled.arm == Arm::Canary;
        let [own, opposite] = if is_canary { [&other, view] } else { [view, &other] };
        let retrieved = self.retrieve(own, query, room)?;
        let differs = || -> Result<bool, MemoryError> {
            let shown = self.retrieve(opposite, query, room)?.shown_ids();
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

    /// A candidate's lessons: read once, by the first request that may meet them.
    fn candidate(&self, release: Digest) -> Result<Shelved, MemoryError> {
        let known = self.candidate.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known.filter(|(shelf, _)| shelf.release() == Some(&release)) {
            return Ok(known);
        }
        let (shelf, finder) = self.shelf(Some(&release))?;
        let finder = finder.unwrap_or_else(|| Arc::clone(&self.preferred));
        let read = (Arc::new(shelf.on_trial()), finder);
        let mut place = self.candidate.write().unwrap_or_else(PoisonError::into_inner);
        *place = Some(read.clone());
        Ok(read)
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
