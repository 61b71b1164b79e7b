//! One model at one or several addresses: the queue before it, who of them is asked, and when
//! another is.

mod asking;

use std::{
    fmt,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use hyper::Uri;
use tokio::{
    runtime::{Handle, Runtime},
    sync::{Semaphore, watch},
};
use understudy_inference::{
    AdapterChoice, Backend, Event, Gauge, GenerateRequest, InferenceError, Lease, Served, Sink,
    Stopwatch,
};

use crate::{
    Endpoint, UpstreamError,
    client::Client,
    line::Line,
    pick::{Replica, Rising},
};

/// How long requests under way are waited for when their upstream is dropped.
const FAREWELL: Duration = Duration::from_secs(2);

/// A model behind HTTP. Requests wait in a bounded queue; answers stream.
pub struct Upstream {
    pub(crate) shared: Arc<Shared>,
    closing: watch::Sender<bool>,
    threads: Handle,
    /// Where these are nobody else's.
    own: Option<Runtime>,
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
    pub(crate) line: Line,
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
    /// Held as long as the request lasts.
    pub(crate) _lease: Option<Lease>,
}

impl Upstream {
    /// Checks the addresses' form and starts the threads, unless it is to use another's; sends
    /// nothing.
    pub fn new(endpoint: Endpoint) -> Result<Self, UpstreamError> {
        let first = endpoint.urls.first().ok_or(UpstreamError::NoReplica)?;
        let mut uris = Vec::with_capacity(endpoint.urls.len());
        for url in &endpoint.urls {
            uris.push(checked(url)?);
        }
        let (threads, own) = if let Some(threads) = &endpoint.threads {
            (threads.clone(), None)
        } else {
            let own = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .thread_name("upstream")
                .enable_all()
                .build()
                .map_err(|source| UpstreamError::Threads { what: first.clone(), source })?;
            (own.handle().clone(), Some(own))
        };
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
            line: Line::default(),
            closing: closed,
            endpoint,
        };
        Ok(Self { shared: Arc::new(shared), closing, threads, own })
    }

    pub(crate) fn threads(&self) -> &Handle {
        &self.threads
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
        self.threads.spawn(async move {
            let mut closing = shared.closing.clone();
            let mut place = shared.line.enter(&weights.served);
            let answered = tokio::select! {
                answered = shared.answer(&request, &weights, watch, (&mut place, &mut sink)) => {
                    answered
                }
                _ = closing.wait_for(|closing| *closing) => Err(InferenceError::ShuttingDown),
            };
            drop(place);
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
            // Whoever counts those in flight counts this one until it was answered.
            drop(weights);
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
        self.spawn(request, Weights { name: base, served, _lease: None }, sink);
        Ok(())
    }

    fn gauges(&self) -> Vec<Gauge> {
        self.shared.gauges()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // Everybody who waits is told so; then the threads end.
        self.closing.send_replace(true);
        let (own, shared) = (self.own.take(), Arc::clone(&self.shared));
        // Waiting must not hold up whoever drops it, which may be a thread of another runtime.
        let farewell = thread::Builder::new().name("upstream-end".to_owned()).spawn(move || {
            let begun = Instant::now();
            while shared.accepted.load(Ordering::Acquire) > 0 && begun.elapsed() < FAREWELL {
                thread::sleep(Duration::from_millis(1));
            }
            // The last word of the last request is said after it is counted off.
            thread::sleep(Duration::from_millis(5));
            if let Some(own) = own {
                own.shutdown_background();
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
