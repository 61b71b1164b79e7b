//! Arize Phoenix and MLflow, each as its own documentation starts it, with SQLite in a folder of
//! its own. What they have stored is counted in that file, because an answer of theirs does not say
//! whether anything is.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::super::process::{Process, folder_here, free_port, said};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Product {
    Phoenix,
    Mlflow,
}

impl Product {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Phoenix => "phoenix",
            Self::Mlflow => "mlflow",
        }
    }

    fn package(self) -> &'static str {
        match self {
            Self::Phoenix => "arize-phoenix",
            Self::Mlflow => "mlflow",
        }
    }

    /// What a request needs beyond what OTLP asks for.
    fn header(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Phoenix => None,
            Self::Mlflow => Some(("x-mlflow-experiment-id", "0")),
        }
    }

    fn database(self) -> &'static str {
        match self {
            Self::Phoenix => "phoenix.db",
            Self::Mlflow => "mlflow.db",
        }
    }

    fn command(self, python: &Path, folder: &Path, port: u16) -> Result<Command> {
        let (port, mut command) = (port.to_string(), Command::new(python));
        command.current_dir(folder);
        match self {
            Self::Phoenix => command
                .args(["-m", "phoenix.server.main", "serve"])
                .env("PHOENIX_HOST", "127.0.0.1")
                .env("PHOENIX_PORT", port)
                .env("PHOENIX_GRPC_PORT", free_port()?.to_string())
                .env("PHOENIX_WORKING_DIR", folder)
                .env("PHOENIX_TELEMETRY_ENABLED", "false"),
            Self::Mlflow => command
                .args(["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", &port])
                .args(["--backend-store-uri", "sqlite:///mlflow.db"])
                .args(["--artifacts-destination", "artifacts"])
                .env("MLFLOW_DISABLE_TELEMETRY", "true"),
        };
        Ok(command)
    }
}

#[derive(Debug)]
pub(super) struct Peer {
    product: Product,
    version: String,
    /// Absolute, because the server runs in a folder of its own.
    python: PathBuf,
    process: Process,
}

impl Peer {
    pub(super) fn start(product: Product, python: &Path) -> Result<Self> {
        let attempt = || format!("failed to find the Python {}", python.display());
        let python = std::path::absolute(python).with_context(attempt)?;
        let version = version(product, &python)?;
        let folder = folder_here()?;
        let root = folder.path().canonicalize().context("failed to find a server's folder")?;
        let port = free_port()?;
        let command = product.command(&python, &root, port)?;
        let process = Process::start(product.name(), command, port, folder)?;
        Ok(Self { product, version, python, process })
    }

    pub(super) fn product(&self) -> Product {
        self.product
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/v1/traces", self.process.address())
    }

    pub(super) fn header(&self) -> Option<(&'static str, &'static str)> {
        self.product.header()
    }

    pub(super) fn peak_bytes(&self) -> u64 {
        self.process.peak_bytes()
    }

    /// What it wrote last, for whoever wants to know why it refuses.
    pub(super) fn last_words(&self) -> String {
        self.process.last_words()
    }

    /// Spans in its database.
    pub(super) fn stored(&self) -> Result<u64> {
        let program = "import sqlite3, sys\n\
            file = sqlite3.connect(f'file:{sys.argv[1]}?mode=ro', uri=True, timeout=30)\n\
            print(file.execute('SELECT count(*) FROM spans').fetchone()[0])";
        let database = self.process.folder().join(self.product.database());
        let mut command = Command::new(&self.python);
        let said = said(command.args(["-c", program]).arg(&database));
        let unread = || {
            format!(
                "failed to count the spans of {} in {}: {said}",
                self.product.name(),
                database.display()
            )
        };
        said.parse().with_context(unread)
    }
}

fn version(product: Product, python: &Path) -> Result<String> {
    let package = product.package();
    let program = format!("from importlib.metadata import version; print(version('{package}'))");
    let output = Command::new(python)
        .args(["-c", &program])
        .output()
        .with_context(|| format!("failed to start the Python {}", python.display()))?;
    ensure!(
        output.status.success(),
        "{python} has no {package}: install it with `{python} -m pip install {package}`",
        python = python.display()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
