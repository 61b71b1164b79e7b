//! Connections for reading: any number at once, so that a long scan keeps nobody waiting.

use std::{
    fmt,
    ops::Deref,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use understudy_storage::sqlite::{self, Connection};

use crate::{JournalError, queue::Queue};

/// More idle ones than this are closed.
const IDLE: usize = 4;

pub(crate) struct Pool {
    path: PathBuf,
    queue: Arc<Queue>,
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    pub(crate) fn new(path: &Path, queue: Arc<Queue>) -> Self {
        Self { path: path.to_owned(), queue, idle: Mutex::default() }
    }

    pub(crate) fn clear(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// One that shows everything answered for before.
    pub(crate) fn lease(self: &Arc<Self>) -> Result<Lease, JournalError> {
        self.queue.catch_up();
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => sqlite::open_reader(&self.path).map_err(JournalError::open)?,
        };
        Ok(Lease { pool: Arc::clone(self), connection: Some(connection) })
    }
}

/// A connection until it is dropped.
pub(crate) struct Lease {
    pool: Arc<Pool>,
    connection: Option<Connection>,
}

impl Deref for Lease {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("a lease has its connection until it is dropped")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE {
            idle.extend(self.connection.take());
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("path", &self.pool.path).finish_non_exhaustive()
    }
}
