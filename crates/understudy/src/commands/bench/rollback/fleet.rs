//! A control server and replicas, each in a process and a directory of its own.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;
use understudy_canary::{Rules, fresh_salt};
use understudy_ident::{AdapterVersion, Digest, SystemClock, TaskName, Timestamp};
use understudy_journal::{Config, Journal, Query};
use understudy_manifest::{AdapterManifest, Release};
use understudy_registry::{Change, Override, RollbackTarget, StartRelease, Target};
use understudy_trajectory::RewardPolicy;

use crate::{paths::DataDir, wiring::Stores};

pub(super) const TASK: &str = "bench";
pub(super) const GOOD: &str = "bench@1";
const BAD: &str = "bench@2";

/// For everything that takes a moment.
const PATIENCE: Duration = Duration::from_mins(2);

pub(super) struct Fleet {
    stores: Stores,
    control: Server,
    replicas: Vec<Server>,
    directory: TempDir,
}

struct Server {
    child: Child,
    url: String,
}

impl Fleet {
    /// `bench@1` serves, and every replica knows it.
    pub(super) fn start(count: usize) -> Result<Self> {
        // Beside the working directory's data, so that it is the same kind of disk.
        let directory =
            tempfile::tempdir_in(".").context("failed to make a directory for the servers")?;
        let data = directory.path().join("control");
        let stores = Stores::open(&DataDir::new(data.clone()))?;
        for name in ["good", "bad"] {
            register(&stores, &directory.path().join(name), name)?;
        }
        let fleet_of_one = |stores: &Stores| -> Result<()> {
            let release = start(stores, GOOD, Target::Base)?;
            let generation = generation(stores, GOOD)?;
            stores.registry.staged(&release, &generation, change())?;
            let revision = stores.registry.release(&release)?.revision;
            stores.registry.promote(&release, revision, change())?;
            Ok(())
        };
        fleet_of_one(&stores)?;
        let control = Server::start(&data, &[])?;
        let mut replicas = Vec::new();
        for nth in 0..count {
            let data = directory.path().join(format!("replica-{nth}"));
            let arguments = ["--role", "replica", "--control", &control.url];
            replicas.push(Server::start(&data, &arguments)?);
        }
        let fleet = Self { stores, control, replicas, directory };
        fleet.wait_until_acknowledged()?;
        Ok(fleet)
    }

    pub(super) fn data(&self) -> std::path::PathBuf {
        self.directory.path().join("control")
    }

    pub(super) fn replicas(&self) -> impl Iterator<Item = &str> {
        self.replicas.iter().map(|server| server.url.as_str())
    }

    /// Puts `bench@2` before half of the users, everywhere.
    pub(super) fn release(&self) -> Result<()> {
        start(&self.stores, BAD, GOOD.parse()?)?;
        let begun = Instant::now();
        let task: TaskName = TASK.parse()?;
        let is_ramping = || -> Result<bool> {
            let open = self.stores.registry.open_release(&task)?;
            Ok(open.is_some_and(|open| open.state.as_str() == "ramping"))
        };
        while !is_ramping()? {
            if begun.elapsed() > PATIENCE {
                bail!("the control server does not load {BAD}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        // The route follows the registry within a tick.
        thread::sleep(Duration::from_millis(200));
        self.wait_until_acknowledged().map(drop)
    }

    /// Waits until every replica has the newest table; how long each took to put it in force, in
    /// milliseconds.
    pub(super) fn wait_until_acknowledged(&self) -> Result<Vec<f64>> {
        let begun = Instant::now();
        loop {
            let listing: Value = ureq::get(format!("{}/api/v1/watch/nodes", self.control.url))
                .call()
                .and_then(|mut response| response.body_mut().read_json())
                .context("failed to ask the control server for its nodes")?;
            let nodes = listing["nodes"].as_array().cloned().unwrap_or_default();
            if listing["acknowledged"].as_u64() == Some(self.replicas.len() as u64) {
                return Ok(nodes.iter().filter_map(|node| node["took_ms"].as_f64()).collect());
            }
            if begun.elapsed() > PATIENCE {
                bail!("not all replicas have acknowledged: {listing}");
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// When a replica last decided that the bad version answers, as their journals have it.
    pub(super) fn last_routed_to_bad(&self) -> Result<Option<Timestamp>> {
        let mut last = None;
        for nth in 0..self.replicas.len() {
            let data = DataDir::new(self.directory.path().join(format!("replica-{nth}")));
            let journal = Journal::open(&data.journal(), Config::default())?;
            for trajectory in journal.scan(&Query::default())? {
                let steps = trajectory?.steps.into_iter().map(|judged| judged.step);
                let bad = steps.filter(|step| {
                    step.served.adapter.as_ref().is_some_and(|adapter| adapter.alias == BAD)
                });
                last = last.max(bad.map(|step| step.at).max());
            }
        }
        Ok(last)
    }

    pub(super) fn rolled_back_at(&self) -> Result<Timestamp> {
        let releases = self.stores.registry.releases(&TASK.parse()?)?;
        let last = releases.last().context("nothing was released")?;
        Ok(last.changed_at)
    }
}

impl Server {
    fn start(data: &Path, arguments: &[&str]) -> Result<Self> {
        let program = std::env::current_exe().context("failed to find this program")?;
        let mut child = Command::new(program)
            .args(["serve", "--mock-engine", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .env("UNDERSTUDY_DATA_DIR", data)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("failed to start `understudy serve`")?;
        let stdout = child.stdout.take().context("the server has no output")?;
        let mut lines = BufReader::new(stdout).lines().map_while(std::result::Result::ok);
        let url = lines.find_map(|line| {
            let (_, url) = line.strip_prefix("serving ")?.split_once(" at ")?;
            Some(url.trim_end_matches("/v1").to_owned())
        });
        // A pipe that nobody reads would stop the server some day.
        thread::spawn(move || lines.for_each(drop));
        let Some(url) = url else { bail!("`understudy serve` ended before it served") };
        Ok(Self { child, url })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, and then there is nothing to end.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn register(stores: &Stores, directory: &Path, note: &str) -> Result<()> {
    fs::create_dir_all(directory)?;
    fs::write(directory.join("adapter_config.json"), "{}")?;
    let header = json!({"__metadata__": {"note": note}}).to_string();
    let weights = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    fs::write(directory.join("adapter_model.safetensors"), weights)?;
    stores.registry.register(&TASK.parse()?, directory, &lineage()?, change())?;
    Ok(())
}

fn start(stores: &Stores, candidate: &str, target: Target) -> Result<understudy_ident::ReleaseId> {
    let release = Release {
        // So many outcomes never come: only the command ends it.
        steps: vec![50, 100],
        min_outcomes_per_step: 1_000_000,
        max_outcomes: 1_000_000_000,
        tap: 0.0,
        ..Release::default()
    };
    let loaded_generation = match &target {
        Target::Adapter(version) => Some(generation(stores, &version.to_string())?),
        Target::Base | Target::Teacher => None,
    };
    let start = StartRelease {
        candidate: candidate.parse()?,
        rollback: RollbackTarget { target, loaded_generation, verified_by: "the benchmark".into() },
        policy: Rules::of(&release, RewardPolicy::DefaultV1)?.to_value(),
        salt: fresh_salt().to_string(),
        forced: Some(Override {
            owner: "bench".to_owned(),
            reason: "a benchmark has no suite to hold it against".to_owned(),
        }),
    };
    Ok(stores.registry.start_release(start, change())?.id)
}

fn generation(stores: &Stores, version: &str) -> Result<String> {
    let version: AdapterVersion = version.parse()?;
    Ok(stores.registry.get(&version)?.record.generation.to_hex())
}

fn change() -> Change<'static> {
    Change::new("bench", "a benchmark of rollbacks", &SystemClock)
}

fn lineage() -> Result<AdapterManifest> {
    Ok(serde_json::from_value(json!({
        "schema": AdapterManifest::SCHEMA, "task": TASK, "base": "mock", "base_digest": "none",
        "tokenizer_digest": "none", "template_digest": "none",
        "recipe_digest": Digest::of(b"bench"),
        "dataset": {
            "version": format!("{TASK}@{}", Digest::of(b"bench")), "sft_rows": 0, "pair_rows": 0
        },
        "parent": null, "stages": [], "code_version": env!("CARGO_PKG_VERSION"), "device": "none",
        "threads": 0, "run": null,
    }))?)
}
