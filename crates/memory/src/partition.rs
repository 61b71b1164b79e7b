//! One file of lessons: of a tenant, or of one user. No query spans two.
//!
//! The file is a log of operations and of events; what it amounts to is folded in memory, and another
//! process's additions are folded in before every answer.

mod caps;
mod change;
mod forget;
mod propose;
mod reseal;

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rusqlite::{Connection, TransactionBehavior, params};
use understudy_ident::{Digest, Timestamp};
use understudy_storage::sqlite::{self, Migration};

use crate::{
    CounterSettings, DeploymentText, Item, Kept, Key, Keyed, MemoryError, MemoryId, Operation,
    Settings, Status, Text, UserText,
    error::AttemptSql,
    seal::Seal,
    state::{Event, State},
};

pub use propose::Proposed;

/// The lessons for every user of one tenant.
pub type DeploymentStore = Partition<DeploymentText>;
/// The lessons of one user, whom nobody else's request can reach.
pub type UserStore = Partition<UserText>;

/// Who changes something, why and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    owner: String,
    reason: String,
    pub at: Timestamp,
}

impl By {
    /// A change without an owner and a reason is refused.
    pub fn new(owner: &str, reason: &str, at: Timestamp) -> Result<Self, MemoryError> {
        let (owner, reason) = (owner.trim(), reason.trim());
        if owner.is_empty() || reason.is_empty() {
            return Err(MemoryError::Unsaid);
        }
        Ok(Self { owner: owner.to_owned(), reason: reason.to_owned(), at })
    }

    /// The rules themselves.
    pub(crate) fn rule(reason: &str, at: Timestamp) -> Self {
        Self { owner: "rules".to_owned(), reason: reason.to_owned(), at }
    }
}

/// One row of the log, for people.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Entry {
    pub seq: u64,
    pub at: Timestamp,
    pub item: Option<MemoryId>,
    #[serde(flatten)]
    pub operation: Operation,
    pub actor: String,
    pub reason: String,
}

/// What an outcome led to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Consequence {
    pub item: MemoryId,
    pub status: Status,
    pub reason: String,
}

/// An open file of lessons.
#[derive(Debug)]
pub struct Partition<T: Text> {
    path: PathBuf,
    key: Key,
    settings: Settings,
    /// What texts are sealed with, and where the secret of that lies; none of what is for everybody.
    seal: Option<(Seal, PathBuf)>,
    inner: Mutex<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    connection: Connection,
    state: State<T>,
    operations_read: i64,
    events_read: i64,
    /// How many lessons had been forgotten when the log was read: when another process forgets
    /// one, what is in memory here is not to outlive it.
    forgotten: i64,
}

const MIGRATIONS: [Migration; 3] = [
    Migration { version: 1, sql: include_str!("schema.sql") },
    Migration { version: 2, sql: include_str!("schema_2.sql") },
    Migration { version: 3, sql: include_str!("schema_3.sql") },
];

impl<T: Text> Partition<T> {
    pub(crate) fn open(path: &Path, key: Key, settings: Settings) -> Result<Self, MemoryError> {
        Self::of(path, connect(path)?, (key, None), settings)
    }

    fn of(
        path: &Path,
        connection: Connection,
        (key, seal): (Key, Option<(Seal, PathBuf)>),
        settings: Settings,
    ) -> Result<Self, MemoryError> {
        settings.check()?;
        let state = State::default();
        let inner = Inner { connection, state, operations_read: 0, events_read: 0, forgotten: 0 };
        let inner = Mutex::new(inner);
        let partition = Self { path: path.to_owned(), key, settings, seal, inner };
        drop(partition.read()?);
        Ok(partition)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Every lesson, oldest first.
    pub fn all(&self, now: Timestamp) -> Result<Vec<Kept<T>>, MemoryError> {
        let inner = self.read()?;
        let ids = inner.state.lessons.keys();
        Ok(ids.filter_map(|id| inner.state.kept(id, now, &self.settings.counters)).collect())
    }

    pub fn get(&self, id: &MemoryId, now: Timestamp) -> Result<Kept<T>, MemoryError> {
        let kept = self.read()?.state.kept(id, now, &self.settings.counters);
        kept.ok_or_else(|| MemoryError::Unknown { id: id.clone() })
    }

    /// The words people approved.
    pub fn approved_terms(&self) -> Result<std::collections::BTreeSet<String>, MemoryError> {
        Ok(self.read()?.state.terms.clone())
    }

    /// The log, oldest first; of one lesson, or of all.
    pub fn history(&self, of: Option<&MemoryId>) -> Result<Vec<Entry>, MemoryError> {
        let inner = self.read()?;
        let rows = select_operations(&inner.connection, 0).attempt_sql("read", &self.path)?;
        rows.into_iter()
            .filter(|row| of.is_none_or(|of| row.item.as_deref() == Some(of.as_str())))
            .map(|row| {
                Ok(Entry {
                    seq: row.seq as u64,
                    at: self.parsed("time", &row.at)?,
                    item: row.item.as_deref().map(|id| self.parsed("memory id", id)).transpose()?,
                    operation: serde_json::from_str(&row.op)?,
                    actor: self.opened("actor", row.item.as_deref(), row.actor)?,
                    reason: self.opened("reason", row.item.as_deref(), row.reason)?,
                })
            })
            .collect()
    }

    /// The release that serves, and what served before it, newest first.
    pub fn releases(&self) -> Result<Vec<Option<Digest>>, MemoryError> {
        let inner = self.read()?;
        let texts: rusqlite::Result<Vec<Option<String>>> = inner
            .connection
            .prepare("SELECT release FROM pointers ORDER BY seq DESC")
            .and_then(|mut query| query.query_map([], |row| row.get(0))?.collect());
        let texts = texts.attempt_sql("read the releases of", &self.path)?;
        let parse = |text: String| self.parsed("release", &text);
        texts.into_iter().map(|text| text.map(parse).transpose()).collect()
    }

    pub(crate) fn point(&self, release: Option<&Digest>, by: &By) -> Result<(), MemoryError> {
        let inner = self.read()?;
        inner
            .connection
            .execute(
                "INSERT INTO pointers (at, release, actor, reason) VALUES (?, ?, ?, ?)",
                params![by.at.to_string(), release.map(ToString::to_string), by.owner, by.reason],
            )
            .attempt_sql("point to a release in", &self.path)?;
        Ok(())
    }

    /// Whether a decision that was made elsewhere has been carried out here.
    pub fn has_settled(&self, what: &str) -> Result<bool, MemoryError> {
        let inner = self.read()?;
        let sql = "SELECT EXISTS (SELECT 1 FROM settled WHERE what = ?)";
        let found = inner.connection.query_row(sql, [what], |row| row.get(0));
        found.attempt_sql("read", &self.path)
    }

    /// Notes that it has.
    pub fn settle(&self, what: &str, at: Timestamp) -> Result<(), MemoryError> {
        let inner = self.read()?;
        inner
            .connection
            .execute("INSERT OR IGNORE INTO settled VALUES (?, ?)", [what, &at.to_string()])
            .attempt_sql("write to", &self.path)?;
        Ok(())
    }

    /// How far the journal was read for outcomes; `None` before the first time.
    pub fn followed(&self) -> Result<Option<u64>, MemoryError> {
        use rusqlite::OptionalExtension as _;
        let inner = self.read()?;
        let seq: rusqlite::Result<Option<i64>> =
            inner.connection.query_row("SELECT seq FROM followed", [], |row| row.get(0)).optional();
        Ok(seq.attempt_sql("read", &self.path)?.map(|seq| seq as u64))
    }

    /// Notes how far that is now. An outcome that is read twice after all counts once.
    pub fn follow_to(&self, seq: u64) -> Result<(), MemoryError> {
        let inner = self.read()?;
        inner
            .connection
            .execute("INSERT OR REPLACE INTO followed (one, seq) VALUES (0, ?)", [seq as i64])
            .attempt_sql("write to", &self.path)?;
        Ok(())
    }

    /// Notes which lessons a request was shown, and which were withheld from it to compare.
    pub fn considered(
        &self,
        request: &str,
        shown: &[MemoryId],
        withheld: &[MemoryId],
        at: Timestamp,
    ) -> Result<(), MemoryError> {
        let shown = shown.iter().cloned().map(Event::Shown);
        let events = shown.chain(withheld.iter().cloned().map(Event::Withheld)).collect();
        self.note(request, events, at).map(|_| ())
    }

    /// What is on record of a request: which lessons it was shown, and which were withheld from it.
    pub fn noted(&self, request: &str) -> Result<[Vec<MemoryId>; 2], MemoryError> {
        let request = self.key.name("request", request).to_string();
        let inner = self.read()?;
        let rows: rusqlite::Result<Vec<(String, String)>> = inner
            .connection
            .prepare(
                "SELECT kind, item FROM events \
                 WHERE request = ? AND kind IN ('shown', 'withheld') ORDER BY seq",
            )
            .and_then(|mut query| {
                query.query_map([request], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
            });
        let mut noted = [Vec::new(), Vec::new()];
        for (kind, item) in rows.attempt_sql("read", &self.path)? {
            noted[usize::from(kind == "withheld")].push(self.parsed("memory id", &item)?);
        }
        Ok(noted)
    }

    /// Notes that the model said it used lessons. It moves nothing.
    pub fn cited(&self, request: &str, ids: &[MemoryId], at: Timestamp) -> Result<(), MemoryError> {
        self.note(request, ids.iter().cloned().map(Event::Cited).collect(), at).map(|_| ())
    }

    /// Notes which lessons a heal query was offered. One outcome of each is accepted for that.
    pub fn offered(&self, ids: &[MemoryId], at: Timestamp) -> Result<(), MemoryError> {
        self.note("heal", ids.iter().cloned().map(Event::Offered).collect(), at).map(|_| ())
    }

    /// Counts whether an offered lesson got somebody past a failure. It says how sure a way out is,
    /// and nothing of what showing the lesson does: nobody's failure was left unhealed to compare.
    pub fn healed(&self, id: &MemoryId, worked: bool, at: Timestamp) -> Result<(), MemoryError> {
        let open = self.read()?.state.lessons.get(id).map(|lesson| lesson.tally.offers);
        match open {
            None => Err(MemoryError::Unknown { id: id.clone() }),
            Some(0) => Err(MemoryError::NotOffered { id: id.clone() }),
            Some(_) => {
                self.note("heal", vec![Event::Healed { id: id.clone(), worked }], at).map(|_| ())
            }
        }
    }

    /// Counts how a request ended, and takes lessons out that do harm.
    pub fn outcome(
        &self,
        request: &str,
        success: bool,
        at: Timestamp,
    ) -> Result<Vec<Consequence>, MemoryError> {
        let moved = self.note(request, vec![Event::Outcome { success }], at)?;
        let mut consequences = Vec::new();
        for id in moved {
            consequences.extend(self.consequence(&id, at)?);
        }
        Ok(consequences)
    }

    fn consequence(
        &self,
        id: &MemoryId,
        at: Timestamp,
    ) -> Result<Option<Consequence>, MemoryError> {
        let settings: &CounterSettings = &self.settings.counters;
        let (operation, reason) = {
            let inner = self.read()?;
            let Some(lesson) = inner.state.lessons.get(id) else { return Ok(None) };
            // One on trial is shown to the canary's share, and does its harm there.
            if !matches!(lesson.status, Status::Active | Status::Validated) {
                return Ok(None);
            }
            let effect = crate::Effect::of(&lesson.tally.counters(at, settings), settings.bound);
            if lesson.tally.harm_is_shown(settings.alpha) {
                (
                    Operation::Retire,
                    "requests with it succeed less often: proven by a sequential test",
                )
            } else if effect.outcomes >= settings.min_outcomes
                && effect.harms()
                && lesson.tally.harm_is_shown(settings.suspect)
            {
                (Operation::Suspend, "requests with it seem to succeed less often")
            } else {
                return Ok(None);
            }
        };
        self.operate(Some(id), &operation, None, &By::rule(reason, at))?;
        let status =
            if operation == Operation::Retire { Status::Retired } else { Status::Suspended };
        Ok(Some(Consequence { item: id.clone(), status, reason: reason.to_owned() }))
    }

    fn note(
        &self,
        request: &str,
        events: Vec<Event>,
        at: Timestamp,
    ) -> Result<Vec<MemoryId>, MemoryError> {
        // A client's request id may say anything.
        let request = self.key.name("request", request);
        let mut inner = self.read()?;
        let awaited: Vec<MemoryId> = match events.as_slice() {
            [] => return Ok(Vec::new()),
            [Event::Outcome { .. }] => match inner.state.open.get(&request) {
                Some(considered) => considered.iter().map(|(id, _)| id.clone()).collect(),
                None => return Ok(Vec::new()),
            },
            _ => Vec::new(),
        };
        let last = insert_events(&mut inner.connection, &request, &events, at)
            .attempt_sql("count an event in", &self.path)?;
        if last - events.len() as i64 != inner.events_read {
            // Another process wrote in between, which is folded in together with this.
            drop(inner);
            drop(self.read()?);
            return Ok(awaited);
        }
        inner.events_read = last;
        for event in events {
            inner.state.happen(request, event, at, &self.settings.counters);
        }
        Ok(awaited)
    }

    pub(crate) fn operate(
        &self,
        id: Option<&MemoryId>,
        operation: &Operation,
        item: Option<&Item<T>>,
        by: &By,
    ) -> Result<(), MemoryError> {
        let inner = self.read()?;
        let body = item.map(serde_json::to_string).transpose()?;
        let item = id.map(MemoryId::as_str);
        inner
            .connection
            .execute(
                "INSERT INTO operations (at, item, op, body, actor, reason) \
                 VALUES (?, ?, ?, ?, ?, ?)",
                params![
                    by.at.to_string(),
                    item,
                    serde_json::to_string(operation)?,
                    body.map(|body| self.closed("body", item, body)),
                    self.closed("actor", item, by.owner.clone()),
                    self.closed("reason", item, by.reason.clone())
                ],
            )
            .attempt_sql("write to", &self.path)?;
        drop(inner);
        self.read().map(|_| ())
    }

    /// The state, with everything folded in that anybody has written by now.
    fn read(&self) -> Result<MutexGuard<'_, Inner<T>>, MemoryError> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let forgotten = inner
            .connection
            .query_row("SELECT count(*) FROM forgotten", [], |row| row.get(0))
            .attempt_sql("read", &self.path)?;
        if forgotten != inner.forgotten {
            inner.state = State::default();
            (inner.operations_read, inner.events_read, inner.forgotten) = (0, 0, forgotten);
        }
        let operations = select_operations(&inner.connection, inner.operations_read)
            .attempt_sql("read", &self.path)?;
        for row in operations {
            let operation: Operation = serde_json::from_str(&row.op)?;
            let id: Option<MemoryId> =
                row.item.as_deref().map(|id| self.parsed("memory id", id)).transpose()?;
            let body = row.body.map(|body| self.opened("body", row.item.as_deref(), body));
            let item = body.transpose()?.as_deref().map(Item::<T>::restored).transpose()?;
            inner.state.operate(id.as_ref(), &operation, item, self.parsed("time", &row.at)?);
            inner.operations_read = row.seq;
        }
        let events =
            select_events(&inner.connection, inner.events_read).attempt_sql("read", &self.path)?;
        for row in events {
            let request: Keyed = self.parsed("request", &row.request)?;
            let item = || self.parsed("memory id", row.item.as_deref().unwrap_or_default());
            let event = match row.kind.as_str() {
                "shown" => Event::Shown(item()?),
                "withheld" => Event::Withheld(item()?),
                "cited" => Event::Cited(item()?),
                "offered" => Event::Offered(item()?),
                kind @ ("worked" | "failed") => {
                    Event::Healed { id: item()?, worked: kind == "worked" }
                }
                kind => Event::Outcome { success: kind == "success" },
            };
            let at = self.parsed("time", &row.at)?;
            inner.state.happen(request, event, at, &self.settings.counters);
            inner.events_read = row.seq;
        }
        Ok(inner)
    }

    /// A text as the file holds it: a user's own is sealed, for its column and its lesson.
    fn closed(&self, column: &str, item: Option<&str>, text: String) -> String {
        match &self.seal {
            Some((seal, _)) => seal.close(&place_of(column, item), &text),
            None => text,
        }
    }

    fn opened(
        &self,
        column: &str,
        item: Option<&str>,
        stored: String,
    ) -> Result<String, MemoryError> {
        let Some((seal, key)) = &self.seal else { return Ok(stored) };
        let (path, key) = (self.path.clone(), key.clone());
        let opened = seal.open(&place_of(column, item), &stored);
        opened.ok_or(MemoryError::Sealed { path, key })
    }

    fn parsed<V: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        what: &'static str,
        text: &str,
    ) -> Result<V, MemoryError> {
        text.parse().map_err(|why: V::Err| MemoryError::Corrupt {
            what,
            path: self.path.clone(),
            why: why.to_string(),
        })
    }
}

fn connect(path: &Path) -> Result<Connection, MemoryError> {
    let connection = sqlite::open(path, &MIGRATIONS)?;
    // Freed pages are overwritten at once: what is deleted is gone, not merely unlisted.
    connection.pragma_update(None, "secure_delete", true).attempt_sql("configure", path)?;
    Ok(connection)
}

/// What a sealed text is bound to.
fn place_of(column: &str, item: Option<&str>) -> String {
    format!("{column} {}", item.unwrap_or_default())
}

fn stored(event: &Event) -> (&'static str, Option<&str>) {
    match event {
        Event::Shown(id) => ("shown", Some(id.as_str())),
        Event::Withheld(id) => ("withheld", Some(id.as_str())),
        Event::Cited(id) => ("cited", Some(id.as_str())),
        Event::Offered(id) => ("offered", Some(id.as_str())),
        Event::Healed { id, worked: true } => ("worked", Some(id.as_str())),
        Event::Healed { id, worked: false } => ("failed", Some(id.as_str())),
        Event::Outcome { success: true } => ("success", None),
        Event::Outcome { success: false } => ("failure", None),
    }
}

/// Writes all of them or none, and returns the number of the last.
fn insert_events(
    connection: &mut Connection,
    request: &Keyed,
    events: &[Event],
    at: Timestamp,
) -> rusqlite::Result<i64> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for event in events {
        let (kind, item) = stored(event);
        transaction.execute(
            "INSERT INTO events (at, request, kind, item) VALUES (?, ?, ?, ?)",
            params![at.to_string(), request.to_string(), kind, item],
        )?;
    }
    let last = transaction.last_insert_rowid();
    transaction.commit()?;
    Ok(last)
}

struct OperationRow {
    seq: i64,
    at: String,
    item: Option<String>,
    op: String,
    body: Option<String>,
    actor: String,
    reason: String,
}

fn select_operations(connection: &Connection, after: i64) -> rusqlite::Result<Vec<OperationRow>> {
    let mut query = connection.prepare_cached(
        "SELECT seq, at, item, op, body, actor, reason FROM operations WHERE seq > ? ORDER BY seq",
    )?;
    let rows = query.query_map([after], |row| {
        Ok(OperationRow {
            seq: row.get(0)?,
            at: row.get(1)?,
            item: row.get(2)?,
            op: row.get(3)?,
            body: row.get(4)?,
            actor: row.get(5)?,
            reason: row.get(6)?,
        })
    })?;
    rows.collect()
}

struct EventRow {
    seq: i64,
    at: String,
    request: String,
    kind: String,
    item: Option<String>,
}

fn select_events(connection: &Connection, after: i64) -> rusqlite::Result<Vec<EventRow>> {
    let mut query = connection.prepare_cached(
        "SELECT seq, at, request, kind, item FROM events WHERE seq > ? ORDER BY seq",
    )?;
    let rows = query.query_map([after], |row| {
        Ok(EventRow {
            seq: row.get(0)?,
            at: row.get(1)?,
            request: row.get(2)?,
            kind: row.get(3)?,
            item: row.get(4)?,
        })
    })?;
    rows.collect()
}

impl<T: Text> Item<T> {
    /// An item as a store of its scope kept it.
    pub(crate) fn restored(json: &str) -> Result<Self, MemoryError> {
        let plain: Item<String, String> = serde_json::from_str(json)?;
        Ok(plain.map(T::restored, crate::Declared::restored))
    }
}

#[cfg(test)]
mod tests;
