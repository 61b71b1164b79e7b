//! The whole state of a stage in one file, so that a stage killed at any moment goes on where it
//! was and ends with the same bytes.
//!
//! One safetensors file, replaced atomically: adapter, both moments and the reference as tensors,
//! the counters as JSON in its metadata. There is no random state in it: the order of examples
//! follows from the seed and the step (see [`crate::timeline`]).

use std::{collections::HashMap, fs, io, path::Path};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use understudy_ident::Digest;
use understudy_manifest::canonical_json;
use understudy_model::Lora;
use understudy_storage::atomic;

use crate::{
    error::{Result, TrainError},
    objective::dpo::PairLogProbs,
    request::TrainRequest,
    rows::Example,
};

const SCHEMA: u32 = 1;
const HEADER: &str = "understudy_checkpoint";

/// What is counted over the life of a stage, across restarts.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tally {
    /// Steps taken, skipped ones included.
    pub steps: u64,
    pub skipped_steps: u64,
    /// Of those, how many came without a good one in between.
    pub skipped_in_a_row: u64,
    pub tokens: u64,
    pub first_loss: Option<f64>,
    pub last_loss: Option<f64>,
    pub seconds: f64,
}

/// Everything a stage is, between two steps.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Checkpoint {
    pub tally: Tally,
    /// Every adapter value, in its layout's order; the moments likewise.
    pub adapter: Vec<f32>,
    pub first: Vec<f32>,
    pub second: Vec<f32>,
    pub reference: Vec<PairLogProbs>,
}

/// The digest of everything that decides where training ends up.
pub(crate) fn run_digest(request: &TrainRequest<'_>, start: &Lora, examples: &[Example]) -> Digest {
    let TrainRequest { base, stage, lora, seed, options, .. } = request;
    let digests = &base.digests;
    let settings = (stage, lora, seed, options.micro_batch_tokens);
    let settings = canonical_json(&settings);
    let reference = format!("{:?}", options.reference);
    let values: Vec<u8> = start.values().iter().flat_map(|value| value.to_le_bytes()).collect();
    let mut parts: Vec<Vec<u8>> = [&digests.base, &digests.tokenizer, &digests.template]
        .into_iter()
        .chain([&settings, &reference])
        .map(|text| text.as_bytes().to_vec())
        .collect();
    parts.push(values);
    for row in examples.iter().flat_map(Example::rows) {
        parts.push((row.prompt_len() as u64).to_le_bytes().to_vec());
        parts.push(row.ids().iter().flat_map(|id| id.to_le_bytes()).collect());
    }
    Digest::of_parts(parts.iter().map(Vec::as_slice))
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    schema: u32,
    /// See [`run_digest`].
    run: Digest,
    tally: Tally,
}

/// Replaces the checkpoint at `path`.
pub(crate) fn save(path: &Path, run: Digest, checkpoint: &Checkpoint) -> Result<()> {
    let header = Header { schema: SCHEMA, run, tally: checkpoint.tally };
    let bad = |what: String| TrainError::BadCheckpoint { path: path.to_owned(), what };
    let header = serde_json::to_string(&header).map_err(|error| bad(error.to_string()))?;
    let values = &checkpoint.adapter;
    let tensors = [
        ("adapter", Dtype::F32, vec![values.len()], f32_bytes(values)),
        ("first", Dtype::F32, vec![values.len()], f32_bytes(&checkpoint.first)),
        ("second", Dtype::F32, vec![values.len()], f32_bytes(&checkpoint.second)),
        ("reference", Dtype::F64, vec![checkpoint.reference.len(), 2], {
            let sides = checkpoint.reference.iter().flat_map(|pair| [pair.chosen, pair.rejected]);
            sides.flat_map(f64::to_le_bytes).collect()
        }),
    ];
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            Ok((*name, TensorView::new(*dtype, shape.clone(), bytes)?))
        })
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|error| bad(error.to_string()))?;
    let metadata = HashMap::from([(HEADER.to_owned(), header)]);
    let bytes =
        safetensors::serialize(views, Some(metadata)).map_err(|error| bad(error.to_string()))?;
    Ok(atomic::write(path, &bytes)?)
}

/// The checkpoint at `path` of an adapter of `len` values, none when there is no such file; refused
/// when it is another run's.
pub(crate) fn load(path: &Path, run: Digest, len: usize) -> Result<Option<Checkpoint>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            let attempt = "read checkpoint";
            return Err(TrainError::Io { attempt, path: path.to_owned(), source });
        }
    };
    let bad = |what: String| TrainError::BadCheckpoint { path: path.to_owned(), what };
    let header = header(&bytes).map_err(bad)?;
    if header.run != run {
        return Err(TrainError::ForeignCheckpoint { path: path.to_owned() });
    }
    let file = SafeTensors::deserialize(&bytes).map_err(|error| bad(error.to_string()))?;
    let tensor = |name: &str| file.tensor(name).map_err(|error| bad(error.to_string()));
    let values = |name: &str| -> Result<Vec<f32>> {
        let values = words(tensor(name)?.data(), f32::from_le_bytes);
        if values.len() != len {
            return Err(bad(format!("{name} has {} values instead of {len}", values.len())));
        }
        Ok(values)
    };
    let sides: Vec<f64> = words(tensor("reference")?.data(), f64::from_le_bytes);
    let (pairs, _) = sides.as_chunks();
    let pair =
        |[chosen, rejected]: &[f64; 2]| PairLogProbs { chosen: *chosen, rejected: *rejected };
    Ok(Some(Checkpoint {
        tally: header.tally,
        adapter: values("adapter")?,
        first: values("first")?,
        second: values("second")?,
        reference: pairs.iter().map(pair).collect(),
    }))
}

fn header(bytes: &[u8]) -> Result<Header, String> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let text = metadata.metadata().as_ref().and_then(|entries| entries.get(HEADER));
    let text = text.ok_or_else(|| "it has no header".to_owned())?;
    let header: Header = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if header.schema != SCHEMA {
        return Err(format!("its schema is {}, this program writes {SCHEMA}", header.schema));
    }
    Ok(header)
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn words<const N: usize, T>(bytes: &[u8], read: fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|word| read(*word)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        let tally =
            Tally { steps: 12, skipped_steps: 1, first_loss: Some(0.1 + 0.2), ..Tally::default() };
        Checkpoint {
            tally,
            adapter: vec![1.0, f32::MIN_POSITIVE, -0.0],
            first: vec![0.1, 0.2, 0.3],
            second: vec![1e-30, 0.0, 2.0],
            reference: vec![PairLogProbs { chosen: -1.0 / 3.0, rejected: -7.5 }],
        }
    }

    #[test]
    fn what_was_saved_comes_back_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/checkpoint.safetensors");
        let run = Digest::of(b"run");
        assert_eq!(load(&path, run, 3).unwrap(), None);
        save(&path, run, &checkpoint()).unwrap();
        let again = load(&path, run, 3).unwrap().unwrap();
        assert_eq!(again, checkpoint());
        assert!(again.adapter[2].is_sign_negative());
    }

    #[test]
    fn another_runs_checkpoint_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        save(&path, Digest::of(b"run"), &checkpoint()).unwrap();
        let error = load(&path, Digest::of(b"other"), 3).unwrap_err();
        assert!(matches!(error, TrainError::ForeignCheckpoint { .. }));
    }

    #[test]
    fn a_checkpoint_of_another_size_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        let run = Digest::of(b"run");
        save(&path, run, &checkpoint()).unwrap();
        let error = load(&path, run, 4).unwrap_err();
        assert!(matches!(error, TrainError::BadCheckpoint { .. }));
    }

    #[test]
    fn a_damaged_checkpoint_is_refused_at_every_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        let run = Digest::of(b"run");
        save(&path, run, &checkpoint()).unwrap();
        let whole = fs::read(&path).unwrap();
        for len in 0..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            let error = load(&path, run, 3).unwrap_err();
            assert!(matches!(error, TrainError::BadCheckpoint { .. }), "{len}: {error}");
        }
    }
}
