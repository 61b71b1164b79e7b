//! What servers that follow this one are told, and what they tell.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use understudy_ident::TaskName;
use understudy_router::{LEASE, TaskRoute};
use understudy_trajectory::{Outcome, Step};

/// What a follower asks: the table it has, and who it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchRequest {
    /// A name of its own, for the list of nodes.
    pub node: String,
    /// The epoch and number of the table in force there: asking on is the acknowledgement. An
    /// unknown epoch, or none, is answered with the table at once.
    #[serde(default)]
    pub epoch: String,
    #[serde(default)]
    pub since: u64,
    /// How long to wait for a change, at most.
    #[serde(default = "heartbeat")]
    pub wait_ms: u64,
    /// Milliseconds from asking for that table to having it in force.
    #[serde(default)]
    pub took_ms: f64,
}

fn heartbeat() -> u64 {
    HEARTBEAT_MS
}

/// A change is told at once; without one, this often that there is none.
pub const HEARTBEAT_MS: u64 = 500;

/// How long a follower may route by what it was told, counted from when it asked.
pub const LEASE_MS: u64 = LEASE.as_millis() as u64;

/// What it is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WatchAnswer {
    /// Of this process: numbers of another epoch cannot be compared.
    pub epoch: String,
    pub sequence: u64,
    pub lease_ms: u64,
    /// A name of the journal, so that whoever shares it need not send it anything.
    pub journal: String,
    /// Only where it is another one than the follower's.
    pub table: Option<Told>,
}

/// A whole routing table and what is needed to serve it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    pub tasks: BTreeMap<TaskName, TaskRoute>,
    pub adapters: Vec<ToldAdapter>,
    /// Contents that answer nobody, by whatever name.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub revoked: BTreeSet<String>,
}

/// An adapter version named by a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldAdapter {
    pub version: String,
    /// What an engine must report after loading it.
    pub generation: String,
    /// Its files, to be had at `/api/v1/watch/adapters/{version}/{file}`.
    pub files: Vec<String>,
}

/// A record of a follower's journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", content = "body", rename_all = "snake_case")]
pub enum Arrived {
    Step(Box<Step>),
    Outcome(Outcome),
}

/// Records of a follower's journal, which this server's canaries are judged by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Arrivals {
    pub node: String,
    pub records: Vec<Arrived>,
}
