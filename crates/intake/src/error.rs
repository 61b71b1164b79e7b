//! Why a body was not taken, or what was taken not read.

use understudy_ingest::telemetry::TelemetryError;
use understudy_journal::JournalError;

#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// More is being received than may be in memory.
    #[error(
        "{waiting} bytes of telemetry are being received and no more than {limit} fit; send this again later"
    )]
    Full { waiting: usize, limit: usize },

    #[error("cannot read a body of content type `{content_type}` as {name}: {wanted}")]
    ContentType { name: String, content_type: String, wanted: &'static str },

    #[error(
        "this server keeps nothing of what it is told: it was started with capture level `none`"
    )]
    NotKept,

    #[error(transparent)]
    Body(#[from] TelemetryError),

    #[error(transparent)]
    Journal(#[from] JournalError),
}
