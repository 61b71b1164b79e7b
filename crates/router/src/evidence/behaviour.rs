//! What replies do, one mark for each guard that watches it.

use serde::{Deserialize, Serialize};
use understudy_manifest::Guard;

/// The guards a reply, or any reply of a unit, gave a mark to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Guard>", into = "Vec<Guard>")]
pub struct Behaviour(u16);

impl Behaviour {
    /// Marks of guards that are not about behaviour say nothing.
    #[must_use]
    pub fn with(self, guard: Guard, marked: bool) -> Self {
        if marked && guard.is_behaviour() { Self(self.0 | bit(guard)) } else { self }
    }

    pub fn has(self, guard: Guard) -> bool {
        self.0 & bit(guard) != 0
    }

    pub fn is_clean(&self) -> bool {
        self.0 == 0
    }

    /// Its guards, in their order.
    pub fn guards(self) -> impl Iterator<Item = Guard> {
        Guard::ALL.into_iter().filter(move |guard| self.has(*guard))
    }

    /// What is in this and not in `before`.
    pub(super) fn new_since(self, before: Self) -> Self {
        Self(self.0 & !before.0)
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

fn bit(guard: Guard) -> u16 {
    1 << guard as u16
}

impl From<Vec<Guard>> for Behaviour {
    fn from(guards: Vec<Guard>) -> Self {
        guards.into_iter().fold(Self::default(), |all, guard| all.with(guard, true))
    }
}

impl From<Behaviour> for Vec<Guard> {
    fn from(behaviour: Behaviour) -> Self {
        behaviour.guards().collect()
    }
}
