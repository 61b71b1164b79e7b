//! Lessons from traces, without training: distilled, checked, scoped, retrieved, measured, released,
//! forgotten.
//!
//! | step | by | in |
//! | --- | --- | --- |
//! | a trace becomes an episode | [`Transcript`], [`Episode`], [`Skeleton`] | memory, for one job |
//! | requests are attempted again to learn more | [`Attempts::make`] | – |
//! | episodes become lessons, or reasons why not | [`Job::learn`] | – |
//! | attempts become examples to train on | [`records`] | – |
//! | a sentence becomes a text for every user | [`Sanitizer`] | – |
//! | lessons are kept, counted, suspended | [`DeploymentStore`], [`UserStore`] | one SQLite file each |
//! | lessons go to another memory and come back | [`Import`] | lines of JSON |
//! | lessons are released and rolled back | [`Releases`], [`MemoryRelease`] | immutable directories |
//! | a request is shown some, and denied some | [`Library::retrieve`] | – |
//! | a failure is met with what helped before | [`Library::heal`] | – |
//! | a run is repeated without consequences | [`Shadow`] | – |
//! | a lesson is tried before its release | [`Trial::compare`] | – |
//!
//! Guarantees: a lesson for every user is made of plain English and of names its operator declared,
//! and types enforce it ([`DeploymentText`]); what is learnt from requests that runs disagree on is
//! nothing; a lesson's use is measured against requests it was withheld from, and one that does harm
//! is taken out by a sequential test; a block never exceeds its token budget; a release is named by
//! its content, and rolling back is one row; forgetting removes the bytes, not just the rows, and of a
//! user the key that their file is sealed with; the same episodes, settings and clock give the same
//! lessons.
//!
//! Never: crosses a user scope or a tenant, keeps what anybody said, lets a model's own word for it
//! count as evidence, writes to the world in a replay, or puts lessons into production without a
//! person.

mod agreement;
mod attempt;
mod catalogue;
mod chat;
mod contrast;
mod deployment;
mod distil;
mod effect;
mod episode;
mod error;
mod exchange;
mod failure;
mod groups;
mod heal;
mod item;
mod key;
mod learn;
mod lexical;
mod lexicon;
mod overlap;
mod partition;
mod principal;
mod recorded;
mod release;
mod render;
mod replay;
mod retrieve;
mod root;
mod sanitize;
pub mod scope;
mod score;
mod seal;
mod select;
mod settings;
mod shadow;
mod shelf;
mod skeleton;
mod state;
mod teacher;
mod transcript;
mod words;

pub use agreement::{Claim, NoVerifier, Verifier};
pub use attempt::{
    Attempts, Conditions, Counted, Ending, Made, Played, Player, Practice, Reply, Said, Task, World,
};
pub use catalogue::{Access, Argument, Catalogue, Intent, KeyIx, ToolIx, ToolSchema};
pub use chat::{ChatLimits, ChatPlayer, ReadCalls};
pub use deployment::Deployment;
pub use distil::{Distil, Draft};
pub use effect::{Counters, Effect};
pub use episode::Episode;
pub use error::MemoryError;
pub use exchange::{Import, Refused, Taken};
pub use failure::{ErrorClass, ErrorSignature};
pub use groups::{Group, ScoredRun, records, was_attempted};
pub use heal::{
    Action, ErrorReport, HealCandidate, HealEvidence, HealReply, HealRequest, HealSource, Mode,
    Target, TargetKind, Tier, Tried, target_name, tier,
};
pub use item::{
    Agreement, DeploymentItem, Distiller, Evidence, Item, Kind, MemoryId, MemoryKind, Parameter,
    Pattern, Provenance, Situation, Status, Strategy, Tactic, UserItem, Written,
};
pub use key::{Key, Keyed};
pub use learn::{Job, LearnReport};
pub use overlap::Sources;
pub use partition::{By, Consequence, DeploymentStore, Entry, Partition, Proposed, UserStore};
pub use principal::{Principal, TenantId};
pub use recorded::Recordings;
pub use release::{Choice, MemoryRelease, ReleaseDiff, ReleaseManifest, Releases, Revision};
pub use render::{RENDERER, estimated_tokens, has_block, place};
pub use replay::{Comparison, Judgement, Means, Trial};
pub use retrieve::{Considered, Decision, Library, Query, Retrieved, Room, Shown};
pub use root::MemoryRoot;
pub use sanitize::Sanitizer;
pub use scope::{Declared, DeploymentText, Text, UserText};
pub use select::Intents;
pub use settings::{
    AgreementSettings, Caps, Contrast, CounterSettings, Retrieval, Scoring, Selection, Settings,
};
pub use shadow::{Matching, Miss, NoReader, Reader, Shadow, ShadowReport};
pub use shelf::{Shelf, Standings};
pub use skeleton::{Move, Shape, Skeleton};
pub use state::{Kept, Operation, Rescored};
pub use teacher::TeacherDistiller;
pub use transcript::{Called, Failure, Part, Run, Transcript, failure_in};
