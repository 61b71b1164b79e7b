//! The short form of `fuzz/`: every decoder over damaged copies of what real clients sent.
//!
//! Damage is seeded, so a failure is found again. `UNDERSTUDY_MUTATIONS` sets how many copies of each
//! body are read.

use std::{fs, path::Path};

use rand::seq::IndexedRandom;

use super::*;
use crate::telemetry::{accounts, ties, unit};

const COPIES: usize = 12;
/// Bodies are cut to this before they are damaged, so that damage meets structure and time is short.
const LONGEST: usize = 6000;

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

fn damaged(body: &[u8], others: &[Vec<u8>], random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = body[..body.len().min(LONGEST)].to_vec();
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..=bytes.len().saturating_sub(1));
        match random.random_range(0..7) {
            _ if bytes.is_empty() => bytes.push(random.random()),
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => bytes[at] = random.random(),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..(at + random.random_range(0..40)).min(bytes.len()))),
            4 => {
                let word: &[u8] = [
                    b"null".as_slice(),
                    b"{}",
                    b"[]",
                    b"\"\"",
                    b"-1",
                    b"1e999",
                    b"\\ud800",
                    b"\xff",
                    b"18446744073709551616",
                    b"{\"a\":",
                    b"\0\0\0\0",
                ][random.random_range(0..11)];
                bytes.splice(at..at, word.iter().copied());
            }
            5 => {
                let other = others.choose(random).unwrap();
                let from = random.random_range(0..=other.len());
                let to = (from + random.random_range(0..200)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            _ => {
                let end = (at + random.random_range(0..100)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
    bytes
}

#[test]
fn no_damage_stops_a_decoder() {
    let copies = std::env::var("UNDERSTUDY_MUTATIONS").ok().and_then(|text| text.parse().ok());
    let copies = copies.unwrap_or(COPIES);
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
                        let known = (ties(&decoded.items), accounts(&decoded.items));
                        let units = decoded.items.iter().filter_map(unit).count();
                        assert!(units <= decoded.items.len(), "{known:?}");
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
