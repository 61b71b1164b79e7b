//! Signatures, provenance and withdrawn data: whether an adapter can be trusted.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use serde_json::json;
use understudy_ident::{AdapterVersion, DatasetVersion, SystemClock};
use understudy_registry::{Change, Registry};
use understudy_signature::{
    Bundle, SignatureError, SignedDirectory, SigningKey, VerifyingKey, sign_directory,
    verify_directory,
};

use crate::{
    cli::{AdapterSignArgs, AdapterVerifyArgs, Said},
    commands::{Exit, complain},
    output::Out,
};

/// That the files are not what was signed is an answer, not a failure of the command.
pub(super) fn verify(args: &AdapterVerifyArgs, registry: &Registry, out: Out) -> Result<Exit> {
    let outcome = match args.adapter.parse::<AdapterVersion>() {
        Ok(version) => verify_version(&version, args, registry, out),
        Err(_) => verify_files(args, out),
    };
    match outcome {
        Err(error) if is_a_no(&error) => {
            complain(&error);
            Ok(Exit::No)
        }
        outcome => outcome.map(|()| Exit::Ok),
    }
}

fn is_a_no(error: &anyhow::Error) -> bool {
    use understudy_registry::RegistryError as Registry;
    let signature = match error.downcast_ref::<Registry>() {
        Some(Registry::Damaged { .. } | Registry::Unsigned { .. }) => return true,
        Some(Registry::Signature(error)) => Some(error),
        _ => error.downcast_ref::<SignatureError>(),
    };
    matches!(
        signature,
        Some(
            SignatureError::Forged
                | SignatureError::OtherKey { .. }
                | SignatureError::Changed { .. }
                | SignatureError::Missing { .. }
                | SignatureError::Added { .. }
        )
    )
}

fn verify_version(
    version: &AdapterVersion,
    args: &AdapterVerifyArgs,
    registry: &Registry,
    out: Out,
) -> Result<()> {
    let directory = registry.verify(version)?;
    let mut text = format!("{version} is intact in {}", directory.display());
    let signed = match &args.key {
        Some(key) => Some(signed(version, &public(key)?, args, registry)?),
        None => None,
    };
    if let Some(signed) = &signed {
        text = format!("{text}, and all {} files are as signed", signed.files.len());
    }
    out.either(text, &json!({"version": version, "directory": directory, "signed": signed}))
}

/// What a key signed of a version, by the file that is named or else by what is registered.
fn signed(
    version: &AdapterVersion,
    key: &VerifyingKey,
    args: &AdapterVerifyArgs,
    registry: &Registry,
) -> Result<SignedDirectory> {
    let bundle = if let Some(file) = &args.signature {
        Bundle::parse(&read(file)?)?
    } else {
        let all = registry.signatures(version)?;
        let ours = all.into_iter().rev().find(|record| record.key == key.hint());
        let ours = ours.with_context(|| {
            format!("key {} has not signed {version}; see `understudy adapter sign`", key.hint())
        })?;
        ours.bundle
    };
    Ok(registry.check_signature(version, &bundle, key)?)
}

fn verify_files(args: &AdapterVerifyArgs, out: Out) -> Result<()> {
    let directory = Path::new(&args.adapter);
    let (Some(file), Some(key)) = (&args.signature, &args.key) else {
        bail!("{} is no version; for a directory, give --signature and --key", args.adapter);
    };
    let bundle = Bundle::parse(&read(file)?)?;
    let signed = verify_directory(directory, &bundle, &public(key)?)?;
    let text = format!("all {} files of {} are as signed", signed.files.len(), args.adapter);
    out.either(text, &json!({"directory": directory, "signed": signed}))
}

pub(super) fn sign(args: &AdapterSignArgs, registry: &Registry, out: Out) -> Result<()> {
    let key = SigningKey::from_pem(&read(&args.key)?)?;
    let bundle = if let Ok(version) = args.adapter.parse::<AdapterVersion>() {
        let reason = args.reason.as_deref().context("signing a version needs a --reason")?;
        let change = Change::new(&args.owner, reason, &SystemClock);
        registry.sign(&version, &key, change)?.bundle
    } else {
        if args.out.is_none() || args.reason.is_some() {
            bail!(
                "{} is no version, so that signing it is not recorded: give --out, and no --reason",
                args.adapter
            );
        }
        let directory = Path::new(&args.adapter);
        let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or("adapter");
        sign_directory(directory, name, &key)?
    };
    if let Some(file) = &args.out {
        write(file, &(bundle.to_json() + "\n"))?;
    }
    let text = format!("{} is signed with key {}", args.adapter, bundle.hint());
    out.either(text, &json!({"adapter": args.adapter, "key": bundle.hint(), "bundle": bundle}))
}

/// The statement is a file format of its own, and is printed whatever was asked for.
pub(super) fn provenance(
    version: &AdapterVersion,
    (key, file): (Option<&Path>, Option<&Path>),
    registry: &Registry,
) -> Result<()> {
    let directory = registry.verify(version)?;
    let statement = understudy_registry::provenance(&registry.get(version)?, &directory)?;
    let text = match key {
        Some(key) => Bundle::seal(&statement, &SigningKey::from_pem(&read(key)?)?).to_json(),
        None => serde_json::to_string_pretty(&statement)?,
    };
    if let Some(file) = file {
        return write(file, &(text + "\n"));
    }
    Out::row(&text);
    Ok(())
}

pub(super) fn taint(
    dataset: &DatasetVersion,
    said: &Said,
    registry: &Registry,
    out: Out,
) -> Result<()> {
    let change = Change::new(&said.owner, &said.reason, &SystemClock);
    let change = said.request.as_deref().map_or(change, |key| change.with_request(key));
    let versions = registry.withdraw_data(dataset, change)?;
    let mut serving = Vec::new();
    for version in &versions {
        let stable = registry.stable(&version.task)?;
        if stable.as_ref().and_then(|target| target.adapter()) == Some(version) {
            out.say(format!("{version} serves: roll it back with `understudy release undo`"));
            serving.push(version.clone());
        } else {
            out.say(format!("{version} is not released any more"));
        }
    }
    out.value(&json!({"dataset": dataset, "versions": versions, "serving": serving}))
}

fn public(path: &Path) -> Result<VerifyingKey> {
    Ok(VerifyingKey::from_pem(&read(path)?)?)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
}
