//! Who is measured: each in processes of its own, with the pretended model behind it.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::{
    super::process::{Process, folder_here, free_port, said},
    model::Model,
};

#[derive(Debug)]
pub(super) struct Subject {
    pub(super) name: &'static str,
    pub(super) version: String,
    /// Host and port.
    pub(super) address: String,
    process: Option<Process>,
}

impl Subject {
    pub(super) fn direct(model: &Model) -> Self {
        Self {
            name: "direct",
            version: "the pretended model itself".to_owned(),
            address: model.address.clone(),
            process: None,
        }
    }

    /// One worker, connections kept on both sides, no log: nginx at its quickest.
    pub(super) fn nginx(program: &Path, model: &Model) -> Result<Self> {
        let folder = folder()?;
        let port = free_port()?;
        let root = folder.path().display();
        let config = format!(
            "daemon off;\nworker_processes 1;\npid {root}/pid;\nerror_log {root}/error.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\n  access_log off;\n  client_body_temp_path {root}/body;\n  \
             proxy_temp_path {root}/proxy;\n  fastcgi_temp_path {root}/fastcgi;\n  \
             uwsgi_temp_path {root}/uwsgi;\n  scgi_temp_path {root}/scgi;\n  \
             keepalive_requests 1000000;\n  \
             upstream model {{ server {}; keepalive 128; keepalive_requests 1000000; }}\n  \
             server {{\n    listen 127.0.0.1:{port};\n    location / {{\n      \
             proxy_pass http://model;\n      proxy_http_version 1.1;\n      \
             proxy_set_header Connection \"\";\n      proxy_buffering off;\n    }}\n  }}\n}}\n",
            model.address
        );
        let path = folder.path().join("nginx.conf");
        fs::write(&path, config).context("failed to write nginx' configuration")?;
        let mut command = Command::new(program);
        command.arg("-p").arg(folder.path()).arg("-c").arg(&path);
        let version = said(Command::new(program).arg("-v"));
        Self::start("nginx", version, command, port, folder)
    }

    /// One worker, as its own documentation starts it.
    pub(super) fn litellm(program: &Path, model: &Model) -> Result<Self> {
        let folder = folder()?;
        let port = free_port()?;
        let config = format!(
            "model_list:\n  - model_name: bench\n    litellm_params:\n      model: openai/mock\n      \
             api_base: http://{}/v1\n      api_key: sk-bench\n",
            model.address
        );
        let path = folder.path().join("config.yaml");
        fs::write(&path, config).context("failed to write LiteLLM's configuration")?;
        let mut command = Command::new(program);
        command
            .arg("--config")
            .arg(&path)
            .args(["--host", "127.0.0.1", "--num_workers", "1", "--port", &port.to_string()])
            // It would wait for the network otherwise.
            .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
            // Newer ones do not start without a key of their own; here nobody else gets in.
            .env("LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY", "true")
            .env("LITELLM_LOG", "ERROR");
        let version = said(Command::new(program).arg("--version"));
        Self::start("LiteLLM", version, command, port, folder)
    }

    /// With every exchange durable before its last byte is sent.
    pub(super) fn ours(model: &Model) -> Result<Self> {
        let folder = folder_here()?;
        let port = free_port()?;
        let config = format!(
            "listen = \"127.0.0.1:{port}\"\ntasks = [\"bench\"]\n[teacher]\nurl = \"http://{}/v1\"\n\
             model = \"mock\"\nconcurrency = 256\n",
            model.address
        );
        fs::write(folder.path().join("understudy.toml"), config)
            .context("failed to write our configuration")?;
        let program = std::env::current_exe().context("failed to find this program")?;
        let mut command = Command::new(program);
        command.args(["serve", "--mock-engine"]).current_dir(folder.path());
        let version = format!("understudy {}, capture on", env!("CARGO_PKG_VERSION"));
        Self::start("understudy", version, command, port, folder)
    }

    fn start(
        name: &'static str,
        version: String,
        command: Command,
        port: u16,
        folder: TempDir,
    ) -> Result<Self> {
        let process = Process::start(name, command, port, folder)?;
        let address = process.address().to_owned();
        Ok(Self { name, version, address, process: Some(process) })
    }

    /// Processor time of its processes so far.
    pub(super) fn cpu_seconds(&self) -> Option<f64> {
        self.process.as_ref().map(Process::cpu_seconds)
    }

    /// The most memory its processes had resident.
    pub(super) fn peak_bytes(&self) -> Option<u64> {
        self.process.as_ref().map(Process::peak_bytes)
    }
}

fn folder() -> Result<TempDir> {
    tempfile::tempdir().context("failed to make a folder")
}
