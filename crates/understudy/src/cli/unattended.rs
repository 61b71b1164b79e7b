//! `understudy loop …`

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum LoopCommand {
    /// What it waits for, how much is missing, what it did last and what that changed
    #[command(after_help = "Examples:\n  understudy loop status\n  \
        understudy loop status support-triage --json")]
    Status {
        /// One task [default: all of them]
        task: Option<String>,
    },
    /// What it did and why, as sentences, oldest first
    #[command(after_help = "Example:\n  understudy loop log support-triage --last 20")]
    Log {
        task: String,
        /// Only the last ones
        #[arg(long, value_name = "N")]
        last: Option<usize>,
    },
    /// Let no further turn or step begin
    #[command(after_help = "Example:\n  understudy loop pause support-triage \
        --reason 'the forms change on Monday'")]
    Pause(LoopSaid),
    /// Let it go on, after a pause or after it stopped because candidates failed
    #[command(after_help = "Example:\n  understudy loop resume support-triage \
        --reason 'the poisoned sessions are withdrawn'")]
    Resume(LoopSaid),
    /// Let the step happen that waits for a person
    #[command(after_help = "Example:\n  understudy loop approve support-triage \
        --reason 'read the dataset card'")]
    Approve(LoopSaid),
    /// End the turn under way instead
    #[command(after_help = "Example:\n  understudy loop decline support-triage \
        --reason 'not before the audit'")]
    Decline(LoopSaid),
}

#[derive(Debug, Args)]
pub(crate) struct LoopSaid {
    pub(crate) task: String,
    /// Who says so
    #[arg(long, env = "USER", default_value = "operator")]
    pub(crate) owner: String,
    /// Why, in a few words; it is kept for ever
    #[arg(long)]
    pub(crate) reason: String,
}
