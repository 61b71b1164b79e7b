//! Who is asked, when another is as well, and what becomes of a request that fails.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    ops::ControlFlow,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::time::{sleep, timeout};
use understudy_inference::{
    Completion, Event, Gauge, GenerateRequest, InferenceError, ServedAdapter, Sink, Stopwatch,
};

use super::{Shared, Weights};
use crate::{
    Admission, Dialect, Endpoint,
    attempt::{Failure, Live, Prepared, Talk},
    line::Place,
    pick::{Blame, Replica, affinity, order},
    wire,
};

/// The first wait before a replica is asked again, doubled each time and cut by lot.
const BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);
/// One request in so many may be sent to a second replica as well, beside the first few: a breaker
/// must see some fail before it opens.
const HEDGES: u64 = 10;
const FIRST_HEDGES: u64 = 10;

impl Shared {
    pub(super) async fn answer(
        &self,
        request: &GenerateRequest,
        weights: &Weights,
        mut watch: Stopwatch,
        (place, sink): (&mut Place<'_>, &mut Sink),
    ) -> Result<ControlFlow<(), Box<Completion>>, InferenceError> {
        let late = |_| InferenceError::TimedOut(watch.total_ms() as u64);
        // A deadline ends in the queue as well as beyond it.
        let room = timeout(self.patience(request, &watch), self.room.acquire()).await;
        let _room = room.map_err(late)?.map_err(|_| InferenceError::ShuttingDown)?;
        watch.begin();
        place.begin();
        self.counts.requests.fetch_add(1, Ordering::Relaxed);
        let prepared = self.prepare(request, weights, &watch)?;
        let (index, live) = self.open(request, weights, &prepared, &watch).await?;
        let adapter = weights.served.adapter.as_ref();
        let replica = &self.replicas[index];
        let busy = Busy::at(replica);
        let told = self.relay(index, live, request, weights, sink).await;
        drop(busy);
        let (now, adapter) = (self.clock.ms(), adapter.map(|_| weights.name.as_str()));
        match &told {
            Ok(ControlFlow::Continue(completion)) => {
                replica.record(adapter, now, Blame::Nobody);
                self.counts.finished.fetch_add(1, Ordering::Relaxed);
                let usage = completion.usage;
                let add = |count: &AtomicU64, tokens: u32| {
                    count.fetch_add(u64::from(tokens), Ordering::Relaxed);
                };
                add(&self.counts.prompt_tokens, usage.prompt_tokens);
                add(&self.counts.completion_tokens, usage.completion_tokens);
            }
            Ok(ControlFlow::Break(())) => replica.forget(adapter, now),
            Err(_) => replica.record(adapter, now, Blame::Replica),
        }
        told
    }

    fn prepare(
        &self,
        request: &GenerateRequest,
        weights: &Weights,
        watch: &Stopwatch,
    ) -> Result<Prepared, InferenceError> {
        let Endpoint { dialect, limit_field, .. } = &self.endpoint;
        let patience = self.patience(request, watch);
        if patience.is_zero() {
            return Err(InferenceError::TimedOut(watch.total_ms() as u64));
        }
        let mut body = wire::body(request, &weights.name, *dialect, *limit_field);
        let no_json = |why| InferenceError::Failed(format!("the request is no JSON: {why}"));
        let mut bytes = serde_json::to_vec(&body.json).map_err(no_json)?;
        let context = self.context.load(Ordering::Relaxed);
        // Every token stands for at least one byte, so bytes bound tokens.
        let fits = bytes.len() + request.sampling.max_tokens as usize <= context;
        let capped = *dialect == Dialect::Vllm && !request.admission.must_fit && !fits;
        if capped {
            // A server refuses a limit that does not fit; without one it goes as far as there is
            // room, and we stop it.
            body.unlimited(*limit_field);
            bytes = serde_json::to_vec(&body.json).map_err(no_json)?;
        }
        let adapter = weights.served.adapter.as_ref();
        let models = adapter.map_or_else(Vec::new, |adapter| {
            let digest = adapter.generation.get(..12).unwrap_or(&adapter.generation);
            vec![weights.name.clone(), format!("{}#{digest}", weights.name)]
        });
        let until = Instant::now() + patience;
        let most_tokens = capped.then_some(request.sampling.max_tokens as usize);
        Ok(Prepared { path: body.path, bytes: Bytes::from(bytes), models, most_tokens, until })
    }

    /// How long a request may still take; what was spent waiting in the queue is gone.
    fn patience(&self, request: &GenerateRequest, watch: &Stopwatch) -> Duration {
        let total = self.endpoint.timeouts.total;
        let left = |deadline: Duration| deadline.saturating_sub(watch.since_submitted());
        request.admission.timeout.map_or(total, |deadline| left(deadline).min(total))
    }

    /// Asks one replica after another, as far as that is safe, until one begins to answer.
    async fn open(
        &self,
        request: &GenerateRequest,
        weights: &Weights,
        prepared: &Prepared,
        watch: &Stopwatch,
    ) -> Result<(usize, Live), InferenceError> {
        let order = order(&self.replicas, affinity(&request.prompt));
        let mut tried: Vec<usize> = Vec::new();
        let mut last: Option<Failure> = None;
        for attempt in 0..self.endpoint.attempts.max(1) {
            let Some((index, admission)) = self.choose(&order, &tried, weights) else { break };
            if tried.contains(&index) {
                self.back_off(attempt, last.as_ref(), prepared.until).await;
            }
            if attempt > 0 {
                self.counts.repeated.fetch_add(1, Ordering::Relaxed);
            }
            tried.push(index);
            let second = self.second(&order, &tried, weights, admission);
            match self.race(index, second, prepared, watch, weights).await {
                Ok(live) => return Ok(live),
                Err(failure) if failure.class.may_repeat(self.endpoint.replay) => {
                    tracing::warn!(attempt, error = %failure.error, "a replica failed");
                    last = Some(failure);
                }
                Err(failure) => return Err(failure.error),
            }
            if Instant::now() >= prepared.until {
                break;
            }
        }
        Err(last.map_or_else(|| self.all_out(weights), |failure| failure.error))
    }

    /// The first in order that is well; one that was tried only when no other is.
    fn choose(
        &self,
        order: &[usize],
        tried: &[usize],
        weights: &Weights,
    ) -> Option<(usize, Admission)> {
        let adapter = weights.served.adapter.as_ref().map(|_| weights.name.as_str());
        let fresh = order.iter().filter(|index| !tried.contains(index));
        let again = order.iter().filter(|index| tried.contains(index));
        fresh.chain(again).copied().find_map(|index| {
            let replica = &self.replicas[index];
            if adapter.is_some_and(|name| !replica.holds(name)) {
                return None;
            }
            match replica.admit(adapter, self.clock.ms()) {
                Admission::No(_) => None,
                admission => Some((index, admission)),
            }
        })
    }

    /// Whom to ask as well if the first says nothing, where that is allowed and affordable.
    fn second(
        &self,
        order: &[usize],
        tried: &[usize],
        weights: &Weights,
        first: Admission,
    ) -> Option<(Duration, usize)> {
        let after = self.endpoint.hedge_after?;
        let adapter = weights.served.adapter.as_ref().map(|_| weights.name.as_str());
        let well = |index: &&usize| {
            let replica = &self.replicas[**index];
            let holds = adapter.is_none_or(|name| replica.holds(name));
            !tried.contains(index) && holds && !replica.is_out(adapter)
        };
        let index = order.iter().find(well).copied()?;
        let hedged = self.counts.hedged.load(Ordering::Relaxed);
        let requests = self.counts.requests.load(Ordering::Relaxed);
        // A probe is expected to fail, so somebody else is always kept ready for it.
        let affordable =
            first == Admission::Probe || hedged * HEDGES <= requests + FIRST_HEDGES * HEDGES;
        affordable.then_some((after, index))
    }

    /// One replica, and a second one beside it when the first has not begun in time. Whoever begins
    /// first answers; the other is hung up on.
    async fn race(
        &self,
        index: usize,
        second: Option<(Duration, usize)>,
        prepared: &Prepared,
        watch: &Stopwatch,
        weights: &Weights,
    ) -> Result<(usize, Live), Failure> {
        let first = self.attempt(index, prepared, watch, weights);
        let Some((after, other)) = second else { return first.await };
        tokio::pin!(first);
        tokio::select! {
            opened = &mut first => return opened,
            () = sleep(after) => {}
        }
        let adapter = weights.served.adapter.as_ref().map(|_| weights.name.as_str());
        if !matches!(self.replicas[other].admit(adapter, self.clock.ms()), Admission::Yes) {
            self.replicas[other].forget(adapter, self.clock.ms());
            return first.await;
        }
        self.counts.hedged.fetch_add(1, Ordering::Relaxed);
        let hedge = self.attempt(other, prepared, watch, weights);
        tokio::pin!(hedge);
        tokio::select! {
            opened = &mut first => match opened {
                Ok(opened) => {
                    self.replicas[other].forget(adapter, self.clock.ms());
                    Ok(opened)
                }
                Err(_) => hedge.await,
            },
            opened = &mut hedge => match opened {
                Ok(opened) => {
                    self.counts.hedges_won.fetch_add(1, Ordering::Relaxed);
                    // It was silent for longer than another needed from the start.
                    self.replicas[index].record(adapter, self.clock.ms(), Blame::Replica);
                    Ok(opened)
                }
                Err(_) => first.await,
            },
        }
    }

    async fn attempt(
        &self,
        index: usize,
        prepared: &Prepared,
        watch: &Stopwatch,
        weights: &Weights,
    ) -> Result<(usize, Live), Failure> {
        let replica = &self.replicas[index];
        let _busy = Busy::at(replica);
        let opened = self.talk(index).open(prepared, watch.clone()).await;
        let adapter = weights.served.adapter.as_ref().map(|_| weights.name.as_str());
        opened.map(|live| (index, live)).inspect_err(|failure| {
            if failure.lost_adapter && adapter.is_some() {
                replica.held().remove(&weights.name);
            }
            match failure.blame {
                Blame::Nobody => replica.forget(adapter, self.clock.ms()),
                blame => replica.record(adapter, self.clock.ms(), blame),
            }
        })
    }

    async fn back_off(&self, attempt: u32, last: Option<&Failure>, until: Instant) {
        let most = BACKOFF.saturating_mul(1 << attempt.min(10)).min(LONGEST_BACKOFF);
        let jittered = most.mul_f64(lot());
        let asked = last.and_then(|failure| failure.retry_after);
        let wait = asked.unwrap_or(jittered).max(jittered);
        sleep(wait.min(until.saturating_duration_since(Instant::now()))).await;
    }

    async fn relay(
        &self,
        index: usize,
        mut live: Live,
        request: &GenerateRequest,
        weights: &Weights,
        sink: &mut Sink,
    ) -> Result<ControlFlow<(), Box<Completion>>, InferenceError> {
        let talk = self.talk(index);
        if sink(Event::Started(weights.served.clone())).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        while let Some(delta) = live.next(&talk).await? {
            if sink(Event::Delta(delta)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if live.most_tokens.is_some_and(|most| live.reply.stop_at(most)) {
                break;
            }
        }
        let served = weights.served.clone();
        let completion = live.reply.completion(self.endpoint.role, served, request)?;
        Ok(ControlFlow::Continue(Box::new(completion)))
    }

    pub(crate) fn talk(&self, index: usize) -> Talk<'_> {
        let url = &self.replicas[index].url;
        Talk { endpoint: &self.endpoint, client: &self.client, url }
    }

    fn all_out(&self, weights: &Weights) -> InferenceError {
        let adapter = weights.served.adapter.as_ref();
        let held = |replica: &Replica| adapter.is_none() || replica.holds(&weights.name);
        if let Some(ServedAdapter { alias, .. }) = adapter
            && !self.replicas.iter().any(held)
        {
            let loaded = "none of its replicas has it".to_owned();
            return InferenceError::UnknownAdapter { alias: alias.clone(), loaded };
        }
        let all = self.replicas.len();
        InferenceError::Failed(format!(
            "{} `{}` is left alone for a while: all of its {all} addresses have been failing; see \
             understudy:replica_out in /metrics",
            self.endpoint.role, self.endpoint.model
        ))
    }

    pub(crate) fn gauges(&self) -> Vec<Gauge> {
        let count = |name, count: &AtomicU64| Gauge {
            name,
            labels: Vec::new(),
            value: count.load(Ordering::Relaxed) as f64,
            rises: true,
        };
        let mut gauges = vec![
            count("upstream_requests_total", &self.counts.requests),
            count("upstream_repeated_total", &self.counts.repeated),
            count("upstream_hedged_total", &self.counts.hedged),
            count("upstream_hedges_won_total", &self.counts.hedges_won),
            count("upstream_failed_total", &self.counts.failed),
        ];
        let labels = |replica: &Replica| vec![("replica", replica.url.clone())];
        let gauge =
            |name, replica, value| Gauge { name, labels: labels(replica), value, rises: false };
        gauges.extend(self.replicas.iter().map(|replica| {
            gauge("replica_out", replica, f64::from(u8::from(replica.is_out(None))))
        }));
        gauges.extend(self.replicas.iter().map(|replica| {
            gauge("replica_busy", replica, replica.busy.load(Ordering::Relaxed) as f64)
        }));
        gauges
    }
}

/// A number from 0 to 1 that nobody can foresee: the standard library seeds its hashers by chance.
fn lot() -> f64 {
    let drawn = RandomState::new().build_hasher().finish();
    (drawn >> 11) as f64 / (1_u64 << 53) as f64
}

/// A request at a replica, as long as it lives.
struct Busy<'a>(&'a Replica);

impl<'a> Busy<'a> {
    fn at(replica: &'a Replica) -> Self {
        replica.busy.fetch_add(1, Ordering::Relaxed);
        Self(replica)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}
