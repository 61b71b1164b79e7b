//! Adapters in from elsewhere, and out again.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use serde_json::json;
use understudy_ident::{AdapterVersion, DatasetVersion, Digest, SystemClock};
use understudy_manifest::{AdapterManifest, DatasetLineage};
use understudy_model::{BaseModel, attest, device, read_peft};
use understudy_registry::{Change, Registry};
use understudy_storage::atomic;

use crate::{
    cli::AdapterImportArgs, commands::model, config::Config, held::HeldIn, output::Out, worker,
};

/// What stands for the digest of bytes nobody has: that of none.
const UNKNOWN: &str = "unknown";

pub(super) fn import(
    args: &AdapterImportArgs,
    registry: &Registry,
    config: &Config,
    out: Out,
) -> Result<()> {
    let has_lineage = args.directory.join(AdapterManifest::FILE).is_file();
    let manifest = match (has_lineage, &args.dataset) {
        (true, None) => worker::manifest(&args.directory)?,
        (true, Some(_)) => bail!(
            "{} says itself what it was trained on; leave --dataset out",
            args.directory.display()
        ),
        (false, None) => bail!(
            "{} does not say what it was trained on; name the dataset version with --dataset, or \
             say `--dataset {UNKNOWN}`",
            args.directory.display()
        ),
        (false, Some(dataset)) => from_elsewhere(args, dataset, config, out)?,
    };
    let said = &args.said;
    let request = said.request.as_deref();
    let change = Change { request, ..Change::new(&said.owner, &said.reason, &SystemClock) };
    let adapter = registry.register(&args.task.parse()?, &args.directory, &manifest, change)?;
    let record = &adapter.record;
    let text = format!(
        "{} is {} ({})",
        args.directory.display(),
        record.version,
        record.generation.short()
    );
    out.either(text, &adapter)
}

/// Binds an adapter that says nothing of itself to the base here: it must fit, act, and be finite,
/// and from here on it must do what it does now.
fn from_elsewhere(
    args: &AdapterImportArgs,
    dataset: &str,
    config: &Config,
    out: Out,
) -> Result<AdapterManifest> {
    let version = if dataset == UNKNOWN {
        DatasetVersion { name: UNKNOWN.parse()?, digest: Digest::of(b"") }
    } else {
        dataset.parse()?
    };
    let name = args.base.clone().unwrap_or_else(|| config.base.clone());
    let path = model::obtain(config, &name, out)?;
    let held = HeldIn::default().precision();
    let base = BaseModel::load_with(&path, &device(&config.device)?, held)?;
    let adapter = read_peft(&args.directory, base.decoder.config())
        .with_context(|| format!("{} does not fit {name}", args.directory.display()))?;
    let attestation = attest(&base, &adapter.lora, adapter.digest.parse()?)?;
    let acts = attestation.probes.iter().any(|probe| probe.base != probe.adapted);
    let is_finite =
        attestation.probes.iter().flat_map(|probe| &probe.adapted).all(|lp| lp.is_finite());
    if !acts || !is_finite {
        let why = if acts { "makes the base's scores infinite" } else { "changes nothing" };
        bail!("{} {why} on {name}; it is not taken in", args.directory.display());
    }
    Ok(AdapterManifest {
        schema: AdapterManifest::SCHEMA,
        task: args.task.clone(),
        base: name,
        base_digest: base.digests.base.clone(),
        tokenizer_digest: base.digests.tokenizer.clone(),
        template_digest: base.digests.template.clone(),
        recipe_digest: Digest::of(b""),
        dataset: DatasetLineage { version, sft_rows: 0, pair_rows: 0 },
        parent: None,
        // Nothing of it was trained here.
        stages: Vec::new(),
        code_version: format!("{} (imported)", env!("CARGO_PKG_VERSION")),
        device: UNKNOWN.to_owned(),
        threads: 0,
        run: None,
        attestation: Some(attestation),
    })
}

pub(super) fn export(
    version: &AdapterVersion,
    directory: &Path,
    registry: &Registry,
    out: Out,
) -> Result<()> {
    let source = registry.verify(version)?;
    if directory.exists() {
        bail!("{} exists already; name a directory that does not", directory.display());
    }
    // Beside its place first, so that it appears whole or not at all.
    let home = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
    let staged = tempfile::Builder::new()
        .prefix(atomic::TEMPORARY_PREFIX)
        .tempdir_in(home.unwrap_or(Path::new(".")))
        .with_context(|| format!("failed to write beside {}", directory.display()))?;
    let copy = staged.path().join("adapter");
    fs::create_dir(&copy).with_context(|| format!("failed to create {}", copy.display()))?;
    for entry in fs::read_dir(&source)
        .with_context(|| format!("failed to list {}", source.display()))?
        .collect::<Result<Vec<_>, _>>()?
    {
        let (from, to) = (entry.path(), copy.join(entry.file_name()));
        fs::copy(&from, &to).with_context(|| format!("failed to copy {}", from.display()))?;
    }
    atomic::publish_dir(&copy, directory)?;
    let text = format!("{version} is in {}", directory.display());
    out.either(text, &json!({"version": version, "directory": directory}))
}
