//! Requests by the adapter they are for: those that wait here, and those that were sent. What a
//! server makes wait that they were sent to, it alone knows.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use understudy_inference::{InLine, Served};

#[derive(Debug, Default)]
pub(crate) struct Line(Mutex<BTreeMap<String, InLine>>);

/// One request, from its acceptance to its end, however that comes.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    line: &'a Line,
    /// `None` for the base.
    alias: Option<&'a str>,
    is_sent: bool,
}

impl Line {
    pub(crate) fn enter<'a>(&'a self, served: &'a Served) -> Place<'a> {
        let alias = served.adapter.as_ref().map(|adapter| adapter.alias.as_str());
        let place = Place { line: self, alias, is_sent: false };
        place.change(|line| line.waiting += 1);
        place
    }

    /// Adapters nobody asks for are left out.
    pub(crate) fn list(&self) -> Vec<InLine> {
        self.lines().values().cloned().collect()
    }

    fn lines(&self) -> MutexGuard<'_, BTreeMap<String, InLine>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// It waits no longer.
    pub(crate) fn begin(&mut self) {
        self.is_sent = true;
        self.change(|line| {
            line.waiting -= 1;
            line.running += 1;
        });
    }

    fn change(&self, change: impl FnOnce(&mut InLine)) {
        let Some(alias) = self.alias else { return };
        let mut lines = self.line.lines();
        let line = lines.entry(alias.to_owned()).or_default();
        alias.clone_into(&mut line.alias);
        change(line);
        if line.waiting + line.running == 0 {
            lines.remove(alias);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let is_sent = self.is_sent;
        self.change(|line| *if is_sent { &mut line.running } else { &mut line.waiting } -= 1);
    }
}
