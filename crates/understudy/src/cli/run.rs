//! `understudy run`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct RunArgs {
    #[command(subcommand)]
    pub(crate) command: Option<RunCommand>,
    /// The recipe; one that is named `show` needs `./show`
    pub(crate) recipe: Option<PathBuf>,
    /// Go on with a run that was interrupted
    #[arg(long, value_name = "RUN", conflicts_with = "recipe")]
    pub(crate) resume: Option<String>,
    /// List the runs
    #[arg(long, conflicts_with_all = ["recipe", "resume"])]
    pub(crate) list: bool,
    /// Print the plan, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[arg(long, env = "USER", default_value = "operator")]
    pub(crate) owner: String,
    #[arg(long, default_value = "started by hand")]
    pub(crate) reason: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RunCommand {
    /// A run's stages and metrics: sparklines, an SVG plot, or JSON with every point
    #[command(after_help = "Examples:\n  understudy run show latest\n  \
        understudy run show latest --metrics loss,grad_norm --svg run.svg")]
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// A run's id, a directory of `understudy train`, or `latest`: whatever trained last
    pub(crate) run: String,
    /// Write a plot of the same metrics here
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Show these metrics, or `all`, and not those that matter most for the method
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub(crate) metrics: Vec<String>,
    /// Draw again every second until all stages are over
    #[arg(long, conflicts_with = "json")]
    pub(crate) follow: bool,
}
