//! `understudy serve` in a process and a directory of its own.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    thread,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

pub(super) struct Served {
    child: Child,
    url: String,
    _data: TempDir,
}

impl Served {
    pub(super) fn start() -> Result<Self> {
        // Beside the working directory's data, so that it is the same kind of disk.
        let data =
            tempfile::tempdir_in(".").context("failed to make a directory for the server")?;
        let program = std::env::current_exe().context("failed to find this program")?;
        let mut child = Command::new(program)
            .args(["serve", "--mock-engine", "--listen", "127.0.0.1:0"])
            .env("UNDERSTUDY_DATA_DIR", data.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("failed to start `understudy serve`")?;
        let stdout = child.stdout.take().context("the server has no output")?;
        let mut lines = BufReader::new(stdout).lines().map_while(std::result::Result::ok);
        let url = lines.find_map(|line| {
            let (_, url) = line.split_once("http://")?;
            Some(format!("http://{}", url.trim_end_matches("/v1")))
        });
        // A pipe that nobody reads would stop the server some day.
        thread::spawn(move || lines.for_each(drop));
        let Some(url) = url else { bail!("`understudy serve` ended before it served") };
        Ok(Self { child, url, _data: data })
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// How many steps have been made of what was sent.
    pub(super) fn steps(&self) -> Result<u64> {
        let text = ureq::get(self.url("/api/v1/journal"))
            .call()
            .and_then(|response| response.into_body().read_to_string())
            .context("failed to ask the server for its counts")?;
        let counts: Value = serde_json::from_str(&text).context("counts are JSON")?;
        counts["steps"].as_u64().context("the server does not count its steps")
    }

    /// The most memory it had resident, as Linux accounts it.
    pub(super) fn peak_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .context("failed to read the server's memory")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kilobytes.map(|kilobytes| kilobytes * 1024).context("the server's memory is not told")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended by itself, and then there is nothing to end.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
