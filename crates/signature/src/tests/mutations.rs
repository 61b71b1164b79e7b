//! The short form of the fuzz target `signature`: every byte of what is read, changed. What still
//! verifies says what was signed.

use super::*;

#[test]
fn no_changed_byte_of_a_bundle_verifies_as_something_else() {
    let statement = json!({"_type": "t", "predicateType": "p", "predicate": {"steps": 10}});
    let key = key(7);
    let text = Bundle::seal(&statement, &key).to_json();
    let (mut refused, mut same) = (0, 0);
    for at in 0..text.len() {
        for with in [0x00_u8, 0x01, 0x20, b'A', b'}', 0xff] {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= with;
            let changed = String::from_utf8_lossy(&bytes);
            match Bundle::parse(&changed).and_then(|bundle| bundle.open(&key.verifying_key())) {
                Err(_) => refused += 1,
                Ok(opened) => {
                    same += 1;
                    assert_eq!(opened, statement, "byte {at} by {with:#x}");
                }
            }
        }
    }
    // A sixth of them changes nothing.
    assert!(same >= text.len() && refused > 3 * text.len(), "{same} verified, {refused} refused");
}

#[test]
fn no_changed_byte_of_a_checkpoint_verifies_as_something_else() {
    let key = CheckpointKey::from_seed(&[3; 32]);
    let checkpoint = Checkpoint { origin: "understudy/audit".to_owned(), size: 17, head: [9; 32] };
    let note = checkpoint.sign(&key);
    let mut refused = 0;
    for at in 0..note.len() {
        for with in [0x01_u8, 0x20, 0x80] {
            let mut bytes = note.clone().into_bytes();
            bytes[at] ^= with;
            let changed = String::from_utf8_lossy(&bytes);
            match Checkpoint::open(&changed, &key.public()) {
                Err(_) => refused += 1,
                Ok(opened) => assert_eq!(opened, checkpoint, "byte {at} by {with:#x}"),
            }
        }
    }
    assert!(refused > note.len(), "{refused}");
}

#[test]
fn no_damaged_key_is_read_as_another() {
    let pem = key(7).verifying_key().to_pem();
    let mut read = 0;
    for at in 0..pem.len() {
        let mut bytes = pem.clone().into_bytes();
        bytes[at] ^= 0x01;
        let changed = String::from_utf8_lossy(&bytes);
        // A point beside the curve is no key; what is read writes itself as it was read.
        if let Ok(other) = VerifyingKey::from_pem(&changed) {
            read += 1;
            assert_eq!(VerifyingKey::from_pem(&other.to_pem()).unwrap(), other);
        }
        assert!(SigningKey::from_pem(&changed).is_err());
        assert!(CheckpointKey::from_pem(&changed).is_err());
    }
    assert!(read < pem.len() / 4, "{read} of {} changed keys were read", pem.len());
}
