//! Who may join the batch: first come, first served, within what the caches may hold.

use std::collections::VecDeque;

use crate::{Config, sequence::Submission};

/// Requests that wait, in the order they came.
#[derive(Default)]
pub(crate) struct Admission {
    waiting: VecDeque<Submission>,
}

impl Admission {
    pub(crate) fn push(&mut self, submission: Submission) {
        self.waiting.push_back(submission);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The next request and what it reserves, if it fits beside `running` sequences that have
    /// reserved `reserved` tokens. One that is too large for the rest waits for it to shrink, and
    /// those behind it wait too: overtaking would starve long requests.
    pub(crate) fn next(
        &mut self,
        running: usize,
        reserved: usize,
        max_positions: usize,
        config: Config,
    ) -> Option<(Submission, usize)> {
        let wanted = self.waiting.front()?.reserve(max_positions).min(config.cache_tokens);
        let fits = running < config.max_running && reserved + wanted <= config.cache_tokens;
        // An empty engine takes anything that passed the context check.
        if !fits && running > 0 {
            return None;
        }
        Some((self.waiting.pop_front()?, wanted))
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Submission> {
        self.waiting.drain(..)
    }
}
