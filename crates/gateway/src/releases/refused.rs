//! Why a change was refused, as a status and a word for programs.

use understudy_canary::CanaryError;
use understudy_openai::ErrorReply;
use understudy_registry::RegistryError;

use crate::error::ApiError;

/// An error on its way to whoever asked.
#[derive(Debug)]
pub(super) struct Refused(CanaryError);

impl From<CanaryError> for Refused {
    fn from(error: CanaryError) -> Self {
        Self(error)
    }
}

impl From<RegistryError> for Refused {
    fn from(error: RegistryError) -> Self {
        Self(error.into())
    }
}

impl From<Refused> for ApiError {
    fn from(Refused(error): Refused) -> Self {
        let (status, reason) = match &error {
            CanaryError::Registry(error) => of_registry(error),
            CanaryError::Rules(_)
            | CanaryError::OtherRecipe { .. }
            | CanaryError::NoRelease
            | CanaryError::UnknownReward { .. }
            | CanaryError::Unreadable { .. } => (422, "wrong_rules"),
            CanaryError::Load { .. }
            | CanaryError::Lessons { .. }
            | CanaryError::OtherContent { .. } => (409, "rollback_target_not_loaded"),
            CanaryError::Memory(_) => (503, "memory_unreadable"),
            CanaryError::Journal(_) => (503, "journal_unreadable"),
        };
        let message = match error {
            // Whoever reads this knows that the registry refused.
            CanaryError::Registry(error) => error.to_string(),
            other => other.to_string(),
        };
        ApiError(ErrorReply::new(status, message).because(reason))
    }
}

fn of_registry(error: &RegistryError) -> (u16, &'static str) {
    use RegistryError as Why;
    match error {
        Why::UnknownVersion { .. } | Why::UnknownRelease { .. } | Why::UnknownFreeze { .. } => {
            (404, "unknown")
        }
        Why::NotPermitted { .. } | Why::OwnVersion { .. } => (403, "not_permitted"),
        Why::Stale { .. } => (412, "stale_revision"),
        Why::Frozen { .. } => (423, "frozen"),
        Why::NotAdmitted { .. } => (422, "not_admitted"),
        Why::Unsaid { .. } | Why::ThinOverride { .. } => (422, "unsaid"),
        Why::KeyReused { .. } => (422, "idempotency_key_reused"),
        Why::NotAllowed { .. } => (409, "invalid_transition"),
        Why::ReleaseOpen { .. } => (409, "release_open"),
        Why::AlreadyServing { .. } | Why::NotServing { .. } | Why::NothingToUndo { .. } => {
            (409, "not_serving")
        }
        Why::Revoked { .. } | Why::VersionNotAllowed { .. } => (409, "version_out_of_use"),
        Why::OtherRollbackTarget { .. } | Why::RollbackTargetNotLoaded { .. } => {
            (409, "rollback_target_not_loaded")
        }
        Why::Damaged { .. } | Why::Tampered(_) => (409, "damaged"),
        // Nothing the caller can change: a disk, or a record by another program.
        _ => (503, "registry_unavailable"),
    }
}
