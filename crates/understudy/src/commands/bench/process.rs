//! Somebody else's server in processes of its own, with a folder that is gone afterwards: started,
//! waited for, measured from the outside and ended with its descendants.

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

/// A Python server imports for a long while.
const START_PATIENCE: Duration = Duration::from_mins(5);
/// Linux counts hundredths of a second here, whatever its own clock does.
const TICKS: f64 = 100.0;

#[derive(Debug)]
pub(super) struct Process {
    name: &'static str,
    address: String,
    child: Child,
    folder: TempDir,
}

impl Process {
    /// Waits until it listens on the port.
    pub(super) fn start(
        name: &'static str,
        mut command: Command,
        port: u16,
        folder: TempDir,
    ) -> Result<Self> {
        let log = fs::File::create(folder.path().join("output.log"))
            .with_context(|| format!("no file for what {name} says"))?;
        let errors = log.try_clone().context("no second handle of a file")?;
        let child = command
            .stdout(log)
            .stderr(errors)
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("failed to start {name}"))?;
        let address = format!("127.0.0.1:{port}");
        let mut process = Self { name, address, child, folder };
        process.wait()?;
        Ok(process)
    }

    /// Host and port.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn wait(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_PATIENCE;
        while TcpStream::connect(&self.address).is_err() {
            let ended = self.child.try_wait().ok().flatten();
            if ended.is_some() || Instant::now() > deadline {
                bail!("{} did not begin to serve; it said: {}", self.name, self.last_words());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// The last lines it wrote.
    pub(super) fn last_words(&self) -> String {
        let Ok(file) = fs::File::open(self.folder().join("output.log")) else {
            return String::new();
        };
        let lines: Vec<String> = BufReader::new(file).lines().map_while(Result::ok).collect();
        lines[lines.len().saturating_sub(5)..].join(" | ")
    }

    /// Processor time of its processes so far.
    pub(super) fn cpu_seconds(&self) -> f64 {
        let family = family(self.child.id());
        let ticks = family.iter().filter_map(|id| {
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
            let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
            let ticks = fields.get(11..13)?.iter().map(|field| field.parse::<f64>().ok());
            ticks.sum::<Option<f64>>()
        });
        ticks.sum::<f64>() / TICKS
    }

    /// The most memory its processes had resident.
    pub(super) fn peak_bytes(&self) -> u64 {
        let peaks = family(self.child.id()).into_iter().filter_map(|id| {
            let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
            Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
        });
        peaks.sum()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        for id in family(self.child.id()).into_iter().rev() {
            // It may have ended by itself, and then there is nothing to end.
            Command::new("kill").arg(id.to_string()).stderr(Stdio::null()).status().ok();
        }
        thread::sleep(Duration::from_millis(200));
        self.child.kill().ok();
        self.child.wait().ok();
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

/// A folder beside the working directory's data, so that it is the same kind of disk.
pub(super) fn folder_here() -> Result<TempDir> {
    tempfile::tempdir_in(".").context("failed to make a folder for a server")
}

pub(super) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
    Ok(listener.local_addr().context("no address of a port")?.port())
}

/// The first line a program says of itself.
pub(super) fn said(command: &mut Command) -> String {
    let Ok(output) = command.stdin(Stdio::null()).output() else { return "unknown".to_owned() };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| !line.trim().is_empty());
    line.unwrap_or("unknown").trim().to_owned()
}
