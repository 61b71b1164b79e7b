//! The demo's world: who comes to the desk when, and what is left to do after an interruption.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use understudy_inference::Backend;
use understudy_journal::Query;
use understudy_manifest::{Recipe, Suite, Tier};
use understudy_message::Role;
use understudy_supportdesk::{Expert, Temper, Ticket, Wording, suite, tickets};
use understudy_teacher::ScriptedTeacher;
use understudy_trajectory::Signal;

use crate::{
    demo::users::{Reply, Session},
    wiring::Stores,
};

/// How much happens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    captured: usize,
    poisoned: usize,
    cases: usize,
    /// Of the recipe's training: preferences take as long as imitation, and move little on so few.
    stages: usize,
    /// More would come; a canary that has not decided by then is inconclusive long before.
    live: usize,
}

impl Size {
    pub(super) fn of(short: bool) -> Self {
        if short {
            Self { captured: 140, poisoned: 0, cases: 28, stages: 1, live: 4000 }
        } else {
            Self { captured: 280, poisoned: 98, cases: 112, stages: usize::MAX, live: 8000 }
        }
    }
}

pub(super) struct World {
    pub(super) recipe: Recipe,
    /// Sealed: other wordings, names and values than anything below.
    pub(super) suite: Suite,
    production: Vec<Ticket>,
    poisoned: Vec<Ticket>,
    size: Size,
}

impl World {
    pub(super) fn new(seed: u64, size: Size) -> Result<Self> {
        let mut recipe = Recipe { seed, ..super::recipe()? };
        recipe.train.truncate(size.stages);
        let suite = suite(recipe.task.clone(), Tier::Sealed, seed + 1, size.cases);
        Ok(Self {
            recipe,
            suite,
            production: tickets(seed + 2, Wording::Production, size.captured + size.live),
            poisoned: tickets(seed + 3, Wording::Production, size.poisoned),
            size,
        })
    }

    /// What the poisoned run follows: the same recipe, over the newest outcomes only.
    pub(super) fn poisoned_recipe(&self) -> Recipe {
        let mut recipe = self.recipe.clone();
        recipe.data.limit = Some(self.size.poisoned as u64);
        // Enough to learn the wrong thing thoroughly; preferences would only repeat it.
        recipe.train.truncate(1);
        recipe
    }

    /// Sessions of the first day that are not finished yet.
    pub(super) fn captured(&self, stores: &Stores) -> Result<Vec<Session>> {
        let tickets = &self.production[..self.size.captured];
        self.unfinished(stores, "day-one", tickets, Temper::Honest)
    }

    /// Sessions of the poisoned users that are not finished yet.
    pub(super) fn poisoned(&self, stores: &Stores) -> Result<Vec<Session>> {
        self.unfinished(stores, "poisoned", &self.poisoned, Temper::Poisoned)
    }

    /// Everybody who comes after the first day, from the first one who has not been here.
    pub(super) fn live(&self, stores: &Stores) -> Result<impl Iterator<Item = Session> + use<>> {
        let tickets = &self.production[self.size.captured..];
        Ok(self.unfinished(stores, "later", tickets, Temper::Honest)?.into_iter())
    }

    /// A session is finished once its last reply has an outcome that ends it. One that was cut off
    /// goes on from its last reply; outcome ids make telling it twice harmless.
    fn unfinished(
        &self,
        stores: &Stores,
        phase: &str,
        tickets: &[Ticket],
        temper: Temper,
    ) -> Result<Vec<Session>> {
        let query = Query { task: Some(self.recipe.task.clone()), ..Query::default() };
        let mut known: BTreeMap<String, (Vec<Reply>, bool)> = BTreeMap::new();
        for trajectory in stores.journal.trajectories(&query)? {
            for judged in trajectory.steps {
                let Some(name) = judged.step.session.clone() else { continue };
                let (replies, finished) = known.entry(name).or_default();
                let ends = |signal: &Signal| !matches!(signal, Signal::Regenerate { .. });
                *finished = judged.outcomes.iter().any(|outcome| ends(&outcome.signal));
                let text = judged.step.reply.text();
                // A reply that failed was never seen: it is asked for again.
                if judged.step.error.is_none() {
                    replies.push(Reply { response_id: judged.step.response_id, text });
                }
            }
        }
        let sessions = tickets.iter().enumerate().filter_map(|(n, ticket)| {
            let name = format!("{phase}-{n:04}");
            let (replies, finished) = known.remove(&name).unwrap_or_default();
            (!finished).then(|| Session { name, ticket: ticket.clone(), temper, replies })
        });
        Ok(sessions.collect())
    }
}

/// The scripted expert as a teacher. It takes more care when the same question comes again.
pub(super) fn teacher() -> Result<Arc<dyn Backend>> {
    let expert = Expert::default();
    let asked: Mutex<BTreeMap<String, u64>> = Mutex::default();
    let teacher = ScriptedTeacher::new("scripted-expert", move |messages| {
        let question = messages.iter().rev().find(|message| message.role == Role::User);
        let question = question.map(understudy_message::Message::text).unwrap_or_default();
        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        let times = asked.entry(question.clone()).or_default();
        let attempt = *times;
        *times += 1;
        Ok(expert.answer(&question, attempt))
    })?;
    Ok(Arc::new(teacher))
}
