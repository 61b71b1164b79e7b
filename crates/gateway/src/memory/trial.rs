//! The memory's own canary: which requests meet the candidate's lessons, and which are compared.
//!
//! Who meets it is drawn by the release's salt, apart from any adapter's canary. Both arms' lessons are
//! looked up for a request of either slice, and only where they differ is it compared: the rest, which
//! no lesson of the release concerns, would drown what they do.

use std::sync::{Arc, PoisonError};

use understudy_ident::Digest;
use understudy_memory::{MemoryError, Retrieved, Shelf};
use understudy_router::Target;
use understudy_trajectory::{Arm, Recalled};

use super::Shared;

/// How one request meets a release in progress.
pub(super) struct Trial {
    /// As it would be recorded, before anything was looked up.
    pub(super) recalled: Recalled,
    pub(super) candidate: Arc<Shelf>,
}

impl Trial {
    pub(super) fn is_canary(&self) -> bool {
        self.recalled.arm == Arm::Canary
    }
}

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

    /// A candidate's lessons: read once, by the first request that may meet them.
    fn candidate(&self, release: Digest) -> Result<Arc<Shelf>, MemoryError> {
        let known = self.candidate.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known.filter(|known| known.release() == Some(&release)) {
            return Ok(known);
        }
        let read = Arc::new(self.shelf(Some(&release))?.on_trial());
        let mut place = self.candidate.write().unwrap_or_else(PoisonError::into_inner);
        *place = Some(Arc::clone(&read));
        Ok(read)
    }
}

/// What is recorded of a request outside of any release in progress.
pub(super) fn plain(retrieved: &Retrieved) -> Recalled {
    Recalled {
        release: retrieved.release.map(|release| release.to_string()),
        shown: shown(retrieved),
        arm: Arm::Stable,
        analysed: false,
        u: 0,
        trial: None,
    }
}

/// Takes the arm's own lessons, and notes whether the other arm's would have been others.
pub(super) fn compared(
    mut recalled: Recalled,
    stable: Retrieved,
    candidate: Retrieved,
) -> (Retrieved, Recalled) {
    recalled.analysed &= stable.shown_ids() != candidate.shown_ids();
    let met = if recalled.arm == Arm::Canary { candidate } else { stable };
    recalled.release = met.release.map(|release| release.to_string());
    recalled.shown = shown(&met);
    (met, recalled)
}

fn shown(retrieved: &Retrieved) -> Vec<String> {
    let shown = retrieved.shown.iter();
    shown.map(|shown| format!("{}@{}", shown.id, shown.rev)).collect()
}
