//! Bundles, checkpoints and keys: nothing verifies that was not signed with a key at hand, and
//! nobody has signed what a fuzzer writes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use understudy_signature::{
    Bundle, Checkpoint, CheckpointKey, CheckpointPublicKey, SigningKey, VerifyingKey,
};

const KEY: &str = include_str!("../../tests/golden/signature/ours.pub.pem");

fuzz_target!(|text: &str| {
    let key = VerifyingKey::from_pem(KEY).expect("is a key");
    if let Ok(bundle) = Bundle::parse(text) {
        assert!(bundle.open(&key).is_err());
    }
    let key = CheckpointKey::from_seed(&[3; 32]).public();
    assert!(Checkpoint::open(text, &key).is_err());
    drop((SigningKey::from_pem(text), VerifyingKey::from_pem(text)));
    drop((CheckpointKey::from_pem(text), CheckpointPublicKey::from_pem(text)));
});
