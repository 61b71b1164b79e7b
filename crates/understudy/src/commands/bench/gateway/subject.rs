//! Who is measured: each in processes of its own, with the pretended model behind it.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::model::Model;

/// A Python proxy imports for a long while.
const START_PATIENCE: Duration = Duration::from_mins(3);
/// Linux counts hundredths of a second here, whatever its own clock does.
const TICKS: f64 = 100.0;

#[derive(Debug)]
pub(super) struct Subject {
    pub(super) name: &'static str,
    pub(super) version: String,
    /// Host and port.
    pub(super) address: String,
    process: Option<Child>,
    folder: Option<TempDir>,
}

impl Subject {
    pub(super) fn direct(model: &Model) -> Self {
        Self {
            name: "direct",
            version: "the pretended model itself".to_owned(),
            address: model.address.clone(),
            process: None,
            folder: None,
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
            .env("LITELLM_LOG", "ERROR");
        let version = said(Command::new(program).arg("--version"));
        Self::start("LiteLLM", version, command, port, folder)
    }

    /// With every exchange durable before its last byte is sent.
    pub(super) fn ours(model: &Model) -> Result<Self> {
        // Beside the working directory's data, so that it is the same kind of disk.
        let folder = tempfile::tempdir_in(".").context("failed to make a folder for our server")?;
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
        mut command: Command,
        port: u16,
        folder: TempDir,
    ) -> Result<Self> {
        let log = fs::File::create(folder.path().join("output.log"))
            .with_context(|| format!("no file for what {name} says"))?;
        let errors = log.try_clone().context("no second handle of a file")?;
        let process = command
            .stdout(log)
            .stderr(errors)
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("failed to start {name}"))?;
        let address = format!("127.0.0.1:{port}");
        let mut subject =
            Self { name, version, address, process: Some(process), folder: Some(folder) };
        subject.wait()?;
        Ok(subject)
    }

    fn wait(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_PATIENCE;
        while TcpStream::connect(&self.address).is_err() {
            let ended = match &mut self.process {
                Some(process) => process.try_wait().ok().flatten(),
                None => None,
            };
            if ended.is_some() || Instant::now() > deadline {
                bail!("{} did not begin to serve; it said: {}", self.name, self.last_words());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let Some(folder) = &self.folder else { return String::new() };
        let Ok(file) = fs::File::open(folder.path().join("output.log")) else {
            return String::new();
        };
        let lines: Vec<String> = BufReader::new(file).lines().map_while(Result::ok).collect();
        lines[lines.len().saturating_sub(5)..].join(" | ")
    }

    /// Processor time of its processes so far.
    pub(super) fn cpu_seconds(&self) -> Option<f64> {
        let process = self.process.as_ref()?;
        let family = family(process.id());
        let ticks = family.iter().filter_map(|id| {
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
            let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
            let ticks = fields.get(11..13)?.iter().map(|field| field.parse::<f64>().ok());
            ticks.sum::<Option<f64>>()
        });
        Some(ticks.sum::<f64>() / TICKS)
    }

    /// The most memory its processes had resident.
    pub(super) fn peak_bytes(&self) -> Option<u64> {
        let process = self.process.as_ref()?;
        let peaks = family(process.id()).into_iter().filter_map(|id| {
            let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
            Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
        });
        Some(peaks.sum())
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let Some(process) = &mut self.process else { return };
        for id in family(process.id()).into_iter().rev() {
            // It may have ended by itself, and then there is nothing to end.
            Command::new("kill").arg(id.to_string()).stderr(Stdio::null()).status().ok();
        }
        thread::sleep(Duration::from_millis(200));
        process.kill().ok();
        process.wait().ok();
    }
}

/// A process and its descendants.
fn family(id: u32) -> Vec<u32> {
    let mut family = vec![id];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        next += 1;
        let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            family.extend(children.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
        }
    }
    family
}

fn folder() -> Result<TempDir> {
    tempfile::tempdir().context("failed to make a folder")
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
    Ok(listener.local_addr().context("no address of a port")?.port())
}

/// The first line a program says of itself.
fn said(command: &mut Command) -> String {
    let Ok(output) = command.stdin(Stdio::null()).output() else { return "unknown".to_owned() };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| !line.trim().is_empty());
    line.unwrap_or("unknown").trim().to_owned()
}
