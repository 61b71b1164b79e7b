//! The supervisor: one tick decides, or takes one step of the turn that is under way.

use std::fmt;

use serde::{Deserialize, Serialize};
use understudy_ident::Timestamp;
use understudy_manifest::{ApprovalStep, Recipe, Unattended};

use crate::{
    Decision, Fact, Lookout, Note, NoteKind, Observer, OrchestratorError, Past, Ports, Run,
    RunStore, Sight, Turn, decide,
    decide::{at, quiet_until},
    drive::take,
    fact::turn_of,
    plan::{Finish, Next, next},
};

/// After the first failure of a step; twice as long after each further one.
const FIRST_RETRY_MS: i64 = 15_000;

/// Runs the loop of one recipe. All its memory is in the store: another one over the same store goes
/// on where this one stopped.
pub struct Supervisor<'a> {
    recipe: Recipe,
    settings: Unattended,
    store: &'a RunStore,
    ports: &'a dyn Ports,
    lookout: Box<dyn Lookout + 'a>,
    /// Not before this a step that failed is tried again.
    retry: Option<Timestamp>,
    /// The key of the last thing it said about waiting.
    said: Option<String>,
}

/// What one tick came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Tick {
    Decided(Decision),
    Held {
        step: Next,
        by: StepHold,
    },
    Advanced(Box<Fact>),
    /// Live evidence has not decided yet.
    Waits {
        step: Next,
    },
    Failed {
        step: &'static str,
        why: String,
    },
    Ended(Finish),
}

/// Why a step of a turn under way does not begin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "hold", rename_all = "snake_case")]
pub enum StepHold {
    Approval {
        step: ApprovalStep,
    },
    Paused {
        owner: String,
        reason: String,
    },
    QuietHours {
        until: Timestamp,
    },
    Retry {
        until: Timestamp,
    },
    /// The registry wants something first.
    Outside {
        what: String,
    },
}

impl<'a> Supervisor<'a> {
    /// `settings` may be newer than those a run under way began with; they hold for it too.
    pub fn new(
        recipe: Recipe,
        settings: Unattended,
        store: &'a RunStore,
        ports: &'a dyn Ports,
        lookout: Box<dyn Lookout + 'a>,
    ) -> Self {
        Self { recipe, settings, store, ports, lookout, retry: None, said: None }
    }

    /// Decides, or takes one step. Every fact is durable before this returns.
    pub fn tick(&mut self, observer: &mut dyn Observer) -> Result<Tick, OrchestratorError> {
        let past = Past::read(self.store, &self.recipe.task)?;
        let now = self.store.now();
        if let Some(run) = &past.unended
            && let Some(ended) = self.end(run, now)?
        {
            return Ok(ended);
        }
        if let Some(run) = past.open.clone() {
            return self.go_on(&run, &past, now, observer);
        }
        let sight = self.look(&past)?;
        let decision = decide(&self.settings, self.recipe.data.min_verified, &sight, &past, now);
        self.say_once(&decision.key(), NoteKind::Decided, &format!("the loop {decision}"), None)?;
        if let Decision::Train { because } = &decision {
            self.begin(&past, &sight, &because.to_string())?;
        }
        Ok(Tick::Decided(decision))
    }

    /// What there is to see at present.
    pub fn look(&mut self, past: &Past) -> Result<Sight, OrchestratorError> {
        self.lookout.look(past.learnt_to).map_err(OrchestratorError::Lookout)
    }

    fn begin(
        &mut self,
        past: &Past,
        sight: &Sight,
        because: &str,
    ) -> Result<(), OrchestratorError> {
        let at = self.store.now();
        let number = past.turns + 1;
        let run = self.store.begin_turn(&self.recipe, number, because)?;
        if !self.store.facts(&run.id)?.is_empty() {
            return Ok(());
        }
        let turn = Turn {
            number,
            until: sight.until,
            at,
            because: because.to_owned(),
            serving: sight.serving.clone(),
        };
        self.store.add(&run.id, &Fact::TurnBegan(turn))?;
        let text = format!("turn {number} of {} begins, because {because}", self.recipe.task);
        self.write(Note::new(NoteKind::Began, at, text).of_run(&run.id))
    }

    fn go_on(
        &mut self,
        run: &Run,
        past: &Past,
        now: Timestamp,
        observer: &mut dyn Observer,
    ) -> Result<Tick, OrchestratorError> {
        let facts = self.store.facts(&run.id)?;
        let step = next(&run.recipe, &facts);
        if let Some(by) = self.hold(&step, &facts, past, now)? {
            let key = format!("{step}: {}", by.key());
            let text = format!("{step} waits for {by}");
            self.say_once(&key, NoteKind::Held, &text, Some(run))?;
            return Ok(Tick::Held { step, by });
        }
        observer.begins(&step);
        let fact = match take(&step, run, turn_of(&facts), self.ports) {
            Ok(Some(fact)) => self.remembered(run, fact)?,
            Ok(None) => return Ok(Tick::Waits { step }),
            Err(OrchestratorError::Step { step, source }) => {
                let why = source.to_string();
                return self.failed(run, &facts, step, why, self.store.now());
            }
            Err(other) => return Err(other),
        };
        // The step may have taken hours.
        let now = self.store.now();
        self.retry = None;
        self.said = None;
        self.store.add(&run.id, &fact)?;
        observer.happened(&fact);
        self.write(Note::new(NoteKind::Did, now, fact.sentence()).of_run(&run.id))?;
        self.end(run, now).map(|ended| ended.unwrap_or_else(|| Tick::Advanced(Box::new(fact))))
    }

    /// A dataset whose worth is known is not trained on again: refused once, it would be refused
    /// again, and promoted once, it would come to the same weights.
    fn remembered(&self, run: &Run, fact: Fact) -> Result<Fact, OrchestratorError> {
        let Fact::DatasetFrozen { version, .. } = &fact else { return Ok(fact) };
        let known = self.store.tried_before(&version.digest, &run.recipe)?;
        Ok(known.map_or(fact, |(run, why)| Fact::AlreadyTried { run, why }))
    }

    fn failed(
        &mut self,
        run: &Run,
        facts: &[Fact],
        step: &'static str,
        why: String,
        now: Timestamp,
    ) -> Result<Tick, OrchestratorError> {
        let tail = facts.iter().rev();
        let before = tail.take_while(|fact| matches!(fact, Fact::StepFailed { .. })).count();
        let pause = FIRST_RETRY_MS << before.min(8);
        self.retry = Timestamp::from_millisecond(now.as_millisecond() + pause).ok();
        let failed = Fact::StepFailed { step: step.to_owned(), why: why.clone() };
        self.store.add(&run.id, &failed)?;
        self.write(Note::new(NoteKind::Failed, now, failed.sentence()).of_run(&run.id))?;
        Ok(self.end(run, now)?.unwrap_or(Tick::Failed { step, why }))
    }

    fn end(&mut self, run: &Run, now: Timestamp) -> Result<Option<Tick>, OrchestratorError> {
        let facts = self.store.facts(&run.id)?;
        let Next::Finished(finish) = next(&run.recipe, &facts) else { return Ok(None) };
        self.store.finish(&run.id, &finish)?;
        let number = turn_of(&facts).map_or(0, |turn| turn.number);
        let text = format!("turn {number} of {} is over: {finish}", self.recipe.task);
        self.write(Note::new(NoteKind::Ended, now, text).of_run(&run.id))?;
        self.retry = None;
        self.said = None;
        Ok(Some(Tick::Ended(finish)))
    }

    fn hold(
        &self,
        step: &Next,
        facts: &[Fact],
        past: &Past,
        now: Timestamp,
    ) -> Result<Option<StepHold>, OrchestratorError> {
        if matches!(step, Next::AwaitRelease { .. } | Next::Finished(_)) {
            return Ok(None);
        }
        if let Some(paused) = &past.paused {
            let (owner, reason) = (paused.owner.clone(), paused.reason.clone());
            return Ok(Some(StepHold::Paused { owner, reason }));
        }
        if let Some(until) = self.retry.filter(|until| *until > now) {
            return Ok(Some(StepHold::Retry { until }));
        }
        if let Some(wanted) = step.approval().filter(|step| self.settings.approve.contains(step)) {
            let given = facts
                .iter()
                .any(|fact| matches!(fact, Fact::Approved { step, .. } if *step == wanted));
            if !given {
                return Ok(Some(StepHold::Approval { step: wanted }));
            }
        }
        if step.is_costly()
            && let Some(until) = quiet_until(&self.settings, now)
        {
            return Ok(Some(StepHold::QuietHours { until }));
        }
        let Next::StartRelease { version } = step else { return Ok(None) };
        let not_yet = self.ports.not_yet(&self.recipe, version);
        let not_yet = not_yet.map_err(OrchestratorError::Lookout)?;
        Ok(not_yet.map(|what| StepHold::Outside { what }))
    }

    /// Says what has not been said last, also across restarts.
    fn say_once(
        &mut self,
        key: &str,
        kind: NoteKind,
        text: &str,
        run: Option<&Run>,
    ) -> Result<(), OrchestratorError> {
        if self.said.is_none() {
            let notes = self.store.notes(&self.recipe.task)?;
            self.said = notes.last().and_then(|note| note.key.clone());
        }
        if self.said.as_deref() == Some(key) {
            return Ok(());
        }
        let note = Note::new(kind, self.store.now(), text).with_key(key.to_owned());
        self.said = Some(key.to_owned());
        self.write(match run {
            Some(run) => note.of_run(&run.id),
            None => note,
        })
    }

    fn write(&self, note: Note) -> Result<(), OrchestratorError> {
        self.store.note(&self.recipe.task, &note)
    }
}

impl StepHold {
    fn key(&self) -> &'static str {
        match self {
            Self::Approval { .. } => "approval",
            Self::Paused { .. } => "paused",
            Self::QuietHours { .. } => "quiet hours",
            Self::Retry { .. } => "retry",
            Self::Outside { .. } => "outside",
        }
    }
}

impl fmt::Display for StepHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Approval { step } => write!(
                f,
                "a person: `understudy loop approve` lets it {step}, `understudy loop decline` ends \
                 the turn"
            ),
            Self::Paused { owner, reason } => write!(f, "{owner}, who paused the loop: {reason}"),
            Self::QuietHours { until } => write!(f, "the end of the quiet hours at {}", at(until)),
            Self::Retry { until } => write!(f, "another try at {}", at(until)),
            Self::Outside { what } => f.write_str(what),
        }
    }
}

impl fmt::Debug for Supervisor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Supervisor({})", self.recipe.task)
    }
}
