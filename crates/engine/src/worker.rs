//! The thread that owns the model's time: it takes requests in, steps, and lets ended ones go.

use std::{
    collections::VecDeque,
    sync::{
        atomic::Ordering::Relaxed,
        mpsc::{Receiver, TryRecvError},
    },
};

use understudy_inference::InferenceError;
use understudy_model::{BaseModel, KvCache, Result};

use crate::{
    Config,
    counters::Counters,
    prefix::PrefixCache,
    schedule::{self, Standing},
    sequence::{End, Job, Sequence},
    step::{self, Member},
};

pub(crate) struct Worker<'m> {
    model: &'m BaseModel,
    config: Config,
    counters: &'m Counters,
    jobs: Receiver<Vec<Job>>,
    waiting: VecDeque<Sequence<'m>>,
    /// From the oldest to the youngest.
    running: Vec<Sequence<'m>>,
    prefixes: PrefixCache,
}

impl<'m> Worker<'m> {
    pub(crate) fn new(
        model: &'m BaseModel,
        config: Config,
        counters: &'m Counters,
        jobs: Receiver<Vec<Job>>,
    ) -> Self {
        let (waiting, running) = (VecDeque::new(), Vec::new());
        let prefixes = PrefixCache::new(config.prefix_tokens);
        Self { model, config, counters, jobs, waiting, running, prefixes }
    }

    /// Works until the last handle is gone, then tells everyone who is left.
    pub(crate) fn run(mut self) {
        while self.take_in() {
            self.admit();
            self.step();
            self.let_go();
        }
        for mut sequence in self.running.drain(..).chain(self.waiting.drain(..)) {
            sequence.fail(InferenceError::ShuttingDown);
        }
    }

    /// Queues what has arrived, waiting for a request when there is nothing else to do. False once
    /// nobody can send any more.
    fn take_in(&mut self) -> bool {
        if self.running.is_empty() && self.waiting.is_empty() {
            match self.jobs.recv() {
                Ok(jobs) => self.queue(jobs),
                Err(_) => return false,
            }
        }
        loop {
            match self.jobs.try_recv() {
                Ok(jobs) => self.queue(jobs),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn queue(&mut self, jobs: Vec<Job>) {
        let model = self.model;
        self.waiting.extend(jobs.into_iter().map(|job| Sequence::new(model, job)));
    }

    /// Lets waiting sequences join in the order they came, as long as the first of them fits.
    fn admit(&mut self) {
        let mut standings: Vec<Standing> = self.running.iter().map(Sequence::standing).collect();
        while let Some(next) = self.waiting.front() {
            let standing = next.standing();
            if !schedule::admits(&standings, standing, &self.config) {
                return;
            }
            let Some(mut next) = self.waiting.pop_front() else { return };
            if next.is_fresh() {
                self.counters.leave();
            }
            match self.cache_for(&next) {
                Ok(cache) => next.begin(cache),
                Err(error) => next.fail(InferenceError::Failed(error.to_string())),
            }
            if next.end().is_some() {
                self.count_end(&next);
                continue;
            }
            standings.push(standing);
            self.running.push(next);
        }
    }

    /// The known beginning of a sequence, or an empty cache.
    fn cache_for(&mut self, next: &Sequence<'_>) -> Result<KvCache> {
        if let Some(known) = self.prefixes.find(next.generation(), next.tokens())? {
            self.counters.reused_tokens.fetch_add(known.len() as u64, Relaxed);
            return Ok(known);
        }
        let decoder = &self.model.decoder;
        KvCache::new(decoder.config(), decoder.device())
    }

    fn step(&mut self) {
        let standings: Vec<Standing> = self.running.iter().map(Sequence::standing).collect();
        let plan = schedule::plan(&standings, &self.config);
        for _ in 0..plan.evict {
            if let Some(mut youngest) = self.running.pop() {
                youngest.yield_cache();
                self.waiting.push_front(youngest);
                self.counters.evicted.fetch_add(1, Relaxed);
            }
        }
        let planned = self.running.iter_mut().zip(&plan.rows);
        let mut members: Vec<Member<'_, 'm>> = planned
            .filter(|(_, rows)| **rows > 0)
            .map(|(sequence, rows)| Member { sequence, rows: *rows })
            .collect();
        if members.is_empty() {
            return;
        }
        let before: usize = members.iter().map(|member| member.sequence.left()).sum();
        step::step(self.model, &mut members);
        let after: usize = members.iter().map(|member| member.sequence.left()).sum();
        self.counters.completion_tokens.fetch_add((before - after) as u64, Relaxed);
        self.counters.steps.fetch_add(1, Relaxed);
        self.counters.rows.fetch_add(plan.rows.iter().sum::<usize>() as u64, Relaxed);
    }

    /// Frees the sequences that have ended, whatever ended them.
    fn let_go(&mut self) {
        let ended: Vec<Sequence<'m>> =
            self.running.extract_if(.., |sequence| sequence.end().is_some()).collect();
        for sequence in ended {
            self.count_end(&sequence);
            if let Some(prefix) = sequence.into_prefix() {
                self.prefixes.keep(prefix);
            }
        }
        let held: usize = self.running.iter().map(|sequence| sequence.standing().cached).sum();
        self.counters.kv_tokens.store(held, Relaxed);
        self.counters.running.store(self.running.len(), Relaxed);
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
