//! The receipt of an erasure: what was done, signed by whoever did it, and whether it still holds.
//!
//! A signed receipt is a Sigstore bundle around an in-toto statement, whose predicate is the receipt
//! itself and whose subject is the SHA-256 of its canonical JSON, so that one file is enough for
//! whoever has the public key.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use understudy_dataset::ErasedVersion;
use understudy_ident::{AdapterVersion, Digest, Timestamp};
use understudy_intake::{Intake, Limits};
use understudy_manifest::canonical_json;
use understudy_memory::MemoryId;
use understudy_registry::AuditHead;
use understudy_signature::{Bundle, SignatureError, SigningKey, VerifyingKey, statement};
use understudy_storage::atomic;

use crate::{
    cli::ReceiptArgs,
    commands::{Exit, complain},
    config::Config,
    output::Out,
    paths::DataDir,
    wiring::Stores,
};

const PREDICATE: &str = "urn:understudy:erasure:v1";

/// What was done, for whoever asked for it. It names nobody.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Receipt {
    /// Of the subject's name, over a secret of the journal.
    pub(super) subject: String,
    pub(super) at: Timestamp,
    pub(super) steps: usize,
    pub(super) outcomes: u64,
    pub(super) raw_bodies: u64,
    pub(super) versions: Vec<ErasedVersion>,
    /// Adapters that were trained on these versions, or go on from one that was.
    pub(super) tainted: Vec<AdapterVersion>,
    pub(super) copies_removed: Vec<String>,
    /// Copies that were moved or changed since they were made: a person has to look.
    pub(super) copies_left: Vec<String>,
    /// The subject had lessons of their own, and the file is overwritten and deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) own_lessons_forgotten: bool,
    /// Lessons for everybody that their runs had taught.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) lessons_suspended: Vec<MemoryId>,
    /// The end of the audit chain, which has the withdrawals.
    pub(super) audit: AuditHead,
}

/// The key that is named, else `receipts.pem` in the data directory, if it is there.
pub(super) fn signer(named: Option<&Path>, data: &DataDir) -> Result<Option<SigningKey>> {
    let own = data.receipt_key();
    let path = match named {
        Some(path) => path,
        None if own.exists() => &own,
        None => return Ok(None),
    };
    let key = SigningKey::from_pem(&read(path)?);
    key.map(Some).with_context(|| format!("nothing was erased: {} cannot sign", path.display()))
}

/// A receipt on the disk.
pub(super) struct Written {
    path: PathBuf,
    signature: Option<(PathBuf, String)>,
}

pub(super) fn write(
    receipt: &Receipt,
    key: Option<&SigningKey>,
    data: &DataDir,
) -> Result<Written> {
    let text = canonical_json(receipt);
    let name = Digest::of(text.as_bytes()).short();
    let path = data.erasures().join(format!("{name}.json"));
    atomic::write(&path, format!("{text}\n").as_bytes())?;
    let Some(key) = key else { return Ok(Written { path, signature: None }) };
    let bundle = Bundle::seal(&statement(&name, text.as_bytes(), PREDICATE, &json!(receipt)), key);
    let signed = path.with_extension("sig");
    atomic::write(&signed, format!("{}\n", bundle.to_json()).as_bytes())?;
    Ok(Written { path, signature: Some((signed, bundle.hint().to_owned())) })
}

impl Written {
    pub(super) fn text(&self) -> String {
        let path = self.path.display();
        match &self.signature {
            Some((signed, key)) => {
                format!("receipt: {path}\nsigned:  {} with key {key}", signed.display())
            }
            None => format!("receipt: {path}, unsigned: name a key with --key to have it signed"),
        }
    }

    pub(super) fn value(&self, receipt: &Receipt) -> Value {
        let mut value = json!(receipt);
        value["receipt"] = json!(self.path);
        value["signed"] = json!(self.signature.as_ref().map(|(path, _)| path));
        value["key"] = json!(self.signature.as_ref().map(|(_, key)| key));
        value
    }
}

/// That it is forged, or holds no more, is an answer and not a failure of the command.
pub(crate) fn verify(args: &ReceiptArgs, config: &Config, out: Out) -> Result<Exit> {
    let bundle = Bundle::parse(&read(&args.receipt)?)?;
    let key = VerifyingKey::from_pem(&read(&args.key)?)?;
    let opened = match bundle.open(&key) {
        Err(error @ (SignatureError::Forged | SignatureError::OtherKey { .. })) => {
            complain(&error.into());
            return Ok(Exit::No);
        }
        opened => opened?,
    };
    let receipt = of(&opened)?;
    let broken = if args.elsewhere { Vec::new() } else { broken(&receipt, args, config)? };
    let mut lines = vec![format!(
        "key {} signed that on {} {} steps, {} outcomes and {} raw bodies of one subject were erased, \
         in {} dataset versions; {} adapters had learnt from them",
        key.hint(),
        receipt.at,
        receipt.steps,
        receipt.outcomes,
        receipt.raw_bodies,
        receipt.versions.len(),
        receipt.tainted.len(),
    )];
    lines.extend(broken.iter().map(|what| format!("  but {what}")));
    match (args.elsewhere, broken.is_empty()) {
        (true, _) => lines.push("whether it holds here was not looked at".to_owned()),
        (false, true) => lines.push("all of it holds here".to_owned()),
        (false, false) => {}
    }
    let value = json!({"key": key.hint(), "receipt": receipt, "looked": !args.elsewhere,
        "broken": broken});
    out.either(lines.join("\n"), &value)?;
    Ok(if broken.is_empty() { Exit::Ok } else { Exit::No })
}

fn of(statement: &Value) -> Result<Receipt> {
    let found = statement["predicateType"].as_str().unwrap_or_default();
    ensure!(found == PREDICATE, "this signature covers `{found}`, and no erasure");
    let receipt = serde_json::from_value(statement["predicate"].clone());
    receipt.context("the signed receipt cannot be read: it is of another version of this program")
}

/// What the receipt says and this data directory does not show.
fn broken(receipt: &Receipt, args: &ReceiptArgs, config: &Config) -> Result<Vec<String>> {
    if !config.data.journal().exists() {
        bail!(
            "there is no journal in {}: name the data directory that was erased from with \
             --data-dir, or ask for the signature alone with --elsewhere",
            config.data.root().display()
        );
    }
    let stores = Stores::open(&config.data)?;
    let mut broken = Vec::new();
    if let Some(subject) = &args.subject {
        let holdings = stores.journal.holdings(subject)?;
        if holdings.subject != receipt.subject {
            broken.push("it is about somebody else".to_owned());
        }
        let intake = Intake::new(stores.journal.clone(), Limits::default());
        let bodies = intake.bodies_of(subject, &holdings)?.len();
        if !holdings.steps.is_empty() || bodies > 0 {
            let steps = holdings.steps.len();
            broken
                .push(format!("the journal has {steps} steps and {bodies} bodies of theirs again"));
        }
    }
    for ErasedVersion { version, .. } in &receipt.versions {
        if understudy_dataset::erased(&config.data.datasets(), version)?.is_none() {
            broken.push(format!("{version} has no tombstone here"));
        }
    }
    for version in &receipt.tainted {
        if stores.registry.tainted(version)?.is_none() {
            broken.push(format!("{version} is not kept from being released"));
        }
    }
    for copy in receipt.copies_removed.iter().filter(|copy| Path::new(copy).exists()) {
        broken.push(format!("there is something at {copy} again"));
    }
    if let Err(error) = stores.registry.verify_audit(Some(&receipt.audit)) {
        broken.push(format!("the audit chain does not contain it: {error}"));
    }
    Ok(broken)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
}
