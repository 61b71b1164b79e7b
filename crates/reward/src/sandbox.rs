//! Runs a program that nobody vouches for.
//!
//! What it gets: a fresh directory, an environment of four variables, the limits of [`Limits`], and
//! no rights from set-user-id programs. When its time is up, or it has ended, every process of its group is killed.
//!
//! What [`Isolation`] adds where the kernel allows it: no network, no view of other processes (and
//! none that outlives it), and an unprivileged user if we are root.
//!
//! What is not prevented: reading every file its user may read, writing where its user may write,
//! `/tmp` or a home directory for instance, and filling the disk with many files that are each small
//! enough. Programs that must not see what ours sees belong in a container.

mod isolation;
mod output;

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tempfile::TempDir;
use understudy_manifest::CommandSpec;

use crate::{RewardError, error::PATH};
use isolation::Wrapper;
use output::{Capture, Overflow};

pub use isolation::Isolation;

/// What one run may use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// On the clock. Each process has the same in processor time, rounded up to seconds.
    pub time: Duration,
    /// Bytes of address space of each process.
    pub memory: u64,
    /// Bytes of the largest file it may write.
    pub file: u64,
    /// Processes and threads at once.
    pub processes: u64,
    pub open_files: u64,
    /// Bytes of standard output and, again, of standard error.
    pub output: usize,
}

impl Limits {
    /// A recipe's limits, 256 open files and 1 MiB of output.
    pub fn of(spec: &CommandSpec) -> Self {
        Self {
            time: Duration::try_from_secs_f64(spec.timeout_s).unwrap_or(Duration::MAX),
            memory: spec.memory_mb.saturating_mul(1 << 20),
            file: spec.file_mb.saturating_mul(1 << 20),
            processes: spec.processes,
            open_files: 256,
            output: 1 << 20,
        }
    }
}

/// A way to run programs, tried out once.
#[derive(Debug)]
pub struct Sandbox {
    limits: Limits,
    wrapper: Wrapper,
}

/// How a run ended, and what it printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    pub end: End,
    pub stdout: String,
    pub stderr: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// A program that a signal ended has 128 plus its number.
    Exited(i32),
    /// All of it, from outside.
    Killed,
    TimedOut,
    TooMuchOutput,
}

/// The first line of output, by which the wrapper says that it has come as far as the program. The
/// program can't take it back.
const STARTED: &str = "sandbox: started\n";

/// The shell stays the program's parent: as the first process of its namespace it would get no
/// signals it did not ask for.
const SCRIPT: &str = "echo 'sandbox: started'; \"$@\"; exit $?";

impl Sandbox {
    /// Finds the strictest isolation that works here by running `true` in it.
    pub fn new(limits: Limits) -> Result<Self, RewardError> {
        if !cfg!(target_os = "linux") {
            let why = "command rewards need Linux, whose limits they rely on";
            return Err(RewardError::Sandbox(why.to_owned()));
        }
        let mut missing = None;
        for wrapper in Wrapper::strictest_first() {
            let sandbox = Self { limits, wrapper };
            match sandbox.run(&["true".to_owned()], &[]) {
                Ok(Ran { end: End::Exited(0), .. }) => {
                    let Self { limits, wrapper } = sandbox;
                    return Ok(Self { limits, wrapper: wrapper.because(missing) });
                }
                Ok(ran) => missing.get_or_insert(format!("`true` failed: {}", ran.said())),
                // What the strictest one lacked is what can be done something about.
                Err(why) => missing.get_or_insert(why.to_string()),
            };
        }
        Err(RewardError::Sandbox(missing.unwrap_or_default()))
    }

    pub fn isolation(&self) -> &Isolation {
        self.wrapper.isolation()
    }

    /// Runs a program, by absolute path, with these files in its directory and the first of them on
    /// its standard input. Without user namespaces runs wait for one another.
    pub fn run(&self, program: &[String], files: &[(&str, &str)]) -> Result<Ran, RewardError> {
        let broken = |why: io::Error| RewardError::Sandbox(why.to_string());
        let start = |why: String| RewardError::Start { program: program.join(" "), why };
        let directory = self.furnish(files).map_err(broken)?;
        let stdin = match files.first() {
            Some((name, _)) => File::open(directory.path().join(name)).map_err(broken)?.into(),
            None => Stdio::null(),
        };
        let _alone = self.wrapper.alone();
        let mut command = self.command(program, directory.path());
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|why| start(why.to_string()))?;
        let mut ran = self.watch(child).map_err(broken)?;
        match ran.stdout.strip_prefix(STARTED) {
            Some(rest) => ran.stdout = rest.to_owned(),
            None if ran.end == End::TimedOut => return Err(start("its time was too short".into())),
            None => return Err(start(ran.said())),
        }
        Ok(ran)
    }

    /// A directory of its own, which is gone when the value is.
    fn furnish(&self, files: &[(&str, &str)]) -> io::Result<TempDir> {
        let directory = TempDir::with_prefix("understudy-reward-")?;
        let hand_over = |path: &Path| match self.isolation().user {
            Some(user) => std::os::unix::fs::chown(path, Some(user), Some(user)),
            None => Ok(()),
        };
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::write(&path, text)?;
            hand_over(&path)?;
        }
        hand_over(directory.path())?;
        Ok(directory)
    }

    fn command(&self, program: &[String], directory: &Path) -> Command {
        let Limits { time, memory, file, processes, open_files, .. } = self.limits;
        let cpu = time.as_secs().saturating_add(1);
        let processes = self.wrapper.process_limit(processes);
        let mut command = self.wrapper.command();
        command
            .args(["setpriv", "--no-new-privs", "prlimit"])
            .args([format!("--cpu={cpu}"), format!("--as={memory}"), format!("--fsize={file}")])
            .args([format!("--nproc={processes}"), format!("--nofile={open_files}")])
            .args(["--core=0", "sh", "-c", SCRIPT, "sh"])
            .args(program)
            .current_dir(directory)
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", directory)
            .env("TMPDIR", directory)
            .env("LANG", "C.UTF-8");
        command
    }

    fn watch(&self, mut child: Child) -> io::Result<Ran> {
        let overflow = Arc::new(Overflow::default());
        let stdout = Capture::start(child.stdout.take(), self.limits.output, &overflow);
        let stderr = Capture::start(child.stderr.take(), self.limits.output, &overflow);
        let cut_short = wait(&child, self.limits.time, &overflow);
        // Before the child is reaped, while its number can't be another process's.
        let killed = kill_process_group(Pid::from_child(&child), Signal::KILL);
        let status = child.wait()?;
        let end = cut_short?.unwrap_or_else(|| ended(status));
        killed.or_else(|why| if why == rustix::io::Errno::SRCH { Ok(()) } else { Err(why) })?;
        let (stdout, stderr) = (stdout.text(), stderr.text());
        // It may have printed all of it and ended before anyone looked.
        let end = if overflow.is_set() && end != End::TimedOut { End::TooMuchOutput } else { end };
        Ok(Ran { end, stdout, stderr })
    }
}

impl Ran {
    /// The end of what it said about itself, for a message.
    pub fn said(&self) -> String {
        let text = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        let line = text.trim().lines().next_back().unwrap_or("it said nothing");
        line.chars().take(300).collect()
    }
}

/// Waits for the end without reaping; tells why it did not wait for it.
fn wait(child: &Child, time: Duration, overflow: &Overflow) -> io::Result<Option<End>> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    loop {
        match waitid(WaitId::Pid(Pid::from_child(child)), options).map_err(io::Error::from) {
            Ok(Some(_)) => return Ok(None),
            Ok(None) => {}
            Err(why) if why.kind() == ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
        if overflow.is_set() {
            return Ok(Some(End::TooMuchOutput));
        }
        let left = time.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(Some(End::TimedOut));
        }
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

fn ended(status: ExitStatus) -> End {
    status.code().map_or(End::Killed, End::Exited)
}

#[cfg(test)]
mod tests;
