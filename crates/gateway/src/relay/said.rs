//! What has been said and what the reader has not taken yet.

use understudy_inference::{Completion, Delta, Served};

use super::{Opening, Part};
use crate::exchange::Exchange;

/// How much is kept back from the reader, because somebody else might still answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hold {
    #[default]
    Nothing,
    /// Until there is something to read.
    Start,
    /// Until the end.
    All,
}

#[derive(Debug, Default)]
pub(super) struct Said {
    hold: Hold,
    text: String,
    served: Option<Served>,
    announce: bool,
    pending: Delta,
}

impl Said {
    pub(super) fn new(hold: Hold) -> Self {
        Self { hold, ..Self::default() }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn served(&self) -> Option<&Served> {
        self.served.as_ref()
    }

    pub(super) fn start(&mut self, served: Served) {
        self.served = Some(served);
        self.announce = true;
    }

    pub(super) fn add(&mut self, delta: Delta) {
        self.text.push_str(&delta.text);
        self.pending.text.push_str(&delta.text);
        self.pending.tokens.extend(delta.tokens);
        if self.hold == Hold::Start {
            self.hold = Hold::Nothing;
        }
    }

    /// Nobody else will answer.
    pub(super) fn release(&mut self) {
        self.hold = Hold::Nothing;
    }

    /// Whether the reader has been told who answers: from then on it is too late for another.
    pub(super) fn is_told(&self) -> bool {
        self.served.is_some() && !self.announce
    }

    /// Whether this is how the completion was said.
    pub(super) fn is_of(&self, completion: &Completion) -> bool {
        self.served.as_ref() == Some(&completion.served)
    }

    /// A reply that was not listened to: then its end says it all.
    pub(super) fn settle(&mut self, completion: &Completion) {
        if self.served.is_none() {
            self.start(completion.served.clone());
            self.add(completion.text.as_str().into());
        }
    }

    pub(super) fn next(&mut self, exchange: &Exchange, choice: usize) -> Option<Part> {
        if self.announce {
            self.announce = false;
            let (served, exchange) = (self.served.clone()?, exchange.clone());
            return Some(Part::Started(Box::new(Opening { exchange, served })));
        }
        let pending = std::mem::take(&mut self.pending);
        (pending != Delta::default()).then_some(Part::Delta(choice, pending))
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.hold == Hold::Nothing && (self.announce || self.pending != Delta::default())
    }
}
