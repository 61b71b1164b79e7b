//! A server as `understudy serve` runs it, on a socket, with its stores in a directory that goes
//! with it; and, where the models live elsewhere, the replicas they live on.

use std::{net::SocketAddr, path::Path, sync::Arc};

use serde_json::json;
use tempfile::TempDir;
use understudy_canary::{Controller, Parts, Rules};
use understudy_gateway::{AdapterUpdates, Gateway, GatewayParts, serve};
use understudy_ident::{AdapterVersion, Clock, Digest, TaskName};
use understudy_inference::Student;
use understudy_journal::{Config, Journal};
use understudy_manifest::AdapterManifest;
use understudy_registry::{
    Change, Override, Registry, ReleaseRecord, RollbackTarget, StartRelease, Target,
};
use understudy_router::{RouteTable, Salt};
use understudy_upstream::{Endpoint, Fleet};

use crate::{
    DrillError,
    script::{Actor, Health, Script},
};

pub(crate) const TASK: &str = "drill";
const BASE: &str = "scripted";
const OWNER: &str = "drill";
/// Why the gate is overridden; the registry wants it to be a sentence.
const UNEVALUATED: &str = "a drill: the candidate is a script, and nothing evaluated it";

/// A gateway on a socket.
pub(crate) struct Listening {
    pub(crate) address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Listening {
    fn start(gateway: Gateway) -> Result<Self, DrillError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(DrillError::io("start the server's threads"))?;
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .map_err(DrillError::io("listen on a free port"))?;
        let address = listener.local_addr().map_err(DrillError::io("read the bound port"))?;
        runtime.spawn(serve(listener, gateway, std::future::pending()));
        Ok(Self { address, runtime: Some(runtime) })
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Where the models are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Models {
    /// In the server's own process, as our engine is.
    Inside,
    /// On servers of their own behind HTTP, each as well as said.
    Replicas(Vec<Health>),
}

/// The whole house: what is on stage, and behind it.
pub(crate) struct House {
    pub(crate) journal: Journal,
    pub(crate) registry: Arc<Registry>,
    pub(crate) routes: Arc<RouteTable>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) controller: Controller,
    pub(crate) front: Listening,
    _replicas: Vec<Replica>,
    directory: TempDir,
}

struct Replica {
    listening: Listening,
    _directory: TempDir,
}

impl House {
    pub(crate) fn open(
        script: &Script,
        models: &Models,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, DrillError> {
        let directory = tempfile::tempdir().map_err(DrillError::io("make a directory"))?;
        let at = |name: &str| directory.path().join(name);
        let config = Config { clock: Arc::clone(&clock), ..Config::default() };
        let journal = Journal::open(&at("journal.db"), config)?;
        let registry = Arc::new(Registry::open(&at("registry.db"), &at("adapters"))?);
        let mut replicas = Vec::new();
        let student: Arc<dyn Student> = match models {
            Models::Inside => Arc::new(Actor::new(BASE, script.clone(), Health::Well)),
            Models::Replicas(healths) => {
                for health in healths {
                    replicas.push(Replica::start(script, *health, directory.path(), &clock)?);
                }
                let url = |replica: &Replica| format!("http://{}/v1", replica.listening.address);
                let urls = replicas.iter().map(url).collect();
                Arc::new(Fleet::start(Endpoint::fleet(urls, BASE, None))?)
            }
        };
        let routes = Arc::new(RouteTable::default());
        let mut controller = Controller::new(Parts {
            registry: Arc::clone(&registry),
            journal: journal.clone(),
            routes: Arc::clone(&routes),
            student: Arc::clone(&student),
            clock: Arc::clone(&clock),
            tasks: vec![task()],
            first: Target::Base,
            lessons: None,
        });
        // Routes exist before anybody is answered.
        controller.tick()?;
        let front = Listening::start(Gateway::new(GatewayParts {
            student,
            teacher: None,
            routes: Arc::clone(&routes),
            journal: journal.clone(),
            registry: Arc::clone(&registry),
            clock: Arc::clone(&clock),
            adapter_updates: AdapterUpdates::Forbidden,
            request_templates: false,
        }))?;
        Ok(Self {
            journal,
            registry,
            routes,
            clock,
            controller,
            front,
            _replicas: replicas,
            directory,
        })
    }

    /// Registers a candidate whose content nobody has, and opens a release of it against what
    /// serves now.
    pub(crate) fn release(&self, rules: &Rules, name: &str) -> Result<ReleaseRecord, DrillError> {
        let files = self.directory.path().join(format!("candidate {name}"));
        write_adapter(&files, name).map_err(DrillError::io("write the candidate's files"))?;
        let change = Change::new(OWNER, UNEVALUATED, &*self.clock);
        let adapter = self.registry.register(&task(), &files, &lineage()?, change)?;
        let start = StartRelease {
            candidate: adapter.record.version,
            rollback: self.rollback_target()?,
            policy: rules.to_value(),
            salt: salt(name).to_string(),
            forced: Some(Override { owner: OWNER.to_owned(), reason: UNEVALUATED.to_owned() }),
        };
        Ok(self.registry.start_release(start, change)?)
    }

    fn rollback_target(&self) -> Result<RollbackTarget, DrillError> {
        let target = self.registry.stable(&task())?.unwrap_or(Target::Base);
        let loaded_generation = match target.adapter() {
            Some(version) => Some(self.generation(version)?),
            None => None,
        };
        let verified_by = "it serves".to_owned();
        Ok(RollbackTarget { target, loaded_generation, verified_by })
    }

    fn generation(&self, version: &AdapterVersion) -> Result<String, DrillError> {
        Ok(self.registry.get(version)?.record.generation.to_hex())
    }

    pub(crate) fn journal_bytes(&self) -> u64 {
        let size = |name: &str| {
            std::fs::metadata(self.directory.path().join(name)).map_or(0, |file| file.len())
        };
        size("journal.db") + size("journal.db-wal")
    }
}

impl Replica {
    fn start(
        script: &Script,
        health: Health,
        shared: &Path,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, DrillError> {
        let directory = tempfile::tempdir().map_err(DrillError::io("make a directory"))?;
        let at = |name: &str| directory.path().join(name);
        let gateway = Gateway::new(GatewayParts {
            student: Arc::new(Actor::new(BASE, script.clone(), health)),
            teacher: None,
            routes: Arc::new(RouteTable::default()),
            journal: Journal::open(&at("journal.db"), Config::default())?,
            registry: Arc::new(Registry::open(&at("registry.db"), &at("adapters"))?),
            clock: Arc::clone(clock),
            adapter_updates: AdapterUpdates::Under(vec![shared.to_owned()]),
            request_templates: false,
        });
        Ok(Self { listening: Listening::start(gateway)?, _directory: directory })
    }
}

pub(crate) fn task() -> TaskName {
    TASK.parse().expect("lowercase letters are a task name")
}

/// The same for the same name, so that a drill assigns the same sessions each time.
fn salt(name: &str) -> Salt {
    let digest = Digest::of(name.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_bytes()[..16]);
    Salt::new(bytes)
}

/// A configuration, and weights without a tensor: the length of the header, and the header.
fn write_adapter(directory: &Path, name: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join("adapter_config.json"), "{}")?;
    let header = json!({"__metadata__": {"drill": name}}).to_string();
    let weights = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    std::fs::write(directory.join("adapter_model.safetensors"), weights)
}

fn lineage() -> Result<AdapterManifest, DrillError> {
    let none = Digest::of(b"a drill trains nothing");
    Ok(serde_json::from_value(json!({
        "schema": 1, "task": TASK, "base": BASE, "base_digest": "none",
        "tokenizer_digest": "none", "template_digest": "none", "recipe_digest": none,
        "dataset": {"version": format!("{TASK}@{none}"), "sft_rows": 0, "pair_rows": 0},
        "parent": null, "stages": [], "code_version": env!("CARGO_PKG_VERSION"), "device": "none",
        "threads": 1, "run": null,
    }))?)
}
