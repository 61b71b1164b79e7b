//! The short form of `fuzz/`: every decoder over damaged copies of what real clients sent.
//!
//! Damage is seeded, so a failure is found again. `UNDERSTUDY_MUTATIONS` sets how many copies of each
//! body are read.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use super::*;
use crate::{
    damage::{copies, damaged},
    telemetry::{accounts, ties, unit},
};

fn corpus() -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/telemetry/tests/captures");
    let mut bodies = Vec::new();
    let mut paths: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let bytes = fs::read(&path).unwrap();
        match serde_json::from_slice::<Value>(&bytes) {
            Ok(Value::Object(capture)) => bodies.extend(capture.values().flat_map(parts)),
            Ok(other) => bodies.push(other.to_string().into_bytes()),
            Err(_) => bodies.push(bytes),
        }
    }
    assert!(bodies.len() > 30, "the captures are not where they were: {}", bodies.len());
    bodies
}

/// A list is of requests, each with a body of its own.
fn parts(value: &Value) -> Vec<Vec<u8>> {
    let of = |value: &Value| match value.get("body").unwrap_or(value) {
        Value::String(text) => text.clone().into_bytes(),
        body => body.to_string().into_bytes(),
    };
    value.as_array().map_or_else(|| vec![of(value)], |items| items.iter().map(of).collect())
}

/// What is read unit by unit, as a server does, gives the steps and outcomes that the whole bag gives:
/// an item in no unit tells of none, and no span or statement lies in two.
fn units_tell_everything(items: &[Item]) {
    let mut units: BTreeMap<String, Vec<Item>> = BTreeMap::new();
    for item in items {
        match unit(item) {
            Some(unit) => units.entry(unit).or_default().push(item.clone()),
            None => assert!(matches!(item, Item::Log(_)), "in no unit: {item:?}"),
        }
    }
    let told: Vec<String> = units.values().flat_map(|own| accounts(own)).collect();
    let apart: BTreeSet<String> = told.iter().cloned().collect();
    assert_eq!(told.len(), apart.len(), "an account of two units: {told:?}");
    assert_eq!(apart, accounts(items));
}

#[test]
fn no_damage_stops_a_decoder() {
    let copies = copies(12);
    let bodies = corpus();
    let mut random = ChaCha8Rng::seed_from_u64(17);
    let kinds = ["application/x-protobuf", "application/json", "multipart/form-data; boundary=b"];
    let payloads: Vec<Payload> = Payload::NAMES
        .iter()
        .flat_map(|name| kinds.iter().filter_map(|kind| Payload::named(name, kind)))
        .collect();
    let (mut read, mut refused) = (0, 0);
    for body in &bodies {
        for _ in 0..copies {
            let bytes = damaged(body, &bodies, &mut random);
            for payload in &payloads {
                match decode(payload, &bytes) {
                    Err(_) => refused += 1,
                    Ok(decoded) => {
                        read += 1;
                        let assembled = assemble(&decoded.items);
                        text_of(&assembled.conversations);
                        ties(&decoded.items);
                        units_tell_everything(&decoded.items);
                    }
                }
            }
        }
    }
    // Both ways were taken, or the damage was of no use.
    assert!(read > 100 && refused > 100, "{read} read, {refused} refused");
}

#[test]
fn no_damage_lets_more_out_than_the_limit() {
    use std::io::Write;
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let body = vec![b'x'; 100_000];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&body).unwrap();
    let packed = [
        (Compression::Gzip, gzip.finish().unwrap()),
        (Compression::Zstd, zstd::encode_all(&body[..], 1).unwrap()),
    ];
    for (compression, whole) in packed {
        assert!(matches!(
            decompress(&whole, compression, 4096),
            Err(TelemetryError::TooLarge { limit: 4096 })
        ));
        for _ in 0..2000 {
            let bytes = damaged(&whole, std::slice::from_ref(&whole), &mut random);
            if let Ok(out) = decompress(&bytes, compression, 4096) {
                assert!(out.len() <= 4096);
            }
        }
    }
}
