//! TFRecords, and the few fields of `Event` that scalars need.

/// Field numbers of `Event`.
const WALL_TIME: u64 = 1;
const STEP: u64 = 2;
const FILE_VERSION: u64 = 3;
const SUMMARY: u64 = 5;
const SESSION_LOG: u64 = 7;

/// The only field of `Summary`, repeated.
const VALUE: u64 = 1;

/// Field numbers of `Summary.Value`.
const TAG: u64 = 1;
const SIMPLE_VALUE: u64 = 2;

/// The field of `SessionLog` and what it says: whatever was known of this step or later is void.
const STATUS: u64 = 1;
const START: u64 = 1;

/// Protobuf's wire types.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// One record: `length, masked crc of length, data, masked crc of data`, little-endian.
pub(super) fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let (of_length, of_data) = (masked_crc(&length), masked_crc(data));
    [&length[..], &of_length.to_le_bytes(), data, &of_data.to_le_bytes()].concat()
}

/// What every file begins with. `wall` is in seconds since 1970.
pub(super) fn version(wall: f64) -> Vec<u8> {
    let mut event = at(wall, 0);
    bytes(&mut event, FILE_VERSION, b"brain.Event:2");
    event
}

/// Voids `step` and what is after it in the files before.
pub(super) fn start(wall: f64, step: u64) -> Vec<u8> {
    let mut log = Vec::new();
    key(&mut log, STATUS, VARINT);
    varint(&mut log, START);
    let mut event = at(wall, step);
    bytes(&mut event, SESSION_LOG, &log);
    event
}

/// Single precision is all that `simple_value` has.
pub(super) fn scalars(wall: f64, step: u64, scalars: &[(String, f64)]) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, number) in scalars {
        let mut value = Vec::new();
        bytes(&mut value, TAG, tag.as_bytes());
        key(&mut value, SIMPLE_VALUE, FIXED32);
        value.extend((*number as f32).to_le_bytes());
        bytes(&mut summary, VALUE, &value);
    }
    let mut event = at(wall, step);
    bytes(&mut event, SUMMARY, &summary);
    event
}

fn at(wall: f64, step: u64) -> Vec<u8> {
    let mut event = Vec::new();
    key(&mut event, WALL_TIME, FIXED64);
    event.extend(wall.to_le_bytes());
    if step > 0 {
        key(&mut event, STEP, VARINT);
        varint(&mut event, step);
    }
    event
}

fn bytes(out: &mut Vec<u8>, field: u64, content: &[u8]) {
    key(out, field, BYTES);
    varint(out, content.len() as u64);
    out.extend(content);
}

fn key(out: &mut Vec<u8>, field: u64, wire_type: u64) {
    varint(out, field << 3 | wire_type);
}

/// Seven bits a byte, the lowest first; all but the last have the top bit set.
fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A checksum of data that itself contains checksums is easily fooled, hence the mask.
pub(super) fn masked_crc(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Castagnoli's polynomial, bits reflected. A step's record is a kilobyte or two.
fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, byte| TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8))
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};
