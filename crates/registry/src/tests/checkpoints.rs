use understudy_signature::{CheckpointKey, SignatureError};

use super::*;
use crate::{CHECKPOINT_EVERY, Tampering};

fn key() -> CheckpointKey {
    CheckpointKey::from_seed(&[3; 32])
}

/// The key of `[3; 32]` in the file a registry looks for.
const KEY_PEM: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIAMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMD
-----END PRIVATE KEY-----
";

#[test]
fn a_checkpoint_shows_a_cut_that_the_tables_agree_with() {
    let it = Fixture::new();
    it.register("one");
    let early = it.registry.checkpoint(&key()).unwrap();
    it.register("two");
    let late = it.registry.checkpoint(&key()).unwrap();
    assert_eq!(it.registry.checkpoint(&key()).unwrap(), late);
    assert_eq!(it.registry.checkpoints().unwrap(), [early.clone(), late.clone()]);
    let public = key().public();
    assert_eq!(it.registry.verify_checkpoint(&early, &public).unwrap().entries, 1);

    // Another registry that never had the second entry, as a restored backup would look.
    let cut = Fixture::new();
    cut.register("one");
    cut.registry.verify_checkpoint(&early, &public).unwrap();
    let error = cut.registry.verify_checkpoint(&late, &public).unwrap_err();
    let truncated = Tampering::Truncated { had: 2, has: 1 };
    assert!(matches!(error, RegistryError::Tampered(how) if how == truncated));
    let other = Fixture::new();
    other.register("other");
    let error = other.registry.verify_checkpoint(&early, &public).unwrap_err();
    let rewritten = Tampering::Rewritten { entries: 1 };
    assert!(matches!(error, RegistryError::Tampered(how) if how == rewritten));
}

#[test]
fn a_checkpoint_of_another_key_is_refused() {
    let it = Fixture::new();
    let note = it.registry.checkpoint(&key()).unwrap();
    let other = CheckpointKey::from_seed(&[4; 32]).public();
    let error = it.registry.verify_checkpoint(&note, &other).unwrap_err();
    assert!(matches!(error, RegistryError::Signature(SignatureError::OtherKey { .. })), "{error}");
}

#[test]
fn with_a_key_beside_it_a_registry_signs_its_chain_as_it_grows() {
    let it = Fixture::new();
    fs::write(it.home.path().join("audit.pem"), KEY_PEM).unwrap();
    let registry = Fixture::open(&it.home).unwrap();
    assert_eq!(registry.checkpoint_key().unwrap().public(), key().public());
    for n in 0..CHECKPOINT_EVERY {
        assert_eq!(registry.checkpoints().unwrap(), Vec::<String>::new());
        let (person, role) = (format!("person {n}"), crate::Role::ReleaseManager);
        let change = Change::new("person 0", "to fill the chain", &it.clock);
        registry.grant(&person, role, true, change).unwrap();
    }
    let [note] = &registry.checkpoints().unwrap()[..] else { panic!("one is due") };
    assert!(note.contains("\n64\n"), "{note}");
    registry.verify_checkpoint(note, &key().public()).unwrap();
}
