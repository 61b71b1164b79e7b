//! The numbers of a step as TensorBoard reads them: event files, appended to step by step.
//!
//! A file is a sequence of TFRecords, each a length, its checksum, a protobuf `Event`, and its
//! checksum. Of the format (`tensorflow/core/util/event.proto`, `framework/summary.proto` and
//! `lib/io/record_writer.cc`) this is the part that scalars need, written out by hand.
//!
//! A stage that goes on opens a new file, because a torn record would hide everything behind it.
//! The file says from which step on it counts, and TensorBoard forgets what it had read beyond.

mod wire;

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use understudy_storage::atomic;

use crate::error::{Result, TrainError};

const PREFIX: &str = "events.out.tfevents.";
const SUFFIX: &str = ".understudy";

/// The event files of one stage.
#[derive(Debug)]
pub(crate) struct EventFiles {
    folder: PathBuf,
    /// The step that is written next.
    next: u64,
    /// Opened by the first step, so that a stage that has none left leaves no empty file.
    open: Option<(PathBuf, File)>,
}

impl EventFiles {
    /// The files beside `metrics`, for a run that has taken `steps` steps. One that has taken none
    /// is a new run, and the files of an earlier one go.
    pub(crate) fn beside(metrics: &Path, steps: u64) -> Result<Self> {
        let folder = folder(metrics);
        if steps == 0 && folder.is_dir() {
            clear(&folder).map_err(|source| failed(&folder, source))?;
        }
        Ok(Self { folder, next: steps + 1, open: None })
    }

    /// Adds every number of a step's metrics under its key. What a key holds an object of is named
    /// `key/part`.
    pub(crate) fn append(&mut self, step: u64, metrics: &Value) -> Result<()> {
        let (path, mut file) = match self.open.take() {
            Some(open) => open,
            None => self.create()?,
        };
        let mut scalars = Vec::new();
        collect("", metrics, &mut scalars);
        let event = wire::record(&wire::scalars(seconds(), step, &scalars));
        file.write_all(&event).map_err(|source| failed(&path, source))?;
        self.open = Some((path, file));
        Ok(())
    }

    fn create(&self) -> Result<(PathBuf, File)> {
        atomic::create_dir(&self.folder)?;
        let mut second = seconds() as u64;
        loop {
            let name = format!("{PREFIX}{second}.{}.{}{SUFFIX}", host(), process::id());
            let path = self.folder.join(name);
            match File::create_new(&path) {
                Ok(mut file) => {
                    let begins = [wire::version(seconds()), wire::start(seconds(), self.next)];
                    let begins = begins.map(|event| wire::record(&event)).concat();
                    file.write_all(&begins).map_err(|source| failed(&path, source))?;
                    return Ok((path, file));
                }
                // Files are read in the order of their names, so a later one has a later second.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => second += 1,
                Err(source) => return Err(failed(&path, source)),
            }
        }
    }
}

/// `0-sft.metrics.jsonl` has its events in `0-sft.tensorboard`.
fn folder(metrics: &Path) -> PathBuf {
    let name = metrics.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(".jsonl").unwrap_or(&name);
    let stem = stem.strip_suffix(".metrics").unwrap_or(stem);
    metrics.with_file_name(format!("{stem}.tensorboard"))
}

fn clear(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn collect(prefix: &str, value: &Value, scalars: &mut Vec<(String, f64)>) {
    let Value::Object(object) = value else { return };
    for (key, value) in object {
        let tag = if prefix.is_empty() { key.clone() } else { format!("{prefix}/{key}") };
        match value.as_f64() {
            // The step is where a point is drawn, not a curve.
            Some(_) if tag == "step" => {}
            Some(number) => scalars.push((tag, number)),
            None => collect(&tag, value, scalars),
        }
    }
}

fn seconds() -> f64 {
    // A clock before 1970 is wrong anyway, and training does not depend on it.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// This machine's name, as far as a file name can hold it.
fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let name: String = name.trim().chars().map(|c| if plain(c) { c } else { '-' }).collect();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

fn failed(path: &Path, source: io::Error) -> TrainError {
    TrainError::Io { attempt: "write TensorBoard events to", path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
