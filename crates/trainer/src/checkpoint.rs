//! The whole state of a stage in one file, so that a stage killed at any moment goes on where it
//! was and ends with the same bytes.
//!
//! One safetensors file, replaced atomically: adapter, both moments and the references as tensors,
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
    health::Health,
    request::TrainRequest,
    rows::Example,
};

const SCHEMA: u32 = 2;
const HEADER: &str = "understudy_checkpoint";

/// What is counted over the life of a stage, across restarts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
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
    /// Steps without anything to learn from: no attempt was better than another.
    pub silent_steps: u64,
    /// Attempts sampled.
    pub attempts: u64,
    pub health: Health,
    /// Why the stage ended before its last step.
    pub stopped: Option<String>,
}

/// Everything a stage is, between two steps.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Checkpoint {
    pub tally: Tally,
    /// Every adapter value, in its layout's order; the moments likewise.
    pub adapter: Vec<f32>,
    pub first: Vec<f32>,
    pub second: Vec<f32>,
    /// The adapter of the last step that looked healthy.
    pub healthy: Vec<f32>,
    /// What the reference says of every trained token of every row, row after row.
    pub reference: Vec<f32>,
    /// What the policy that began the stage says of them; empty unless a logged stage asks.
    pub old: Vec<f32>,
}

/// The digest of everything that decides where training ends up.
pub(crate) fn run_digest(request: &TrainRequest<'_>, start: &Lora, examples: &[Example]) -> Digest {
    let TrainRequest { base, stage, lora, seed, options, prompts, .. } = request;
    let digests = &base.digests;
    let cut = (options.micro_batch_tokens, options.recompute_above);
    let settings = canonical_json(&(stage, lora, seed, cut));
    let values: Vec<u8> = start.values().iter().flat_map(|value| value.to_le_bytes()).collect();
    let mut parts: Vec<Vec<u8>> = [&digests.base, &digests.tokenizer, &digests.template]
        .into_iter()
        .chain([&settings, &prompts.map(|prompts| prompts.digest.clone()).unwrap_or_default()])
        .map(|text| text.as_bytes().to_vec())
        .collect();
    parts.push(values);
    for row in examples.iter().flat_map(|example| &example.rows) {
        parts.push((row.prompt_len() as u64).to_le_bytes().to_vec());
        parts.push(row.ids().iter().flat_map(|id| id.to_le_bytes()).collect());
        parts.push(row.trained().flat_map(|at| (at as u64).to_le_bytes()).collect());
        parts.push(row.known.sampler.iter().flat_map(|lp| lp.to_le_bytes()).collect());
    }
    parts.extend(examples.iter().map(|example| format!("{:?}", example.kind).into_bytes()));
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
    let header = Header { schema: SCHEMA, run, tally: checkpoint.tally.clone() };
    let bad = |what: String| TrainError::BadCheckpoint { path: path.to_owned(), what };
    let header = serde_json::to_string(&header).map_err(|error| bad(error.to_string()))?;
    let tensors = [
        ("adapter", &checkpoint.adapter),
        ("first", &checkpoint.first),
        ("second", &checkpoint.second),
        ("healthy", &checkpoint.healthy),
        ("reference", &checkpoint.reference),
        ("old", &checkpoint.old),
    ];
    let tensors = tensors.map(|(name, values)| (name, vec![values.len()], f32_bytes(values)));
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| Ok((*name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
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
    let all =
        |name: &str| -> Result<Vec<f32>> { Ok(words(tensor(name)?.data(), f32::from_le_bytes)) };
    let values = |name: &str| -> Result<Vec<f32>> {
        let values = all(name)?;
        if values.len() != len {
            return Err(bad(format!("{name} has {} values instead of {len}", values.len())));
        }
        Ok(values)
    };
    Ok(Some(Checkpoint {
        tally: header.tally,
        adapter: values("adapter")?,
        first: values("first")?,
        second: values("second")?,
        healthy: values("healthy")?,
        reference: all("reference")?,
        old: all("old")?,
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
            healthy: vec![1.0, 2.0, 3.0],
            reference: vec![-1.0 / 3.0, -7.5],
            old: vec![-0.25],
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
