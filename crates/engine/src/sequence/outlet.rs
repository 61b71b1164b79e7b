//! Where a request's events go, and whether any more will.

use std::{
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
};

use understudy_inference::{Event, Sink};

/// How a request came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Finished,
    Failed,
    Cancelled,
}

/// Hands events over until the last one, or until the sink has had enough.
pub(super) struct Outlet {
    sink: Sink,
    end: Option<End>,
}

impl Outlet {
    pub(super) fn new(sink: Sink) -> Self {
        Self { sink, end: None }
    }

    pub(super) fn end(&self) -> Option<End> {
        self.end
    }

    /// Nothing follows.
    pub(super) fn close(&mut self, end: End) {
        self.end.get_or_insert(end);
    }

    /// Hands one event over. A sink that has had enough, or panics, is not called again.
    pub(super) fn emit(&mut self, event: Event) {
        if self.end.is_some() {
            return;
        }
        let is_last = matches!(event, Event::Finished(_) | Event::Failed(_));
        let taken = catch_unwind(AssertUnwindSafe(|| (self.sink)(event)));
        self.end = match taken {
            _ if is_last => None,
            Ok(ControlFlow::Continue(())) => None,
            Ok(ControlFlow::Break(())) => Some(End::Cancelled),
            Err(_) => Some(End::Failed),
        };
    }
}

/// A sink for no one.
pub(super) fn closed() -> Sink {
    Box::new(|_| ControlFlow::Break(()))
}
