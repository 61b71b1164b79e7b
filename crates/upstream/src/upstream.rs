//! One model at one or several addresses: the queue before it, who of them is asked, and when
//! another is.

use std::{
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::Uri;
use tokio::{
    runtime::Runtime,
    sync::{Semaphore, watch},
    time::sleep,
};
use understudy_inference::{
    AdapterChoice, Backend, Completion, Event, Gauge, GenerateRequest, InferenceError, Served,
    ServedAdapter, Sink,
};

use crate::{
    Admission, Dialect, Endpoint, UpstreamError,
    attempt::{Failure, Live, Prepared, Talk},
    client::Client,
    pick::{Blame, Replica, Rising, affinity, order},
    watch::Stopwatch,
    wire,
};

/// The first wait before a replica is asked again, doubled each time and cut by lot.
const BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);
/// One request in so many may be sent to a second replica as well, beside the first few: a breaker
/// must see some fail before it opens.
const HEDGES: u64 = 10;
const FIRST_HEDGES: u64 = 10;
/// How long requests under way are waited for when their upstream is dropped.
const FAREWELL: Duration = Duration::from_secs(2);

/// A model behind HTTP. Requests wait in a bounded queue; answers stream.
pub struct Upstream {
    pub(crate) shared: Arc<Shared>,
    closing: watch::Sender<bool>,
    runtime: Option<Runtime>,
}

/// What every request shares.
pub(crate) struct Shared {
    pub(crate) endpoint: Endpoint,
    pub(crate) client: Client,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) clock: Rising,
    room: Semaphore,
    /// Tokens of prompt and completion together, as far as the servers said; 0 where they did not.
    pub(crate) context: AtomicUsize,
    /// Accepted and not ended.
    pub(crate) accepted: AtomicUsize,
    pub(crate) counts: Counts,
    closing: watch::Receiver<bool>,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) requests: AtomicU64,
    pub(crate) repeated: AtomicU64,
    pub(crate) hedged: AtomicU64,
    pub(crate) hedges_won: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) finished: AtomicU64,
    pub(crate) prompt_tokens: AtomicU64,
    pub(crate) completion_tokens: AtomicU64,
}

/// Weights as they are called at the replicas, and as they are called here.
#[derive(Debug, Clone)]
pub(crate) struct Weights {
    pub(crate) name: String,
    pub(crate) served: Served,
}

impl Upstream {
    /// Checks the addresses' form and starts the threads; sends nothing.
    pub fn new(endpoint: Endpoint) -> Result<Self, UpstreamError> {
        let first = endpoint.urls.first().ok_or(UpstreamError::NoReplica)?;
        let mut uris = Vec::with_capacity(endpoint.urls.len());
        for url in &endpoint.urls {
            uris.push(checked(url)?);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("upstream")
            .enable_all()
            .build()
            .map_err(|source| UpstreamError::Threads { what: first.clone(), source })?;
        let (closing, closed) = watch::channel(false);
        let replica =
            |url: &String| Replica::new(url.trim_end_matches('/').to_owned(), endpoint.breaker);
        let shared = Shared {
            client: Client::new(&uris[0], endpoint.timeouts.connect, endpoint.concurrency),
            replicas: endpoint.urls.iter().map(replica).collect(),
            clock: Rising::start(),
            room: Semaphore::new(endpoint.concurrency.max(1)),
            context: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            counts: Counts::default(),
            closing: closed,
            endpoint,
        };
        Ok(Self { shared: Arc::new(shared), closing, runtime: Some(runtime) })
    }

    pub(crate) fn handle(&self) -> Option<&tokio::runtime::Handle> {
        self.runtime.as_ref().map(Runtime::handle)
    }

    /// Takes a place in the queue for each.
    pub(crate) fn reserve(&self, count: usize) -> Result<(), InferenceError> {
        let endpoint = &self.shared.endpoint;
        let most = endpoint.concurrency.max(1) + endpoint.waiting;
        let taken = self.shared.accepted.fetch_add(count, Ordering::AcqRel);
        if taken + count > most {
            self.shared.accepted.fetch_sub(count, Ordering::AcqRel);
            return Err(InferenceError::Busy(endpoint.waiting));
        }
        Ok(())
    }

    /// Sends a request that has its place.
    pub(crate) fn spawn(&self, request: GenerateRequest, weights: Weights, mut sink: Sink) {
        let shared = Arc::clone(&self.shared);
        let watch = Stopwatch::start();
        let Some(runtime) = &self.runtime else { return };
        runtime.spawn(async move {
            let mut closing = shared.closing.clone();
            let answered = tokio::select! {
                answered = shared.answer(&request, &weights, watch, &mut sink) => answered,
                _ = closing.wait_for(|closing| *closing) => Err(InferenceError::ShuttingDown),
            };
            shared.accepted.fetch_sub(1, Ordering::AcqRel);
            let last = match answered {
                Ok(ControlFlow::Continue(completion)) => Event::Finished(completion),
                Ok(ControlFlow::Break(())) => return,
                Err(error) => {
                    shared.counts.failed.fetch_add(1, Ordering::Relaxed);
                    Event::Failed(error)
                }
            };
            let _: ControlFlow<()> = sink(last);
        });
    }
}

impl Backend for Upstream {
    fn base(&self) -> &str {
        &self.shared.endpoint.model
    }

    fn submit(&self, request: GenerateRequest, sink: Sink) -> Result<(), InferenceError> {
        self.shared.endpoint.dialect.check(&request)?;
        if let Some(AdapterChoice::Alias(name) | AdapterChoice::Generation(name)) = &request.adapter
        {
            let why = format!("`{name}` is not known: a single endpoint has no adapters of ours");
            return Err(InferenceError::invalid("adapter", why));
        }
        self.reserve(1)?;
        let base = self.shared.endpoint.model.clone();
        let served = Served { base: base.clone(), adapter: None };
        self.spawn(request, Weights { name: base, served }, sink);
        Ok(())
    }

    fn gauges(&self) -> Vec<Gauge> {
        self.shared.gauges()
    }
}

impl Shared {
    async fn answer(
        &self,
        request: &GenerateRequest,
        weights: &Weights,
        mut watch: Stopwatch,
        sink: &mut Sink,
    ) -> Result<ControlFlow<(), Box<Completion>>, InferenceError> {
        let _place = self.room.acquire().await.map_err(|_| InferenceError::ShuttingDown)?;
        watch.begin();
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
        let Endpoint { dialect, limit_field, timeouts, .. } = &self.endpoint;
        let patience = match request.admission.timeout {
            // What was spent waiting in the queue is gone.
            Some(deadline) => deadline.saturating_sub(watch.since_submitted()).min(timeouts.total),
            None => timeouts.total,
        };
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

impl Drop for Upstream {
    fn drop(&mut self) {
        // Everybody who waits is told so; then the threads end.
        self.closing.send_replace(true);
        let (runtime, shared) = (self.runtime.take(), Arc::clone(&self.shared));
        // Waiting must not hold up whoever drops it, which may be a thread of another runtime.
        let farewell = thread::Builder::new().name("upstream-end".to_owned()).spawn(move || {
            let begun = Instant::now();
            while shared.accepted.load(Ordering::Acquire) > 0 && begun.elapsed() < FAREWELL {
                thread::sleep(Duration::from_millis(1));
            }
            // The last word of the last request is said after it is counted off.
            thread::sleep(Duration::from_millis(5));
            if let Some(runtime) = runtime {
                runtime.shutdown_background();
            }
        });
        if let Err(why) = farewell {
            tracing::warn!(%why, "an upstream ends without a farewell");
        }
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("endpoint", &self.shared.endpoint).finish_non_exhaustive()
    }
}

fn checked(url: &str) -> Result<Uri, UpstreamError> {
    let wrong = |why| UpstreamError::Endpoint { url: url.to_owned(), why };
    let uri: Uri = url.parse().map_err(|_| wrong("it is not a URL"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
        return Err(wrong("it has no http or https scheme and host"));
    }
    // What the URL says ends up in logs and `Debug` prints.
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(UpstreamError::Endpoint {
            url: "https://…@…".to_owned(),
            why: "a secret belongs in the API key, not in the address",
        });
    }
    Ok(uri)
}
