//! The server that is followed, over HTTP.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use understudy_gateway::wire::{Arrivals, Arrived, ToldAdapter, WatchAnswer};
use understudy_storage::atomic;

use super::{Control, request};

/// Beyond what the other server may take to say that nothing changed.
const SLACK: Duration = Duration::from_millis(1500);

/// Of an adapter, or of a page of records.
const TRANSFER: Duration = Duration::from_mins(2);

/// Larger files are no adapter.
const LARGEST: u64 = 4 << 30;

#[derive(Debug)]
pub(super) struct Source {
    agent: ureq::Agent,
    url: String,
    node: String,
    key: Option<String>,
    took: Mutex<Duration>,
    /// The adapters of the last two tables.
    named: Mutex<[BTreeSet<String>; 2]>,
}

impl Source {
    pub(super) fn new(control: &Control, node: String) -> Self {
        let config = ureq::Agent::config_builder().http_status_as_error(false).build();
        let (url, key) = (control.url.clone(), control.key.clone());
        Self {
            agent: config.into(),
            url,
            node,
            key,
            took: Mutex::default(),
            named: Mutex::default(),
        }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// How long the last table took from being heard to being in force.
    pub(super) fn took(&self, time: Duration) {
        *self.took.lock().unwrap_or_else(PoisonError::into_inner) = time;
    }

    pub(super) fn watch(&self, epoch: &str, since: u64, wait_ms: u64) -> Result<WatchAnswer> {
        let took = *self.took.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = request(&self.node, epoch, since, wait_ms, took.as_secs_f64() * 1e3);
        let url = format!("{}/api/v1/watch", self.url);
        let mut get = self.agent.get(&url);
        for (name, value) in [
            ("node", asked.node.clone()),
            ("epoch", asked.epoch.clone()),
            ("since", asked.since.to_string()),
            ("wait_ms", asked.wait_ms.to_string()),
            ("took_ms", asked.took_ms.to_string()),
        ] {
            get = get.query(name, value);
        }
        if let Some(key) = &self.key {
            get = get.header("authorization", format!("Bearer {key}"));
        }
        let timeout = Duration::from_millis(wait_ms) + SLACK;
        let get = get.config().timeout_global(Some(timeout)).build();
        let mut response = get.call().with_context(|| format!("failed to reach {url}"))?;
        let status = response.status();
        let body = response.body_mut().with_config().limit(LARGEST).read_to_vec()?;
        if !status.is_success() {
            bail!("{url} answered {status}: {}", String::from_utf8_lossy(&body));
        }
        serde_json::from_slice(&body).with_context(|| format!("failed to understand {url}"))
    }

    /// Brings an adapter's files here, unless they are.
    pub(super) fn fetch(&self, adapter: &ToldAdapter, directory: &Path) -> Result<PathBuf> {
        let done = directory.join("files.json");
        if done.is_file() {
            return Ok(directory.join("files"));
        }
        let files = directory.join("files");
        atomic::create_dir(&files)?;
        for name in &adapter.files {
            let is_plain =
                !name.is_empty() && !name.contains(['/', '\\']) && !name.starts_with("..");
            if !is_plain {
                bail!("{} names a file {name:?}, which cannot be one", self.url);
            }
            let url = format!("{}/api/v1/watch/adapters/{}/{name}", self.url, adapter.version);
            let mut get = self.agent.get(&url);
            if let Some(key) = &self.key {
                get = get.header("authorization", format!("Bearer {key}"));
            }
            let get = get.config().timeout_global(Some(TRANSFER)).build();
            let mut response = get.call().with_context(|| format!("failed to fetch {url}"))?;
            let status = response.status();
            if !status.is_success() {
                bail!("{url} answered {status}");
            }
            let bytes = response.body_mut().with_config().limit(LARGEST).read_to_vec()?;
            atomic::write(&files.join(name), &bytes)?;
        }
        // Written last: without it the files are fetched again.
        atomic::write(&done, &serde_json::to_vec(&adapter.files)?)?;
        Ok(files)
    }

    /// Gives records to the other server's journal; returns when they are durable there.
    pub(super) fn forward(&self, records: Vec<Arrived>) -> Result<()> {
        let url = format!("{}/api/v1/watch/arrivals", self.url);
        let arrivals = Arrivals { node: self.node.clone(), records };
        let mut post = self.agent.post(&url);
        if let Some(key) = &self.key {
            post = post.header("authorization", format!("Bearer {key}"));
        }
        let post = post.config().timeout_global(Some(TRANSFER)).build();
        let mut response =
            post.send_json(&arrivals).with_context(|| format!("failed to reach {url}"))?;
        let status = response.status();
        if !status.is_success() {
            let body = response.body_mut().read_to_string().unwrap_or_default();
            bail!("{url} answered {status}: {body}");
        }
        Ok(())
    }

    /// Notes which adapters the newest table names; returns those that only an older one than the
    /// last did.
    pub(super) fn no_longer(&self, now: &BTreeSet<&str>) -> Vec<String> {
        let now: BTreeSet<String> = now.iter().map(|name| (*name).to_owned()).collect();
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if named[1] == now {
            return Vec::new();
        }
        let gone = named[0].iter().filter(|name| !named[1].contains(*name) && !now.contains(*name));
        let gone: Vec<String> = gone.cloned().collect();
        let before = std::mem::replace(&mut named[1], now);
        named[0] = before;
        gone
    }
}
