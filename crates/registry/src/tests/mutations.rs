//! Damaged weights: whatever the bytes are, they are refused, or every tensor is within the file.

use std::fs;

use proptest::prelude::*;

use crate::artifact::check_header;

const HEADER: &str = r#"{"__metadata__":{"a":"b"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}}"#;

fn sound() -> Vec<u8> {
    [&(HEADER.len() as u64).to_le_bytes(), HEADER.as_bytes(), &[0; 32]].concat()
}

/// Where the tensors of accepted bytes lie, read another way.
fn is_within(bytes: &[u8]) -> bool {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let data = (bytes.len() - 8 - length) as u64;
    let entries = header.as_object().unwrap().iter().filter(|(name, _)| *name != "__metadata__");
    let mut ends: Vec<(u64, u64)> = entries
        .map(|(_, tensor)| {
            let place = |nth: usize| tensor["data_offsets"][nth].as_u64().unwrap();
            (place(0), place(1))
        })
        .collect();
    ends.sort_unstable();
    let apart = ends.windows(2).all(|two| two[0].1 <= two[1].0);
    apart && ends.iter().all(|(begin, end)| begin <= end && *end <= data)
}

proptest! {
    #[test]
    fn no_damage_lets_a_tensor_reach_outside_its_file(
        changes in prop::collection::vec((0_usize..200, any::<u8>()), 1..4),
        cut in 0_usize..220,
    ) {
        let mut bytes = sound();
        for (at, to) in changes {
            // Digits where digits are: what is no JSON any more is soon refused.
            let at = at % bytes.len();
            bytes[at] = if bytes[at].is_ascii_digit() { b'0' + to % 10 } else { to };
        }
        bytes.truncate(cut.max(1));
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("adapter_model.safetensors"), &bytes).unwrap();
        if check_header(directory.path()).is_ok() {
            prop_assert!(is_within(&bytes), "{}", String::from_utf8_lossy(&bytes));
        }
    }
}

#[test]
fn what_is_damaged_was_sound() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("adapter_model.safetensors"), sound()).unwrap();
    check_header(directory.path()).unwrap();
    assert!(is_within(&sound()));
}
