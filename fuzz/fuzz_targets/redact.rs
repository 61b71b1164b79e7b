//! Masking: it ends, masking again changes nothing, and JSON stays JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use understudy_redact::{Policy, Redactor};

fuzz_target!(|text: &str| {
    let mut masker = Redactor::new(Policy::Standard).masker();
    let masked = masker.mask(text);
    assert_eq!(masker.mask(&masked), masked);
    if serde_json::from_str::<serde_json::Value>(text).is_ok_and(|value| value.is_object()) {
        assert!(serde_json::from_str::<serde_json::Value>(&masked).is_ok());
    }
});
