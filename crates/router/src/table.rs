//! The routing table: read by every request, replaced whole by whoever decides.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use crate::Route;
use understudy_ident::TaskName;

/// How one task is routed, and the release its canary belongs to.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskRoute {
    pub route: Route,
    pub release: Option<String>,
}

type Table = BTreeMap<TaskName, Arc<TaskRoute>>;

/// All routes behind one pointer. A reader holds the lock for the copy of a pointer.
#[derive(Debug, Default)]
pub struct RouteTable {
    table: RwLock<Arc<Table>>,
}

impl RouteTable {
    pub fn get(&self, task: &TaskName) -> Option<Arc<TaskRoute>> {
        self.snapshot().get(task).cloned()
    }

    pub fn snapshot(&self) -> Arc<Table> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Publishes a route. Requests that have read the old one finish on it.
    pub fn publish(&self, task: TaskName, route: Route, release: Option<String>) {
        let mut current = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = Table::clone(&current);
        next.insert(task, Arc::new(TaskRoute { route, release }));
        *current = Arc::new(next);
    }
}
