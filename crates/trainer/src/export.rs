//! The finished adapter as a directory: PEFT's two files and our `manifest.json`.

use std::path::Path;

use understudy_ident::{Digest, RunId};
use understudy_manifest::{AdapterManifest, DatasetLineage, StageLineage};
use understudy_model::{BaseModel, Lora, PeftFiles, attest};

use crate::error::{Result, TrainError};

/// What the trainer cannot know about an adapter: where its recipe and its examples came from.
#[derive(Debug, Clone)]
pub struct Provenance {
    pub task: String,
    /// The name of the base model, as people know it.
    pub base: String,
    pub recipe_digest: Digest,
    pub dataset: DatasetLineage,
    /// The adapter the first stage continued from.
    pub parent: Option<Digest>,
    /// Of the whole program.
    pub code_version: String,
    pub run: Option<RunId>,
}

/// What was written.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishedAdapter {
    /// Of the configuration and the weights, and so the same for two runs that trained the same
    /// bytes; not of the manifest, which also says how long it took.
    pub digest: Digest,
    pub manifest: AdapterManifest,
}

/// Writes the adapter and its manifest to `directory`, which must not exist; it appears whole or
/// not at all.
pub fn publish(
    base: &BaseModel,
    adapter: &Lora,
    stages: Vec<StageLineage>,
    provenance: Provenance,
    directory: &Path,
) -> Result<PublishedAdapter> {
    let files = PeftFiles::of(adapter, &provenance.base)?;
    let digest = files.digest();
    let manifest = AdapterManifest {
        schema: AdapterManifest::SCHEMA,
        task: provenance.task,
        base: provenance.base,
        base_digest: base.digests.base.clone(),
        tokenizer_digest: base.digests.tokenizer.clone(),
        template_digest: base.digests.template.clone(),
        recipe_digest: provenance.recipe_digest,
        dataset: provenance.dataset,
        parent: provenance.parent,
        stages,
        code_version: provenance.code_version,
        device: format!("{:?}", base.decoder.device().location()),
        threads: rayon::current_num_threads(),
        run: provenance.run,
        attestation: Some(attest(base, adapter, digest)?),
    };
    let unwritable = |what: String| TrainError::Manifest { path: directory.to_owned(), what };
    let json = serde_json::to_string_pretty(&manifest)
        .map_err(|error| unwritable(error.to_string()))?
        + "\n";
    let extra = [(AdapterManifest::FILE, json.as_bytes())];
    files.write(directory, &extra)?;
    Ok(PublishedAdapter { digest, manifest })
}
