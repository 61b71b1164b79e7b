//! Where a step that was served is safe before it is committed: a file beside the journal, which the
//! thread that served it appends to. A commit takes a good part of a millisecond and two changes of
//! threads; a write takes microseconds, and survives the end of this process just as well.
//!
//! What is in the file is on its way into the journal, and the file is emptied whenever all of it
//! has become durable there. It never holds anything for long: after [`LONGEST`] it takes nothing
//! more until it is empty, and then steps wait for their commit like everything else. What others
//! have spooled, gone or not, is entered by whoever opens the journal.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    process,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    JournalError,
    ack::Promise,
    queue::{Append, Spooled, What},
    record::{Names, Record},
};

/// How long the file takes steps before it has to have been empty.
const LONGEST: Duration = Duration::from_secs(1);
const MOST_BYTES: u64 = 16 * 1024 * 1024;
/// How many files of processes that had the same number are passed over.
const NAMES: u32 = 1000;

/// The spool of one process, or more exactly of one open journal.
pub(crate) struct Spool {
    journal: PathBuf,
    state: Mutex<State>,
    emptied: Condvar,
}

#[derive(Default)]
struct State {
    /// Made for the first step, with a lock that tells others that we live.
    file: Option<(PathBuf, File)>,
    bytes: u64,
    /// Since when it has not been empty.
    since: Option<Instant>,
    /// Steps in it that are not durable in the journal.
    waiting: usize,
    /// Until it is empty: a commit has failed, or somebody wants it empty.
    is_closed: bool,
    /// When it failed: a file that cannot be made or written is not tried for every step.
    failed: Option<Instant>,
}

impl Spool {
    pub(crate) fn new(journal: &Path) -> Self {
        Self { journal: journal.to_owned(), state: Mutex::default(), emptied: Condvar::new() }
    }

    /// Whether the encoded step now survives the end of this process. Where it does not, nothing is
    /// lost: it waits for its commit, and hears there what is wrong with the disk.
    pub(crate) fn keep(&self, step: &[u8]) -> bool {
        let mut state = self.lock();
        let is_late = state.since.is_some_and(|since| since.elapsed() > LONGEST);
        let has_failed = state.failed.is_some_and(|failed| failed.elapsed() < LONGEST);
        let Ok(length) = u32::try_from(step.len()) else { return false };
        let is_shut = state.is_closed || is_late || has_failed;
        if is_shut || state.bytes + u64::from(length) > MOST_BYTES {
            return false;
        }
        let mut frame = Vec::with_capacity(4 + step.len());
        frame.extend(length.to_le_bytes());
        frame.extend(step);
        match state.append(&self.journal, &frame) {
            Ok(()) => true,
            Err(error) => {
                state.failed = Some(Instant::now());
                tracing::warn!(%error, "steps wait for their commit, since they cannot be spooled");
                false
            }
        }
    }

    /// So many of the steps are durable in the journal, or will never be.
    pub(crate) fn release(&self, steps: usize) {
        if steps == 0 {
            return;
        }
        let mut state = self.lock();
        state.waiting -= steps;
        if state.waiting > 0 {
            return;
        }
        match state.empty() {
            Ok(()) => self.emptied.notify_all(),
            // Entered twice they are entered once, so that they do no harm but to who asked for
            // them to be forgotten, who is told.
            Err(error) => {
                tracing::error!(%error, "the spool could not be emptied and is not used any more");
                state.is_closed = true;
            }
        }
    }

    /// Takes nothing more until it is empty.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = state.waiting > 0;
    }

    /// Enters what others have spooled, as [`recover`] does.
    pub(crate) fn recover(&self, enter: impl FnMut(Vec<Append>) -> Result<(), JournalError>) {
        recover(&self.journal, enter);
    }

    /// Waits until nothing is left of what is in it now, and of what other processes with the same
    /// journal had in theirs.
    pub(crate) fn clear(&self, patience: Duration) -> Result<(), JournalError> {
        let begun = Instant::now();
        self.close();
        let (state, waited) = self
            .emptied
            .wait_timeout_while(self.lock(), patience, |state| state.bytes > 0)
            .unwrap_or_else(PoisonError::into_inner);
        drop(state);
        if waited.timed_out() {
            return Err(JournalError::StillSpooled);
        }
        // They are empty at least as often as this, if they get on at all.
        while self.others().any(|file| fs::metadata(file).is_ok_and(|about| about.len() > 0)) {
            if begun.elapsed() > 2 * LONGEST {
                return Err(JournalError::StillSpooled);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn others(&self) -> impl Iterator<Item = PathBuf> {
        let ours = self.lock().file.as_ref().map(|(path, _)| path.clone());
        files_of(&self.journal).into_iter().filter(move |path| Some(path) != ours.as_ref())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code in this file can panic between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some((path, _)) = state.file.take().filter(|_| state.bytes == 0) {
            // One that is left is empty, and taken away by whoever opens the journal next.
            fs::remove_file(path).ok();
        }
    }
}

impl State {
    fn append(&mut self, journal: &Path, frame: &[u8]) -> io::Result<()> {
        let file = match &self.file {
            Some((_, file)) => file,
            None => &self.file.insert(claim(journal)?).1,
        };
        // What a failed write left behind is written over by the next, and its checksum tells.
        file.write_all_at(frame, self.bytes)?;
        self.bytes += frame.len() as u64;
        self.waiting += 1;
        self.since.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn empty(&mut self) -> io::Result<()> {
        if let Some((_, file)) = &self.file {
            file.set_len(0)?;
        }
        *self = Self { file: self.file.take(), ..Self::default() };
        Ok(())
    }
}

/// Enters what other processes have spooled, so that whoever opens the journal finds every step that
/// anybody was told of; `enter` answers once it is durable. Those who live will enter theirs once
/// more, which changes nothing. A file that cannot be entered stays for the next time, since the
/// journal is of use without it.
pub(crate) fn recover(
    journal: &Path,
    mut enter: impl FnMut(Vec<Append>) -> Result<(), JournalError>,
) {
    for path in files_of(journal) {
        if let Err(why) = recover_one(&path, &mut enter) {
            tracing::error!(path = %path.display(), %why, "spooled steps stay where they are");
        }
    }
}

fn recover_one(
    path: &Path,
    enter: &mut impl FnMut(Vec<Append>) -> Result<(), JournalError>,
) -> Result<(), String> {
    let said = |error: io::Error| error.to_string();
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(said)?,
    };
    // Held until the end, where its process is gone.
    let is_left = match file.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(error)) => return Err(said(error)),
    };
    let steps = steps_of(&fs::read(path).map_err(said)?);
    let count = steps.len();
    if count > 0 {
        enter(steps).map_err(|error| error.to_string())?;
    }
    if is_left {
        tracing::info!(steps = count, "entered what was spooled before a process ended");
        fs::remove_file(path).map_err(said)?;
    }
    Ok(())
}

/// Up to the first that is torn: it was never answered for.
fn steps_of(mut content: &[u8]) -> Vec<Append> {
    let mut steps = Vec::new();
    while let Some((length, rest)) = content.split_first_chunk() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some((body, rest)) = rest.split_at_checked(length) else { break };
        let Ok(record) = Record::decode(0, "step", body) else { break };
        steps.push(Append {
            what: What::Record(Names::of(&record)),
            body: body.to_vec(),
            // Whoever waited for it is gone.
            promise: Promise::new().0,
            spooled: Spooled::No,
        });
        content = rest;
    }
    steps
}

/// A new file that nobody else takes for left behind.
fn claim(journal: &Path) -> io::Result<(PathBuf, File)> {
    for n in 0..NAMES {
        let path = journal.with_file_name(format!("{}{}-{n}", prefix(journal), process::id()));
        let file = match OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            opened => opened?,
        };
        // Somebody who opened the journal just now may have taken it away, empty as it was.
        let is_there = |about: fs::Metadata| Ok(about.ino() == file.metadata()?.ino());
        if file.try_lock().is_ok() && fs::metadata(&path).and_then(is_there).unwrap_or(false) {
            return Ok((path, file));
        }
    }
    Err(io::Error::other("every name for a spool is taken"))
}

fn files_of(journal: &Path) -> Vec<PathBuf> {
    let prefix = prefix(journal);
    let folder = match journal.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
}

fn prefix(journal: &Path) -> String {
    let name = journal.file_name().unwrap_or_default().to_string_lossy();
    format!("{name}-spool-")
}
