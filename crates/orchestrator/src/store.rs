//! The durable log of runs: one row per run, one row per fact, one per sentence of the loop, nothing
//! rewritten.

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rusqlite::{Connection, OptionalExtension, params};
use understudy_ident::{Clock, Digest, RunId, TaskName, Timestamp};
use understudy_manifest::Recipe;
use understudy_storage::sqlite::{self, Migration};

use crate::{
    Fact, OrchestratorError,
    fact::turn_of,
    note::{Note, NoteKind},
    plan::{Finish, Next, next},
};

const MIGRATIONS: &[Migration] = &[RUNS, NOTES];

const RUNS: Migration = Migration {
    version: 1,
    sql: "
    CREATE TABLE runs (
        id TEXT PRIMARY KEY, recipe TEXT NOT NULL, owner TEXT NOT NULL, reason TEXT NOT NULL,
        created_at TEXT NOT NULL, key TEXT UNIQUE
    ) STRICT;
    CREATE TABLE facts (
        seq INTEGER PRIMARY KEY, run TEXT NOT NULL REFERENCES runs(id), body TEXT NOT NULL,
        at TEXT NOT NULL
    ) STRICT;
    CREATE TABLE endings (run TEXT PRIMARY KEY REFERENCES runs(id), ending TEXT NOT NULL) STRICT;
    CREATE TRIGGER facts_are_final BEFORE UPDATE ON facts
        BEGIN SELECT RAISE(ABORT, 'facts are never rewritten'); END;
    CREATE TRIGGER facts_stay BEFORE DELETE ON facts
        BEGIN SELECT RAISE(ABORT, 'facts are never deleted'); END;
    ",
};

const NOTES: Migration = Migration {
    version: 2,
    sql: "
    CREATE TABLE notes (
        seq INTEGER PRIMARY KEY, task TEXT NOT NULL, body TEXT NOT NULL
    ) STRICT;
    CREATE INDEX notes_of_task ON notes (task, seq);
    CREATE INDEX facts_of_run ON facts (run, seq);
    CREATE TRIGGER notes_are_final BEFORE UPDATE ON notes
        BEGIN SELECT RAISE(ABORT, 'notes are never rewritten'); END;
    CREATE TRIGGER notes_stay BEFORE DELETE ON notes
        BEGIN SELECT RAISE(ABORT, 'notes are never deleted'); END;
    ",
};

/// Keys of runs that the loop began start with this.
const TURN: &str = "loop/";

/// One execution of a recipe.
#[derive(Debug, Clone)]
pub struct Run {
    pub id: RunId,
    pub recipe: Recipe,
    pub owner: String,
    pub reason: String,
    pub ending: Option<String>,
}

/// Where runs are remembered.
#[derive(Debug)]
pub struct RunStore {
    connection: Mutex<Connection>,
    clock: Box<dyn Clock>,
}

impl RunStore {
    pub fn open(path: &Path, clock: Box<dyn Clock>) -> Result<Self, OrchestratorError> {
        let connection = Mutex::new(sqlite::open(path, MIGRATIONS)?);
        Ok(Self { connection, clock })
    }

    /// Starts a run, or finds the one started before under the same `key`: whoever asks twice for
    /// the same work gets the same run.
    pub fn begin(
        &self,
        recipe: &Recipe,
        owner: &str,
        reason: &str,
        key: Option<&str>,
    ) -> Result<Run, OrchestratorError> {
        let recipe_json =
            serde_json::to_string(recipe).expect("a recipe has text keys and finite numbers");
        let id = RunId::generate();
        let connection = self.lock();
        connection.execute(
            "INSERT INTO runs (id, recipe, owner, reason, created_at, key)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (key) DO NOTHING",
            params![id.as_str(), recipe_json, owner, reason, self.clock.now().to_string(), key],
        )?;
        let found: String = connection.query_row(
            "SELECT id FROM runs WHERE id = ?1 OR key = ?2",
            params![id.as_str(), key],
            |row| row.get(0),
        )?;
        drop(connection);
        self.get(&found)
    }

    pub fn get(&self, id: &str) -> Result<Run, OrchestratorError> {
        let row = self
            .lock()
            .query_row(
                "SELECT id, recipe, owner, reason, ending FROM runs
                 LEFT JOIN endings ON endings.run = runs.id WHERE id = ?1",
                [id],
                raw_run,
            )
            .optional()?;
        row.ok_or_else(|| OrchestratorError::UnknownRun(id.to_owned()))?.parse()
    }

    /// All runs, newest first.
    pub fn list(&self) -> Result<Vec<Run>, OrchestratorError> {
        let connection = self.lock();
        let mut query = connection.prepare(
            "SELECT id, recipe, owner, reason, ending FROM runs
             LEFT JOIN endings ON endings.run = runs.id ORDER BY id DESC",
        )?;
        let rows = query.query_map([], raw_run)?.collect::<Result<Vec<_>, _>>()?;
        rows.into_iter().map(RawRun::parse).collect()
    }

    /// Starts the turn of a task with this number, or finds it where a crash came in between.
    pub(crate) fn begin_turn(
        &self,
        recipe: &Recipe,
        number: u64,
        reason: &str,
    ) -> Result<Run, OrchestratorError> {
        let key = format!("{TURN}{}/{number}", recipe.task);
        self.begin(recipe, "the loop", reason, Some(&key))
    }

    /// The runs that the loop began for a task, in the order of their turns.
    pub fn turns(&self, task: &TaskName) -> Result<Vec<Run>, OrchestratorError> {
        let prefix = format!("{TURN}{task}/");
        let connection = self.lock();
        let mut query = connection.prepare_cached(
            "SELECT id, recipe, owner, reason, ending FROM runs
             LEFT JOIN endings ON endings.run = runs.id
             WHERE substr(key, 1, length(?1)) = ?1
             ORDER BY CAST(substr(key, length(?1) + 1) AS INTEGER)",
        )?;
        let rows = query.query_map([prefix], raw_run)?.collect::<Result<Vec<_>, _>>()?;
        rows.into_iter().map(RawRun::parse).collect()
    }

    /// The tasks that the loop has ever had to do with.
    pub fn loops(&self) -> Result<Vec<TaskName>, OrchestratorError> {
        let connection = self.lock();
        let mut query = connection.prepare("SELECT DISTINCT task FROM notes ORDER BY task")?;
        let names =
            query.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// A run of the same recipe over the same data that came to a verdict, and which.
    pub fn tried_before(
        &self,
        dataset: &Digest,
        recipe: &Recipe,
    ) -> Result<Option<(RunId, String)>, OrchestratorError> {
        let digest = recipe.digest();
        for run in self.list()? {
            if run.recipe.task != recipe.task || run.recipe.digest() != digest {
                continue;
            }
            let facts = self.facts(&run.id)?;
            let same = facts.iter().any(|fact| {
                matches!(fact, Fact::DatasetFrozen { version, .. } if version.digest == *dataset)
            });
            if let (true, Next::Finished(finish)) = (same, next(&run.recipe, &facts))
                && finish.is_verdict()
            {
                return Ok(Some((run.id, finish.to_string())));
            }
        }
        Ok(None)
    }

    pub fn facts(&self, run: &RunId) -> Result<Vec<Fact>, OrchestratorError> {
        Ok(self.dated_facts(run)?.into_iter().map(|(_, fact)| fact).collect())
    }

    /// Facts and when each was written.
    pub fn dated_facts(&self, run: &RunId) -> Result<Vec<(Timestamp, Fact)>, OrchestratorError> {
        let connection = self.lock();
        let mut query =
            connection.prepare_cached("SELECT at, body FROM facts WHERE run = ?1 ORDER BY seq")?;
        let rows = query
            .query_map([run.as_str()], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
            })?
            .collect::<Result<Vec<_>, _>>()?;
        let unreadable = |why: String| OrchestratorError::Unreadable { run: run.to_string(), why };
        let read = |(at, body): &(String, String)| {
            let at = at.parse().map_err(|why| unreadable(format!("{why}")))?;
            let fact = serde_json::from_str(body).map_err(|why| unreadable(why.to_string()))?;
            Ok((at, fact))
        };
        rows.iter().map(read).collect()
    }

    /// Adds a person's word on the step that a run stands at.
    pub fn answer(&self, run: &Run, answer: &Fact) -> Result<(), OrchestratorError> {
        let facts = self.facts(&run.id)?;
        if turn_of(&facts).is_none() || matches!(next(&run.recipe, &facts), Next::Finished(_)) {
            return Err(OrchestratorError::NothingToApprove { run: run.id.to_string() });
        }
        self.add(&run.id, answer)?;
        let note = Note::new(NoteKind::Did, self.clock.now(), answer.sentence()).of_run(&run.id);
        self.note(&run.recipe.task, &note)
    }

    /// The loop's log of a task, oldest first.
    pub fn notes(&self, task: &TaskName) -> Result<Vec<Note>, OrchestratorError> {
        let connection = self.lock();
        let mut query =
            connection.prepare_cached("SELECT body FROM notes WHERE task = ?1 ORDER BY seq")?;
        let bodies = query
            .query_map([task.as_str()], |row| row.get::<_, String>(0))?
            .collect::<Result<Vec<_>, _>>()?;
        let read = |body: &String| {
            serde_json::from_str(body).map_err(|why| OrchestratorError::Unreadable {
                run: format!("the loop of {task}"),
                why: why.to_string(),
            })
        };
        bodies.iter().map(read).collect()
    }

    /// Adds a sentence to the loop's log.
    pub fn note(&self, task: &TaskName, note: &Note) -> Result<(), OrchestratorError> {
        let body = serde_json::to_string(note).expect("a note has text keys");
        self.lock().execute(
            "INSERT INTO notes (task, body) VALUES (?1, ?2)",
            params![task.as_str(), body],
        )?;
        Ok(())
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn add(&self, run: &RunId, fact: &Fact) -> Result<(), OrchestratorError> {
        let body = serde_json::to_string(fact).expect("facts have text keys and finite numbers");
        self.lock().execute(
            "INSERT INTO facts (run, body, at) VALUES (?1, ?2, ?3)",
            params![run.as_str(), body, self.clock.now().to_string()],
        )?;
        Ok(())
    }

    pub(crate) fn finish(&self, run: &RunId, ending: &Finish) -> Result<(), OrchestratorError> {
        self.lock().execute(
            "INSERT INTO endings (run, ending) VALUES (?1, ?2) ON CONFLICT (run) DO NOTHING",
            params![run.as_str(), ending.to_string()],
        )?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic while holding the lock leaves the connection usable: SQLite rolls back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A row before its texts are read.
struct RawRun {
    id: String,
    recipe: String,
    owner: String,
    reason: String,
    ending: Option<String>,
}

fn raw_run(row: &rusqlite::Row<'_>) -> rusqlite::Result<RawRun> {
    Ok(RawRun {
        id: row.get(0)?,
        recipe: row.get(1)?,
        owner: row.get(2)?,
        reason: row.get(3)?,
        ending: row.get(4)?,
    })
}

impl RawRun {
    fn parse(self) -> Result<Run, OrchestratorError> {
        let unreadable = |why: String| OrchestratorError::Unreadable { run: self.id.clone(), why };
        let id = self.id.parse().map_err(|why| unreadable(format!("{why}")))?;
        let recipe =
            serde_json::from_str(&self.recipe).map_err(|why| unreadable(why.to_string()))?;
        Ok(Run { id, recipe, owner: self.owner, reason: self.reason, ending: self.ending })
    }
}
