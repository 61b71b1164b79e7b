//! The controller: one tick brings routes and evidence up to date and carries out a verdict.

mod serving;
mod staging;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use understudy_ident::{Clock, TaskName};
use understudy_inference::{AdapterChoice, Student};
use understudy_journal::Journal;
use understudy_manifest::Fallback;
use understudy_registry::{
    Change, PauseReason, Registry, RegistryError, ReleaseRecord, ReleaseState, Target as Serving,
};
use understudy_router::{
    Canary, Exposure, Judgement, Route, RouteTable, Support, Target, TaskRoute, Verdict,
};

use self::staging::Staging;
use crate::{
    CanaryError, DeadMan, Lessons, Rules,
    watch::{READ_TO, Watch},
};

/// Who answers for the controller's own decisions in the audit chain.
const OWNER: &str = "canary controller";

/// A release whose evidence could not be read so often in a row is paused: a canary that nobody
/// watches serves nobody.
const MOST_FAILURES: u32 = 4;

/// Long enough for a large adapter and a slow line.
const PATIENCE: Duration = Duration::from_mins(10);

/// What a controller works with.
#[derive(Debug)]
pub struct Parts {
    pub registry: Arc<Registry>,
    pub journal: Journal,
    pub routes: Arc<RouteTable>,
    pub student: Arc<dyn Student>,
    pub clock: Arc<dyn Clock>,
    /// Routed although nothing has been registered for them yet.
    pub tasks: Vec<TaskName>,
    /// What serves a task before its first promotion: the teacher, or the base without one.
    pub first: Serving,
    /// Where there is a memory, its releases are carried out as well.
    pub lessons: Option<Arc<Lessons>>,
}

/// Something that happened, as a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub task: TaskName,
    pub text: String,
}

#[derive(Debug)]
pub struct Controller {
    parts: Parts,
    watches: BTreeMap<TaskName, Watch>,
    /// How often in a row the evidence of a task could not be read.
    failures: BTreeMap<TaskName, u32>,
    /// Releases whose candidates wait to come on stage.
    staging: BTreeMap<TaskName, Staging>,
    /// How long the servers that follow may take to have a candidate.
    pub(crate) patience: Duration,
    dead_man: Arc<DeadMan>,
}

impl Controller {
    pub fn new(parts: Parts) -> Self {
        let tables = parts.lessons.iter().map(|lessons| Arc::clone(lessons.routes()));
        let tables = std::iter::once(Arc::clone(&parts.routes)).chain(tables).collect();
        let dead_man = Arc::new(DeadMan::over(tables));
        let (watches, failures, staging) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { parts, watches, failures, staging, patience: PATIENCE, dead_man }
    }

    /// For a thread that looks whether this one still does.
    pub fn dead_man(&self) -> Arc<DeadMan> {
        Arc::clone(&self.dead_man)
    }

    /// Brings every task up to date. An error of one task does not keep the others waiting: the
    /// first one is returned after all were tried, and the next tick tries again.
    pub fn tick(&mut self) -> Result<Vec<Note>, CanaryError> {
        let mut tasks = self.parts.registry.tasks()?;
        tasks.extend(self.parts.tasks.iter().cloned());
        tasks.sort();
        tasks.dedup();
        tasks.extend(self.parts.lessons.iter().map(|lessons| lessons.channel().clone()));
        let mut notes = Vec::new();
        let mut failed = None;
        for task in tasks {
            match self.tick_task(&task) {
                Ok(new) => notes.extend(new),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        // The last change before a silence is signed by nobody else.
        let signed = self.parts.registry.checkpoint_in_time(self.parts.clock.now());
        let signed = signed.map(|_| Vec::new()).map_err(CanaryError::from);
        for followed in [self.follow_revocations(), self.follow_lessons(), signed] {
            match followed {
                Ok(new) => notes.extend(new),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(error) if notes.is_empty() => Err(error),
            _ => Ok(notes),
        }
    }

    /// The memory's store follows what was decided, in this tick or by a person.
    fn follow_lessons(&self) -> Result<Vec<Note>, CanaryError> {
        let Some(lessons) = &self.parts.lessons else { return Ok(Vec::new()) };
        let done = lessons.follow(&self.parts.registry, &*self.parts.clock)?;
        let task = lessons.channel();
        Ok(done.into_iter().map(|text| Note { task: task.clone(), text }).collect())
    }

    /// The memory, where this is its channel.
    fn lessons_of(&self, task: &TaskName) -> Option<&Lessons> {
        self.parts.lessons.as_deref().filter(|lessons| lessons.channel() == task)
    }

    fn tick_task(&mut self, task: &TaskName) -> Result<Vec<Note>, CanaryError> {
        let mut notes = self.look_after(task)?;
        if self.dead_man.is_alive(task) {
            // Its evidence has been read again, so its canary may be met again.
            notes.extend(self.follow_registry(task)?);
        }
        Ok(notes)
    }

    fn look_after(&mut self, task: &TaskName) -> Result<Vec<Note>, CanaryError> {
        let mut notes: Vec<Note> = self.stage(task)?.into_iter().collect();
        notes.extend(self.follow_registry(task)?);
        let open = self.parts.registry.open_release(task)?;
        let Some(release) = open.filter(|open| open.state == ReleaseState::Ramping) else {
            self.watches.remove(task);
            return Ok(notes);
        };
        if let Some(note) = self.breach(task, &release)? {
            notes.push(note);
            notes.extend(self.follow_registry(task)?);
            return Ok(notes);
        }
        let judgement = match self.look(task, &release) {
            Ok(judgement) => judgement,
            Err(error) => {
                notes.push(self.blind(task, &release, error)?);
                notes.extend(self.follow_registry(task)?);
                return Ok(notes);
            }
        };
        self.failures.remove(task);
        if let Some(judgement) = judgement {
            notes.extend(self.carry_out(task, &release, &judgement)?);
            // The route follows the decision within the same tick.
            notes.extend(self.follow_registry(task)?);
        }
        Ok(notes)
    }

    /// Publishes the route the registry asks for, if it differs from the one in force.
    fn follow_registry(&self, task: &TaskName) -> Result<Option<Note>, CanaryError> {
        let parts = &self.parts;
        let lessons = self.lessons_of(task);
        let first = if lessons.is_some() { Serving::Base } else { parts.first.clone() };
        let routes = lessons.map_or(&parts.routes, Lessons::routes);
        let stable = parts.registry.stable(task)?.unwrap_or(first);
        let open = parts.registry.open_release(task)?;
        let routed = open.as_ref().filter(|open| {
            let is_ramping = open.state == ReleaseState::Ramping;
            (is_ramping || self.is_shown(open)) && !self.dead_man.has_taken_off(task)
        });
        let canary = match routed.map(|release| self.canary(release)).transpose() {
            Ok(canary) => canary,
            Err(error) => {
                let refused = self.refuse(task, routed, &error)?;
                // With the release gone, the route is the stable one.
                self.follow_registry(task)?;
                return Ok(Some(refused));
            }
        };
        // Who only waits is not watched either.
        let on_stage = canary.as_ref().filter(|canary| canary.share > Exposure::NONE);
        let candidate = on_stage.map(|canary| canary.target.clone());
        let (tap, support) = match self.latest_rules(task)? {
            // Nobody stands beside a lesson.
            _ if lessons.is_some() => (None, Support::default()),
            Some(rules) if stable != Serving::Teacher => {
                (rules.tap(task), rules.support(task, candidate))
            }
            // The teacher needs none beside it, and steps in as what it is: the stable arm.
            Some(rules) if candidate.is_some() => {
                let support = rules.support(task, candidate);
                let fallback = vec![Fallback::Stable];
                (None, Support { observe: None, escalate: None, fallback, ..support })
            }
            _ => (None, Support::default()),
        };
        let stable = self.serving(task, &stable, routes.get(task).as_deref())?;
        let route = Route { stable, canary, tap, support };
        let release = routed.map(|release| release.id.to_string());
        let wanted = TaskRoute { route, release };
        if routes.get(task).is_some_and(|current| *current == wanted) {
            return Ok(None);
        }
        let text = describe(&wanted, lessons.is_some());
        routes.publish(task.clone(), wanted.route, wanted.release);
        Ok(Some(Note { task: task.clone(), text }))
    }

    /// A candidate that cannot be loaded is sent back before it meets anybody.
    fn refuse(
        &self,
        task: &TaskName,
        release: Option<&ReleaseRecord>,
        error: &CanaryError,
    ) -> Result<Note, CanaryError> {
        let text = format!("{error}; the release is rolled back");
        if let Some(release) = release {
            self.parts.registry.roll_back(&release.id, self.says(&text))?;
        }
        Ok(Note { task: task.clone(), text })
    }

    fn canary(&self, release: &ReleaseRecord) -> Result<Canary, CanaryError> {
        let rules = Rules::read(release)?;
        let share = match release.state {
            ReleaseState::Ramping => rules.policy.steps.share(release.step as usize),
            _ => Exposure::NONE,
        };
        Ok(Canary { target: self.load(&release.candidate)?, share, salt: release.salt.parse()? })
    }

    /// The rules of the newest release, which also say how large the tap is between releases.
    fn latest_rules(&self, task: &TaskName) -> Result<Option<Rules>, CanaryError> {
        self.parts.registry.releases(task)?.last().map(Rules::read).transpose()
    }

    /// Reads what has arrived and judges it; `None` when nothing has, and the release is not too old.
    fn look(
        &mut self,
        task: &TaskName,
        release: &ReleaseRecord,
    ) -> Result<Option<Judgement>, CanaryError> {
        // What people did to it since, such as to let it go on, is in the audit chain.
        let known = self
            .watches
            .get(task)
            .is_some_and(|watch| watch.release == release.id && watch.revision == release.revision);
        if !known {
            let audit = self.parts.registry.audit(Some(task))?;
            self.watches.insert(task.clone(), Watch::begin(release, &audit)?);
        }
        let Some(watch) = self.watches.get_mut(task) else { return Ok(None) };
        let news = watch.read(&self.parts.journal)?;
        let is_over_age = watch.is_over_age(self.parts.clock.now().as_millisecond());
        Ok((news || !known || is_over_age).then(|| watch.judge(release.step)))
    }

    /// A candidate that at least half of the replicas leave alone for failing goes back at once: no
    /// evidence is needed of what does not answer.
    fn breach(
        &mut self,
        task: &TaskName,
        release: &ReleaseRecord,
    ) -> Result<Option<Note>, CanaryError> {
        if self.lessons_of(task).is_some() {
            return Ok(None);
        }
        let candidate = AdapterChoice::Alias(release.candidate.to_string());
        let Some((out, all)) = self.parts.student.out_of_order(&candidate) else {
            return Ok(None);
        };
        // Where the base fails as well, it is the replicas that are ill and not the candidate.
        let stable_too = match self.parts.registry.stable(task)? {
            Some(Serving::Adapter(version)) => {
                let stable = AdapterChoice::Alias(version.to_string());
                self.parts.student.out_of_order(&stable).is_some_and(|(stable, _)| stable >= out)
            }
            _ => self.parts.student.check().is_err(),
        };
        if out == 0 || out * 2 < all || stable_too {
            return Ok(None);
        }
        let text = format!(
            "{out} of {all} replicas leave {} alone for failing; the release is rolled back",
            release.candidate
        );
        self.parts.registry.roll_back(&release.id, self.says(&text))?;
        Ok(Some(Note { task: task.clone(), text }))
    }

    /// The evidence could not be read: an error as long as that may pass, then a pause.
    pub(crate) fn blind(
        &mut self,
        task: &TaskName,
        release: &ReleaseRecord,
        error: CanaryError,
    ) -> Result<Note, CanaryError> {
        let failures = self.failures.entry(task.clone()).or_insert(0);
        *failures += 1;
        if *failures < MOST_FAILURES {
            return Err(error);
        }
        let reason = format!("its evidence could not be read {failures} times in a row: {error}");
        let because = PauseReason::MetricError;
        self.parts.registry.pause(&release.id, because, self.says(&reason))?;
        self.failures.remove(task);
        Ok(Note { task: task.clone(), text: format!("{} is paused: {reason}", release.candidate) })
    }

    fn carry_out(
        &mut self,
        task: &TaskName,
        release: &ReleaseRecord,
        judgement: &Judgement,
    ) -> Result<Option<Note>, CanaryError> {
        let registry = &self.parts.registry;
        let read_to = self.watches.get(task).map_or(0, |watch| watch.read_to);
        let evidence = json!({READ_TO: read_to, "judgement": judgement});
        let reason = judgement.to_string();
        let change = self.change(&reason, &evidence);
        let decided = match &judgement.verdict {
            Verdict::Hold { .. } => return Ok(None),
            Verdict::Advance { to_step } => {
                let to_step = *to_step as u32;
                registry.advance(&release.id, release.revision, to_step, change)
            }
            Verdict::Promote { .. } => registry.promote(&release.id, release.revision, change),
            Verdict::RollBack { .. } => registry.roll_back(&release.id, change),
            verdict => registry.pause(&release.id, why_paused(verdict), change),
        };
        let decided = match decided {
            // What the evidence says will still be true when the freeze is over.
            Err(RegistryError::Frozen { .. }) => return Ok(None),
            Err(error @ RegistryError::NotAdmitted { .. }) => {
                let because = PauseReason::NotAdmitted;
                registry.pause(&release.id, because, self.says(&error.to_string()))?
            }
            decided => decided?,
        };
        if decided.state == ReleaseState::Ramping
            && let Some(watch) = self.watches.get_mut(task)
        {
            watch.enter(decided.step);
            watch.revision = decided.revision;
        }
        let text = format!("{}: {reason}", what_happened(&decided));
        Ok(Some(Note { task: task.clone(), text }))
    }

    /// A change without evidence, in the controller's name.
    fn says<'a>(&'a self, reason: &'a str) -> Change<'a> {
        Change::new(OWNER, reason, &*self.parts.clock).by_program()
    }

    fn change<'a>(&'a self, reason: &'a str, evidence: &'a Value) -> Change<'a> {
        self.says(reason).with_evidence(evidence)
    }
}

fn why_paused(verdict: &Verdict) -> PauseReason {
    match verdict {
        Verdict::Invalid => PauseReason::Invalid,
        Verdict::Stalled { .. } => PauseReason::LowTraffic,
        _ => PauseReason::Inconclusive,
    }
}

fn what_happened(release: &ReleaseRecord) -> String {
    let candidate = &release.candidate;
    match release.state {
        ReleaseState::Ramping => format!("{candidate} goes on to step {}", release.step + 1),
        ReleaseState::Promoted => format!("{candidate} is promoted"),
        ReleaseState::RolledBack => format!("{candidate} is rolled back"),
        ReleaseState::AwaitingApproval => format!("{candidate} waits for somebody to promote it"),
        _ => format!("{candidate} is paused for a person to decide"),
    }
}

fn describe(wanted: &TaskRoute, of_memory: bool) -> String {
    let name = |target: &Target| match target {
        Target::Teacher => "the teacher".to_owned(),
        Target::Base if of_memory => "no lessons".to_owned(),
        Target::Base => "the base".to_owned(),
        Target::Adapter { version, .. } => version.clone(),
    };
    let canary = wanted.route.canary.as_ref().map(|canary| {
        let (percent, name) = (canary.share.get() * 100.0, name(&canary.target));
        if canary.share == Exposure::NONE {
            return format!(", and the canary {name} waits");
        }
        format!(", {percent:.0} % to the canary {name}")
    });
    format!("routed to {}{}", name(&wanted.route.stable), canary.unwrap_or_default())
}
