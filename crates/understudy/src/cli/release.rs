//! `understudy release …`

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use understudy_simulation::Scenario;

use super::Said;

#[derive(Debug, Subcommand)]
pub(crate) enum ReleaseCommand {
    /// Open a release of a version that passed its gate
    #[command(after_help = "Example:\n  understudy release start support-triage@2 \
        --recipe recipes/support-triage.toml --owner ada --reason 'learned the new forms'")]
    Start(ReleaseStartArgs),
    /// What serves a task, its open release and its evidence, and which servers follow
    #[command(after_help = "Examples:\n  understudy release status support-triage\n  \
        understudy release status support-triage --server http://gw-1:8700 --key-env OPS_KEY\n\n\
        Exit codes: 0 a release is open; 1 none is; 2 bad input")]
    Status(ReleaseStatusArgs),
    /// Promote the open release now
    #[command(after_help = "Example:\n  understudy release promote support-triage \
        --reason 'two days without a finding' --if-revision 7")]
    Promote(ReleaseDecideArgs),
    /// Let a paused release go on
    #[command(after_help = "Example:\n  understudy release resume support-triage \
        --reason 'the mail is out'")]
    Resume(ReleaseDecideArgs),
    /// Send the open release back, or the promoted version to the one before
    #[command(after_help = "Example:\n  understudy release rollback support-triage \
        --reason 'wrong totals'")]
    Rollback(ReleaseActArgs),
    /// Stop the open release without deciding
    #[command(after_help = "Example:\n  understudy release pause support-triage \
        --reason 'looks odd'")]
    Pause(ReleaseActArgs),
    /// Give up the open release, with nothing against its candidate
    #[command(after_help = "Example:\n  understudy release abort support-triage \
        --reason 'the wrong version'")]
    Abort(ReleaseActArgs),
    /// Return to what served before, or to anything that ever did, in one step
    #[command(after_help = "Examples:\n  understudy release undo support-triage \
        --reason 'wrong totals'\n  understudy release undo support-triage \
        --to support-triage@5 --reason 'the last good one'")]
    Undo {
        #[command(flatten)]
        act: ReleaseActArgs,
        /// A version, `base` or `teacher` [default: what served before]
        #[arg(long, value_name = "TARGET")]
        to: Option<String>,
    },
    /// Approve the newest report of a version
    #[command(after_help = "Example:\n  understudy release approve support-triage@7 \
        --reason 'read the report and ten transcripts'")]
    Approve {
        version: String,
        #[command(flatten)]
        said: Said,
    },
    /// Take a version out of use, with nothing against it
    #[command(after_help = "Example:\n  understudy release retire support-triage@3 \
        --reason 'long replaced'")]
    Retire {
        version: String,
        #[command(flatten)]
        said: Said,
    },
    /// Declare that a version may never be released again
    #[command(after_help = "Example:\n  understudy release revoke support-triage@7 \
        --harm personal-data --with-rollback --reason 'repeats a customer's address'")]
    Revoke {
        version: String,
        /// What is wrong with it
        #[arg(long, value_enum)]
        harm: HarmKind,
        /// Take it off first where it serves or is being released
        #[arg(long)]
        with_rollback: bool,
        #[command(flatten)]
        said: Said,
    },
    /// Let no candidate gain users for a while
    #[command(after_help = "Examples:\n  understudy release freeze \
        --until 2027-01-02T08:00:00Z --reason 'the holidays'\n  \
        understudy release freeze support-triage --reason 'incident 4711'")]
    Freeze {
        /// One task [default: all of them]
        task: Option<String>,
        /// Its beginning, RFC 3339 [default: now]
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// Its end [default: until it is lifted]
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        #[command(flatten)]
        said: Said,
    },
    /// End a freeze before its time
    #[command(after_help = "Example:\n  understudy release unfreeze freeze-2 --reason 'over'")]
    Unfreeze {
        /// As `understudy release freezes` shows it
        freeze: String,
        #[command(flatten)]
        said: Said,
    },
    /// Freezes in force and to come
    Freezes,
    /// What a task asks for before a candidate meets its users; shown, or with a reason set
    #[command(after_help = "Examples:\n  understudy release protect support-triage\n  \
        understudy release protect support-triage --approvals 1 --promote-by-hand \
        --signer key.pub.pem --reason 'audit'")]
    Protect(ReleaseProtectArgs),
    /// Give a person a role: engineer, release-manager, on-call or override
    #[command(after_help = "Example:\n  understudy release grant grace release-manager \
        --reason 'on the team'")]
    Grant(ReleaseGrantArgs),
    /// Take a role back
    #[command(after_help = "Example:\n  understudy release withdraw grace override \
        --reason 'has left'")]
    Withdraw(ReleaseGrantArgs),
    /// Who has which role
    People,
    /// Every release and every pointer change of a task
    #[command(after_help = "Example:\n  understudy release history support-triage --json")]
    History { task: String },
    /// What a policy would do with canaries whose truth is known
    #[command(after_help = "Example:\n  understudy release simulate \
        --policy recipes/support-triage.toml --scenario ten-points-worse")]
    Simulate(ReleaseSimulateArgs),
    /// Rehearse faults over HTTP: a whole server, simulated users, and what the release makes of it
    #[command(after_help = "Examples:\n  understudy release drill\n  \
        understudy release drill --fault unsafe --fault dead-replica --json\n  \
        understudy release drill --fault identical --repeat 20\n  \
        understudy release drill --recipe recipes/support-triage.toml\n\n\
        Nothing outside a temporary directory is touched, and no model is needed.\n\
        Exit codes: 0 each ended as it should; 1 one did not; 2 bad input")]
    Drill(ReleaseDrillArgs),
    /// How long a release would take at this traffic
    #[command(after_help = "Example:\n  understudy release plan \
        --policy recipes/support-triage.toml --units-per-hour 120 --success 0.8")]
    Plan(ReleasePlanArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SimulationArgs {
    /// A recipe with a [release], or a policy in TOML or JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: PathBuf,
    /// Releases played through for each figure
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(crate) replications: u32,
    #[arg(long, default_value_t = 17)]
    pub(crate) seed: u64,
    /// Units (sessions, trajectories) of the task, compared or not
    #[arg(long, value_name = "N", default_value_t = 1000.0)]
    pub(crate) units_per_hour: f64,
    /// The share of the stable arm's units that succeed
    #[arg(long, value_name = "SHARE", default_value_t = 0.6)]
    pub(crate) success: f64,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseSimulateArgs {
    #[command(flatten)]
    pub(crate) simulation: SimulationArgs,
    /// One of: identical, drifting, clustered, rare-events, better, at-margin, ten-points-worse,
    /// five-percent-errors, half-again-slower, unsafe, costlier, lost-units, missing-rewards,
    /// dead-replica, silent-teacher [default: each]
    #[arg(long)]
    pub(crate) scenario: Option<Scenario>,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseStatusArgs {
    pub(crate) task: String,
    /// The running server to ask who follows it [default: the configured `listen`, if it answers]
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// The environment variable with a key for it that has the scope `read`
    #[arg(long, value_name = "VARIABLE")]
    pub(crate) key_env: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseDrillArgs {
    /// One of `release simulate`'s scenarios; repeatable [default: the eight faults]
    #[arg(long, value_name = "NAME")]
    pub(crate) fault: Vec<Scenario>,
    /// The recipe whose [release] is rehearsed [default: 10, 25 and 50 %, fifty outcomes each]
    #[arg(long, value_name = "FILE")]
    pub(crate) recipe: Option<PathBuf>,
    /// Releases of each, with seeds that follow each other
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) repeat: u32,
    #[arg(long, default_value_t = 17)]
    pub(crate) seed: u64,
    /// The traffic that seconds are told for
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    pub(crate) sessions_per_second: f64,
    /// The share of the stable arm's sessions that succeed
    #[arg(long, value_name = "SHARE", default_value_t = 0.6)]
    pub(crate) success: f64,
    /// Without a decision by then, a release counts as held
    #[arg(long, value_name = "N", default_value_t = 40_000)]
    pub(crate) most_sessions: u64,
}

#[derive(Debug, Args)]
pub(crate) struct ReleasePlanArgs {
    #[command(flatten)]
    pub(crate) simulation: SimulationArgs,
    /// The share of units whose reward never comes
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub(crate) missing: f64,
    /// How long the first step may take
    #[arg(long, value_name = "HOURS", default_value_t = 24.0)]
    pub(crate) patience_hours: f64,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseStartArgs {
    pub(crate) version: String,
    /// The recipe whose [release] table to follow
    #[arg(long)]
    pub(crate) recipe: PathBuf,
    #[arg(long, env = "USER", default_value = "operator")]
    pub(crate) owner: String,
    #[arg(long)]
    pub(crate) reason: String,
    /// Start although the gate did not pass, people did not approve, or releases are frozen;
    /// recorded for ever
    #[arg(long)]
    pub(crate) force: bool,
    /// Give up the release that is open
    #[arg(long)]
    pub(crate) supersede: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseActArgs {
    pub(crate) task: String,
    #[command(flatten)]
    pub(crate) said: Said,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseDecideArgs {
    #[command(flatten)]
    pub(crate) act: ReleaseActArgs,
    /// Only if the release is still at this revision [default: whatever it is at]
    #[arg(long, value_name = "N")]
    pub(crate) if_revision: Option<u64>,
    /// Go on in a freeze; recorded for ever
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseProtectArgs {
    pub(crate) task: String,
    /// How many people besides its owner must approve a version
    #[arg(long, value_name = "N", requires = "reason")]
    pub(crate) approvals: Option<u32>,
    /// A person promotes; the controller only asks
    #[arg(long, requires = "reason")]
    pub(crate) promote_by_hand: bool,
    /// A public key a version must be signed with; repeatable
    #[arg(long, value_name = "PEM", requires = "reason")]
    pub(crate) signer: Vec<PathBuf>,
    #[arg(long, env = "USER", default_value = "operator")]
    pub(crate) owner: String,
    /// Why; all rules are set anew, those that are not named to none
    #[arg(long)]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseGrantArgs {
    pub(crate) person: String,
    pub(crate) role: String,
    #[command(flatten)]
    pub(crate) said: Said,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum HarmKind {
    Safety,
    Licence,
    PersonalData,
    SupplyChain,
}
