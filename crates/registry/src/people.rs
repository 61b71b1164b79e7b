//! Who may do what. As long as nobody has been granted a role, everybody may do everything: a
//! registry on one person's machine needs no ceremony. From the first grant on, the tables decide.
//!
//! A name is what the caller says it is; that it is true is for whoever lets people in.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use understudy_ident::Timestamp;

use crate::{
    Change, Registry, RegistryError, Role,
    audit::Action,
    change::{Actor, said},
    fact,
};

/// One role given to a person, or taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub person: String,
    pub role: Role,
    pub granted: bool,
    pub owner: String,
    pub reason: String,
    pub at: Timestamp,
}

/// Every person that has a role, with all of them.
pub type People = BTreeMap<String, BTreeSet<Role>>;

impl Registry {
    pub fn people(&self) -> Result<People, RegistryError> {
        self.read(people)
    }

    /// Gives a person a role, or takes it back. The first role that is given must be a release
    /// manager's, and the last of them cannot be taken, so that nobody is locked out. Granting what
    /// is granted changes nothing.
    pub fn grant(
        &self,
        person: &str,
        role: Role,
        granted: bool,
        change: Change<'_>,
    ) -> Result<People, RegistryError> {
        said("name of the person", person)?;
        self.once(change, &("grant", person, role, granted), |transaction| {
            let mut people = people(transaction)?;
            allow(transaction, change, &[Role::ReleaseManager], "grant a role")?;
            let holds = people.get(person).is_some_and(|roles| roles.contains(&role));
            if holds == granted {
                return Ok(people);
            }
            let roles = people.entry(person.to_owned()).or_default();
            if granted {
                roles.insert(role)
            } else {
                roles.remove(&role)
            };
            people.retain(|_, roles| !roles.is_empty());
            if !people.values().any(|roles| roles.contains(&Role::ReleaseManager)) {
                return Err(RegistryError::NoManagerLeft);
            }
            let record = Grant {
                person: person.to_owned(),
                role,
                granted,
                owner: change.owner.to_owned(),
                reason: change.reason.to_owned(),
                at: change.now(),
            };
            fact::add(transaction, Action::Grant, None, person, &record, change)?;
            Ok(people)
        })
    }
}

pub(crate) fn people(connection: &Connection) -> Result<People, RegistryError> {
    let mut people = People::new();
    for Grant { person, role, granted, .. } in fact::all(connection, Action::Grant)? {
        let roles = people.entry(person).or_default();
        if granted {
            roles.insert(role)
        } else {
            roles.remove(&role)
        };
    }
    people.retain(|_, roles| !roles.is_empty());
    Ok(people)
}

/// Refuses whoever has none of the roles that may do this.
pub(crate) fn allow(
    connection: &Connection,
    change: Change<'_>,
    who: &[Role],
    what: &'static str,
) -> Result<(), RegistryError> {
    allow_name(connection, (change.owner, change.actor), who, what)?;
    match change.forced {
        Some(forced) => allow_override(connection, &forced.owner),
        None => Ok(()),
    }
}

/// Refuses an override that its owner may not answer for.
pub(crate) fn allow_override(connection: &Connection, owner: &str) -> Result<(), RegistryError> {
    let actor = (owner, Actor::Person);
    allow_name(connection, actor, &[Role::Override], "override the rules")
}

fn allow_name(
    connection: &Connection,
    (name, actor): (&str, Actor),
    who: &[Role],
    what: &'static str,
) -> Result<(), RegistryError> {
    if who.len() == Role::ALL.len() {
        return Ok(());
    }
    let may = match actor {
        Actor::Program => who.contains(&Role::Controller),
        Actor::Person => {
            let people = people(connection)?;
            let roles = people.get(name);
            people.is_empty()
                || roles.is_some_and(|roles| who.iter().any(|role| roles.contains(role)))
        }
    };
    if may {
        return Ok(());
    }
    let name = name.to_owned();
    Err(RegistryError::NotPermitted { name, what, needs: who.to_vec() })
}

/// The roles behind a change, for the audit chain; none where none were ever granted.
pub(crate) fn acting_as(
    connection: &Connection,
    change: Change<'_>,
) -> Result<Option<String>, RegistryError> {
    if change.actor == Actor::Program {
        return Ok(Some(Role::Controller.as_str().to_owned()));
    }
    let people = people(connection)?;
    let names = |roles: &BTreeSet<Role>| {
        roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(" ")
    };
    Ok(people.get(change.owner).map(names))
}
