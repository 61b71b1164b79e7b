//! Adapters on disk, in the directory form PEFT, vLLM and llama.cpp's converter read.
//!
//! Written once and never changed: `adapter_config.json` with one rank and the scale folded into
//! `lora_alpha`, and `adapter_model.safetensors` in f32. Read strictly: an adapter acts as its
//! author meant or is refused.

mod config;
mod import;

pub use self::config::LARGEST_RANK;

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    mem,
    path::{Path, PathBuf},
};

use safetensors::{Dtype, tensor::TensorView};
use understudy_ident::{Digest, PIECE, Piece};
use understudy_team as team;

use crate::{
    config::ModelConfig,
    error::{ModelError, Result},
    host::Spare,
    lora::{Lora, Parameter},
};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// Bytes of a config that are read; published ones have a thousandth.
const LONGEST_CONFIG: u64 = 1 << 20;

/// What every tensor name begins with.
const PREFIX: &str = "base_model.model.model.";

/// An adapter read from disk.
#[derive(Debug)]
pub struct PeftAdapter {
    pub lora: Lora,
    /// What `adapter_config.json` calls the base; a hint for people, not a check.
    pub base_name: Option<String>,
    /// Digest of both files' bytes.
    pub digest: String,
}

/// The two files of an adapter, as bytes: what its digest is taken over.
#[derive(Debug)]
pub struct PeftFiles {
    config: Vec<u8>,
    weights: Vec<u8>,
    digest: Digest,
}

/// Of the last files that somebody had read.
static SPARE: Spare<u8> = Spare::new();

impl Drop for PeftFiles {
    fn drop(&mut self) {
        SPARE.give(mem::take(&mut self.weights));
    }
}

impl PeftFiles {
    /// An adapter as it is going to be written, its scales folded into one.
    pub fn of(lora: &Lora, base_name: &str) -> Result<Self> {
        let lora = &lora.folded();
        let config = config::to_json(lora, base_name).into_bytes();
        Ok(Self::new(config, weights(lora)?))
    }

    pub fn read(directory: &Path) -> Result<Self> {
        let failed = |name: &str| {
            let path = directory.join(name);
            |source| ModelError::Read { path, source }
        };
        let config = read_config(&directory.join(CONFIG)).map_err(failed(CONFIG))?;
        let read = read_hashing(&directory.join(WEIGHTS), &config).map_err(failed(WEIGHTS))?;
        let (weights, digest) = read;
        Ok(Self { config, weights, digest })
    }

    fn new(config: Vec<u8>, weights: Vec<u8>) -> Self {
        let digest = Digest::of_parts([config.as_slice(), &weights]);
        Self { config, weights, digest }
    }

    /// How much there is to read.
    pub fn bytes_at(directory: &Path) -> Result<u64> {
        let size = |name: &str| {
            let path = directory.join(name);
            let size = fs::metadata(&path).map(|meta| meta.len());
            size.map_err(|source| ModelError::Read { path, source })
        };
        Ok(size(CONFIG)? + size(WEIGHTS)?)
    }

    /// The largest rank that the config names, without reading the weights; `None` where it names
    /// none, and [`Self::parse`] says why not.
    pub fn rank(&self) -> Option<usize> {
        config::rank(&self.config)
    }

    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The adapter they describe for a base of this shape, or precisely why it does not fit.
    /// `directory` is where they come from, for the error to name.
    pub fn parse(&self, directory: &Path, config: &ModelConfig) -> Result<PeftAdapter> {
        let refuse = |what: String| ModelError::Adapter { path: directory.into(), what };
        let settings = config::Settings::parse(&self.config).map_err(refuse)?;
        let lora = import::lora(&settings, &self.weights, config).map_err(refuse)?;
        let digest = self.digest().to_hex();
        Ok(PeftAdapter { lora, base_name: settings.base_name, digest })
    }

    /// Writes them to a directory that must not exist yet. `extra` files (a manifest, a card)
    /// appear together with them or not at all.
    pub fn write(&self, directory: &Path, extra: &[(&str, &[u8])]) -> Result<()> {
        if directory.exists() {
            let what = "already exists; adapters are never overwritten".to_owned();
            return Err(ModelError::Adapter { path: directory.into(), what });
        }
        let parent = match directory.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let write = |source| ModelError::Write { path: PathBuf::from(directory), source };
        fs::create_dir_all(parent).map_err(write)?;
        let staged =
            tempfile::Builder::new().prefix(".adapter-").tempdir_in(parent).map_err(write)?;
        // The config last: a directory without one is not an adapter to any reader.
        for (name, bytes) in extra {
            write_synced(&staged.path().join(name), bytes)?;
        }
        write_synced(&staged.path().join(WEIGHTS), &self.weights)?;
        write_synced(&staged.path().join(CONFIG), &self.config)?;
        share(staged.path()).map_err(write)?;
        sync_directory(staged.path()).map_err(write)?;
        fs::rename(staged.path(), directory).map_err(write)?;
        // The staged name is gone; there is nothing left to clean up.
        let _moved = staged.keep();
        sync_directory(parent).map_err(write)
    }
}

/// Writes an adapter to a directory that must not exist yet, and returns its digest. `extra` files
/// (a manifest, a card) appear together with it or not at all.
pub fn write_peft(
    lora: &Lora,
    directory: &Path,
    base_name: &str,
    extra: &[(&str, &[u8])],
) -> Result<String> {
    let files = PeftFiles::of(lora, base_name)?;
    files.write(directory, extra)?;
    Ok(files.digest().to_hex())
}

/// Reads an adapter for a base of this shape, or says precisely why it does not fit.
pub fn read_peft(directory: &Path, config: &ModelConfig) -> Result<PeftAdapter> {
    PeftFiles::read(directory)?.parse(directory, config)
}

/// The digest of an adapter directory, without reading it as an adapter.
pub fn adapter_digest(directory: &Path) -> Result<String> {
    Ok(PeftFiles::read(directory)?.digest().to_hex())
}

/// Opens what is a file and nothing else: a pipe would be waited for until somebody writes to it,
/// and a device may never end.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let is_file = |meta: fs::Metadata| {
        let why = || io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
        if meta.is_file() { Ok(()) } else { Err(why()) }
    };
    // Before it is opened, which for a pipe does not return, and again for what was opened.
    is_file(fs::metadata(path)?)?;
    let file = File::open(path)?;
    is_file(file.metadata()?)?;
    Ok(file)
}

fn read_config(path: &Path) -> io::Result<Vec<u8>> {
    let (file, length) = open_measured(path)?;
    if length > LONGEST_CONFIG {
        let why = format!("it has {length} bytes; at most {LONGEST_CONFIG} are read");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(LONGEST_CONFIG).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn open_measured(path: &Path) -> io::Result<(File, u64)> {
    let file = open_regular(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

/// Reads a file whole, and hashes it as [`Digest::of_parts`] hashes a second part: every thread reads
/// a piece and hashes it while it lies in the cache.
fn read_hashing(path: &Path, first_part: &[u8]) -> io::Result<(Vec<u8>, Digest)> {
    let (file, length) = open_measured(path)?;
    let sizes = [first_part.len() as u64, length].map(u64::to_le_bytes);
    let before = [&sizes[0], first_part, &sizes[1]].concat();
    let mut bytes = SPARE.take(length as usize);
    let read = |piece: Stretch<'_>| {
        read_exact_at(&file, piece.bytes, piece.from)?;
        Ok(Piece::of(piece.nth, [piece.before, &*piece.bytes]))
    };
    let pieces = team::map_items(stretches(&before, &mut bytes), read);
    if file.metadata()?.len() != length {
        return Err(io::Error::other("it was written to while it was read"));
    }
    let pieces = pieces.into_iter().collect::<io::Result<Vec<Piece>>>()?;
    let digest = match pieces.len() {
        ..=1 => Digest::of_parts([first_part, &bytes]),
        _ => Digest::of_pieces(&pieces),
    };
    Ok((bytes, digest))
}

/// One piece of what is hashed: some bytes that are known before, and some of the file.
struct Stretch<'a> {
    nth: usize,
    before: &'a [u8],
    /// Where `bytes` are in the file.
    from: u64,
    bytes: &'a mut [u8],
}

fn stretches<'a>(mut before: &'a [u8], mut bytes: &'a mut [u8]) -> Vec<Stretch<'a>> {
    let mut stretches = Vec::new();
    let mut from = 0;
    while !before.is_empty() || !bytes.is_empty() {
        let (known, later) = before.split_at(before.len().min(PIECE));
        let size = bytes.len().min(PIECE - known.len());
        let (read, rest) = mem::take(&mut bytes).split_at_mut(size);
        let next = from + read.len() as u64;
        stretches.push(Stretch { nth: stretches.len(), before: known, from, bytes: read });
        (before, bytes, from) = (later, rest, next);
    }
    stretches
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], from: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    file.read_exact_at(bytes, from)
}

/// All who read a file share its position.
#[cfg(not(unix))]
fn read_exact_at(mut file: &File, bytes: &mut [u8], from: u64) -> io::Result<()> {
    use std::{io::Seek as _, sync::Mutex};
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    file.seek(io::SeekFrom::Start(from))?;
    file.read_exact(bytes)
}

fn tensor_name(parameter: &Parameter) -> String {
    format!("{PREFIX}{}.weight", parameter.name)
}

fn weights(lora: &Lora) -> Result<Vec<u8>> {
    let refuse = |what: String| ModelError::Lora { what };
    if let Some((parameter, _)) = lora.tensors().find(|(_, v)| v.iter().any(|v| !v.is_finite())) {
        return Err(refuse(format!("{} holds a value that is not finite", parameter.name)));
    }
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = lora
        .tensors()
        .map(|(parameter, values)| {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            (tensor_name(parameter), vec![parameter.shape.0, parameter.shape.1], bytes)
        })
        .collect();
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| {
            Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?))
        })
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|error| refuse(format!("does not serialise: {error}")))?;
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(metadata))
        .map_err(|error| refuse(format!("does not serialise: {error}")))
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = |source| ModelError::Write { path: path.to_path_buf(), source };
    let mut file = File::create(path).map_err(write)?;
    file.write_all(bytes).map_err(write)?;
    file.sync_all().map_err(write)
}

/// Temporary directories are private to their creator; a finished adapter is for every reader.
#[cfg(unix)]
fn share(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn share(_directory: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_directory: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests;
