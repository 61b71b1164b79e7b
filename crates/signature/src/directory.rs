//! Signing a directory: an in-toto statement that lists every file with its SHA-256.
//!
//! The format is that of `model-signing` 1.0 and later, predicate
//! `https://model_signing/signature/v1.0` with serialization method `files`. Its subject is the
//! directory, whose digest is the SHA-256 of the files' digests one after the other, in their order.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::{
    Bundle, SignatureError, SigningKey, VerifyingKey,
    bundle::malformed,
    files::{Name, hashed},
    key::hex,
};

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://model_signing/signature/v1.0";

/// What the Python package leaves out by default; leaving out anything else would fail there.
const IGNORED: [&str; 4] = [".git", ".gitattributes", ".gitignore", ".github"];

/// What a signature turned out to cover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SignedDirectory {
    /// The directory's name when it was signed.
    pub name: String,
    /// SHA-256 over all files' digests, in hexadecimal.
    pub sha256: String,
    /// Relative paths with `/`, each with its SHA-256 in hexadecimal.
    pub files: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    subject: Vec<Subject>,
    predicate: Predicate,
}

#[derive(Debug, Deserialize)]
struct Subject {
    name: String,
    digest: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Predicate {
    serialization: Serialization,
    resources: Vec<Resource>,
}

#[derive(Debug, Deserialize)]
struct Serialization {
    method: String,
    #[serde(default)]
    ignore_paths: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Resource {
    name: String,
    algorithm: String,
    digest: String,
}

/// Signs every file below a directory. The signature belongs beside the directory: put into it, it
/// would be a file that was not signed.
pub fn sign_directory(
    directory: &Path,
    name: &str,
    key: &SigningKey,
) -> Result<Bundle, SignatureError> {
    let files = hashed(directory, &IGNORED.map(str::to_owned))?;
    let resources: Vec<_> = files
        .iter()
        .map(|(name, digest)| {
            json!({"name": name.join("/"), "algorithm": "sha256", "digest": hex(digest)})
        })
        .collect();
    let statement = json!({
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": root(files.values())}}],
        "predicateType": PREDICATE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": false,
                "ignore_paths": IGNORED,
            },
            "resources": resources,
        },
    });
    Ok(Bundle::seal(&statement, key))
}

/// Makes sure that `key` signed exactly the files of a directory.
pub fn verify_directory(
    directory: &Path,
    bundle: &Bundle,
    key: &VerifyingKey,
) -> Result<SignedDirectory, SignatureError> {
    let statement = bundle.open(key)?;
    if let Some(found) = statement["predicateType"].as_str().filter(|found| *found != PREDICATE) {
        return Err(SignatureError::OtherStatement { found: found.to_owned() });
    }
    let statement: Statement =
        serde_json::from_value(statement).map_err(|error| malformed(error.to_string()))?;
    let (name, sha256) = subject(&statement)?;
    let Predicate { serialization, resources } = statement.predicate;
    if serialization.method != "files" {
        return Err(malformed(format!(
            "`{}` is not supported, sign `files`",
            serialization.method
        )));
    }
    let signed = listed(resources)?;
    if root(signed.values()) != sha256 {
        return Err(malformed("its list of files does not hash to its subject".to_owned()));
    }
    compare(&signed, &hashed(directory, &serialization.ignore_paths)?)?;
    let files = signed.iter().map(|(name, digest)| (name.join("/"), hex(digest))).collect();
    Ok(SignedDirectory { name, sha256, files })
}

fn subject(statement: &Statement) -> Result<(String, String), SignatureError> {
    let [subject] = statement.subject.as_slice() else {
        return Err(malformed("it has not one subject".to_owned()));
    };
    match subject.digest.get("sha256") {
        Some(sha256) if statement.kind == STATEMENT && statement.predicate_type == PREDICATE => {
            Ok((subject.name.clone(), sha256.clone()))
        }
        _ => Err(malformed("it is no in-toto statement with a SHA-256 subject".to_owned())),
    }
}

fn listed(resources: Vec<Resource>) -> Result<BTreeMap<Name, [u8; 32]>, SignatureError> {
    let mut files = BTreeMap::new();
    for Resource { name, algorithm, digest } in resources {
        let bytes = unhex(&digest).filter(|_| algorithm == "sha256");
        let bytes = bytes.ok_or_else(|| malformed(format!("`{name}` has no SHA-256")))?;
        let components = name.split('/').map(str::to_owned).collect();
        if files.insert(components, bytes).is_some() {
            return Err(malformed(format!("it lists `{name}` twice")));
        }
    }
    Ok(files)
}

fn compare(
    signed: &BTreeMap<Name, [u8; 32]>,
    found: &BTreeMap<Name, [u8; 32]>,
) -> Result<(), SignatureError> {
    for (name, digest) in signed {
        match found.get(name) {
            None => return Err(SignatureError::Missing { name: name.join("/") }),
            Some(other) if other != digest => {
                return Err(SignatureError::Changed { name: name.join("/") });
            }
            Some(_) => {}
        }
    }
    match found.keys().find(|name| !signed.contains_key(*name)) {
        Some(name) => Err(SignatureError::Added { name: name.join("/") }),
        None => Ok(()),
    }
}

fn root<'a>(digests: impl Iterator<Item = &'a [u8; 32]>) -> String {
    let mut hasher = Sha256::new();
    digests.for_each(|digest| hasher.update(digest));
    hex(&hasher.finalize())
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> =
        text.chars().map(|digit| digit.to_digit(16).map(|d| d as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    <[u8; 32]>::try_from(bytes).ok().filter(|_| digits.len() == 64)
}
