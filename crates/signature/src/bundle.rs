//! A Sigstore bundle, version 0.3: one DSSE envelope and a hint at the key that signed it.
//!
//! What is signed is not the payload but its pre-authentication encoding, `DSSEv1 SP len(type) SP
//! type SP len(payload) SP payload` (DSSE protocol 1.0.2), so that a payload of one type can never
//! be taken for one of another.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use p256::ecdsa::{
    Signature,
    signature::{Signer as _, Verifier as _},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{SignatureError, SigningKey, VerifyingKey, key::hex};

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

const STATEMENT: &str = "https://in-toto.io/Statement/v1";

/// An in-toto statement about some bytes: what they are called, their SHA-256, and what of a type is
/// said about them.
pub fn statement(name: &str, bytes: &[u8], predicate_type: &str, predicate: &Value) -> Value {
    json!({
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": hex(&Sha256::digest(bytes))}}],
        "predicateType": predicate_type,
        "predicate": predicate,
    })
}

/// A signed in-toto statement, in the JSON that goes into a `.sig` file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bundle {
    media_type: String,
    verification_material: Material,
    dsse_envelope: Envelope,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    public_key: KeyHint,
    /// Entries of a public log; ours has none, and those of others are not looked at.
    #[serde(default)]
    tlog_entries: Vec<Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KeyHint {
    hint: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct EnvelopeSignature {
    /// ECDSA in ASN.1 DER, in base64.
    sig: String,
    #[serde(default)]
    keyid: String,
}

impl Bundle {
    pub fn parse(text: &str) -> Result<Self, SignatureError> {
        serde_json::from_str(text).map_err(|error| malformed(format!("it is no bundle ({error})")))
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings become JSON")
    }

    /// Signs an in-toto statement.
    pub fn seal(statement: &Value, key: &SigningKey) -> Self {
        let payload = statement.to_string();
        let signature: Signature = key.0.sign(&encoded(payload.as_bytes()));
        let sig = STANDARD.encode(signature.to_der());
        Self {
            media_type: MEDIA_TYPE.to_owned(),
            verification_material: Material {
                public_key: KeyHint { hint: key.verifying_key().hint() },
                tlog_entries: Vec::new(),
            },
            dsse_envelope: Envelope {
                payload: STANDARD.encode(payload),
                payload_type: PAYLOAD_TYPE.to_owned(),
                signatures: vec![EnvelopeSignature { sig, keyid: String::new() }],
            },
        }
    }

    /// Which key this says it was signed with; see [`VerifyingKey::hint`].
    pub fn hint(&self) -> &str {
        &self.verification_material.public_key.hint
    }

    /// The statement, once it is certain that `key` signed it.
    pub fn open(&self, key: &VerifyingKey) -> Result<Value, SignatureError> {
        let Envelope { payload, payload_type, signatures } = &self.dsse_envelope;
        for (found, expected) in [(&self.media_type, MEDIA_TYPE), (payload_type, PAYLOAD_TYPE)] {
            if found != expected {
                return Err(malformed(format!("its type is `{found}`, not `{expected}`")));
            }
        }
        let (expected, found) = (key.hint(), self.hint());
        if found != expected {
            return Err(SignatureError::OtherKey { expected, found: found.to_owned() });
        }
        let [EnvelopeSignature { sig, .. }] = signatures.as_slice() else {
            return Err(malformed(format!("it holds {} signatures, not one", signatures.len())));
        };
        let bytes = |text: &str| STANDARD.decode(text).map_err(|e| malformed(e.to_string()));
        let payload = bytes(payload)?;
        let signature = Signature::from_der(&bytes(sig)?).map_err(|_| SignatureError::Forged)?;
        key.0.verify(&encoded(&payload), &signature).map_err(|_| SignatureError::Forged)?;
        serde_json::from_slice(&payload).map_err(|error| malformed(error.to_string()))
    }
}

/// The pre-authentication encoding.
fn encoded(payload: &[u8]) -> Vec<u8> {
    let (kind, length) = (PAYLOAD_TYPE.len(), payload.len());
    let mut bytes = format!("DSSEv1 {kind} {PAYLOAD_TYPE} {length} ").into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

pub(crate) fn malformed(why: String) -> SignatureError {
    SignatureError::Malformed { why }
}
