//! Bundles, checkpoints and keys: nothing verifies that was not signed with a key at hand, and all
//! that was signed with this one is one statement.
#![no_main]

use libfuzzer_sys::fuzz_target;
use understudy_signature::{
    Bundle, Checkpoint, CheckpointKey, CheckpointPublicKey, SigningKey, VerifyingKey,
};

const KEY: &str = include_str!("../../tests/golden/signature/ours.pub.pem");
const SIGNED: &str = include_str!("../../tests/golden/signature/ours.sig");

fuzz_target!(|text: &str| {
    let key = VerifyingKey::from_pem(KEY).expect("is a key");
    let open = |text: &str| Bundle::parse(text).and_then(|bundle| bundle.open(&key));
    if let Ok(statement) = open(text) {
        assert_eq!(statement, open(SIGNED).expect("is signed"));
    }
    let key = CheckpointKey::from_seed(&[3; 32]).public();
    assert!(Checkpoint::open(text, &key).is_err());
    drop((SigningKey::from_pem(text), VerifyingKey::from_pem(text)));
    drop((CheckpointKey::from_pem(text), CheckpointPublicKey::from_pem(text)));
});
