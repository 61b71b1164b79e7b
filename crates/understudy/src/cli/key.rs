//! `understudy key …`

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key and show it, once
    #[command(after_help = "Examples:\n  understudy key create --owner ada --role admin\n  \
        understudy key create --owner shop --tenant acme --role application --note checkout \\\n      \
        --requests-per-minute 600 --tokens-per-minute 200000 --concurrent 16\n  \
        understudy key create --owner shop --role application --user ada@example.org\n  \
        understudy key create --owner ci --scope infer:support-triage --scope feedback --expires-in 90d\n\n\
        Roles: application (infer, feedback, telemetry), engineer (application, read and release),\n\
        release_manager (read, release, metrics, audit:read), on_call (read, release, metrics,\n\
        adapter:write),\n\
        monitor (metrics), admin (everything). A tenant's key has of these what stays within it.")]
    Create(KeyCreateArgs),
    /// All keys: what they are for, and which still open something
    #[command(after_help = "Example:\n  understudy key list --json")]
    List,
    /// End a key for good; a running server follows within a second
    #[command(after_help = "Example:\n  \
        understudy key revoke 4f2a9c01d3e7 --owner grace --reason 'left the team'")]
    Revoke(KeyRevokeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct KeyCreateArgs {
    /// Who answers for what is done with it: the name that the registry's roles are given to
    #[arg(long)]
    pub(crate) owner: String,
    /// Scopes that go together; repeatable
    #[arg(long = "role", value_name = "ROLE")]
    pub(crate) roles: Vec<String>,
    /// infer, infer:TASK, feedback, telemetry, read, trajectory:read, adapter:write, release, metrics,
    /// audit:read or admin; repeatable
    #[arg(long = "scope", value_name = "SCOPE")]
    pub(crate) scopes: Vec<String>,
    /// Whose key it is: it sees nothing of others, and others see nothing of it
    #[arg(long, value_name = "NAME")]
    pub(crate) tenant: Option<String>,
    /// The one person it is for: that user's own lessons are shown to its requests
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// What it is for
    #[arg(long, default_value = "")]
    pub(crate) note: String,
    /// Ends by itself after this: 90d, 12h or 45m
    #[arg(long, value_name = "TIME")]
    pub(crate) expires_in: Option<String>,
    /// Of any kind
    #[arg(long, value_name = "N")]
    pub(crate) requests_per_minute: Option<u32>,
    /// Of prompts and completions together
    #[arg(long, value_name = "N")]
    pub(crate) tokens_per_minute: Option<u32>,
    /// Of one completion
    #[arg(long, value_name = "N")]
    pub(crate) max_tokens: Option<u32>,
    /// Requests at once
    #[arg(long, value_name = "N")]
    pub(crate) concurrent: Option<u32>,
    /// Outcomes [default: 600]
    #[arg(long, value_name = "N")]
    pub(crate) feedback_per_minute: Option<u32>,
    /// Who makes it; in the audit chain for ever
    #[arg(long, env = "USER", default_value = "operator")]
    pub(crate) by: String,
    /// Why; likewise
    #[arg(long, default_value = "made by hand")]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct KeyRevokeArgs {
    /// The part of the key after us_, as `key list` shows it
    pub(crate) id: String,
    /// Who ends it
    #[arg(long, env = "USER", default_value = "operator")]
    pub(crate) owner: String,
    /// Why, in a few words; it is kept for ever
    #[arg(long)]
    pub(crate) reason: String,
}
