//! What a step does, behind one small trait: the binary implements it over the stages.

use understudy_ident::{AdapterVersion, DatasetVersion, ReleaseId};
use understudy_manifest::Recipe;

use crate::{Fact, Run, Turn};

/// Why a step failed, already said in full by the stage.
pub type PortError = Box<dyn std::error::Error + Send + Sync>;

/// The stages, as the loop sees them. Every call is repeatable: after a crash it runs again with
/// the same arguments, and must then find or redo its work rather than double it.
pub trait Ports {
    /// Freezes a dataset version from what the recipe names. A turn says up to which record, and
    /// gets a [`Fact::NoDataset`] where there is too little.
    fn build_dataset(
        &self,
        run: &Run,
        recipe: &Recipe,
        turn: Option<&Turn>,
    ) -> Result<Fact, PortError>;

    /// Trains one stage; resumes from its checkpoint when there is one.
    fn train(
        &self,
        run: &Run,
        recipe: &Recipe,
        stage: usize,
        dataset: &DatasetVersion,
        from: Option<&str>,
    ) -> Result<Fact, PortError>;

    /// Gives the adapter a version.
    fn register(&self, run: &Run, recipe: &Recipe, directory: &str) -> Result<Fact, PortError>;

    /// Holds the version against the sealed suite.
    fn evaluate(
        &self,
        run: &Run,
        recipe: &Recipe,
        version: &AdapterVersion,
    ) -> Result<Fact, PortError>;

    /// What a release of this version still waits for, as half a sentence: people's approvals, the
    /// end of a freeze. Asked before an unattended run starts one.
    fn not_yet(
        &self,
        recipe: &Recipe,
        version: &AdapterVersion,
    ) -> Result<Option<String>, PortError>;

    /// Opens a release; finding this run's own already open is a success.
    fn start_release(
        &self,
        run: &Run,
        recipe: &Recipe,
        version: &AdapterVersion,
    ) -> Result<Fact, PortError>;

    /// How a release ended; `None` while its fate is open.
    fn release_end(&self, run: &Run, release: &ReleaseId) -> Result<Option<Fact>, PortError>;
}
