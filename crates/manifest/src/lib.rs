//! Every file format that crosses a stage border: recipe, dataset, adapter, suite, report.
//!
//! Guarantees: each format carries a schema number, refuses what it does not know, and is the only
//! way its stage hands work to the next; a digest here is taken over canonical JSON, so equal
//! content has an equal name on every machine.
//!
//! Never: touches a disk. Callers bring text and take text away.

mod adapter;
mod attestation;
mod canonical;
mod dataset;
mod example;
mod objective;
mod recipe;
mod report;
mod reward;
mod suite;

pub use adapter::{AdapterManifest, DatasetLineage, StageLineage};
pub use attestation::{Attestation, AttestedModule, AttestedProbe};
pub use canonical::{canonical_json, digest_json};
pub use dataset::{DatasetManifest, FileEntry, StageCount};
pub use example::{
    GroupExample, LabelExample, LoggedAttempt, Origin, PairExample, SftExample, Split,
};
pub use objective::{
    AdvantageScale, AdvantageSettings, Aggregation, CorrectionSettings, ImportanceCorrection,
    KlEstimator, KlGradient, KlSettings, LabelLoss, LabelSettings, PolicyLoss, PolicySettings,
    PreferenceLoss, PreferenceSettings, SapoSettings, SettingError, VespoSettings,
};
pub use recipe::{
    Credit, Data, DataSource, Gate, GroupSource, GrpoSettings, Guard, HealthCheck, Lora, Method,
    MissingReward, Objective, Precision, Reaction, Recipe, RecipeError, Redact, ReferencePolicy,
    Release, RequiredVerdict, Schedule, SmallHarm, Targets, TrainStage, Turns,
};
pub use report::{
    Comparison, Decision, EvalReport, GateCheck, ScorerSummary, SubjectReport, Verdict,
};
pub use reward::{CommandSpec, JudgeSpec, RewardSpec, Verifier};
pub use suite::{Case, Scorer, Suite, SuiteError, Tier};

#[cfg(test)]
mod tests;
