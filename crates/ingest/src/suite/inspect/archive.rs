//! A log as one JSON text, whether it was one or an archive of several.

use std::io::{Cursor, Read};

use serde_json::Value;
use zip::{CompressionMethod, ZipArchive, result::ZipError};

use crate::IngestError;

/// Unpacked, no log is larger than this: an archive of a few kilobytes can name terabytes.
const UNPACKED_MAX: u64 = 1 << 30;
const ARCHIVE: &[u8] = b"PK\x03\x04";

/// The log as one JSON text, whether it was one or an archive.
pub fn inspect_log(bytes: &[u8]) -> Result<String, IngestError> {
    if !bytes.starts_with(ARCHIVE) {
        let text = std::str::from_utf8(bytes);
        return text.map(plain_json).map_err(|_| IngestError::Log("it is no text".to_owned()));
    }
    unpacked(bytes, UNPACKED_MAX).map_err(IngestError::Log)
}

/// Inspect writes numbers that JSON does not have, as `NaN` for what was not scored, and they become
/// null.
fn plain_json(text: &str) -> String {
    let (mut plain, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(['"', '-', 'N', 'I']) {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let constant = ["NaN", "-NaN", "Infinity", "-Infinity"];
        let found = constant.iter().find_map(|word| rest.strip_prefix(word));
        let taken = match found {
            Some(after) => {
                plain.push_str("null");
                rest = after;
                continue;
            }
            None if rest.starts_with('"') => quoted(rest),
            None => 1,
        };
        plain.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    plain + rest
}

/// How long the string is that a text begins with, quotes included.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    let ends = |(_, letter): &(usize, char)| match letter {
        '\\' if !escaped => {
            escaped = true;
            false
        }
        '"' if !escaped => true,
        _ => {
            escaped = false;
            false
        }
    };
    text.char_indices().skip(1).find(ends).map_or(text.len(), |(at, _)| at + 1)
}

pub(super) fn unpacked(bytes: &[u8], most: u64) -> Result<String, String> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
    let (mut left, mut header, mut samples) = (most, None, Vec::new());
    for index in 0..archive.len() {
        let raw = archive.by_index_raw(index).map_err(broken)?;
        let (name, method) = (raw.name().map_err(broken)?.into_owned(), raw.compression());
        drop(raw);
        let is_sample = name.strip_prefix("samples/").is_some_and(is_json);
        if !is_sample && name != "header.json" {
            continue;
        }
        let mut text = String::new();
        let read = if method == CompressionMethod::ZSTD {
            // Read by the zstd that is here anyway: the archive reader's own would be another.
            let packed = archive.by_index_raw(index).map_err(broken)?;
            zstd::Decoder::new(packed)
                .and_then(|file| file.take(left + 1).read_to_string(&mut text))
        } else {
            archive.by_index(index).map_err(broken)?.take(left + 1).read_to_string(&mut text)
        };
        read.map_err(|why| format!("{name}: {why}"))?;
        left = left
            .checked_sub(text.len() as u64)
            .ok_or_else(|| format!("it unpacks to more than {most} bytes"))?;
        let value: Value =
            serde_json::from_str(&plain_json(&text)).map_err(|why| format!("{name}: {why}"))?;
        if is_sample {
            samples.push((name, value));
        } else {
            header = Some(value);
        }
    }
    let Some(Value::Object(mut log)) = header else {
        return Err("the archive has no header.json; was the run finished?".to_owned());
    };
    // An archive lists samples as they finished; their order must not show.
    samples.sort_by_key(|(a, _)| natural(a));
    log.insert("samples".to_owned(), samples.into_iter().map(|(_, value)| value).collect());
    Ok(Value::Object(log).to_string())
}

fn broken(why: ZipError) -> String {
    format!("the archive is damaged: {why}")
}

/// Digits as numbers, so that `samples/10_epoch_1.json` comes after the second.
fn natural(name: &str) -> Vec<(u64, String)> {
    let mut parts: Vec<(u64, String)> = Vec::new();
    let (mut digits, mut letters) = (String::new(), String::new());
    for letter in name.chars().chain(['/']) {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        if !digits.is_empty() {
            let number = digits.parse().unwrap_or(u64::MAX);
            parts.push((number, std::mem::take(&mut letters)));
            digits.clear();
        }
        letters.push(letter);
    }
    parts.push((0, letters));
    parts
}

/// Inspect writes its names in lower case.
fn is_json(name: &str) -> bool {
    std::path::Path::new(name).extension().is_some_and(|extension| extension == "json")
}
