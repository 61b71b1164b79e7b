//! `understudy live`.

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct LiveArgs {
    /// Only replies for this task
    #[arg(long)]
    pub(crate) task: Option<String>,
    /// Only the last so many days, hours or minutes: 7d, 12h, 30m
    #[arg(long, value_name = "AGE")]
    pub(crate) since: Option<String>,
    /// Of the trajectories, the share that is scored; that of [live] in understudy.toml unless given
    #[arg(long)]
    pub(crate) share: Option<f64>,
    /// json_valid, regex:PATTERN, refusal, no_refusal, pii_leak, latency:MS or tokens:N; those of
    /// [live] in understudy.toml unless given
    #[arg(long = "scorer", value_name = "SCORER")]
    pub(crate) scorers: Vec<String>,
}
