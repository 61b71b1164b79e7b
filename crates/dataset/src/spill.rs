//! What does not fit into memory: records in one temporary file, which nobody else can see and which
//! is gone with its last handle, however the process ends.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{DatasetError, error::Attempt};

/// Written at once.
const BUFFER: usize = 1 << 20;

/// Records that are written one after the other and read in any order.
#[derive(Debug)]
pub(crate) struct Spill {
    /// Where the file was made, for errors.
    directory: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    /// Where the next flush goes; the buffer lies behind it.
    written: u64,
    buffer: Vec<u8>,
}

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    offset: u64,
    length: u32,
}

impl Spill {
    pub(crate) fn create(directory: &Path) -> Result<Self, DatasetError> {
        let file =
            tempfile::tempfile_in(directory).attempt("create a temporary file in", directory)?;
        let state = State { file, written: 0, buffer: Vec::with_capacity(BUFFER) };
        Ok(Self { directory: directory.to_owned(), state: Mutex::new(state) })
    }

    pub(crate) fn push(&self, bytes: &[u8]) -> Result<Place, DatasetError> {
        let mut state = self.lock();
        let offset = state.written + state.buffer.len() as u64;
        let length = u32::try_from(bytes.len())
            .map_err(|_| DatasetError::TooLarge { bytes: bytes.len() })?;
        state.buffer.extend_from_slice(bytes);
        if state.buffer.len() >= BUFFER {
            state.flush().attempt("write a temporary file in", &self.directory)?;
        }
        Ok(Place { offset, length })
    }

    pub(crate) fn read(&self, place: Place) -> Result<Vec<u8>, DatasetError> {
        let mut state = self.lock();
        let mut bytes = vec![0; place.length as usize];
        let mut read = || -> std::io::Result<()> {
            if place.offset + u64::from(place.length) > state.written {
                state.flush()?;
            }
            state.file.seek(SeekFrom::Start(place.offset))?;
            state.file.read_exact(&mut bytes)
        };
        read().attempt("read back a temporary file in", &self.directory)?;
        Ok(bytes)
    }

    pub(crate) fn push_value(&self, value: &impl Serialize) -> Result<Place, DatasetError> {
        let bytes = serde_json::to_vec(value).map_err(|why| self.wrong(&why))?;
        self.push(&bytes)
    }

    pub(crate) fn read_value<T: DeserializeOwned>(&self, place: Place) -> Result<T, DatasetError> {
        serde_json::from_slice(&self.read(place)?).map_err(|why| self.wrong(&why))
    }

    fn wrong(&self, why: &serde_json::Error) -> DatasetError {
        let source = std::io::Error::other(why.to_string());
        let path = self.directory.clone();
        DatasetError::Io { attempt: "use a temporary file in", path, source }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic between two changes leaves at most a record that nobody knows the place of.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn flush(&mut self) -> std::io::Result<()> {
        self.file.seek(SeekFrom::Start(self.written))?;
        self.file.write_all(&self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl Place {
    pub(crate) fn bytes(self) -> u64 {
        u64::from(self.length)
    }
}
