//! How far a program can be cut off here.

use std::{
    fmt, fs,
    os::unix::{fs::MetadataExt, process::CommandExt},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::error::PATH;

/// What the sandbox takes away from a program, as found out on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Isolation {
    /// It has no network, not even this machine's own address.
    pub network: bool,
    /// It sees only its own processes, and none of them outlives it. Otherwise it can read what
    /// `/proc` shows of its user's processes, their environment included, and one that leaves the
    /// process group survives.
    pub processes: bool,
    /// Who it runs as instead of root, if we are root.
    pub user: Option<u32>,
    /// Why more was not possible; none if nothing is missing.
    pub missing: Option<String>,
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.network { "without network" } else { "with the network" })?;
        f.write_str(if self.processes { ", sees only itself" } else { ", sees other processes" })?;
        if let Some(user) = self.user {
            write!(f, ", as user {user}")?;
        }
        match &self.missing {
            Some(why) => write!(f, " (more is not possible here: {why})"),
            None => Ok(()),
        }
    }
}

/// A command that runs the rest of its arguments more or less cut off.
#[derive(Debug)]
pub(super) struct Wrapper {
    isolation: Isolation,
    route: Route,
}

/// Who makes the namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    /// The unprivileged user itself, within a user namespace, where processes are counted apart.
    Itself,
    /// Root, who then becomes the unprivileged user.
    Root,
    /// Nobody: there are none.
    None,
}

/// By convention everywhere a user without rights.
const NOBODY: u32 = 65534;

/// The wrapper's own processes, which a limit counts too: `unshare` and the shell.
const OURS: u64 = 2;

impl Wrapper {
    pub(super) fn strictest_first() -> Vec<Self> {
        let is_root = rustix::process::geteuid().is_root();
        let user = is_root.then_some(NOBODY);
        let routes = if is_root { &[Route::Itself, Route::Root][..] } else { &[Route::Itself] };
        let make = |network, processes, route| Self {
            isolation: Isolation { network, processes, user, missing: None },
            route,
        };
        let mut all: Vec<Self> = routes.iter().map(|route| make(true, true, *route)).collect();
        // Inside many containers `/proc` can't be mounted again.
        all.extend(routes.iter().map(|route| make(true, false, *route)));
        all.push(make(false, false, Route::None));
        all
    }

    pub(super) fn because(mut self, missing: Option<String>) -> Self {
        self.isolation.missing = missing;
        self
    }

    pub(super) fn isolation(&self) -> &Isolation {
        &self.isolation
    }

    /// A process group of its own, and the start of an argument list.
    pub(super) fn command(&self) -> Command {
        let nobody = NOBODY.to_string();
        // `env` without options only runs what follows.
        let mut command = Command::new(if self.route == Route::None { "env" } else { "unshare" });
        if self.route != Route::None {
            command.args(["--net", "--ipc"]);
        }
        if self.isolation.processes {
            command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        }
        match (self.route, self.isolation.user) {
            (Route::Root, _) => {
                command.args(["--setuid", &nobody, "--setgid", &nobody]);
            }
            (Route::Itself | Route::None, Some(user)) => {
                command.uid(user).gid(user);
            }
            (Route::Itself | Route::None, None) => {}
        }
        if self.route == Route::Itself {
            command.arg("--map-current-user");
        }
        command.env("PATH", PATH).process_group(0);
        command
    }

    /// Held during a run where the kernel counts all runs together: a fork bomb in one must not cost
    /// another its processes.
    pub(super) fn alone(&self) -> Option<MutexGuard<'static, ()>> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        (self.route != Route::Itself)
            .then(|| ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The kernel counts a user's processes within a user namespace; without one, all of them.
    pub(super) fn process_limit(&self, processes: u64) -> u64 {
        let others = match self.route {
            Route::Itself => 0,
            Route::Root | Route::None => {
                tasks_of(self.isolation.user.unwrap_or(rustix::process::geteuid().as_raw()))
            }
        };
        processes.saturating_add(OURS).saturating_add(others)
    }
}

/// How many processes and threads a user has now.
fn tasks_of(user: u32) -> u64 {
    let Ok(processes) = fs::read_dir("/proc") else { return 0 };
    let own = processes.flatten().filter(|entry| {
        let is_process = entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit);
        is_process && entry.metadata().is_ok_and(|found| found.uid() == user)
    });
    own.map(|entry| fs::read_dir(entry.path().join("task")).map_or(0, |tasks| tasks.count() as u64))
        .sum()
}
