use understudy_signature::{Bundle, SignatureError, SigningKey};

use super::*;
use crate::{Missing, Protection, Status};

/// Private keys of these tests only: the scalars 1 and 2.
fn key(scalar: u8) -> SigningKey {
    // SEC 1 in DER: version 1, the scalar in 32 bytes, and the name of the curve.
    let mut der = vec![0x30, 0x31, 2, 1, 1, 4, 32];
    der.extend([&[0; 31][..], &[scalar]].concat());
    der.extend([0xa0, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]);
    let body = base64(&der);
    let pem = format!("-----BEGIN EC PRIVATE KEY-----\n{body}\n-----END EC PRIVATE KEY-----\n");
    SigningKey::from_pem(&pem).unwrap()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    assert_eq!(bytes.len() % 3, 0, "without padding");
    let four = |three: &[u8]| {
        let word = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        [18, 12, 6, 0].map(|shift| DIGITS[(word >> shift & 63) as usize] as char)
    };
    let digits: Vec<char> = bytes.chunks(3).flat_map(four).collect();
    digits.chunks(64).map(String::from_iter).collect::<Vec<_>>().join("\n")
}

fn signed_by(key: &SigningKey) -> Protection {
    Protection { signers: vec![key.verifying_key().to_pem()], ..Protection::default() }
}

#[test]
fn a_signature_is_evidence_about_the_files() {
    let it = Fixture::new();
    let version = it.register("one").record.version;
    let record = it.registry.sign(&version, &key(1), it.change()).unwrap();
    assert_eq!(it.registry.signatures(&version).unwrap(), std::slice::from_ref(&record));
    let public = key(1).verifying_key();
    let signed = it.registry.check_signature(&version, &record.bundle, &public).unwrap();
    assert_eq!(signed.name, "support-triage@1");
    assert!(signed.files.contains_key("probes/one.json"));
    // What the generation does not cover, the signature does.
    let stray = it.registry.directory(&version).join("probes/one.json");
    fs::write(stray, "[1]").unwrap();
    it.registry.verify(&version).unwrap();
    let error = it.registry.check_signature(&version, &record.bundle, &public).unwrap_err();
    assert!(matches!(error, RegistryError::Signature(SignatureError::Changed { .. })), "{error}");
    it.registry.verify_audit(None).unwrap();
}

#[test]
fn a_task_that_wants_signatures_takes_nothing_without_one() {
    let it = Fixture::new();
    let early = it.judged("early", true);
    it.registry.protect(&task(), &signed_by(&key(1)), it.change()).unwrap();
    let start = |version| {
        let start = it.start_of(version, Target::Teacher);
        it.registry.start_release(start, it.change())
    };
    let lacking = |version| match start(version) {
        Err(RegistryError::NotAdmitted { missing, .. }) => missing,
        other => panic!("admitted: {other:?}"),
    };
    let why = "nobody signed it".to_owned();
    assert_eq!(lacking(&early), [Missing::Signature { why }]);
    // Not even an override takes the place of a signature.
    let mut forced = it.start_of(&early, Target::Teacher);
    forced.forced = Some(gate_override());
    assert!(it.registry.start_release(forced, it.change()).is_err());
    it.registry.sign(&early, &key(2), it.change()).unwrap();
    assert!(
        matches!(&lacking(&early)[..], [Missing::Signature { why }] if why.contains("trusted"))
    );
    it.registry.sign(&early, &key(1), it.change()).unwrap();
    start(&early).unwrap();

    let late = it.register("late").record.version;
    let error = it.registry.check(&late, it.change()).unwrap_err();
    assert!(matches!(error, RegistryError::SignatureWanted { .. }), "{error}");
    it.registry.sign(&late, &key(1), it.change()).unwrap();
    assert_eq!(it.registry.check(&late, it.change()).unwrap().status, Status::Verified);
}

#[test]
fn a_signature_over_something_else_is_not_attached() {
    let it = Fixture::new();
    let (one, two) = (it.register("one").record.version, it.register("two").record.version);
    let of_one: Bundle = it.registry.sign(&one, &key(1), it.change()).unwrap().bundle;
    let public = key(1).verifying_key();
    let error = it.registry.attach_signature(&two, of_one, &public, it.change()).unwrap_err();
    assert!(matches!(error, RegistryError::Signature(SignatureError::Changed { .. })), "{error}");
    assert_eq!(it.registry.signatures(&two).unwrap(), []);
}
