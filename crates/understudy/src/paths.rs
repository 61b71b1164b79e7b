//! Where everything lies inside the data directory.

use std::path::{Path, PathBuf};

use understudy_ident::{Digest, TaskName};

/// A data directory and the one place for each thing in it.
#[derive(Debug, Clone)]
pub(crate) struct DataDir {
    root: PathBuf,
}

impl DataDir {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.root.join("journal.db")
    }

    pub(crate) fn registry(&self) -> PathBuf {
        self.root.join("registry.db")
    }

    pub(crate) fn access(&self) -> PathBuf {
        self.root.join("access.db")
    }

    /// Unless it is kept elsewhere.
    pub(crate) fn pepper(&self) -> PathBuf {
        self.root.join("access.pepper")
    }

    pub(crate) fn runs_log(&self) -> PathBuf {
        self.root.join("runs.db")
    }

    pub(crate) fn datasets(&self) -> PathBuf {
        self.root.join("datasets")
    }

    /// Where dataset versions were exported to: a subject that is erased is erased there as well.
    pub(crate) fn exports(&self) -> PathBuf {
        self.root.join("exports.jsonl")
    }

    /// Receipts.
    pub(crate) fn erasures(&self) -> PathBuf {
        self.root.join("erasures")
    }

    /// What receipts are signed with, where somebody put a key there.
    pub(crate) fn receipt_key(&self) -> PathBuf {
        self.root.join("receipts.pem")
    }

    pub(crate) fn adapters(&self) -> PathBuf {
        self.root.join("adapters")
    }

    /// What the aliases of adapters meant when a server last ran; a replica may share the directory
    /// of the server it follows, but not what it has loaded.
    pub(crate) fn aliases(&self, is_replica: bool) -> PathBuf {
        let folder = if is_replica { self.root.join("replica") } else { self.root.clone() };
        folder.join("aliases.json")
    }

    pub(crate) fn suites(&self) -> PathBuf {
        self.root.join("suites")
    }

    /// Answers to held-out cases, which no run has to ask for twice.
    pub(crate) fn answers(&self) -> PathBuf {
        self.root.join("answers").join("answers.log")
    }

    /// What judges said and how far they agree with people.
    pub(crate) fn judges(&self) -> PathBuf {
        self.root.join("judges")
    }

    pub(crate) fn judgements(&self) -> PathBuf {
        self.judges().join("replies.log")
    }

    pub(crate) fn calibration(&self, judge: Digest) -> PathBuf {
        self.judges().join(judge.to_hex()).with_extension("json")
    }

    /// Lessons, a folder a tenant.
    pub(crate) fn memory(&self) -> PathBuf {
        self.root.join("memory")
    }

    /// Where each loop's status lies, for whoever asks without a server.
    pub(crate) fn loops(&self) -> PathBuf {
        self.root.join("loops")
    }

    pub(crate) fn loop_status(&self, task: &TaskName) -> PathBuf {
        self.loops().join(format!("{task}.json"))
    }

    /// Of a replica: the last table it was told, adapters that came from the server it follows, and
    /// how far its journal was sent there.
    pub(crate) fn last_table(&self) -> PathBuf {
        self.root.join("replica").join("table.json")
    }

    pub(crate) fn followed(&self, generation: &str) -> PathBuf {
        self.root.join("replica").join("adapters").join(generation)
    }

    pub(crate) fn forwarded(&self) -> PathBuf {
        self.root.join("replica").join("forwarded.json")
    }

    /// A run's working files: checkpoints, metrics, stage adapters, reports.
    pub(crate) fn run(&self, run: &str) -> PathBuf {
        self.root.join("runs").join(run)
    }
}
