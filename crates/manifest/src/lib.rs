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
mod consultation;
mod dataset;
mod example;
mod language;
mod memory;
mod objective;
mod recipe;
mod recorded;
mod report;
mod reward;
mod rubric;
mod scorer;
mod suite;

pub use adapter::{AdapterManifest, DatasetLineage, StageLineage};
pub use attestation::{Attestation, AttestedModule, AttestedProbe};
pub use canonical::{canonical_json, digest_json};
pub use consultation::Consultations;
pub use dataset::{Balanced, DatasetManifest, FileEntry, Population, StageCount};
pub use example::{
    GroupExample, LabelExample, LoggedAttempt, Origin, PairExample, PromptExample, SftExample,
    Split,
};
pub use language::LANGUAGES;
pub use memory::{MemoryKind, MemoryManifest, MemorySlot};
pub use objective::{
    AdvantageScale, AdvantageSettings, Aggregation, CorrectionSettings, ImportanceCorrection,
    KlEstimator, KlGradient, KlSettings, LabelLoss, LabelSettings, PolicyLoss, PolicySettings,
    PreferenceLoss, PreferenceSettings, SapoSettings, SettingError, VespoSettings,
};
pub use recipe::{
    ApprovalStep, CardSettings, Credit, Cue, Data, DataSource, Dedupe, Escalate, Exhausted,
    Fallback, Gate, GroupSource, GrpoSettings, Guard, HealthCheck, Lora, Method, MissingReward,
    Objective, Observe, Pause, Precision, Prices, QuietHours, Reaction, Recipe, RecipeError,
    Redact, ReferencePolicy, Release, RequiredVerdict, RolloutConstraint, Schedule, Shadow,
    SmallHarm, Targets, TrainStage, Turns, Unattended, UtcOffset, parse_age,
};
pub use recorded::RecordedAnswer;
pub use report::{
    Attempts, Calibration, Comparison, Conditions, Decision, EvalReport, GateCheck, JudgeReport,
    MemoryUse, ScorerSummary, Slice, SubjectReport, Tally, Verdict,
};
pub use reward::{CommandSpec, JudgeSpec, RewardSpec, Verifier};
pub use rubric::{Criterion, Rubric};
pub use scorer::{Check, Scorer, Share};
pub use suite::{Case, Risk, Suite, SuiteError, Tier};

#[cfg(test)]
mod tests;
