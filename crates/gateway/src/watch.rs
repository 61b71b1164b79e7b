//! The routing table for servers that follow this one: `GET /api/v1/watch` answers when the table
//! changes, and every half second that it has not. Asking again acknowledges what was told before.
//!
//! A follower may route by a table for as long as its lease says; one that hears nothing any longer
//! serves its champion alone. So a rollback holds everywhere when all have acknowledged it, and
//! after one lease in any case.

pub mod wire;

use std::{
    collections::BTreeMap,
    path::{Component, Path as FilePath},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{Path, Query, State, rejection::QueryRejection},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::sync::watch;
use understudy_ident::{AdapterVersion, RunId};
use understudy_journal::{Journal, JournalError};
use understudy_router::{Follower, Followers, LEASE, Numbered, RouteTable, Target};

use self::wire::{Arrivals, Arrived, LEASE_MS, Told, ToldAdapter, WatchAnswer, WatchRequest};
use crate::{body::Body, error::ApiError, feedback::TokenKey, state::Gateway};

/// Nobody waits longer, so that a connection that died is noticed.
const MOST_WAIT: Duration = Duration::from_secs(10);

/// What those who follow are told by.
#[derive(Debug)]
pub(crate) struct Hub {
    epoch: String,
    changed: watch::Receiver<u64>,
}

impl Hub {
    pub(crate) fn over(routes: &RouteTable) -> Self {
        let (tell, changed) = watch::channel(routes.numbered().sequence);
        routes.listen(move |sequence| {
            tell.send_replace(sequence);
        });
        // Any name that no other process has.
        let epoch = RunId::generate().to_string();
        Self { epoch, changed }
    }

    fn heard_from(&self, followers: &Followers, request: &WatchRequest) {
        let sequence = if request.epoch == self.epoch { request.since } else { 0 };
        let (took_ms, heard) = (request.took_ms, Instant::now());
        followers.heard(&request.node, Follower { sequence, took_ms, heard });
    }

    pub(crate) fn listing(&self, routes: &RouteTable) -> Value {
        let (followers, current) = (routes.followers().list(), routes.numbered().sequence);
        let row = |(name, follower): (&String, &Follower)| {
            let silent = follower.heard.elapsed();
            json!({
                "node": name,
                "sequence": follower.sequence,
                "is_current": follower.sequence == current,
                "took_ms": follower.took_ms,
                "silent_ms": silent.as_millis() as u64,
                // Past it, the node serves its champion alone, whatever it has acknowledged.
                "lease_left_ms": LEASE.saturating_sub(silent).as_millis() as u64,
            })
        };
        let acknowledged = followers.values().filter(|one| one.sequence == current).count();
        let rows: Vec<Value> = followers.iter().map(row).collect();
        json!({"epoch": self.epoch, "sequence": current, "acknowledged": acknowledged, "nodes": rows})
    }
}

pub(crate) fn routes() -> Router<Gateway> {
    Router::new()
        .route("/api/v1/watch", get(follow))
        .route("/api/v1/watch/nodes", get(nodes))
        .route("/api/v1/watch/adapters/{version}/{file}", get(file))
        .route("/api/v1/watch/arrivals", post(arrivals))
}

async fn follow(
    State(gateway): State<Gateway>,
    request: Result<Query<WatchRequest>, QueryRejection>,
) -> Result<Json<WatchAnswer>, ApiError> {
    let Query(request) = request?;
    let hub = gateway.hub();
    hub.heard_from(gateway.routes.followers(), &request);
    let mut changed = hub.changed.clone();
    let wait = Duration::from_millis(request.wait_ms).min(MOST_WAIT);
    let is_new =
        |current: &Numbered| request.epoch != hub.epoch || current.sequence != request.since;
    let deadline = tokio::time::Instant::now() + wait;
    let current = loop {
        changed.borrow_and_update();
        let current = gateway.routes.numbered();
        if is_new(&current) {
            break current;
        }
        tokio::select! {
            // An error means that the table is gone, and with it this server.
            told = changed.changed() => told.map_err(|_| ApiError::unavailable("the server ends"))?,
            () = tokio::time::sleep_until(deadline) => break current,
        }
    };
    let table = is_new(&current).then(|| told(&gateway, &current)).transpose()?;
    Ok(Json(WatchAnswer {
        epoch: hub.epoch.clone(),
        sequence: current.sequence,
        lease_ms: LEASE_MS,
        journal: name_of(&gateway)?,
        table,
    }))
}

async fn nodes(State(gateway): State<Gateway>) -> Json<Value> {
    Json(gateway.servers())
}

/// `GET /api/v1/watch/adapters/{version}/{file}`: a file of a registered version.
async fn file(
    State(gateway): State<Gateway>,
    Path((version, file)): Path<(String, String)>,
) -> Result<Vec<u8>, ApiError> {
    let version: AdapterVersion =
        version.parse().map_err(|why| ApiError::bad_request(format!("{why}")))?;
    let is_plain = FilePath::new(&file).components().all(|c| matches!(c, Component::Normal(_)));
    let missing = || ApiError::not_found(format!("{version} has no file `{file}`"));
    if !is_plain {
        return Err(missing());
    }
    let path = gateway.registry.directory(&version).join(&file);
    let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
    read.ok().and_then(Result::ok).ok_or_else(missing)
}

/// `POST /api/v1/watch/arrivals`: a follower's journal, acknowledged when it is durable here. What
/// has been told before is stored once.
async fn arrivals(State(gateway): State<Gateway>, body: Body) -> Result<Json<Value>, ApiError> {
    let arrivals: Arrivals = serde_json::from_slice(&body.0)
        .map_err(|why| ApiError::bad_request(format!("the arrivals cannot be read: {why}")))?;
    let (journal, levels) = (gateway.journal.clone(), gateway.capture().clone());
    let count = arrivals.records.len();
    let append = move || {
        let acks: Result<Vec<_>, _> = arrivals
            .records
            .into_iter()
            .filter_map(|arrived| match arrived {
                Arrived::Step(step) => Some(journal.append_step(levels.step(*step)?)),
                Arrived::Outcome(one) => Some(journal.append_outcome(levels.outcome(one)?)),
            })
            .collect();
        acks?.into_iter().try_for_each(|ack| ack.wait().map(drop))
    };
    let failed = |why: String| ApiError::unavailable(why);
    tokio::task::spawn_blocking(append)
        .await
        .map_err(|why| failed(why.to_string()))?
        .map_err(|why| failed(why.to_string()))?;
    Ok(Json(json!({"records": count})))
}

fn told(gateway: &Gateway, current: &Numbered) -> Result<Told, ApiError> {
    let tasks = current.table.iter().map(|(task, route)| (task.clone(), (**route).clone()));
    let tasks: BTreeMap<_, _> = tasks.collect();
    let mut adapters = BTreeMap::new();
    for route in tasks.values() {
        let canary = route.route.canary.as_ref().map(|canary| &canary.target);
        for target in [Some(&route.route.stable), canary].into_iter().flatten() {
            if let Target::Adapter { version, generation } = target {
                let files = files(gateway, version)?;
                let (version, generation) = (version.clone(), generation.clone());
                adapters.insert(version.clone(), ToldAdapter { version, generation, files });
            }
        }
    }
    let revoked = (*current.revoked).clone();
    Ok(Told { tasks, adapters: adapters.into_values().collect(), revoked })
}

fn files(gateway: &Gateway, version: &str) -> Result<Vec<String>, ApiError> {
    let Ok(version) = version.parse::<AdapterVersion>() else { return Ok(Vec::new()) };
    let directory = gateway.registry.directory(&version);
    let failed = |why: std::io::Error| {
        ApiError::unavailable(format!("the files of {version} cannot be listed: {why}"))
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.path().is_file() {
            files.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    files.sort();
    Ok(files)
}

fn name_of(gateway: &Gateway) -> Result<String, ApiError> {
    gateway.token_key().map(|key| key.public_name())
}

/// Tells two journals apart without giving their secrets away.
pub fn journal_name(journal: &Journal) -> Result<String, JournalError> {
    journal.secret().map(|secret| TokenKey::derived(&secret).public_name())
}
