//! The third axis: how far a release has come.
//!
//! A promotion and an abort are one commit each, so there are no states in between for a crash to
//! leave behind.

use serde::{Deserialize, Serialize};

use super::{Evidence, Role, Transition};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseState {
    /// The candidate is being loaded, and meets nobody yet.
    Staging,
    /// The candidate meets its share of users.
    Ramping,
    /// The ramp stands still until a person decides; the candidate meets nobody.
    Paused,
    /// The evidence suffices, and the task wants a person to promote.
    AwaitingApproval,
    /// The candidate serves.
    Promoted,
    /// The candidate was taken off, during the ramp or after its promotion.
    RolledBack,
    /// Given up without a finding against the candidate.
    Aborted,
    /// Given up for a newer candidate.
    Superseded,
    /// The candidate could not be loaded.
    Failed,
}

impl ReleaseState {
    pub const ALL: [Self; 9] = [
        Self::Staging,
        Self::Ramping,
        Self::Paused,
        Self::AwaitingApproval,
        Self::Promoted,
        Self::RolledBack,
        Self::Aborted,
        Self::Superseded,
        Self::Failed,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Staging => "staging",
            Self::Ramping => "ramping",
            Self::Paused => "paused",
            Self::AwaitingApproval => "awaiting_approval",
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled_back",
            Self::Aborted => "aborted",
            Self::Superseded => "superseded",
            Self::Failed => "failed",
        }
    }

    /// Whether the candidate's fate is still open.
    pub fn is_open(self) -> bool {
        OPEN.contains(&self)
    }

    /// Whether it goes on without a person.
    pub fn is_moving(self) -> bool {
        matches!(self, Self::Staging | Self::Ramping)
    }

    /// Whether nothing can happen to it any more.
    pub fn has_ended(self) -> bool {
        !self.is_open() && self != Self::Promoted
    }
}

/// Why a ramp stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseReason {
    /// A person wanted it.
    Manual,
    /// The evidence says neither yes nor no.
    Inconclusive,
    /// The arms were not filled as planned, or rewards are missing: nothing follows from them.
    Invalid,
    /// The evidence could not be read.
    MetricError,
    /// Nothing arrives to decide by.
    LowTraffic,
    /// The registry does not admit the candidate any more.
    NotAdmitted,
}

/// What can be asked of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Start,
    Staged,
    Fail,
    Advance { to_step: u32 },
    Pause { because: PauseReason },
    Resume,
    Ask,
    Promote,
    RollBack,
    Abort,
    Supersede,
}

const OPEN: &[ReleaseState] = &[
    ReleaseState::Staging,
    ReleaseState::Ramping,
    ReleaseState::Paused,
    ReleaseState::AwaitingApproval,
];

const ANYBODY: &[Role] =
    &[Role::Engineer, Role::ReleaseManager, Role::OnCall, Role::Override, Role::Controller];

impl Command {
    pub(crate) const ALL: [Self; 11] = [
        Self::Start,
        Self::Staged,
        Self::Fail,
        Self::Advance { to_step: 1 },
        Self::Pause { because: PauseReason::Manual },
        Self::Resume,
        Self::Ask,
        Self::Promote,
        Self::RollBack,
        Self::Abort,
        Self::Supersede,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        self.transition().name
    }

    /// What people may ask of a release in this state, and what would change it.
    pub(crate) fn of_people(state: ReleaseState, step: u32) -> Vec<&'static str> {
        [
            Self::Pause { because: PauseReason::Manual },
            Self::Resume,
            Self::Promote,
            Self::RollBack,
            Self::Abort,
        ]
        .into_iter()
        .filter(|command| next(state, step, *command).is_some_and(|to| to != (state, step)))
        .map(Self::as_str)
        .collect()
    }

    pub(crate) fn transition(self) -> Transition<ReleaseState> {
        use ReleaseState::{
            Aborted, AwaitingApproval, Failed, Paused, Promoted, Ramping, RolledBack, Staging,
            Superseded,
        };
        const ADMITTED: &[Evidence] = &[
            Evidence::Files,
            Evidence::Signature,
            Evidence::CleanData,
            Evidence::Report,
            Evidence::CurrentReport,
            Evidence::Approvals,
            Evidence::RollbackTarget,
        ];
        let managers: &[Role] = &[Role::ReleaseManager, Role::Controller];
        let row =
            |name, from, to, who, needs| Transition { name, from, to, who, needs, freezes: false };
        let exposing =
            |name, from, to, who, needs| Transition { name, from, to, who, needs, freezes: true };
        match self {
            Self::Start => exposing("start", &[], Staging, managers, ADMITTED),
            Self::Staged => exposing("stage", &[Staging], Ramping, managers, &[Evidence::Loaded]),
            Self::Fail => row("fail", &[Staging], Failed, &[Role::Controller], &[]),
            Self::Advance { .. } => {
                exposing("advance", &[Ramping], Ramping, managers, &[Evidence::Revision])
            }
            Self::Pause { .. } => row("pause", OPEN, Paused, ANYBODY, &[]),
            Self::Resume => exposing(
                "resume",
                &[Paused, AwaitingApproval],
                Ramping,
                managers,
                &[Evidence::Revision],
            ),
            Self::Ask => row("ask", &[Ramping], AwaitingApproval, managers, &[Evidence::Revision]),
            Self::Promote => exposing(
                "promote",
                &[Ramping, Paused, AwaitingApproval],
                Promoted,
                managers,
                &[Evidence::CleanData, Evidence::Revision],
            ),
            Self::RollBack => row(
                "roll back",
                &[Staging, Ramping, Paused, AwaitingApproval, Promoted],
                RolledBack,
                ANYBODY,
                &[],
            ),
            Self::Abort => row("abort", OPEN, Aborted, ANYBODY, &[]),
            Self::Supersede => row("supersede", OPEN, Superseded, managers, &[]),
        }
    }
}

/// Where a command leads from a state and step; the same state and step where it has been carried
/// out already, nothing where it is not allowed.
///
/// Taking the candidate off is allowed from everywhere, and asking again for what has ended is no
/// error. A step is never taken back, and what has ended never goes on.
pub(crate) fn next(
    state: ReleaseState,
    step: u32,
    command: Command,
) -> Option<(ReleaseState, u32)> {
    let Transition { from, to, .. } = command.transition();
    match command {
        Command::Advance { to_step } => {
            (from.contains(&state) && to_step >= step).then_some((to, to_step))
        }
        Command::RollBack | Command::Abort | Command::Supersede if state.has_ended() => {
            Some((state, step))
        }
        _ => (state == to || from.contains(&state)).then_some((to, step)),
    }
}
