//! What a signature promises, and against what another program wrote.

mod mutations;

use std::{fs, path::PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Private keys of these tests only.
fn key(byte: u8) -> SigningKey {
    SigningKey(p256::ecdsa::SigningKey::from_slice(&[byte; 32]).unwrap())
}

fn golden() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/signature"))
}

/// A copy of the golden adapter that may be changed.
fn copy() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors", "probes/one.json"] {
        let path = home.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(golden().join("adapter").join(name), path).unwrap();
    }
    home
}

fn from_python() -> (Bundle, VerifyingKey) {
    let read = |name| fs::read_to_string(golden().join(name)).unwrap();
    let key = VerifyingKey::from_pem(&read("key.pub.pem")).unwrap();
    (Bundle::parse(&read("python.sig")).unwrap(), key)
}

#[test]
fn what_the_python_package_signed_verifies() {
    let (bundle, key) = from_python();
    let signed = verify_directory(&golden().join("adapter"), &bundle, &key).unwrap();
    assert_eq!(signed.name, "adapter");
    let names: Vec<&str> = signed.files.keys().map(String::as_str).collect();
    assert_eq!(names, ["adapter_config.json", "adapter_model.safetensors", "probes/one.json"]);
    assert_eq!(key.hint(), bundle.hint());
}

#[test]
fn ours_says_the_same_as_the_python_package() {
    let (theirs, their_key) = from_python();
    let ours = sign_directory(&golden().join("adapter"), "adapter", &key(7)).unwrap();
    let ours = ours.open(&key(7).verifying_key()).unwrap();
    // Equal as values: only the order of keys and the white space differ.
    assert_eq!(ours, theirs.open(&their_key).unwrap());
}

/// What `check_model_signing.py` has the Python package verify.
#[test]
fn ours_is_the_signature_that_the_python_package_was_shown() {
    let ours = sign_directory(&golden().join("adapter"), "adapter", &key(7)).unwrap();
    let shown = fs::read_to_string(golden().join("ours.sig")).unwrap();
    assert_eq!(ours.to_json(), shown.trim_end());
    let public = fs::read_to_string(golden().join("ours.pub.pem")).unwrap();
    assert_eq!(key(7).verifying_key().to_pem(), public);
}

#[test]
fn every_change_of_the_directory_has_its_error() {
    let (bundle, key) = from_python();
    let after = |change: &dyn Fn(&std::path::Path)| {
        let home = copy();
        verify_directory(home.path(), &bundle, &key).unwrap();
        change(home.path());
        verify_directory(home.path(), &bundle, &key).unwrap_err().to_string()
    };
    let changed = after(&|home| fs::write(home.join("adapter_config.json"), "{}").unwrap());
    assert!(changed.starts_with("adapter_config.json is not what was signed"), "{changed}");
    let missing = after(&|home| fs::remove_file(home.join("probes/one.json")).unwrap());
    assert!(missing.starts_with("probes/one.json was signed and is missing"), "{missing}");
    let added = after(&|home| fs::write(home.join("probes/two.json"), "[]").unwrap());
    assert!(added.starts_with("probes/two.json was added"), "{added}");
    #[cfg(unix)]
    {
        let link = after(&|home| std::os::unix::fs::symlink("x", home.join("link")).unwrap());
        assert!(link.contains("symbolic link"), "{link}");
    }
}

#[test]
fn a_signature_of_another_key_or_kind_is_refused_by_name() {
    let (bundle, theirs) = from_python();
    let other = key(7).verifying_key();
    assert!(matches!(bundle.open(&other), Err(SignatureError::OtherKey { .. })));
    // The hint can be forged, the signature cannot.
    let mut forged: Value = serde_json::from_str(&bundle.to_json()).unwrap();
    forged["verificationMaterial"]["publicKey"]["hint"] = other.hint().into();
    let forged = Bundle::parse(&forged.to_string()).unwrap();
    assert!(matches!(forged.open(&other), Err(SignatureError::Forged)));
    let statement = json!({"_type": "x", "predicateType": "https://slsa.dev/provenance/v1"});
    let slsa = Bundle::seal(&statement, &key(7));
    let refused = verify_directory(&golden().join("adapter"), &slsa, &other).unwrap_err();
    assert!(matches!(refused, SignatureError::OtherStatement { .. }), "{refused}");
    let mut twice: Value = serde_json::from_str(&bundle.to_json()).unwrap();
    let one = twice["dsseEnvelope"]["signatures"][0].clone();
    twice["dsseEnvelope"]["signatures"] = json!([one.clone(), one]);
    let twice = Bundle::parse(&twice.to_string()).unwrap();
    assert!(matches!(twice.open(&theirs), Err(SignatureError::Malformed { .. })));
}

#[test]
fn keys_are_read_from_pem_and_anything_else_is_refused_with_the_command() {
    let ours = key(7).verifying_key();
    assert_eq!(VerifyingKey::from_pem(&ours.to_pem()).unwrap(), ours);
    let refused = SigningKey::from_pem(&ours.to_pem()).unwrap_err().to_string();
    assert!(refused.contains("openssl ecparam -name prime256v1"), "{refused}");
    assert!(CheckpointKey::from_pem("no").unwrap_err().to_string().contains("ed25519"));
    assert!(CheckpointPublicKey::from_pem(&ours.to_pem()).is_err());
    assert!(!format!("{:?}", key(7)).contains("0707"), "a private key is never printed");
}

#[test]
fn a_checkpoint_opens_with_its_key_only() {
    let signer = CheckpointKey::from_seed(&[1; 32]);
    let checkpoint = Checkpoint { origin: "registry/audit".into(), size: 12, head: [9; 32] };
    let note = checkpoint.sign(&signer);
    assert_eq!(Checkpoint::open(&note, &signer.public()).unwrap(), checkpoint);
    let other = CheckpointKey::from_seed(&[2; 32]).public();
    assert!(matches!(Checkpoint::open(&note, &other), Err(SignatureError::OtherKey { .. })));
    let shorter = note.replace("\n12\n", "\n11\n");
    assert!(matches!(Checkpoint::open(&shorter, &signer.public()), Err(SignatureError::Forged)));
}

/// Made with Python's `cryptography` and `hashlib` from the same seed.
#[test]
fn a_note_is_what_standard_tools_make() {
    let checkpoint = Checkpoint { origin: "registry/audit".into(), size: 12, head: [9; 32] };
    let golden = fs::read_to_string(golden().join("checkpoint.note")).unwrap();
    assert_eq!(checkpoint.sign(&CheckpointKey::from_seed(&[1; 32])), golden);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_changed_byte_of_a_signed_file_goes_unseen(at in 0_usize..41, to in any::<u8>()) {
        let (bundle, key) = from_python();
        let home = copy();
        let path = home.path().join("adapter_model.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        let same = bytes[at] == to;
        bytes[at] = to;
        fs::write(&path, bytes).unwrap();
        prop_assert_eq!(verify_directory(home.path(), &bundle, &key).is_ok(), same);
    }

    #[test]
    fn no_changed_character_of_a_note_is_accepted_as_another_checkpoint(
        at in 0_usize..160, to in "[a-z0-9=+/ ]",
    ) {
        let signer = CheckpointKey::from_seed(&[1; 32]);
        let checkpoint = Checkpoint { origin: "registry/audit".into(), size: 12, head: [9; 32] };
        let mut note: Vec<char> = checkpoint.sign(&signer).chars().collect();
        let at = at % note.len();
        note[at] = to.chars().next().unwrap();
        let note: String = note.into_iter().collect();
        if let Ok(opened) = Checkpoint::open(&note, &signer.public()) {
            prop_assert_eq!(opened, checkpoint);
        }
    }

    #[test]
    fn no_text_makes_the_readers_panic(text in "\\PC{0,200}") {
        prop_assert!(Bundle::parse(&text).is_err());
        let signer = CheckpointKey::from_seed(&[1; 32]);
        prop_assert!(Checkpoint::open(&text, &signer.public()).is_err());
    }
}
