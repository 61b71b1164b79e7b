//! Bodies of telemetry: the first byte chooses the protocol, the rest is the body. What can be
//! decoded is assembled as well.
#![no_main]

use libfuzzer_sys::fuzz_target;
use understudy_ingest::telemetry::{Payload, accounts, assemble, decode, ties, unit};

const TYPES: [&str; 3] =
    ["application/x-protobuf", "application/json", "multipart/form-data; boundary=b"];

fuzz_target!(|data: &[u8]| {
    let Some((&choice, body)) = data.split_first() else { return };
    let name = Payload::NAMES[usize::from(choice) % Payload::NAMES.len()];
    let kind = TYPES[usize::from(choice) / Payload::NAMES.len() % TYPES.len()];
    let Some(payload) = Payload::named(name, kind) else { return };
    let Ok(decoded) = decode(&payload, body) else { return };
    decoded.items.iter().for_each(|item| drop(unit(item)));
    let assembled = assemble(&decoded.items);
    // What was assembled is what its ties and accounts say.
    assert!(assembled.conversations.is_empty() || !ties(&decoded.items).is_empty());
    drop(accounts(&decoded.items));
});
