//! What to do next: a pure function of the recipe and what has happened.

use std::fmt;

use understudy_ident::{AdapterVersion, DatasetVersion, ReleaseId, RunId};
use understudy_manifest::{ApprovalStep, Recipe, TrainStage};

use crate::{Fact, ReleaseEnd, Trained};

/// The next step of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    BuildDataset,
    /// Train stage `stage`, starting from the adapter in `from`.
    Train {
        stage: usize,
        dataset: DatasetVersion,
        from: Option<String>,
    },
    /// Leave stage `stage` out: what came before is too weak a start for it.
    Skip {
        stage: usize,
        why: String,
    },
    Select {
        stage: usize,
        why: String,
    },
    Register {
        directory: String,
    },
    Evaluate {
        version: AdapterVersion,
    },
    StartRelease {
        version: AdapterVersion,
    },
    AwaitRelease {
        release: ReleaseId,
    },
    Finished(Finish),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    Promoted {
        version: AdapterVersion,
    },
    RolledBack {
        version: AdapterVersion,
        why: String,
    },
    Undecided {
        version: AdapterVersion,
        why: String,
    },
    /// The gate said no: nothing met a user.
    Refused {
        version: AdapterVersion,
        why: String,
    },
    /// The recipe asks for no gate or no release.
    Registered {
        version: AdapterVersion,
    },
    /// The data were too few, or no stage found anything to train on.
    NothingToTrain {
        why: String,
    },
    /// The same recipe over the same data has had its verdict before.
    AlreadyTried {
        run: RunId,
        why: String,
    },
    /// A person said no.
    Declined {
        why: String,
    },
    /// A step of an unattended run failed too often.
    GaveUp {
        why: String,
    },
}

/// How often in a row a step of an unattended run may fail.
const MOST_TRIES: u32 = 3;

impl Finish {
    /// Whether the run's candidate made it; `None` where that was not the question.
    pub fn success(&self) -> Option<bool> {
        match self {
            Self::Promoted { .. } | Self::Registered { .. } => Some(true),
            Self::Refused { .. } | Self::RolledBack { .. } | Self::GaveUp { .. } => Some(false),
            Self::Undecided { .. }
            | Self::NothingToTrain { .. }
            | Self::AlreadyTried { .. }
            | Self::Declined { .. } => None,
        }
    }

    /// Whether what the run was given has been put to use, so that only later outcomes are news.
    pub fn has_learnt(&self) -> bool {
        !matches!(self, Self::GaveUp { .. })
    }

    /// Whether it is known what the data were good for, so that they need not be tried again.
    pub fn is_verdict(&self) -> bool {
        matches!(
            self,
            Self::Promoted { .. }
                | Self::Registered { .. }
                | Self::Refused { .. }
                | Self::RolledBack { .. }
        )
    }
}

impl fmt::Display for Finish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Promoted { version } => write!(f, "{version} is promoted"),
            Self::Registered { version } => write!(f, "{version} is registered"),
            Self::Refused { version, why } => write!(f, "the gate refused {version}: {why}"),
            Self::RolledBack { version, why } => write!(f, "{version} was rolled back: {why}"),
            Self::Undecided { version, why } => write!(f, "{version} is undecided: {why}"),
            Self::NothingToTrain { why } => write!(f, "nothing to train: {why}"),
            Self::AlreadyTried { run, why } => {
                write!(f, "the same data were tried in {run}: {why}")
            }
            Self::Declined { why } => write!(f, "it was declined by {why}"),
            Self::GaveUp { why } => write!(f, "it was given up: {why}"),
        }
    }
}

/// Decides the next step. Reads top-down in the order a run happens.
pub fn next(recipe: &Recipe, facts: &[Fact]) -> Next {
    let mut seen = Seen::fold(facts);
    if let Some(cut_short) = seen.cut_short.take() {
        return Next::Finished(cut_short);
    }
    let Some(dataset) = seen.dataset else { return Next::BuildDataset };

    let started = seen.trained.len() + seen.skipped.len();
    if started < recipe.train.len() {
        let best = best(&seen.trained);
        if let Some(why) = too_weak(&recipe.train[started], best) {
            return Next::Skip { stage: started, why };
        }
        let from = best.map(|trained| trained.directory.clone());
        return Next::Train { stage: started, dataset, from };
    }
    let Some(selected) = seen.selected else {
        return match best(&seen.trained) {
            Some(kept) => Next::Select { stage: kept.stage, why: compare(&seen.trained, kept) },
            None => Next::Finished(Finish::NothingToTrain { why: seen.skipped.join("; ") }),
        };
    };
    let Some(version) = seen.version else {
        let kept = seen.trained.iter().find(|trained| trained.stage == selected);
        let directory = kept.map(|trained| trained.directory.clone()).unwrap_or_default();
        return Next::Register { directory };
    };
    if recipe.gate.is_none() {
        return Next::Finished(Finish::Registered { version });
    }
    match seen.gate {
        None => return Next::Evaluate { version },
        Some((false, why)) => return Next::Finished(Finish::Refused { version, why }),
        Some((true, _)) if recipe.release.is_none() => {
            return Next::Finished(Finish::Registered { version });
        }
        Some((true, _)) => {}
    }
    match (seen.release, seen.end) {
        (None, _) => Next::StartRelease { version },
        (Some(release), None) => Next::AwaitRelease { release },
        (Some(_), Some((ReleaseEnd::Promoted, _))) => Next::Finished(Finish::Promoted { version }),
        (Some(_), Some((ReleaseEnd::RolledBack, why))) => {
            Next::Finished(Finish::RolledBack { version, why })
        }
        (Some(_), Some((ReleaseEnd::Inconclusive, why))) => {
            Next::Finished(Finish::Undecided { version, why })
        }
    }
}

impl Next {
    /// What a person can keep for themselves of this step.
    pub fn approval(&self) -> Option<ApprovalStep> {
        match self {
            Self::BuildDataset => Some(ApprovalStep::Dataset),
            Self::Train { .. } => Some(ApprovalStep::Train),
            Self::Register { .. } => Some(ApprovalStep::Register),
            Self::Evaluate { .. } => Some(ApprovalStep::Evaluate),
            Self::StartRelease { .. } => Some(ApprovalStep::Release),
            Self::Skip { .. }
            | Self::Select { .. }
            | Self::AwaitRelease { .. }
            | Self::Finished(_) => None,
        }
    }

    /// Whether it takes the machine's time.
    pub fn is_costly(&self) -> bool {
        matches!(self, Self::BuildDataset | Self::Train { .. } | Self::Evaluate { .. })
    }
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuildDataset => f.write_str("building the dataset"),
            Self::Train { stage, .. } => write!(f, "training stage {}", stage + 1),
            Self::Skip { stage, .. } => write!(f, "skipping stage {}", stage + 1),
            Self::Select { .. } => f.write_str("choosing the best stage"),
            Self::Register { .. } => f.write_str("registering the adapter"),
            Self::Evaluate { version } => write!(f, "evaluating {version}"),
            Self::StartRelease { version } => write!(f, "starting the release of {version}"),
            Self::AwaitRelease { .. } => f.write_str("letting the canary meet its users"),
            Self::Finished(_) => f.write_str("finishing"),
        }
    }
}

/// The stage with the best dev score; a later stage must beat an earlier one, not just equal it,
/// because each further stage is one more way to have drifted.
pub fn best(trained: &[Trained]) -> Option<&Trained> {
    let first = trained.first()?;
    Some(trained.iter().skip(1).fold(first, |best, candidate| {
        if candidate.dev_score > best.dev_score { candidate } else { best }
    }))
}

/// Why a stage must not begin from the best one so far, in words if so: from a weak start,
/// preferences and policy gradients make a model worse.
pub fn too_weak(stage: &TrainStage, best: Option<&Trained>) -> Option<String> {
    let score = best.map_or(0.0, |trained| trained.dev_score);
    let method = stage.method.as_str();
    (score < stage.min_sft_score).then(|| {
        format!(
            "{method} asks for a dev score of {:.3} to start from (min_sft_score), and the best so \
             far is {score:.3}",
            stage.min_sft_score
        )
    })
}

fn compare(trained: &[Trained], kept: &Trained) -> String {
    let scores: Vec<String> = trained
        .iter()
        .map(|t| format!("{} {:.3} on {} dev cases", t.method, t.dev_score, t.dev_cases))
        .collect();
    format!("{}; kept {}", scores.join(", "), kept.method)
}

/// The facts, by what they decide.
#[derive(Default)]
struct Seen {
    dataset: Option<DatasetVersion>,
    trained: Vec<Trained>,
    skipped: Vec<String>,
    selected: Option<usize>,
    version: Option<AdapterVersion>,
    gate: Option<(bool, String)>,
    release: Option<ReleaseId>,
    end: Option<(ReleaseEnd, String)>,
    /// Ended before its recipe did.
    cut_short: Option<Finish>,
    /// In a row.
    failures: u32,
}

impl Seen {
    fn fold(facts: &[Fact]) -> Self {
        let mut seen = Self::default();
        for fact in facts.iter().cloned() {
            if !matches!(fact, Fact::StepFailed { .. } | Fact::Approved { .. }) {
                seen.failures = 0;
            }
            match fact {
                Fact::TurnBegan(_) | Fact::Approved { .. } => {}
                Fact::NoDataset { why } => seen.cut_short = Some(Finish::NothingToTrain { why }),
                Fact::AlreadyTried { run, why } => {
                    seen.cut_short = Some(Finish::AlreadyTried { run, why });
                }
                Fact::Declined { owner, reason } => {
                    let why = format!("{owner}: {reason}");
                    seen.cut_short = Some(Finish::Declined { why });
                }
                Fact::StepFailed { step, why } => {
                    seen.failures += 1;
                    if seen.failures >= MOST_TRIES {
                        let why = format!("{step} failed {MOST_TRIES} times, at last: {why}");
                        seen.cut_short = Some(Finish::GaveUp { why });
                    }
                }
                Fact::DatasetFrozen { version, .. } => seen.dataset = Some(version),
                Fact::StageTrained(trained) => seen.trained.push(trained),
                Fact::StageSkipped { why, .. } => seen.skipped.push(why),
                Fact::Selected { stage, .. } => seen.selected = Some(stage),
                Fact::Registered { version, .. } => seen.version = Some(version),
                Fact::Evaluated { passed, summary } => seen.gate = Some((passed, summary)),
                Fact::ReleaseStarted { release } => seen.release = Some(release),
                Fact::ReleaseEnded { end, why } => seen.end = Some((end, why)),
            }
        }
        seen
    }
}
