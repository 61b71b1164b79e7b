//! What compares texts by meaning here: a sentence model if there is one, or spelling.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use understudy_embedding::SentenceEncoder;
use understudy_inference::{Embedder, HashingEmbedder};
use understudy_manifest::{Scorer, Suite};

use crate::{commands::model, config::Config};

/// The model that is used if it was pulled.
pub(crate) const MODEL: &str = "all-minilm-l6-v2";
/// Use the model above if it was pulled, and spelling otherwise.
pub(crate) const AUTO: &str = "auto";
/// Spelling, whatever was pulled.
const HASHING: &str = "hashing";

/// The sentence model's directory, if there is to be one and it is here.
pub(crate) fn directory(config: &Config) -> Result<Option<PathBuf>> {
    let hub = model::hub(config);
    match config.embedder.as_str() {
        HASHING => Ok(None),
        AUTO => Ok(hub.path_if_present(MODEL)?),
        name if hub.list().iter().any(|row| row.name == name) => match hub.path_if_present(name)? {
            Some(path) => Ok(Some(path)),
            None => bail!(
                "the embedder `{name}` is configured and not here; run `understudy model pull \
                 {name}`, or set `embedder = \"auto\"`"
            ),
        },
        path => Ok(Some(PathBuf::from(path))),
    }
}

/// A sentence model from its directory.
pub(crate) fn load(directory: &Path) -> Result<Arc<dyn Embedder>> {
    let encoder = SentenceEncoder::load(directory)
        .with_context(|| format!("failed to load the sentence model in {}", directory.display()))?;
    Ok(Arc::new(encoder))
}

/// The sentence model, where one is here: what must not be judged by spelling asks for this.
pub(crate) fn sentences(config: &Config) -> Result<Option<Arc<dyn Embedder>>> {
    directory(config)?.as_deref().map(load).transpose()
}

/// The sentence model, if one of these scorers or a case of the suite compares by it: it is not read
/// for evaluations that ask for something else.
pub(crate) fn wanted(
    directory: Option<&Path>,
    suite: &Suite,
    scorers: &[Scorer],
) -> Result<Option<Arc<dyn Embedder>>> {
    let of_cases = suite.cases.iter().flat_map(|case| &case.checks).map(|check| &check.scorer);
    let compares = |scorer: &Scorer| matches!(scorer, Scorer::Similarity(_));
    let is_wanted = scorers.iter().chain(of_cases).any(compares);
    directory.filter(|_| is_wanted).map(load).transpose()
}

/// The sentence model, or spelling where there is none.
pub(crate) fn embedder(config: &Config) -> Result<Arc<dyn Embedder>> {
    at(directory(config)?.as_deref())
}

/// The sentence model in a directory, or spelling without one.
pub(crate) fn at(directory: Option<&Path>) -> Result<Arc<dyn Embedder>> {
    directory.map_or_else(|| Ok(Arc::new(HashingEmbedder) as Arc<dyn Embedder>), load)
}

/// What `doctor` and `explain` say of an embedder.
pub(crate) fn described(name: &str) -> String {
    if name == HashingEmbedder.name() {
        format!("spelling ({name}); `understudy model pull {MODEL}` finds by meaning")
    } else {
        format!("meaning ({name})")
    }
}
