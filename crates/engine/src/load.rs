//! Reading an adapter, on the thread of whoever asked for it: an adapter acts or does not load.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use understudy_ident::Digest;
use understudy_inference::InferenceError;
use understudy_manifest::AdapterManifest;
use understudy_model::{BaseModel, Batch, Lora, Result, read_peft};

use crate::store::Generation;

/// Enough rows to tell a number from an overflow; every vocabulary has these ids.
const PROBE: [u32; 4] = [0, 1, 2, 3];

/// Reads, checks and hashes a PEFT directory. Nothing is published yet.
pub(crate) fn load(
    model: &BaseModel,
    alias: &str,
    directory: &Path,
) -> Result<Generation, InferenceError> {
    let bad = |why: String| InferenceError::BadAdapter { alias: alias.to_owned(), why };
    check_lineage(model, directory).map_err(bad)?;
    let adapter = read_peft(directory, model.decoder.config()).map_err(|e| bad(e.to_string()))?;
    let lora = adapter.lora;
    if lora.tensors().filter(|(place, _)| place.is_b).all(|(_, b)| b.iter().all(|v| *v == 0.0)) {
        return Err(bad("every B is zero, so it changes nothing; train it first".to_owned()));
    }
    match probe(model, &lora) {
        Ok(true) => {}
        Ok(false) => return Err(bad("with it the model's scores are not finite".to_owned())),
        Err(error) => return Err(bad(error.to_string())),
    }
    Ok(Generation { digest: adapter.digest, lora, directory: directory.to_path_buf() })
}

/// Hashes an adapter that was never written. One whose B is still zero is welcome here: sampling
/// with it before the first step is how on-policy training begins.
pub(crate) fn in_memory(
    model: &BaseModel,
    alias: &str,
    lora: &Lora,
) -> Result<Generation, InferenceError> {
    let bad = |why: String| InferenceError::BadAdapter { alias: alias.to_owned(), why };
    let fits = Lora::fits(lora, model.decoder.config());
    if !fits {
        return Err(bad("it was made for a base of another shape".to_owned()));
    }
    if lora.values().iter().any(|value| !value.is_finite()) {
        return Err(bad("some of its values are not finite".to_owned()));
    }
    let values: Vec<u8> = lora.values().iter().flat_map(|value| value.to_le_bytes()).collect();
    let shape = format!("{:?} {}", lora.layout().parameters(), lora.scale());
    let digest = Digest::of_parts([shape.as_bytes(), &values]).to_string();
    Ok(Generation { digest, lora: lora.clone(), directory: PathBuf::from("memory") })
}

/// An adapter of ours says what it was trained on; one from elsewhere says nothing, and only its
/// shapes can be checked.
fn check_lineage(model: &BaseModel, directory: &Path) -> Result<(), String> {
    let path = directory.join(AdapterManifest::FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("could not read {}: {error}", path.display())),
    };
    let manifest: AdapterManifest = serde_json::from_str(&text)
        .map_err(|error| format!("{} is not an adapter manifest: {error}", path.display()))?;
    let ours = &model.digests;
    for (what, trained, here) in [
        ("base weights", &manifest.base_digest, &ours.base),
        ("tokenizer", &manifest.tokenizer_digest, &ours.tokenizer),
        ("chat template", &manifest.template_digest, &ours.template),
    ] {
        if trained != here {
            return Err(format!(
                "it was trained on other {what} ({} {trained:.12}…, here {here:.12}…)",
                manifest.base
            ));
        }
    }
    Ok(())
}

/// Whether the model still gives numbers with the adapter on.
fn probe(model: &BaseModel, lora: &Lora) -> Result<bool> {
    let hidden = model.decoder.hidden(&Batch::of(&[PROBE]), Some(lora))?;
    let logits = model.decoder.logits(&hidden)?.flatten_all()?.to_vec1::<f32>()?;
    Ok(logits.iter().all(|logit| logit.is_finite()))
}
