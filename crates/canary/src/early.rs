//! Outcomes that came before the step they are about, by the names that step may have.

use std::collections::HashMap;

use understudy_trajectory::{Outcome, Step, Target};

/// Waiting outcomes; a step that arrives is only asked about those that may mean it.
#[derive(Debug, Default)]
pub(crate) struct Early {
    waiting: HashMap<Name, Vec<Outcome>>,
}

/// What an outcome calls its target.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Name {
    Response(String),
    Step(String),
    Trajectory(String),
    Session(String),
    Turn(String, u32),
}

impl Early {
    pub(crate) fn wait(&mut self, outcome: Outcome) {
        let name = match &outcome.target {
            Target::Response(id) => Name::Response(id.clone()),
            Target::Step(id) => Name::Step(id.clone()),
            Target::Trajectory(id) => Name::Trajectory(id.clone()),
            Target::Session(id) => Name::Session(id.clone()),
            Target::Turn { session, turn } => Name::Turn(session.clone(), *turn),
        };
        self.waiting.entry(name).or_default().push(outcome);
    }

    /// Takes out whatever names this step, in the order of its arrival for each name.
    pub(crate) fn about(&mut self, step: &Step) -> Vec<Outcome> {
        let names = [
            Some(Name::Response(step.response_id.clone())),
            Some(Name::Step(step.id.to_string())),
            Some(Name::Trajectory(step.trajectory.to_string())),
            step.session.clone().map(Name::Session),
            step.session.clone().map(|session| Name::Turn(session, step.turn())),
        ];
        let found = names.into_iter().flatten().filter_map(|name| self.waiting.remove(&name));
        found.flatten().collect()
    }
}
