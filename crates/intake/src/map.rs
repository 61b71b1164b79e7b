//! One pass over bodies that are new: which units they tell of, what these are tied to, and what all
//! of that amounts to now.
//!
//! Nothing is changed but by whole statements of what holds, and the place reached is noted last: a
//! pass that was interrupted is simply done again.

use std::collections::{BTreeMap, BTreeSet};

use understudy_ident::TaskName;
use understudy_ingest::telemetry::{self, Item};
use understudy_journal::{Journal, Notes};
use understudy_trajectory::{Conversation, Trajectory};

use crate::{
    IntakeError, Shared,
    bodies::{Bodies, Name, name},
    tell::Teller,
    wanting::Wanting,
};

/// As many bodies as one pass reads at most, and the bytes after which it reads no more.
const BODIES: usize = 256;
const BYTES: usize = 16 << 20;

/// Units that are read because somebody asks for a conversation. Where more are tied together, by a
/// greeting that thousands open with, one question is not worth reading all of them.
const ASKED: usize = 1024;

/// What a pass did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// New bodies; 0 once all have been read.
    pub bodies: usize,
    /// Steps and outcomes that are new or tell more than before.
    pub told: usize,
    /// Steps and outcomes that no longer follow from what has arrived.
    pub withdrawn: usize,
    /// Steps and outcomes whose id our own server or somebody's feedback has used for another.
    pub refused: usize,
}

pub(crate) struct Pass<'a> {
    journal: &'a Journal,
    mapper: String,
    bodies: &'a mut Bodies,
    wanting: &'a Wanting,
}

impl<'a> Pass<'a> {
    pub(crate) fn new(shared: &'a Shared, bodies: &'a mut Bodies) -> Self {
        let Shared { journal, mapper, wanting, .. } = shared;
        Self { journal, mapper: format!("mapper@{mapper}"), bodies, wanting }
    }

    pub(crate) fn run(mut self) -> Result<Progress, IntakeError> {
        let reading = self.journal.reading()?.filter(|reading| reading.mapper == self.mapper);
        let is_first = reading.is_none();
        let after = reading.map_or(0, |reading| reading.body);
        let mut last = after;
        let mut fresh: BTreeMap<Name, TaskName> = BTreeMap::new();
        let mut notes = self.notes();
        let mut progress = Progress::default();
        let mut bytes = 0;
        while progress.bodies < BODIES && bytes < BYTES {
            let Some(stored) = self.journal.bodies(last, 1)?.into_iter().next() else { break };
            last = stored.seq;
            bytes += stored.raw.as_ref().map_or(0, |raw| raw.body.len());
            progress.bodies += 1;
            let body = self.bodies.keep(stored);
            let Some(task) = &body.task else { continue };
            for (unit, _) in &body.items {
                notes.told_in.push((unit.clone(), last));
                fresh.entry(unit.clone()).or_insert_with(|| task.clone());
            }
        }
        if progress.bodies == 0 {
            self.finish(is_first, &mut progress)?;
            return Ok(progress);
        }
        notes.told_in.dedup();
        self.journal.note(notes)?;
        self.tie(&fresh)?;
        self.tell(fresh, &mut progress)?;
        self.journal.note(Notes { body: Some(last), ..self.notes() })?;
        Ok(progress)
    }

    /// The conversation that the steps of a trajectory are of, assembled again as a pass would.
    pub(crate) fn conversation(
        mut self,
        trajectory: &Trajectory,
    ) -> Result<Option<Conversation>, IntakeError> {
        let mut looked_at = BTreeSet::new();
        for judged in &trajectory.steps {
            for tie in telemetry::ties_of_step(&judged.step) {
                let units = self.journal.units_tied_by(&name(&judged.step.task, &tie))?;
                let found = self.told_in(units, trajectory, &judged.step.task, &mut looked_at)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
        Ok(None)
    }

    /// The conversation of a trajectory among those that these units and what is tied to them tell.
    fn told_in(
        &mut self,
        units: Vec<Name>,
        trajectory: &Trajectory,
        task: &TaskName,
        looked_at: &mut BTreeSet<Name>,
    ) -> Result<Option<Conversation>, IntakeError> {
        let tenant = task.tenant();
        let is_it = |one: &Conversation| one.id.within(tenant.as_ref()) == trajectory.id;
        for unit in units {
            if looked_at.contains(&unit) {
                continue;
            }
            let Some(units) = self.reached_from(unit.clone(), ASKED)? else {
                looked_at.insert(unit);
                continue;
            };
            let items = self.items(&units)?;
            looked_at.extend(units);
            let (items, _) = self.with_served(items, task)?;
            let found = telemetry::assemble(&items).conversations.into_iter().find(is_it);
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn notes(&self) -> Notes {
        Notes { mapper: self.mapper.clone(), ..Notes::default() }
    }

    /// Everything has been read by these rules: what only others made of it is over, unless its
    /// body has expired and nobody can read it again.
    fn finish(&self, is_first: bool, progress: &mut Progress) -> Result<(), IntakeError> {
        if is_first {
            self.journal.note(self.notes())?;
        }
        if !self.journal.has_forgotten_bodies()? {
            let mut teller = Teller::new(self.journal, &self.mapper, self.wanting);
            for id in self.journal.told_otherwise(&self.mapper)? {
                teller.withdraw(&id)?;
            }
            teller.finish(progress)?;
        }
        Ok(())
    }

    /// Finds the ties of units of which there is more than before.
    fn tie(&mut self, fresh: &BTreeMap<Name, TaskName>) -> Result<(), IntakeError> {
        let mut notes = self.notes();
        for (unit, task) in fresh {
            let items = self.items(&BTreeSet::from([unit.clone()]))?;
            let (_, ties) = self.with_served(items, task)?;
            notes.ties.extend(ties.iter().map(|tie| (name(task, tie), unit.clone())));
        }
        Ok(self.journal.note(notes)?)
    }

    /// Assembles each part of the bag that something new belongs to.
    fn tell(
        &mut self,
        mut fresh: BTreeMap<Name, TaskName>,
        progress: &mut Progress,
    ) -> Result<(), IntakeError> {
        let mapper = self.mapper.clone();
        let mut teller = Teller::new(self.journal, &mapper, self.wanting);
        while let Some((unit, task)) = fresh.pop_first() {
            let units = self.reached_from(unit, usize::MAX)?.unwrap_or_default();
            for unit in &units {
                fresh.remove(unit);
            }
            let items = self.items(&units)?;
            let (items, _) = self.with_served(items, &task)?;
            let assembled = telemetry::assemble(&items);
            teller.tell(&assembled, &task, telemetry::accounts(&items))?;
        }
        teller.finish(progress)
    }

    /// The units that are tied to this one; none where these are more than `most`.
    fn reached_from(&self, unit: Name, most: usize) -> Result<Option<BTreeSet<Name>>, IntakeError> {
        let mut reached = BTreeSet::from([unit.clone()]);
        let mut open = vec![unit];
        while let Some(unit) = open.pop() {
            for other in self.journal.tied_to(&unit)? {
                if reached.insert(other.clone()) {
                    open.push(other);
                }
            }
            if reached.len() > most {
                return Ok(None);
            }
        }
        Ok(Some(reached))
    }

    /// All items of these units, from whichever bodies.
    fn items(&mut self, units: &BTreeSet<Name>) -> Result<Vec<Item>, IntakeError> {
        let mut bodies = BTreeSet::new();
        for unit in units {
            bodies.extend(self.journal.bodies_of(unit)?);
        }
        let mut items = Vec::new();
        for seq in bodies {
            let body = self.bodies.read(seq)?;
            let own = body.items.iter().filter(|(unit, _)| units.contains(unit));
            items.extend(own.map(|(_, item)| item.clone()));
        }
        Ok(items)
    }

    /// Adds what our own server recorded of these calls; and the ties of it all.
    fn with_served(
        &self,
        mut items: Vec<Item>,
        task: &TaskName,
    ) -> Result<(Vec<Item>, BTreeSet<String>), IntakeError> {
        let ties = telemetry::ties(&items);
        let before = items.len();
        for response in telemetry::responses(&ties) {
            let served = self.journal.served(response)?;
            // Whoever learned the id of another tenant's reply learns no more by naming it.
            let own = served.filter(|step| step.task.tenant() == task.tenant());
            items.extend(own.map(|step| Item::Served(Box::new(step))));
        }
        if items.len() == before {
            return Ok((items, ties));
        }
        let ties = telemetry::ties(&items);
        Ok((items, ties))
    }
}
