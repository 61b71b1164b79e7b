//! The stages in order.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use understudy_ident::{StepId, TaskName, Timestamp};
use understudy_manifest::{Data, DataSource, DatasetManifest, Redact, Split};
use understudy_redact::{Cues, Policy, Recogniser};
use understudy_trajectory::{RewardPolicy, Trajectory};

use crate::{
    Accounts, Beside, DatasetError, Draft, Review, SuiteFingerprints, Verdict,
    balance::{balance, limit},
    cap::cap,
    decontaminate::{assert_clean, decontaminate},
    dedupe::dedupe,
    filter::{Filter, Tokens},
    ledger::Ledger,
    mask::{Masking, Names},
    population::population,
    problems,
    remember::{Lessons, remember},
    review,
    rewarding::Rewarding,
    rewriting::Rewriting,
    row::RowKind,
    selection::{Selected, Selection},
    spill::Spill,
    split::{Division, split},
    trail::Trail,
    written::{Writer, Written},
};

/// What to build a dataset of, and how.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub task: &'a TaskName,
    pub data: &'a Data,
    /// Keys the split.
    pub seed: u64,
    /// What is read, to be told beside the manifest: a journal up to a record, or a file by digest.
    /// It names no version: what is read and makes no row changes none.
    pub sources: &'a [String],
    pub suites: &'a [SuiteFingerprints],
    /// What `since` counts back from.
    pub now: Timestamp,
}

/// Builds from trajectories in any order.
pub fn build(
    request: Request<'_>,
    trajectories: impl IntoIterator<Item = Trajectory>,
) -> Result<Draft, DatasetError> {
    let mut builder = Builder::new(request, &std::env::temp_dir())?;
    for trajectory in trajectories {
        builder.add(trajectory)?;
    }
    builder.finish()
}

/// A build that is fed one trajectory at a time, for sources that can fail in between or do not fit
/// into memory. It keeps what was said in a temporary file, and in memory about a kilobyte of every
/// step that is used.
#[derive(Debug)]
pub struct Builder<'a> {
    request: Request<'a>,
    reward: RewardPolicy,
    spill: Arc<Spill>,
    selection: Selection,
    trail: Trail,
    names: Names<'a>,
    lessons: Option<&'a dyn Lessons>,
    tokens: Option<&'a dyn Tokens>,
}

impl<'a> Builder<'a> {
    /// Refuses settings that cannot be followed before anything is read. The temporary file is made
    /// in `scratch`, which needs room for twice what is built from.
    pub fn new(request: Request<'a>, scratch: &Path) -> Result<Self, DatasetError> {
        let data = request.data;
        if let DataSource::Version(version) = &data.source {
            return Err(DatasetError::AlreadyFrozen(version.clone()));
        }
        let reward = RewardPolicy::named(&data.reward)
            .ok_or_else(|| DatasetError::UnknownPolicy(data.reward.clone()))?;
        let spill = Arc::new(Spill::create(scratch)?);
        let not_before = not_before(data, request.now)?;
        let shared = Arc::clone(&spill);
        let selection = Selection::new(request.task, not_before, &data.exclude, reward, shared);
        let (trail, names) = (Trail::default(), Names::default());
        let (lessons, tokens) = (None, None);
        Ok(Self { request, reward, spill, selection, trail, names, lessons, tokens })
    }

    /// Has names masked as well that this finds, where the recipe has anything masked. A trajectory
    /// whose names it cannot tell is left out and counted; where it cannot be asked there is no
    /// version.
    #[must_use]
    pub fn recognising(mut self, recogniser: &'a dyn Recogniser) -> Self {
        self.names.recogniser = Some(recogniser);
        self
    }

    /// Has the names on record masked, where the recipe has anything masked: each in the trajectories
    /// of its subject.
    #[must_use]
    pub fn knowing(mut self, accounts: &'a Accounts) -> Self {
        self.names.accounts = Some(accounts);
        self
    }

    /// Follows one step, by its id or its response's, for [`explain`](Self::explain).
    #[must_use]
    pub fn following(mut self, name: &str) -> Self {
        self.trail = Trail::of(name);
        self
    }

    /// Where the lessons for the recipe's `memory_slot` come from.
    #[must_use]
    pub fn remembering(self, lessons: &'a dyn Lessons) -> Self {
        Self { lessons: Some(lessons), ..self }
    }

    /// Who counts the tokens that the recipe limits.
    #[must_use]
    pub fn counting(self, tokens: &'a dyn Tokens) -> Self {
        Self { tokens: Some(tokens), ..self }
    }

    /// Which steps came, or had something said of them, after an earlier version was cut that covers
    /// their time. It changes no row and no digest; what of them is in the version is told beside it.
    #[must_use]
    pub fn late(mut self, steps: BTreeSet<StepId>) -> Self {
        self.selection.late(steps);
        self
    }

    pub fn add(&mut self, trajectory: Trajectory) -> Result<(), DatasetError> {
        let filter = Filter { data: self.request.data, tokens: self.tokens };
        problems::broadcast(trajectory.steps)
            .into_iter()
            .try_for_each(|judged| self.selection.add(judged, filter, &mut self.trail))
    }

    /// What every stage did to the step that was followed, in order; nothing of one that never came.
    pub fn explain(self) -> Result<Vec<Verdict>, DatasetError> {
        let mut stages = self.run()?;
        stages.trail.placed(&stages.rows, &stages.splits);
        if let Err(why) = stages.check() {
            stages.trail.note("freeze", format!("there is no version: {why}"));
        }
        Ok(stages.trail.verdicts())
    }

    /// The replies that wait for a person, because what was said of them cannot all be so, and the
    /// bursts in which more was said than is usual.
    pub fn review(mut self) -> Result<Vec<Review>, DatasetError> {
        let selected = self.selection.finish(&mut Ledger::default(), &mut self.trail);
        review::all(&selected)
    }

    pub fn finish(self) -> Result<Draft, DatasetError> {
        let stages = self.run()?;
        stages.check()?;
        let (manifest, spill) = (stages.manifest.clone(), Arc::clone(&stages.spill));
        let draft = Draft::new(manifest, &stages.rows, &stages.splits, spill)?;
        let sources = stages.request.sources.to_vec();
        Ok(draft.beside(Beside { sources, late: stages.late }))
    }

    /// Every stage up to the split.
    fn run(self) -> Result<Stages<'a>, DatasetError> {
        let Self { request, reward, spill, selection, mut trail, names, lessons, tokens } = self;
        let data = request.data;
        if data.memory_slot > 0.0 && lessons.is_none() {
            return Err(DatasetError::NoLessons { share: data.memory_slot });
        }
        let policy = match data.redact {
            Redact::Standard | Redact::Names => Policy::Standard,
            Redact::Off => Policy::Off,
        };
        let names = match data.redact {
            Redact::Standard => names,
            Redact::Names => Names { recogniser: names.recogniser.or(Some(&Cues)), ..names },
            Redact::Off => Names::default(),
        };
        let mut ledger = Ledger::default();
        let selected = selection.finish(&mut ledger, &mut trail);
        let writer =
            Writer { spill: Arc::clone(&spill), suites: request.suites, seed: request.seed };
        let rewarding = Rewarding::of(reward, &selected);
        let mut rewriting =
            Rewriting { writer, masking: Masking::new(policy, names), rewarding: &rewarding };
        let mut rows = rewriting.steps(&selected, data, &mut ledger, &mut trail)?;
        rewriting.problems(&selected, &mut rows, &mut ledger)?;
        let before = rewriting.groups(&selected, &mut rows, &mut ledger)?;
        let redacted = rewriting.masking.close(before, rows.len(), &mut ledger);

        trail.follow("dedupe", &mut rows, |rows| dedupe(rows, data.dedupe, &mut ledger));
        trail.follow("decontaminate", &mut rows, |rows| decontaminate(rows, &mut ledger));
        let facts = &selected.facts;
        trail.follow_reasons("cap", &mut rows, |rows| cap(rows, facts, data, &mut ledger));
        let balance = trail
            .follow_reasons("balance", &mut rows, |rows| balance(rows, facts, data, &mut ledger));
        trail.follow("limit", &mut rows, |rows| limit(rows, data, &mut ledger));
        let Division { splits, leakage, cut } =
            trail.follow_reasons("split", &mut rows, |rows| split(rows, facts, data, &mut ledger));
        let slot = lessons.filter(|_| data.memory_slot > 0.0).map(|lessons| {
            let by = (request.task, request.seed);
            remember(&mut rows, by, data.memory_slot, lessons, &spill, &mut ledger)
        });
        let manifest = DatasetManifest {
            memory: slot.transpose()?,
            stages: ledger.into_stages(),
            leakage: Some(leakage),
            balance,
            cut,
            redacted,
            calibration: rewarding.calibration(),
            population: population(&rows, facts),
            tokenizer: tokens.filter(|_| data.counts_tokens()).map(Tokens::tokenizer),
            ..blank_manifest(request, reward, names.beside(policy))
        };
        let late = late(&rows, &selected)?;
        Ok(Stages { request, manifest, rows, splits, spill, trail, late })
    }
}

/// Everything that is decided.
struct Stages<'a> {
    request: Request<'a>,
    manifest: DatasetManifest,
    rows: Vec<Written>,
    splits: Vec<Split>,
    spill: Arc<Spill>,
    trail: Trail,
    late: BTreeSet<StepId>,
}

impl Stages<'_> {
    /// Whether it may be frozen.
    fn check(&self) -> Result<(), DatasetError> {
        let Request { task, data, suites, .. } = self.request;
        if let Some((what, count)) = self.manifest.leakage.iter().flatten().find(|it| *it.1 > 0) {
            return Err(DatasetError::Straddles { what: what.clone(), count: *count });
        }
        enough(&self.rows, task, data.min_verified)?;
        teaches(&self.rows, task)?;
        if self.manifest.cut.is_some() && !self.trains() {
            return Err(DatasetError::NothingBefore { share: data.holdout_newest });
        }
        assert_clean(&self.rows, suites)
    }
}

impl Stages<'_> {
    /// Whether anything that teaches is left to train on.
    fn trains(&self) -> bool {
        let splits = self.rows.iter().zip(&self.splits);
        splits.into_iter().any(|(row, split)| row.kind != RowKind::Labels && *split == Split::Train)
    }
}

/// The late ones among the steps that rows were made of.
fn late(rows: &[Written], selected: &Selected) -> Result<BTreeSet<StepId>, DatasetError> {
    let steps: BTreeSet<usize> = rows.iter().flat_map(Written::steps).collect();
    let late = steps.into_iter().filter(|nth| selected.facts[*nth].is_late);
    late.map(|nth| Ok(selected.candidate(nth)?.id)).collect()
}

/// All of a manifest that is known before the first stage.
fn blank_manifest(
    request: Request<'_>,
    reward: RewardPolicy,
    redaction: String,
) -> DatasetManifest {
    let mut against: Vec<_> = request.suites.iter().map(SuiteFingerprints::suite).collect();
    against.sort_unstable();
    against.dedup();
    DatasetManifest {
        schema: DatasetManifest::SCHEMA,
        task: request.task.clone(),
        sources: Vec::new(),
        data: Some(request.data.clone()),
        seed: Some(request.seed),
        reward_policy: reward.id().to_owned(),
        redaction,
        holdout: request.data.holdout,
        decontaminated_against: against,
        stages: Vec::new(),
        leakage: None,
        balance: [].into(),
        cut: None,
        redacted: [].into(),
        calibration: None,
        memory: None,
        population: None,
        tokenizer: None,
        files: Vec::new(),
    }
}

fn not_before(data: &Data, now: Timestamp) -> Result<Option<Timestamp>, DatasetError> {
    let Some(since) = &data.since else { return Ok(None) };
    let wrong = || DatasetError::Since(since.clone());
    let age = data.since_ms().ok_or_else(wrong)?;
    let earliest = now.as_millisecond().saturating_sub(age);
    Timestamp::from_millisecond(earliest).map(Some).map_err(|_| wrong())
}

/// An example is verified by the outcome that made it a row to imitate or to prefer, or told it from
/// the rest of its group.
fn enough(rows: &[Written], task: &TaskName, needed: u64) -> Result<(), DatasetError> {
    let taught = rows.iter().filter(|row| row.kind != RowKind::Labels && !row.is_prompt());
    let found = taught.map(|row| row.candidate).collect::<BTreeSet<_>>().len() as u64;
    if found < needed {
        let (task, missing) = (task.clone(), needed - found);
        return Err(DatasetError::NotEnough { task, needed, found, missing });
    }
    Ok(())
}

fn teaches(rows: &[Written], task: &TaskName) -> Result<(), DatasetError> {
    if rows.iter().any(|row| row.kind != RowKind::Labels) {
        return Ok(());
    }
    Err(DatasetError::Nothing { task: task.clone(), labels: rows.len() })
}
