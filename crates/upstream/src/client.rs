//! HTTP/1.1 over kept connections, TLS where the address says so, through a proxy where the
//! environment says so.

use std::{net::IpAddr, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, Uri, body::Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::{
        legacy::{
            Client as Pooled, Error,
            connect::{HttpConnector, proxy::Tunnel},
        },
        proxy::matcher::Matcher,
    },
    rt::{TokioExecutor, TokioTimer},
};

/// A connection that nobody used for so long is closed before the server does it.
const IDLE: Duration = Duration::from_secs(50);

/// One for all replicas of an endpoint.
pub(crate) enum Client {
    Direct(Pooled<HttpsConnector<HttpConnector>, Full<Bytes>>),
    /// TLS to the endpoint itself, inside of a tunnel.
    Tunnelled(Pooled<HttpsConnector<Tunnel<HttpConnector>>, Full<Bytes>>),
}

impl Client {
    pub(crate) fn new(target: &Uri, connect: Duration, connections: usize) -> Self {
        let mut http = HttpConnector::new();
        http.set_connect_timeout(Some(connect));
        http.set_nodelay(true);
        http.enforce_http(false);
        let mut pool = Pooled::builder(TokioExecutor::new());
        pool.pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(connections)
            // A connection the server has just closed must be told apart from a lost answer.
            .retry_canceled_requests(false);
        // A proxy from the environment cannot reach this machine's own address for us.
        let local = target.host().is_some_and(is_loopback);
        let proxy = (!local).then(|| Matcher::from_env().intercept(target)).flatten();
        match proxy {
            None => Self::Direct(pool.build(tls(http))),
            Some(proxy) => {
                let mut tunnel = Tunnel::new(proxy.uri().clone(), http);
                if let Some(auth) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(auth.clone());
                }
                Self::Tunnelled(pool.build(tls(tunnel)))
            }
        }
    }

    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Error> {
        match self {
            Self::Direct(pool) => pool.request(request).await,
            Self::Tunnelled(pool) => pool.request(request).await,
        }
    }
}

fn tls<C>(connector: C) -> HttpsConnector<C> {
    HttpsConnectorBuilder::new()
        .with_webpki_roots()
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector)
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}
