//! The thread that owns the model's time: it takes requests in, steps, and lets ended ones go.

use std::{
    collections::VecDeque,
    mem,
    sync::{
        atomic::Ordering::Relaxed,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use understudy_inference::{InLine, InferenceError};
use understudy_model::{BLOCK, BaseModel, KvCache, KvDtype, Result};

use crate::{
    Config,
    counters::Counters,
    gap::Next,
    prefix::PrefixCache,
    schedule::{self, Standing},
    sequence::{End, Job, Sequence},
    step::{self, Member},
    visit::{Door, Guest},
};

/// How long to sleep where nothing but a message can end the wait.
const LONG: Duration = Duration::from_hours(1);

/// Whether content of this digest may still be asked for without being read again.
pub(crate) type InMemory = Box<dyn Fn(&str) -> bool + Send>;

pub(crate) struct Worker<'m> {
    model: &'m BaseModel,
    kv_dtype: KvDtype,
    config: Config,
    counters: &'m Counters,
    jobs: Receiver<Vec<Job>>,
    door: &'m Door,
    /// In the order of their places; the first is the next to join.
    waiting: VecDeque<Sequence<'m>>,
    /// In the order of their places; the last is the first to yield.
    running: VecDeque<Sequence<'m>>,
    prefixes: PrefixCache,
    is_in_memory: InMemory,
    /// Scores of the last step.
    logits: Vec<f32>,
    /// How long it took.
    last_step: Duration,
    /// How many requests have come.
    arrivals: u64,
    /// Whether anybody has come, begun, yielded or ended since that was last told.
    has_moved: bool,
}

impl<'m> Worker<'m> {
    pub(crate) fn new(
        (model, kv_dtype): (&'m BaseModel, KvDtype),
        config: Config,
        counters: &'m Counters,
        jobs: Receiver<Vec<Job>>,
        door: &'m Door,
        is_in_memory: InMemory,
    ) -> Self {
        let (waiting, running) = (VecDeque::new(), VecDeque::new());
        let prefixes = PrefixCache::new(config.prefix_tokens);
        Self {
            model,
            kv_dtype,
            config,
            counters,
            jobs,
            door,
            waiting,
            running,
            prefixes,
            is_in_memory,
            logits: Vec::new(),
            last_step: Duration::ZERO,
            arrivals: 0,
            has_moved: false,
        }
    }

    /// Works until the last handle is gone, then tells everyone who is left.
    pub(crate) fn run(mut self) {
        /// Also when a panic ends it.
        struct Ending<'a>(&'a Door);
        impl Drop for Ending<'_> {
            fn drop(&mut self) {
                self.0.gap().end();
            }
        }
        let _ending = Ending(self.door);
        while self.take_in() {
            self.expire();
            if !self.is_paused() {
                self.admit();
                let guest = self.guest_or_gap();
                let begun = Instant::now();
                self.step(guest);
                self.last_step = begun.elapsed();
            }
            self.let_go();
        }
        for mut sequence in self.running.drain(..).chain(self.waiting.drain(..)) {
            sequence.fail(InferenceError::ShuttingDown);
        }
    }

    /// Who comes along with the next step. When nobody does, a load gets its time before that begins:
    /// a step with a guest is a long one already.
    fn guest_or_gap(&self) -> Option<Guest> {
        let guest = if self.running.is_empty() { None } else { self.door.take() };
        if guest.is_none() {
            let reads = self.running.iter().any(Sequence::is_reading);
            let next = if reads { Next::Reads } else { Next::Decodes };
            self.door.gap().give(self.last_step, next, self.model.rows_at_once());
        }
        guest
    }

    fn is_paused(&self) -> bool {
        self.counters.paused.load(Relaxed)
    }

    /// Queues what has arrived, sleeping while there is nothing else to do. False once nobody can
    /// send any more.
    fn take_in(&mut self) -> bool {
        let mut patience = self.patience();
        loop {
            match self.jobs.recv_timeout(patience) {
                Ok(jobs) => {
                    self.queue(jobs);
                    patience = Duration::ZERO;
                }
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// How long nothing but a message can give it anything to do.
    fn patience(&self) -> Duration {
        let all = || self.running.iter().chain(&self.waiting);
        if all().next().is_some() && !self.is_paused() {
            return Duration::ZERO;
        }
        let first = all().filter_map(Sequence::deadline).min();
        first.map_or(LONG, |first| first.saturating_duration_since(Instant::now()))
    }

    fn queue(&mut self, jobs: Vec<Job>) {
        for job in jobs {
            self.arrivals += 1;
            let sequence = Sequence::new(self.model, job, self.arrivals);
            insert(&mut self.waiting, sequence);
            self.has_moved = true;
        }
    }

    /// Ends those nobody waits for, and those whose time has run out, before they cost any more of
    /// it: also while others are read or everything is held back.
    fn expire(&mut self) {
        let now = Instant::now();
        let is_over = |sequence: &Sequence<'_>| {
            sequence.is_unwanted() || sequence.deadline().is_some_and(|at| at <= now)
        };
        self.running.iter_mut().filter(|sequence| is_over(sequence)).for_each(give_up);
        if self.waiting.iter().any(is_over) {
            let (over, waiting) = mem::take(&mut self.waiting).into_iter().partition(is_over);
            self.waiting = waiting;
            self.has_moved = true;
            self.dismiss(over);
        }
        self.let_go();
    }

    fn dismiss(&self, over: VecDeque<Sequence<'m>>) {
        for mut sequence in over {
            if sequence.is_fresh() {
                self.counters.leave(sequence.prompt_len());
            }
            give_up(&mut sequence);
            self.count_end(&sequence);
        }
    }

    /// Lets waiting sequences join in the order of their places, as long as the next of them fits.
    /// One whose beginning a running sequence is reading right now is passed over: it will find
    /// that cached.
    fn admit(&mut self) {
        let mut at = 0;
        while at < self.waiting.len() {
            if self.is_being_read(at) {
                at += 1;
                continue;
            }
            let standings: Vec<Standing> = self.running.iter().map(Sequence::standing).collect();
            if !schedule::admits(&standings, self.waiting[at].standing(), &self.config) {
                return;
            }
            let Some(mut next) = self.waiting.remove(at) else { return };
            self.has_moved = true;
            if next.is_fresh() {
                self.counters.leave(next.prompt_len());
                self.counters.prompt_tokens.fetch_add(next.prompt_len() as u64, Relaxed);
            }
            match self.cache_for(&mut next) {
                Ok(cache) => next.begin(cache),
                Err(error) => next.fail(InferenceError::Failed(error.to_string())),
            }
            if next.end().is_some() {
                self.count_end(&next);
                continue;
            }
            insert(&mut self.running, next);
        }
    }

    /// Whether the next block that a waiting sequence would have to read is one that a running
    /// sequence is about to have read.
    fn is_being_read(&mut self, at: usize) -> bool {
        if !self.prefixes.is_on() || self.waiting[at].reads_all() {
            return false;
        }
        let chain = self.waiting[at].chain();
        let Some(next) = chain.get(self.prefixes.known(chain)) else { return false };
        let mut reading = self.running.iter().filter(|running| running.is_reading());
        reading.any(|running| running.named().contains(next))
    }

    /// The known beginning of a sequence, or an empty cache.
    fn cache_for(&mut self, next: &mut Sequence<'_>) -> Result<KvCache> {
        let mut blocks = Vec::new();
        if self.prefixes.is_on() && !next.reads_all() {
            blocks = self.prefixes.find(next.chain());
        }
        let reused = (blocks.len() * BLOCK) as u64;
        self.counters.reused_tokens.fetch_add(reused, Relaxed);
        self.model.decoder.cache_in(self.kv_dtype)?.begun_with(blocks)
    }

    fn step(&mut self, mut guest: Option<Guest>) {
        let standings: Vec<Standing> = self.running.iter().map(Sequence::standing).collect();
        let visiting = guest.as_ref().map_or(0, |(visit, _)| visit.rows());
        let plan = schedule::plan(&standings, visiting, self.model.rows_at_once(), &self.config);
        for _ in 0..plan.evict {
            if let Some(mut last) = self.running.pop_back() {
                last.yield_cache();
                self.has_moved = true;
                insert(&mut self.waiting, last);
                self.counters.evicted.fetch_add(1, Relaxed);
            }
        }
        let planned = self.running.iter_mut().zip(&plan.rows);
        let mut members: Vec<Member<'_, 'm>> = planned
            .filter(|(_, rows)| **rows > 0)
            .map(|(sequence, rows)| Member { sequence, rows: *rows })
            .collect();
        if members.is_empty() && guest.is_none() {
            return;
        }
        let reading: Vec<u64> = members
            .iter()
            .filter(|member| member.sequence.is_reading())
            .map(|member| member.sequence.place().arrival)
            .collect();
        let before: usize = members.iter().map(|member| member.sequence.produced()).sum();
        let unseen = guest.as_ref().map_or(0, |(visit, _)| visit.left());
        let visit = guest.as_mut().map(|(visit, _)| visit);
        step::step(self.model, &mut members, visit, &mut self.logits);
        if let Some(guest) = guest {
            self.door.see_off(guest, unseen);
        }
        let after: usize = members.iter().map(|member| member.sequence.produced()).sum();
        self.counters.completion_tokens.fetch_add((after - before) as u64, Relaxed);
        self.counters.stepped(plan.rows.iter().sum());
        for mut sequence in mem::take(&mut self.running) {
            let has_read = sequence.end().is_none() && !sequence.is_reading();
            if has_read && reading.contains(&sequence.place().arrival) {
                self.remember(&mut sequence);
            }
            self.running.push_back(sequence);
        }
    }

    /// Leaves what a sequence has cached to those that begin alike.
    fn remember(&mut self, sequence: &mut Sequence<'_>) {
        if !self.prefixes.is_on() {
            return;
        }
        let chain = sequence.chain().to_vec();
        if let Some(cache) = sequence.cache() {
            self.prefixes.keep(&chain, sequence.generation(), cache, &self.is_in_memory);
        }
    }

    /// Frees the sequences that have ended, whatever ended them.
    fn let_go(&mut self) {
        let is_over = |sequence: &Sequence<'_>| sequence.end().is_some();
        let (ended, running): (VecDeque<_>, VecDeque<_>) =
            mem::take(&mut self.running).into_iter().partition(is_over);
        self.running = running;
        self.has_moved |= !ended.is_empty();
        for mut sequence in ended {
            self.count_end(&sequence);
            self.remember(&mut sequence);
        }
        let held: usize = self.running.iter().map(|sequence| sequence.standing().cached).sum();
        self.counters.kv_tokens.store(held, Relaxed);
        self.counters.running.store(self.running.len(), Relaxed);
        self.counters.kept_tokens.store(self.prefixes.tokens(), Relaxed);
        if mem::take(&mut self.has_moved) {
            let waiting = self.waiting.iter().map(Sequence::served);
            let running = self.running.iter().map(Sequence::served);
            self.counters.lines_up(InLine::count(waiting, running));
        }
    }

    fn count_end(&self, sequence: &Sequence<'_>) {
        let counter = match sequence.end() {
            Some(End::Finished) => &self.counters.finished,
            Some(End::Cancelled) => &self.counters.cancelled,
            Some(End::Failed) | None => &self.counters.failed,
        };
        counter.fetch_add(1, Relaxed);
    }
}

/// Ends a sequence that is unwanted or late.
fn give_up(sequence: &mut Sequence<'_>) {
    if sequence.is_unwanted() { sequence.cancel() } else { sequence.time_out() }
}

/// Puts a sequence in its place.
fn insert<'m>(line: &mut VecDeque<Sequence<'m>>, sequence: Sequence<'m>) {
    let at = line.partition_point(|other| other.place() < sequence.place());
    line.insert(at, sequence);
}
