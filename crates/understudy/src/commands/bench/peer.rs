//! The other side: torch + PEFT and TRL, run by whatever Python was named.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use understudy_storage::atomic;

use super::{
    job::{Job, Measured, Program},
    worker::{last_line, last_words},
};

const SCRIPT: &str = include_str!("peer.py");

/// The converted base, inside the working folder.
const CONVERTED: &str = "converted";

/// Which peers can be measured.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Peers {
    /// The Python that runs them.
    pub(super) python: Option<PathBuf>,
    /// Version of every package found there.
    pub(super) versions: BTreeMap<String, Option<String>>,
    /// Why one or both of them are skipped.
    pub(super) skipped: Option<String>,
    /// The base as a directory they can train from.
    #[serde(skip)]
    base: Option<PathBuf>,
}

impl Peers {
    /// Asks a Python what it has. One that does not run at all is an error; one without torch only
    /// means that there is nobody to compare with.
    pub(super) fn find(python: Option<&Path>) -> Result<Self> {
        let Some(python) = python else {
            let why = "no --python was given; name one that has torch, transformers, peft and trl";
            return Ok(Self {
                python: None,
                versions: BTreeMap::new(),
                skipped: Some(why.to_owned()),
                base: None,
            });
        };
        let output = Command::new(python)
            .args(["-c", SCRIPT, "probe"])
            .output()
            .with_context(|| format!("failed to run the Python {}", python.display()))?;
        if !output.status.success() {
            bail!(
                "{} is no Python that can be asked for its packages ({}): {}",
                python.display(),
                output.status,
                last_words(&output.stderr)
            );
        }
        let versions: BTreeMap<String, Option<String>> = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("failed to understand the Python {}", python.display()))?;
        let mut peers =
            Self { python: Some(python.to_owned()), versions, skipped: None, base: None };
        peers.skipped = peers.missing();
        Ok(peers)
    }

    fn missing(&self) -> Option<String> {
        let lack = |program: Program| {
            let needs = needs(program).iter().copied();
            let missing: Vec<&str> = needs.filter(|name| !self.has(name)).collect();
            (!missing.is_empty())
                .then(|| format!("{} needs {}", program.as_str(), missing.join(", ")))
        };
        let lacks: Vec<String> =
            [Program::Torch, Program::Trl].into_iter().filter_map(lack).collect();
        let python = self.python.as_deref().unwrap_or(Path::new("python")).display();
        (!lacks.is_empty()).then(|| format!("not installed for {python}: {}", lacks.join("; ")))
    }

    fn has(&self, package: &str) -> bool {
        self.versions.get(package).is_some_and(Option::is_some)
    }

    /// Whether a program can be measured; ours always can.
    pub(super) fn have(&self, program: Program) -> bool {
        program == Program::Understudy
            || self.python.is_some() && needs(program).iter().all(|name| self.has(name))
    }

    /// Gives the peers the base as they can read it: trainers refuse a GGUF file. Where that does
    /// not work out they are skipped, and it is said why.
    pub(super) fn prepare(&mut self, base: &Path, folder: &Path) -> Result<()> {
        let Some(python) = self.python.clone().filter(|_| self.have(Program::Torch)) else {
            return Ok(());
        };
        if base.is_dir() {
            self.base = Some(base.to_owned());
            return Ok(());
        }
        let (script, directory) = (folder.join("peer.py"), folder.join(CONVERTED));
        atomic::write(&script, SCRIPT.as_bytes())?;
        let output = Command::new(&python)
            .arg(&script)
            .arg("convert")
            .args([base, &directory])
            .env("HF_HUB_OFFLINE", "1")
            .output()
            .with_context(|| format!("failed to run the Python {}", python.display()))?;
        if output.status.success() {
            self.base = Some(directory);
        } else {
            let why = last_words(&output.stderr);
            self.python = None;
            self.skipped = Some(format!("{} could not be converted: {why}", base.display()));
        }
        Ok(())
    }

    /// The converted base is as large as the model and of no use to anybody else.
    pub(super) fn tidy(folder: &Path) -> Result<()> {
        let directory = folder.join(CONVERTED);
        if directory.is_dir() {
            fs::remove_dir_all(&directory)
                .with_context(|| format!("failed to remove {}", directory.display()))?;
        }
        Ok(())
    }

    pub(super) fn describe(&self) -> String {
        let found: Vec<String> = self
            .versions
            .iter()
            .filter_map(|(name, version)| Some(format!("{name} {}", version.as_deref()?)))
            .collect();
        let found = (!found.is_empty()).then(|| format!("beside {}", found.join(", ")));
        let skipped = self.skipped.as_ref().map(|why| format!("peers are skipped: {why}"));
        [found, skipped].into_iter().flatten().collect::<Vec<_>>().join("\n")
    }

    pub(super) fn measure(&self, job: &Job, folder: &Path) -> Result<Measured> {
        let (Some(python), Some(base)) = (&self.python, &self.base) else {
            bail!("there is no Python to run it, or no base it can read");
        };
        let job = Job { base: base.clone(), ..job.clone() };
        let (script, path) = (folder.join("peer.py"), folder.join("job.json"));
        atomic::write(&script, SCRIPT.as_bytes())?;
        atomic::write(&path, &serde_json::to_vec_pretty(&job)?)?;
        let measured = last_line(
            Command::new(python)
                .arg(&script)
                .arg("measure")
                .arg(&path)
                // The files are here: no peer has any reason to ask the network for them.
                .env("HF_HUB_OFFLINE", "1")
                .env("TOKENIZERS_PARALLELISM", "false")
                .env("OMP_NUM_THREADS", job.threads.to_string()),
        )?;
        ensure!(
            measured.seconds.len() == job.steps,
            "it measured {} steps",
            measured.seconds.len()
        );
        Ok(measured)
    }
}

fn needs(program: Program) -> &'static [&'static str] {
    match program {
        Program::Understudy => &[],
        Program::Torch => &["torch", "transformers", "peft"],
        Program::Trl => &["torch", "transformers", "peft", "trl", "datasets"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(names: &[&str]) -> Peers {
        let all = needs(Program::Trl).iter();
        let version =
            |name: &&str| ((*name).to_owned(), names.contains(name).then(|| "1.0".to_owned()));
        let mut peers = Peers {
            python: Some("python3".into()),
            versions: all.map(version).collect(),
            skipped: None,
            base: None,
        };
        peers.skipped = peers.missing();
        peers
    }

    #[test]
    fn what_is_missing_is_said_by_name_and_skips_only_who_needs_it() {
        let some = peers(&["torch", "transformers", "peft"]);
        assert!(some.have(Program::Torch) && !some.have(Program::Trl));
        let why = some.describe();
        assert!(why.contains("trl needs trl, datasets") && !why.contains("torch needs"), "{why}");
        let none = Peers::find(None).unwrap();
        assert!(none.have(Program::Understudy) && !none.have(Program::Torch));
        assert!(none.describe().contains("--python"));
        assert_eq!(peers(needs(Program::Trl)).skipped, None);
    }
}
