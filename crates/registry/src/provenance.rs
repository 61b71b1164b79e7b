//! Where a version comes from, as an in-toto statement with a SLSA v1 provenance predicate, for
//! tools that do not know our lineage.
//!
//! `buildDefinition.externalParameters` are the recipe's digest and the settings of every stage;
//! `resolvedDependencies` the base, the tokenizer, the template, the dataset and the
//! parent; `runDetails` the program and the run. See <https://slsa.dev/spec/v1.0/provenance>.

use std::{fs, path::Path};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use understudy_manifest::AdapterManifest;

use crate::{Adapter, RegistryError, artifact::NAMED};

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://slsa.dev/provenance/v1";
const BUILD_TYPE: &str = "urn:understudy:train:v1";

/// The statement about a version whose files lie in `directory`. Our own digests are BLAKE3; the
/// subjects have the SHA-256 that other tools ask for.
pub fn provenance(adapter: &Adapter, directory: &Path) -> Result<Value, RegistryError> {
    let wrong = || RegistryError::NotWeights {
        version: adapter.record.version.clone(),
        what: "a SLSA provenance",
    };
    let lineage = adapter.record.lineage.adapter().ok_or_else(wrong)?;
    let subject = NAMED
        .iter()
        .map(|name| {
            let path = directory.join(name);
            let bytes = fs::read(&path).map_err(|source| RegistryError::Io {
                attempt: "read",
                path,
                source,
            })?;
            Ok(json!({"name": name, "digest": {"sha256": hex(&Sha256::digest(bytes))}}))
        })
        .collect::<Result<Vec<_>, RegistryError>>()?;
    let stages: Vec<Value> = lineage
        .stages
        .iter()
        .map(|stage| json!({"settings": stage.settings, "lora": stage.lora}))
        .collect();
    Ok(json!({
        "_type": STATEMENT,
        "subject": subject,
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "task": lineage.task,
                    "recipe": {"blake3": lineage.recipe_digest},
                    "stages": stages,
                },
                "internalParameters": {"device": lineage.device, "threads": lineage.threads},
                "resolvedDependencies": dependencies(lineage),
            },
            "runDetails": {
                "builder": {
                    "id": "urn:understudy:trainer",
                    "version": {"understudy": lineage.code_version},
                },
                // When it was registered: the first moment that is known to lie after the end.
                "metadata": {
                    "invocationId": lineage.run,
                    "finishedOn": adapter.record.registered_at,
                },
                "byproducts": [{
                    "name": adapter.record.version,
                    "digest": {"blake3": adapter.record.generation},
                }],
            },
        },
    }))
}

fn dependencies(lineage: &AdapterManifest) -> Vec<Value> {
    let dataset = &lineage.dataset;
    let mut dependencies = vec![
        json!({"name": lineage.base, "digest": {"blake3": lineage.base_digest}}),
        json!({"name": "tokenizer", "digest": {"blake3": lineage.tokenizer_digest}}),
        json!({"name": "chat template", "digest": {"blake3": lineage.template_digest}}),
        json!({
            "name": dataset.version,
            "digest": {"blake3": dataset.version.digest},
            "annotations": {"sft_rows": dataset.sft_rows, "pair_rows": dataset.pair_rows},
        }),
    ];
    if let Some(parent) = &lineage.parent {
        dependencies.push(json!({"name": "parent adapter", "digest": {"blake3": parent}}));
    }
    dependencies
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}
