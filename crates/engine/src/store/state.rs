//! What every alias means, on disk, so that a restart changes nothing.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use understudy_ident::Timestamp;
use understudy_inference::InferenceError;

use super::{
    AdapterStore, Patience,
    snapshot::{Entry, Snapshot, Version},
};

/// Of the file's form.
const SCHEMA: u32 = 1;

/// A small JSON file, replaced as a whole at every change.
#[derive(Debug)]
pub(crate) struct StateFile {
    path: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    schema: u32,
    aliases: Vec<Record>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    alias: String,
    #[serde(flatten)]
    current: Place,
    pinned: bool,
    on_demand: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<Timestamp>,
    keep_previous: usize,
    previous: Vec<Place>,
}

/// Content that can be read again.
#[derive(Debug, Serialize, Deserialize)]
struct Place {
    generation: String,
    directory: PathBuf,
}

impl StateFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Aliases of content that was never written cannot come back and are left out.
    pub(super) fn save(&self, aliases: &BTreeMap<Arc<str>, Arc<Entry>>) -> io::Result<()> {
        let record = |(alias, entry): (&Arc<str>, &Arc<Entry>)| {
            Some(Record {
                alias: alias.to_string(),
                current: Place::of(&entry.current)?,
                pinned: entry.pinned,
                on_demand: entry.on_demand,
                expires: entry.expires,
                keep_previous: entry.keep,
                previous: entry.previous.iter().map_while(Place::of).collect(),
            })
        };
        let aliases = aliases.iter().filter_map(record).collect();
        let text = serde_json::to_vec_pretty(&State { schema: SCHEMA, aliases })?;
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        fs::create_dir_all(folder)?;
        let mut staged = tempfile::NamedTempFile::new_in(folder)?;
        staged.write_all(&text)?;
        staged.as_file().sync_all()?;
        staged.persist(&self.path).map_err(|error| error.error)?;
        if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
    }

    fn read(&self) -> io::Result<Vec<Record>> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let state: State = serde_json::from_slice(&text)?;
        if state.schema != SCHEMA {
            let why = format!("its schema is {}; this program reads {SCHEMA}", state.schema);
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(state.aliases)
    }
}

impl Place {
    fn of(version: &Version) -> Option<Self> {
        let directory = version.directory.clone()?;
        Some(Self { generation: version.digest.to_string(), directory })
    }

    fn version(&self) -> Version {
        let (digest, directory) = (self.generation.as_str().into(), Some(self.directory.clone()));
        Version { digest, directory, rank: 0, bytes: 0 }
    }
}

impl<P> AdapterStore<P> {
    /// Takes up what a file says, and writes every later change there. Aliases mean what they meant
    /// at once; what was in memory is read again, and what cannot be is in the list returned: its
    /// alias stays, and whoever asks for it is told why it is not served.
    pub(crate) fn restored(
        mut self,
        state: StateFile,
    ) -> io::Result<(Self, Vec<(String, InferenceError)>)> {
        let records = state.read()?;
        let mut snapshot = Snapshot::default();
        for record in &records {
            let entry = Entry {
                current: record.current.version(),
                previous: Vec::new(),
                pinned: record.pinned,
                on_demand: record.on_demand,
                expires: record.expires,
                keep: record.keep_previous,
            };
            snapshot.aliases.insert(record.alias.as_str().into(), Arc::new(entry));
        }
        self.snapshot.store(Arc::new(snapshot));
        self.state = Some(state);
        let mut missing = Vec::new();
        for record in records.iter().filter(|record| !record.on_demand) {
            if let Err(error) = self.bring_back(record) {
                missing.push((record.alias.clone(), error));
            }
        }
        Ok((self, missing))
    }

    /// The current generation, then earlier ones as far as there is room for them.
    fn bring_back(&self, record: &Record) -> Result<(), InferenceError> {
        let alias = record.alias.as_str();
        drop(self.fetch(alias, Patience::endless())?);
        for place in &record.previous {
            let content =
                Arc::new(self.read_exactly(alias, &place.version(), Patience::endless())?);
            let mut ledger = self.lock();
            let known = self.resident(&content.digest).is_some();
            if !known && !self.has_room(&ledger, content.bytes) {
                return Ok(());
            }
            let version = Version::of(&content);
            let held = self.hold(&mut ledger, alias, content)?;
            let mut next = (**self.snapshot.load()).clone();
            next.resident.insert(Arc::clone(&version.digest), held);
            if let Some(entry) = next.aliases.get_mut(alias) {
                Arc::make_mut(entry).previous.push(version);
            }
            drop(self.swap(&mut ledger, next));
        }
        Ok(())
    }
}
