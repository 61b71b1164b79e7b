//! A program that verifies a completion.
//!
//! It finds in its working directory `completion.txt` (also on its standard input) and
//! `attempt.json` with prompt, completion, expected answer and the data set's row. Exit status 0
//! earns 1 and any other 0, unless the last line of its output is `reward: X` with X from 0 to 1.
//! Time running out, too much output and death by a limit earn 0: the completion may have caused
//! them. Only a program that could not be started has no opinion; as in every shell, that is what
//! exit statuses 126 and 127 mean, so a program that itself runs the completion must not pass on
//! its exit status.

use std::{
    env,
    num::NonZero,
    panic::resume_unwind,
    path::{Path, PathBuf},
    thread::{self, ScopedJoinHandle},
};

use understudy_manifest::CommandSpec;

use crate::{Attempt, End, Isolation, Limits, Ran, Reward, RewardError, Sandbox, error::PATH};

/// A program in a [`Sandbox`], as a reward.
#[derive(Debug)]
pub struct CommandReward {
    name: String,
    /// An absolute path and its arguments.
    program: Vec<String>,
    sandbox: Sandbox,
}

impl CommandReward {
    /// Finds the program and tries out what isolation there is.
    pub fn new(name: &str, spec: &CommandSpec) -> Result<Self, RewardError> {
        let mut program = spec.program.clone();
        let word = program.first_mut().ok_or_else(|| RewardError::NoProgram(String::new()))?;
        *word = find(word)?;
        let sandbox = Sandbox::new(Limits::of(spec))?;
        if spec.isolate && !sandbox.isolation().network {
            let why = sandbox.isolation().missing.clone().unwrap_or_default();
            return Err(RewardError::NotIsolated { program: word.clone(), why });
        }
        Ok(Self { name: name.to_owned(), program, sandbox })
    }

    /// What the program is kept from; a run's log should say it.
    pub fn isolation(&self) -> &Isolation {
        self.sandbox.isolation()
    }
}

impl Reward for CommandReward {
    fn name(&self) -> &str {
        &self.name
    }

    fn score(&self, attempt: &Attempt<'_>) -> Result<Option<f64>, RewardError> {
        let (answer, all) = (attempt.answer(), attempt.to_json().to_string());
        let files = [("completion.txt", answer.as_str()), ("attempt.json", all.as_str())];
        let ran = self.sandbox.run(&self.program, &files)?;
        self.reward(&ran).map(Some)
    }

    /// As many at once as there are processors: programs mostly wait.
    fn score_group(&self, attempts: &[Attempt<'_>]) -> Vec<Result<Option<f64>, RewardError>> {
        let lanes = thread::available_parallelism().map_or(1, NonZero::get);
        let share = attempts.len().div_ceil(lanes).max(1);
        let score = |share: &[Attempt<'_>]| share.iter().map(|one| self.score(one)).collect();
        thread::scope(|scope| {
            let running: Vec<ScopedJoinHandle<'_, Vec<_>>> =
                attempts.chunks(share).map(|share| scope.spawn(move || score(share))).collect();
            let results = running.into_iter().map(ScopedJoinHandle::join);
            results.flat_map(|lane| lane.unwrap_or_else(|panic| resume_unwind(panic))).collect()
        })
    }

    fn is_quick(&self) -> bool {
        false
    }

    fn note(&self) -> Option<String> {
        Some(self.isolation().to_string())
    }
}

impl CommandReward {
    fn reward(&self, ran: &Ran) -> Result<f64, RewardError> {
        let status = match ran.end {
            End::Exited(status) => status,
            End::Killed | End::TimedOut | End::TooMuchOutput => return Ok(0.0),
        };
        if matches!(status, 126 | 127) {
            let why = format!("exit status {status}; {}", ran.said());
            return Err(RewardError::Start { program: self.program.join(" "), why });
        }
        let last = ran.stdout.lines().next_back().unwrap_or_default();
        let Some(written) = last.trim().strip_prefix("reward:") else {
            return Ok(if status == 0 { 1.0 } else { 0.0 });
        };
        let value = written.trim().parse().ok().filter(|value| (0.0..=1.0).contains(value));
        value.ok_or_else(|| RewardError::RewardLine { line: last.chars().take(80).collect() })
    }
}

/// An absolute path to the program: one with a slash is relative to where we run, because the
/// program's own working directory is empty.
fn find(word: &str) -> Result<String, RewardError> {
    let candidates: Vec<PathBuf> = if word.contains('/') {
        let here = env::current_dir().unwrap_or_default();
        vec![here.join(word)]
    } else {
        PATH.split(':').map(|folder| Path::new(folder).join(word)).collect()
    };
    let found = candidates.into_iter().find(|path| path.is_file());
    let found = found.and_then(|path| path.into_os_string().into_string().ok());
    found.ok_or_else(|| RewardError::NoProgram(word.to_owned()))
}
