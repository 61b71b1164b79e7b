//! Signatures of versions: who vouches for their files. See `understudy_signature` for the format.

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use understudy_ident::{AdapterVersion, Timestamp};
use understudy_signature::{
    Bundle, SignedDirectory, SigningKey, VerifyingKey, sign_directory, verify_directory,
};

use crate::{
    Change, Registry, RegistryError, Role, artifact, audit::Action, fact, people, protection,
};

/// A signature as evidence about one version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignatureRecord {
    pub version: AdapterVersion,
    /// The signer's key; see [`VerifyingKey::hint`].
    pub key: String,
    /// What goes into a `.sig` file.
    pub bundle: Bundle,
    pub owner: String,
    pub reason: String,
    pub at: Timestamp,
}

impl Registry {
    /// Signs a version's files, after comparing them with what was registered.
    pub fn sign(
        &self,
        version: &AdapterVersion,
        key: &SigningKey,
        change: Change<'_>,
    ) -> Result<SignatureRecord, RegistryError> {
        let directory = self.verify(version)?;
        let bundle = sign_directory(&directory, &version.to_string(), key)?;
        self.attach_signature(version, bundle, &key.verifying_key(), change)
    }

    /// Adds a signature made elsewhere, once it verifies. The same signature again changes nothing.
    pub fn attach_signature(
        &self,
        version: &AdapterVersion,
        bundle: Bundle,
        key: &VerifyingKey,
        change: Change<'_>,
    ) -> Result<SignatureRecord, RegistryError> {
        self.check_signature(version, &bundle, key)?;
        let asked = ("sign", version, key.hint());
        self.once(change, &asked, |transaction| {
            let who = &[Role::Engineer, Role::ReleaseManager, Role::Controller];
            people::allow(transaction, change, who, "sign a version")?;
            let all = signatures(transaction, version)?;
            if let Some(same) = all.into_iter().find(|known| known.bundle == bundle) {
                return Ok(same);
            }
            let record = SignatureRecord {
                version: version.clone(),
                key: key.hint(),
                bundle,
                owner: change.owner.to_owned(),
                reason: change.reason.to_owned(),
                at: change.now(),
            };
            let (task, subject) = (Some(&version.task), version.to_string());
            fact::add(transaction, Action::Sign, task, &subject, &record, change)?;
            Ok(record)
        })
    }

    /// A version's signatures, oldest first.
    pub fn signatures(
        &self,
        version: &AdapterVersion,
    ) -> Result<Vec<SignatureRecord>, RegistryError> {
        self.read(|connection| signatures(connection, version))
    }

    /// Makes sure that a key signed a version's files as they lie there now, the weights included.
    pub fn check_signature(
        &self,
        version: &AdapterVersion,
        bundle: &Bundle,
        key: &VerifyingKey,
    ) -> Result<SignedDirectory, RegistryError> {
        let signed = verify_directory(&self.directory(version), bundle, key)?;
        match artifact::NAMED.iter().find(|name| !signed.files.contains_key(**name)) {
            Some(name) => Err(RegistryError::Unsigned { version: version.clone(), name }),
            None => Ok(signed),
        }
    }

    /// What is wrong with a version's signatures, given what its task asks for.
    pub(crate) fn unsigned(
        &self,
        connection: &Connection,
        version: &AdapterVersion,
    ) -> Result<Option<String>, RegistryError> {
        let signers = protection::protection(connection, &version.task)?.signers;
        if signers.is_empty() {
            return Ok(None);
        }
        let mut why = "nobody signed it".to_owned();
        for record in signatures(connection, version)? {
            why = format!("key {} is not trusted for this task", record.key);
            for pem in &signers {
                let key = VerifyingKey::from_pem(pem)?;
                if key.hint() != record.key {
                    continue;
                }
                match self.check_signature(version, &record.bundle, &key) {
                    Ok(_) => return Ok(None),
                    Err(error) => why = error.to_string(),
                }
            }
        }
        Ok(Some(why))
    }
}

fn signatures(
    connection: &Connection,
    version: &AdapterVersion,
) -> Result<Vec<SignatureRecord>, RegistryError> {
    fact::about(connection, Action::Sign, &version.to_string())
}
