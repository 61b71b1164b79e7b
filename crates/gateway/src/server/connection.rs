//! Connections, each of which has to say something in time.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::Future,
    net::IpAddr,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{Request, Response},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tower_service::Service as _;

use super::{slow, tls::Tls};
use crate::auth::Peer;

/// More connections at once wait to be accepted.
const MOST: usize = 8192;

/// The longest head of a request.
const HEAD_BYTES: usize = 64 << 10;

/// After a failure to accept, of too many open files say.
const PAUSE: Duration = Duration::from_millis(100);

/// How long is waited for somebody who says nothing, and how many may come from one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For TLS to be agreed on.
    pub handshake: Duration,
    /// For the whole head of a request, and for the next request on a connection.
    pub head: Duration,
    /// For the next part of a body.
    pub body: Duration,
    /// Connections at once of one address; further ones are closed.
    pub per_address: usize,
    /// For what is in flight when the server stops.
    pub drain: Duration,
    /// How long a stream says nothing, for a reply that waits in the queue say, before a comment
    /// shows that it is still there. Proxies close what is silent for longer than a minute or less.
    pub silence: Duration,
    /// The longest that a request may ask to be waited for, in `x-request-timeout-ms`: it asks for
    /// more in vain.
    pub longest_deadline: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let head = Duration::from_mins(1);
        let (handshake, body) = (Duration::from_secs(10), Duration::from_secs(30));
        let (drain, silence) = (Duration::from_secs(30), Duration::from_secs(10));
        let longest_deadline = Duration::from_hours(1);
        Self { handshake, head, body, per_address: MOST / 4, drain, silence, longest_deadline }
    }
}

/// Serves whoever connects until `stop`, then finishes what was begun, for as long as there is
/// patience. Whoever connects meanwhile is still answered, so that probes hear that it stops
/// instead of nothing.
pub(super) async fn accept(
    listener: TcpListener,
    app: Router,
    tls: Option<Tls>,
    patience: Patience,
    stop: impl Future<Output = ()>,
) {
    let graceful = GracefulShutdown::new();
    let porch = Porch {
        listener,
        room: Arc::new(Semaphore::new(MOST)),
        guests: Guests::default(),
        app,
        tls,
        patience,
    };
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            accepted = porch.next() => porch.let_in(accepted, Some(graceful.watcher())),
            () = &mut stop => break,
        }
    }
    let mut drained = pin!(timeout(patience.drain, graceful.shutdown()));
    let in_time = loop {
        tokio::select! {
            accepted = porch.next() => porch.let_in(accepted, None),
            in_time = &mut drained => break in_time,
        }
    };
    if in_time.is_err() {
        tracing::warn!("what was in flight is cut off: it was not over after {:?}", patience.drain);
    }
}

type Accepted = Option<(TcpStream, IpAddr, OwnedSemaphorePermit)>;

/// Where connections come in.
struct Porch {
    listener: TcpListener,
    room: Arc<Semaphore>,
    guests: Guests,
    app: Router,
    tls: Option<Tls>,
    patience: Patience,
}

impl Porch {
    async fn next(&self) -> Accepted {
        next(&self.listener, &self.room).await
    }

    /// Serves a connection; without a watcher it ends with its first reply, and is not waited for.
    fn let_in(&self, accepted: Accepted, watcher: Option<Watcher>) {
        let Some((stream, from, place)) = accepted else { return };
        let Some(guest) = self.guests.enter(from, self.patience.per_address) else { return };
        let (tls, patience) = (self.tls.clone(), self.patience);
        let line = Line { app: self.app.clone(), from, patience, watcher };
        tokio::spawn(async move {
            match tls {
                None => line.serve(stream).await,
                // Who does not finish the handshake was never here.
                Some(tls) => {
                    if let Ok(Ok(stream)) = timeout(patience.handshake, tls.accept(stream)).await {
                        line.serve(stream).await;
                    }
                }
            }
            drop((place, guest));
        });
    }
}

async fn next(listener: &TcpListener, room: &Arc<Semaphore>) -> Accepted {
    let place = Arc::clone(room).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, from)) => {
            // Tokens are small and must not wait for each other.
            stream.set_nodelay(true).ok();
            Some((stream, from.ip(), place))
        }
        Err(why) => {
            tracing::warn!("a connection could not be accepted: {why}");
            tokio::time::sleep(PAUSE).await;
            None
        }
    }
}

/// Connections by address.
#[derive(Debug, Clone, Default)]
struct Guests(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

/// One of them.
struct Guest(Guests, IpAddr);

impl Guests {
    fn enter(&self, from: IpAddr, most: usize) -> Option<Guest> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let here = all.entry(from).or_default();
        if *here >= most {
            return None;
        }
        *here += 1;
        Some(Guest(self.clone(), from))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut all = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = all.get_mut(&self.1) {
            *here -= 1;
            if *here == 0 {
                all.remove(&self.1);
            }
        }
    }
}

/// One connection.
struct Line {
    app: Router,
    from: IpAddr,
    patience: Patience,
    watcher: Option<Watcher>,
}

impl Line {
    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let Self { app, from, patience, watcher } = self;
        let service = service_fn(move |request: Request<Incoming>| {
            answer(app.clone(), request, from, patience.body)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(patience.head)
            .max_buf_size(HEAD_BYTES)
            .keep_alive(watcher.is_some())
            .serve_connection(TokioIo::new(stream), service);
        let ended = match watcher {
            Some(watcher) => watcher.watch(connection).await,
            None => connection.await,
        };
        if let Err(why) = ended {
            tracing::debug!(%from, "a connection ended early: {why}");
        }
    }
}

async fn answer(
    mut app: Router,
    request: Request<Incoming>,
    from: IpAddr,
    patience: Duration,
) -> Result<Response<Body>, Infallible> {
    let mut request = request.map(|body| slow::limited(Body::new(body), patience));
    request.extensions_mut().insert(Peer(from));
    app.call(request).await
}
