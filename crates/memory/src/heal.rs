//! A failure, and what got others past one like it.
//!
//! | target | error | tier | what is offered |
//! | --- | --- | --- | --- |
//! | same | same | high | the solution |
//! | same | different | medium | its pattern |
//! | different | same | low | the general approach |
//! | different | different | – | nothing |

use serde::{Deserialize, Serialize};
use understudy_ident::Timestamp;

use crate::{
    ErrorClass, ErrorSignature, Key, Keyed, Library, MemoryError, MemoryId, Shelf, Tactic,
    select::dot,
    shelf::{Entry, Standing},
};

/// How often an agent is helped with one failure before a person should be.
const MOST_HEALS: usize = 2;

/// What an agent says about its failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealRequest {
    #[serde(default)]
    pub goal: String,
    #[serde(default)]
    pub agent: Option<String>,
    pub target: Target,
    pub action: Action,
    pub error: ErrorReport,
    /// What it did about this failure already.
    #[serde(default)]
    pub tried: Vec<Tried>,
    #[serde(default = "default_limit")]
    pub limit: usize,
}

/// Where it failed: `{"kind": "site", "key": "https://shop.example.org/cart"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    pub kind: TargetKind,
    pub key: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    Site,
    ToolServer,
    App,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    pub tool: String,
    #[serde(default)]
    pub arg_keys: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorReport {
    /// Read off the code or the message when it is not given.
    #[serde(default)]
    pub class: Option<ErrorClass>,
    #[serde(default)]
    pub code: Option<u16>,
    #[serde(default)]
    pub message: String,
}

impl ErrorReport {
    /// What it is compared by.
    pub fn signature(&self, key: &Key) -> ErrorSignature {
        match self.class {
            Some(class) => ErrorSignature::named(class, self.code, &self.message, key),
            None => ErrorSignature::of(&self.message, self.code, key),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tried {
    pub tactic: Tactic,
    pub tool: String,
}

fn default_limit() -> usize {
    3
}

/// What it may do next.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HealReply {
    pub tier: Tier,
    pub candidates: Vec<HealCandidate>,
    pub escalate: bool,
    pub reason: String,
}

impl HealReply {
    /// What it offers of one store, to be noted there with [`crate::Partition::offered`].
    pub fn ids(&self, source: HealSource) -> Vec<MemoryId> {
        let of_source = self.candidates.iter().filter(|candidate| candidate.source == source);
        of_source.map(|candidate| candidate.id.clone()).collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    High,
    Medium,
    Low,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    CopySolution,
    ExtractPattern,
    GeneralApproach,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HealCandidate {
    pub source: HealSource,
    pub id: MemoryId,
    pub tier: Tier,
    pub mode: Mode,
    pub tactic: Tactic,
    pub text: String,
    /// The tool to go on with.
    pub tool: Option<String>,
    pub do_not_retry: Vec<String>,
    pub evidence: HealEvidence,
}

/// A lesson for everybody, or something of the caller's own past. Nobody sees another one's past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HealSource {
    Item,
    Episode,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct HealEvidence {
    pub n: u64,
    /// `None` while nobody has reported whether it worked.
    pub success_rate: Option<f64>,
    pub last_seen: Option<Timestamp>,
}

/// The table above.
pub fn tier(same_target: bool, same_error: bool) -> Option<(Tier, Mode)> {
    match (same_target, same_error) {
        (true, true) => Some((Tier::High, Mode::CopySolution)),
        (true, false) => Some((Tier::Medium, Mode::ExtractPattern)),
        (false, true) => Some((Tier::Low, Mode::GeneralApproach)),
        (false, false) => None,
    }
}

/// A target's name: of a site its registrable domain, of anything else its name in lower case.
pub fn target_name(key: &str, secret: &Key) -> Keyed {
    secret.name("target", &normal_target(key))
}

/// Two labels, or three below a country's own second level. The public suffix list knows more cases;
/// where it would, two sites of one owner count as two.
fn normal_target(key: &str) -> String {
    const SECOND: [&str; 7] = ["co", "com", "org", "net", "ac", "gov", "edu"];
    let lower = key.trim().to_lowercase();
    let rest = lower.split_once("://").map_or(lower.as_str(), |(_, rest)| rest);
    let host = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let host = host.rsplit('@').next().unwrap_or(host).split(':').next().unwrap_or(host);
    let labels: Vec<&str> = host.trim_end_matches('.').split('.').collect();
    let numeric = labels.iter().all(|label| label.chars().all(|c| c.is_ascii_digit()));
    let keep = match labels.as_slice() {
        [.., second, country] if country.len() == 2 && SECOND.contains(second) => 3,
        _ => 2,
    };
    if numeric || labels.len() <= keep {
        host.to_owned()
    } else {
        labels[labels.len() - keep..].join(".")
    }
}

impl Library<'_> {
    /// What may help, best first: by tier, then by likeness times how surely it worked.
    pub fn heal(self, request: &HealRequest, now: Timestamp) -> Result<HealReply, MemoryError> {
        let error = request.error.signature(self.key);
        let target = target_name(&request.target.key, self.key);
        let Action { tool, arg_keys } = &request.action;
        let goal =
            format!("{} {tool} {} {}", request.goal, arg_keys.join(" "), error.class.as_str());
        let vector = match self.embedder {
            Some(embedder) => embedder.embed(&[&goal])?.into_iter().next(),
            None => None,
        };
        let mut found: Vec<(f64, HealCandidate)> = Vec::new();
        let mut only_harm = true;
        let shelves = [(Some(self.deployment), HealSource::Item), (self.user, HealSource::Episode)];
        for (shelf, source) in shelves.into_iter().filter_map(|(shelf, s)| Some((shelf?, s))) {
            let words = shelf.lexical.matches(&goal);
            for (at, entry) in shelf.entries.iter().enumerate() {
                let standing = self.standings.0.get(&entry.id).copied();
                let Some(standing) = standing.filter(|standing| standing.serves(shelf)) else {
                    continue;
                };
                let usable = entry.expires_at.is_none_or(|end| end > now)
                    && (entry.agent.is_none() || entry.agent == request.agent);
                let (Some(tactic), true) = (entry.tactic, usable) else { continue };
                let same_error = entry.error == Some(error);
                let Some((tier, mode)) = tier(entry.target == Some(target), same_error) else {
                    continue;
                };
                let tool = way_out(entry, &request.action.tool);
                let tried = |tried: &Tried| {
                    tried.tactic == tactic && tool.as_deref().is_none_or(|tool| tool == tried.tool)
                };
                if request.tried.iter().any(tried) {
                    continue;
                }
                only_harm &= standing.harms || misleads(&standing);
                let likeness = likeness(shelf, at, vector.as_deref(), words[at].coverage);
                let score = likeness * sureness(&standing);
                let candidate =
                    candidate(entry, request, (source, tier, mode, tactic, tool), &standing);
                found.push((score, candidate));
            }
        }
        found.sort_by(|a, b| {
            a.1.tier.cmp(&b.1.tier).then(b.0.total_cmp(&a.0)).then(a.1.id.cmp(&b.1.id))
        });
        found.truncate(request.limit);
        Ok(reply(found.into_iter().map(|(_, c)| c).collect(), request, only_harm))
    }
}

fn reply(candidates: Vec<HealCandidate>, request: &HealRequest, only_harm: bool) -> HealReply {
    let tier = candidates.first().map_or(Tier::None, |candidate| candidate.tier);
    let often = request.tried.len() >= MOST_HEALS;
    let told_to = candidates.first().is_some_and(|first| first.tactic == Tactic::Escalate);
    let (escalate, reason) = match () {
        () if often => (true, format!("{} ways were tried and none worked", request.tried.len())),
        () if candidates.is_empty() => (true, "nothing is known about this failure".to_owned()),
        () if only_harm => (true, "what is known did more harm than good".to_owned()),
        () if told_to => (true, "nobody got past this failure".to_owned()),
        () => (false, format!("{} ways are known", candidates.len())),
    };
    HealReply { tier, candidates, escalate, reason }
}

fn candidate(
    entry: &Entry,
    request: &HealRequest,
    (source, tier, mode, tactic, tool): (HealSource, Tier, Mode, Tactic, Option<String>),
    standing: &Standing,
) -> HealCandidate {
    let n = standing.healed + standing.unhealed;
    let mut do_not_retry = entry.avoid.clone();
    do_not_retry.extend(request.tried.iter().map(|tried| tried.tool.clone()));
    do_not_retry.sort_unstable();
    do_not_retry.dedup();
    let text = match tier {
        // Where only the failure is the same, the situation there is not the situation here.
        Tier::Low => entry.strategy.clone(),
        _ => format!("{}, {}", entry.situation.trim_end_matches('.'), entry.strategy),
    };
    let evidence = HealEvidence {
        n: n.round() as u64,
        success_rate: (n > 0.0).then(|| standing.healed / n),
        last_seen: standing.last_seen,
    };
    let id = entry.id.clone();
    HealCandidate { source, id, tier, mode, tactic, text, tool, do_not_retry, evidence }
}

/// The tool a lesson goes on with; the failed one itself when it says to vary the call.
fn way_out(entry: &Entry, failed: &str) -> Option<String> {
    match entry.tactic {
        Some(Tactic::RetryVariation) => Some(failed.to_owned()),
        Some(Tactic::Escalate) | None => None,
        Some(Tactic::FallbackPath | Tactic::AlternativeTool) => entry.prefer.first().cloned(),
    }
}

fn likeness(shelf: &Shelf, at: usize, vector: Option<&[f32]>, coverage: f32) -> f64 {
    let close = vector.zip(shelf.vectors.get(at)).map_or(0.0, |(a, b)| dot(a, b).max(0.0));
    f64::from(0.05 + close.max(coverage))
}

/// The lower end of the success rate's interval at 80 %; a half while nobody has reported.
fn sureness(standing: &Standing) -> f64 {
    reported(standing).map_or(0.5, |interval| interval.lower)
}

/// Whether it leads past a failure less often than not, at the same level.
fn misleads(standing: &Standing) -> bool {
    reported(standing).is_some_and(|interval| interval.upper < 0.5)
}

fn reported(standing: &Standing) -> Option<understudy_statistics::Interval> {
    let n = (standing.healed + standing.unhealed).round() as u64;
    (n > 0).then(|| understudy_statistics::wilson(standing.healed.round() as u64, n, 0.2))
}

#[cfg(test)]
mod tests;
