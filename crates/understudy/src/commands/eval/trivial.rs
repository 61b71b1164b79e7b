//! The trivial baselines beside the subjects: what look-up and habit alone would score.

use std::{fs, path::Path};

use anyhow::Result;
use understudy_dataset::FrozenDataset;
use understudy_evaluation::{NearestExample, SubjectRun};
use understudy_ident::DatasetVersion;
use understudy_manifest::{AdapterManifest, Split, Suite};
use understudy_registry::Registry;

use crate::{cli::EvalArgs, config::Config};

/// Their answers, or a note on what would be needed to have them.
pub(super) fn rows(
    args: &EvalArgs,
    config: &Config,
    registry: &Registry,
    suite: &Suite,
) -> Result<(Vec<SubjectRun>, Option<String>)> {
    let version = match &args.examples {
        Some(named) => Some(named.parse()?),
        None => trained_on(&args.subject, registry)?
            .map_or_else(|| trained_on(&args.baseline, registry), |version| Ok(Some(version)))?,
    };
    let Some(version) = version else {
        let why = "neither subject says what it was trained on";
        return Ok((Vec::new(), Some(lacking(why))));
    };
    match FrozenDataset::find(&config.data.datasets(), &version) {
        Ok(dataset) => Ok((NearestExample::fit(&dataset.sft(Split::Train)?).both(suite), None)),
        // An adapter from elsewhere names data that need not be here.
        Err(_) if args.examples.is_none() => {
            Ok((Vec::new(), Some(lacking(&format!("{version} is not here")))))
        }
        Err(error) => Err(error.into()),
    }
}

fn lacking(why: &str) -> String {
    format!(
        "no trivial baseline: {why}; --examples NAME@DIGEST names a dataset whose nearest example \
         and most common reply stand beside the subjects, and `understudy dataset list` shows some"
    )
}

/// Of a registered version, or of an adapter directory with its manifest.
fn trained_on(subject: &str, registry: &Registry) -> Result<Option<DatasetVersion>> {
    if let Ok(version) = subject.parse() {
        let record = registry.get(&version)?.record;
        return Ok(record.lineage.adapter().map(|lineage| lineage.dataset.version.clone()));
    }
    Ok(manifest(Path::new(subject)).map(|manifest| manifest.dataset.version))
}

/// That of an adapter directory that we wrote.
pub(super) fn manifest(directory: &Path) -> Option<AdapterManifest> {
    let text = fs::read_to_string(directory.join(AdapterManifest::FILE)).ok()?;
    serde_json::from_str(&text).ok()
}
