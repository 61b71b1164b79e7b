//! `understudy suite add-case`.

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct AddCaseArgs {
    /// The suite that a new version is made of; it stays as it is
    pub(crate) suite: String,
    /// Where it went wrong
    #[arg(long, value_name = "ID")]
    pub(crate) trajectory: String,
    /// The step or response; the last that somebody was unhappy with unless given
    #[arg(long, value_name = "ID")]
    pub(crate) step: Option<String>,
    /// What would have been right; the latest edit of the reply unless given
    #[arg(long, value_name = "TEXT", conflicts_with = "checks")]
    pub(crate) expected: Option<String>,
    /// Demands on the answer, for a suite with the scorer `checks`:
    /// '[{"scorer": "contains", "value": "refund"}]'
    #[arg(long, value_name = "JSON")]
    pub(crate) checks: Option<String>,
    /// Why it is worth a case
    #[arg(long)]
    pub(crate) reason: String,
    /// normal, edge, known_failure or high_risk
    #[arg(long, default_value = "known_failure")]
    pub(crate) risk: String,
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// The new version's name; the suite's with the next number unless given
    #[arg(long = "as", value_name = "NAME")]
    pub(crate) name: Option<String>,
    #[arg(long, env = "USER", default_value = "operator")]
    pub(crate) owner: String,
    /// Who else has read the case: needed for a sealed suite, and for a gate suite unless a dev
    /// suite has the case
    #[arg(long, value_name = "NAME")]
    pub(crate) reviewed_by: Option<String>,
    /// Make the version; without it, the masked case is only shown
    #[arg(long)]
    pub(crate) approve: bool,
}
