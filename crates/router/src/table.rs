//! The routing table: read by every request, replaced whole by whoever decides.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use serde::{Deserialize, Serialize};

use crate::{Followers, Route};
use understudy_ident::TaskName;

/// How one task is routed, and the release its canary belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskRoute {
    pub route: Route,
    pub release: Option<String>,
}

type Table = BTreeMap<TaskName, Arc<TaskRoute>>;

/// A table and how many changes led to it: two equal numbers of one process mean the same table.
#[derive(Debug, Clone, Default)]
pub struct Numbered {
    pub sequence: u64,
    pub table: Arc<Table>,
    /// Contents that never answer again, whoever asks and by whatever name.
    pub revoked: Arc<BTreeSet<String>>,
}

/// What another server asks for, where this one follows: what it routes to, here or not.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asked {
    pub tasks: BTreeMap<TaskName, TaskRoute>,
    /// Why adapters that it names are not here, by version.
    pub failed: BTreeMap<String, String>,
}

/// All routes behind one pointer. A reader holds the lock for the copy of a pointer.
#[derive(Debug, Default)]
pub struct RouteTable {
    current: RwLock<Numbered>,
    listeners: RwLock<Vec<Listener>>,
    followers: Followers,
    asked: RwLock<Option<Arc<Asked>>>,
}

/// Told the number of every change, by whoever made it; returns at once.
struct Listener(Box<dyn Fn(u64) + Send + Sync>);

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

impl RouteTable {
    pub fn get(&self, task: &TaskName) -> Option<Arc<TaskRoute>> {
        self.snapshot().get(task).cloned()
    }

    pub fn snapshot(&self) -> Arc<Table> {
        self.numbered().table
    }

    /// The table with its number, as one reading.
    pub fn numbered(&self) -> Numbered {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Publishes a route. Requests that have read the old one finish on it.
    pub fn publish(&self, task: TaskName, route: Route, release: Option<String>) {
        self.change(|current| {
            let mut next = Table::clone(&current.table);
            next.insert(task, Arc::new(TaskRoute { route, release }));
            current.table = Arc::new(next);
            true
        });
    }

    /// Takes a task's canary off the stage, and whoever watches it, whatever is published meanwhile.
    /// False where there is none.
    pub fn take_canary_off(&self, task: &TaskName) -> bool {
        self.change(|current| {
            let mut next = Table::clone(&current.table);
            let Some(entry) = next.get_mut(task).filter(|entry| entry.route.canary.is_some())
            else {
                return false;
            };
            let mut alone = TaskRoute::clone(entry);
            (alone.route.canary, alone.route.support.shadow, alone.release) = (None, None, None);
            *entry = Arc::new(alone);
            current.table = Arc::new(next);
            true
        })
    }

    /// Publishes all routes at once; tasks that are not among them are routed no more.
    pub fn replace(&self, routes: BTreeMap<TaskName, TaskRoute>) {
        self.change(|current| {
            let routes = routes.into_iter().map(|(task, route)| (task, Arc::new(route)));
            current.table = Arc::new(routes.collect());
            true
        });
    }

    /// Says which contents never answer again. False where that is known.
    pub fn revoke(&self, generations: BTreeSet<String>) -> bool {
        self.change(|current| {
            let is_news = *current.revoked != generations;
            if is_news {
                current.revoked = Arc::new(generations);
            }
            is_news
        })
    }

    /// Notes what another server asks for: not what requests are routed by, which is only what is
    /// here already, but what that is to become.
    pub fn ask(&self, asked: Asked) {
        let mut known = self.asked.write().unwrap_or_else(PoisonError::into_inner);
        *known = Some(Arc::new(asked));
    }

    /// What another server asks for; `None` where nobody is followed.
    pub fn asked(&self) -> Option<Arc<Asked>> {
        self.asked.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes the next table, unless nothing changes, and tells its number.
    fn change(&self, make: impl FnOnce(&mut Numbered) -> bool) -> bool {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if !make(&mut current) {
            return false;
        }
        current.sequence += 1;
        let sequence = current.sequence;
        drop(current);
        self.tell(sequence);
        true
    }

    /// Who routes by this table elsewhere.
    pub fn followers(&self) -> &Followers {
        &self.followers
    }

    /// From now on, `listener` hears the number of every change, after readers can see it.
    pub fn listen(&self, listener: impl Fn(u64) + Send + Sync + 'static) {
        let mut listeners = self.listeners.write().unwrap_or_else(PoisonError::into_inner);
        listeners.push(Listener(Box::new(listener)));
    }

    fn tell(&self, sequence: u64) {
        let listeners = self.listeners.read().unwrap_or_else(PoisonError::into_inner);
        listeners.iter().for_each(|Listener(listener)| listener(sequence));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Target;

    #[test]
    fn every_change_has_its_number_and_a_reader_keeps_what_it_read() {
        let routes = RouteTable::default();
        let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
        let ear = Arc::clone(&heard);
        routes.listen(move |sequence| ear.lock().unwrap().push(sequence));
        let task = |name: &str| name.parse::<TaskName>().unwrap();
        routes.publish(task("a"), Route::to(Target::Base), None);
        routes.publish(task("b"), Route::to(Target::Base), Some("r".to_owned()));
        let before = routes.numbered();
        assert_eq!((before.sequence, before.table.len()), (2, 2));
        let only =
            TaskRoute { route: Route::to(Target::Teacher), release: Some("next".to_owned()) };
        routes.replace([(task("b"), only.clone())].into());
        let after = routes.numbered();
        assert_eq!((after.sequence, after.table.len()), (3, 1));
        assert_eq!(*routes.get(&task("b")).unwrap(), only);
        assert!(routes.get(&task("a")).is_none());
        assert_eq!(*heard.lock().unwrap(), [1, 2, 3]);
        assert_eq!(before.table.len(), 2, "a table that was read does not change");
    }

    #[test]
    fn what_is_revoked_stays_so_whatever_is_published() {
        let routes = RouteTable::default();
        let revoked = BTreeSet::from(["a".repeat(64)]);
        assert!(routes.revoke(revoked.clone()));
        assert!(!routes.revoke(revoked.clone()), "it is no news");
        routes.replace(BTreeMap::new());
        routes.publish("a".parse().unwrap(), Route::to(Target::Base), None);
        let now = routes.numbered();
        assert_eq!((now.sequence, &*now.revoked), (3, &revoked));
    }
}
