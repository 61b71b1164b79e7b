//! Tensors from a Hugging Face directory: `model.safetensors`, or shards named by an index.

use std::{
    collections::HashMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, tensor::TensorInfo};
use serde::Deserialize;

use super::{TensorSource, wrong_shape};
use crate::error::{ModelError, Result, refuse};

/// Where each tensor lies; tensors are read one at a time, when asked for.
pub(crate) struct HfSource {
    shards: Vec<Shard>,
    owner: HashMap<String, usize>,
}

struct Shard {
    path: PathBuf,
    file: File,
    data_start: u64,
    tensors: HashMap<String, TensorInfo>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: HashMap<String, String>,
}

impl HfSource {
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let shards =
            shard_files(directory)?.into_iter().map(Shard::open).collect::<Result<Vec<Shard>>>()?;
        let mut owner = HashMap::new();
        for (index, shard) in shards.iter().enumerate() {
            owner.extend(shard.tensors.keys().map(|name| (name.clone(), index)));
        }
        Ok(Self { shards, owner })
    }

    /// Every weight file, in the order digests are taken.
    pub(crate) fn files(directory: &Path) -> Result<Vec<PathBuf>> {
        shard_files(directory)
    }
}

impl TensorSource for HfSource {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let owner = self.owner.get(name).ok_or_else(|| ModelError::Weight {
            name: name.to_owned(),
            what: "is missing from the safetensors files".to_owned(),
        })?;
        self.shards[*owner].tensor(name, shape)
    }
}

impl Shard {
    fn open(path: PathBuf) -> Result<Self> {
        let read = |source| ModelError::Read { path: path.clone(), source };
        let mut file = File::open(&path).map_err(read)?;
        let total = file.metadata().map_err(read)?.len();
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(read)?;
        let length = u64::from_le_bytes(length);
        if length > total {
            return Err(refuse!(Config, "{} is not a safetensors file", path.display()));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(read)?;
        let mut header: HashMap<String, serde_json::Value> = serde_json::from_slice(&header)
            .map_err(|error| refuse!(Config, "{} has a broken header: {error}", path.display()))?;
        header.remove("__metadata__");
        let tensors = header
            .into_iter()
            .map(|(name, value)| Ok((name, serde_json::from_value(value)?)))
            .collect::<Result<HashMap<String, TensorInfo>, serde_json::Error>>()
            .map_err(|error| refuse!(Config, "{} has a broken header: {error}", path.display()))?;
        Ok(Self { path, file, data_start: 8 + length, tensors })
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let info = &self.tensors[name];
        if info.shape != shape {
            return Err(wrong_shape(name, &info.shape, shape));
        }
        let dtype = match info.dtype {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            other => {
                let what = format!("has unsupported type {other:?}; use f32, f16 or bf16");
                return Err(ModelError::Weight { name: name.to_owned(), what });
            }
        };
        let (start, end) = info.data_offsets;
        let read = |source| ModelError::Read { path: self.path.clone(), source };
        let mut bytes = vec![0; end.saturating_sub(start)];
        self.file.seek(SeekFrom::Start(self.data_start + start as u64)).map_err(read)?;
        self.file.read_exact(&mut bytes).map_err(read)?;
        let tensor = Tensor::from_raw_buffer(&bytes, dtype, shape, &Device::Cpu)?;
        Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }
}

fn shard_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let index = directory.join("model.safetensors.index.json");
    if !index.exists() {
        return Ok(vec![directory.join("model.safetensors")]);
    }
    let text = std::fs::read_to_string(&index)
        .map_err(|source| ModelError::Read { path: index.clone(), source })?;
    let index: Index = serde_json::from_str(&text)
        .map_err(|error| refuse!(Config, "{} is not a weight index: {error}", index.display()))?;
    let mut names: Vec<String> = index.weight_map.into_values().collect();
    names.sort_unstable();
    names.dedup();
    if let Some(name) = names.iter().find(|name| name.contains('/') || name.contains("..")) {
        return Err(refuse!(Config, "the weight index names a file outside its directory: {name}"));
    }
    Ok(names.into_iter().map(|name| directory.join(name)).collect())
}
