//! The list of copies that were made of dataset versions, one JSON object a line, and what becomes of
//! a copy whose time is over.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use understudy_ident::{Clock, DatasetVersion, SystemClock, Timestamp};
use understudy_manifest::DatasetManifest;

use crate::{paths::DataDir, repeat::Repeating};

/// How often copies are looked at.
const EVERY: Duration = Duration::from_mins(10);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Copy {
    pub(crate) version: DatasetVersion,
    pub(crate) directory: PathBuf,
    pub(crate) at: Timestamp,
    /// When it is to be removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<Timestamp>,
}

impl Copy {
    /// Whether it still is what was written there.
    pub(crate) fn is_there(&self) -> bool {
        let manifest = fs::read_to_string(self.directory.join("manifest.json")).ok();
        let manifest =
            manifest.and_then(|text| serde_json::from_str::<DatasetManifest>(&text).ok());
        manifest.is_some_and(|manifest| manifest.version() == self.version)
    }

    /// Removes it if it still is one, and tells whether it was.
    pub(crate) fn remove(&self) -> Result<bool> {
        if !self.is_there() {
            return Ok(false);
        }
        let attempt = || format!("failed to remove the copy at {}", self.directory.display());
        fs::remove_dir_all(&self.directory).with_context(attempt)?;
        Ok(true)
    }
}

/// Removes the copies whose time is over, and returns them. Of several in one place the last counts.
pub(crate) fn expire(data: &DataDir, now: Timestamp) -> Result<Vec<Copy>> {
    let places: BTreeMap<PathBuf, Copy> =
        all(data)?.into_iter().map(|copy| (copy.directory.clone(), copy)).collect();
    let mut removed = Vec::new();
    for copy in places.into_values().filter(|copy| copy.until.is_some_and(|until| until <= now)) {
        if copy.remove()? {
            removed.push(copy);
        }
    }
    Ok(removed)
}

/// Looks every now and then for copies whose time is over, until it is dropped.
pub(crate) fn expiring(data: DataDir) -> Result<Repeating> {
    let look = move || match expire(&data, SystemClock.now()) {
        Ok(removed) => {
            for Copy { version, directory, .. } in removed {
                tracing::info!(%version, directory = %directory.display(), "a copy expired");
            }
        }
        Err(error) => tracing::error!(%error, "copies of datasets could not be removed"),
    };
    let thread = Repeating::start("exports", EVERY, look);
    thread.context("failed to start the thread that removes copies whose time is over")
}

/// Notes a copy, durably.
pub(crate) fn note(data: &DataDir, copy: &Copy) -> Result<()> {
    let path = data.exports();
    let line = format!("{}\n", serde_json::to_string(copy)?);
    let append = || -> std::io::Result<()> {
        let mut file: File = OpenOptions::new().create(true).append(true).open(&path)?;
        file.write_all(line.as_bytes())?;
        file.sync_all()
    };
    append().with_context(|| format!("failed to note the export in {}", path.display()))
}

/// Every copy that was made, oldest first.
pub(crate) fn all(data: &DataDir) -> Result<Vec<Copy>> {
    let path = data.exports();
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        read => read.with_context(|| format!("failed to read {}", path.display()))?,
    };
    let copy = |(nth, line)| {
        serde_json::from_str(line)
            .with_context(|| format!("line {} of {} is no export", nth + 1, path.display()))
    };
    text.lines().enumerate().map(copy).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use understudy_dataset::{FrozenDataset, Request, build};
    use understudy_export::{Arguments, Format};
    use understudy_manifest::Data;
    use understudy_trajectory::{JudgedStep, Trajectory};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn version(root: &Path) -> FrozenDataset {
        let task = "triage".parse().unwrap();
        let text = "{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}, \
                    {\"role\": \"assistant\", \"content\": \"a\"}]}";
        let format = understudy_ingest::Format::parse("openai").unwrap();
        let read = understudy_ingest::read(format, &task, text, None, None, at(1)).unwrap();
        let data = Data { holdout: 0.0, ..Data::default() };
        let request =
            Request { task: &task, data: &data, seed: 1, sources: &[], suites: &[], now: at(9) };
        let trajectories = read.steps.into_iter().map(|step| Trajectory {
            id: step.trajectory.clone(),
            steps: vec![JudgedStep { step, outcomes: read.outcomes.clone() }],
        });
        build(request, trajectories).unwrap().freeze(root).unwrap()
    }

    #[test]
    fn a_copy_goes_when_its_time_is_over_unless_it_was_changed_or_made_anew() {
        let home = tempfile::tempdir().unwrap();
        let data = DataDir::new(home.path().join("data"));
        fs::create_dir(data.root()).unwrap();
        let frozen = version(&home.path().join("versions"));
        let export = |name: &str, until: Option<i64>| {
            let directory = home.path().join(name);
            let (version, at, until) = (frozen.version().clone(), at(10), until.map(at));
            note(&data, &Copy { version, directory: directory.clone(), at, until }).unwrap();
            if !directory.exists() {
                understudy_export::export(&frozen, Format::Trl, Arguments::Json, &directory)
                    .unwrap();
            }
            directory
        };
        let (kept, short, long) =
            (export("kept", None), export("short", Some(20)), export("long", Some(30)));
        let (changed, anew) = (export("changed", Some(20)), export("anew", Some(20)));
        fs::write(changed.join("manifest.json"), "{}").unwrap();
        export("anew", None);
        assert!(expire(&data, at(19)).unwrap().is_empty());
        let removed = expire(&data, at(20)).unwrap();
        assert_eq!(removed.iter().map(|copy| &copy.directory).collect::<Vec<_>>(), [&short]);
        assert!(!short.exists());
        assert!([&kept, &long, &changed, &anew].into_iter().all(|place| place.exists()));
        assert!(expire(&data, at(29)).unwrap().is_empty());
        assert_eq!(expire(&data, at(30)).unwrap().len(), 1);
    }

    #[test]
    fn a_list_of_before_has_copies_that_stay() {
        let home = tempfile::tempdir().unwrap();
        let data = DataDir::new(home.path().to_owned());
        let version = format!("triage@{}", "0".repeat(64));
        let line = serde_json::json!({"version": version, "directory": "/x", "at": at(1)});
        fs::write(data.exports(), format!("{line}\n")).unwrap();
        assert_eq!(all(&data).unwrap()[0].until, None);
    }
}
