//! Compressed bodies: nothing comes out beyond the limit, whatever a header claims.
#![no_main]

use libfuzzer_sys::fuzz_target;
use understudy_ingest::telemetry::{Compression, decompress};

const LIMIT: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        if let Ok(body) = decompress(data, compression, LIMIT) {
            assert!(body.len() <= LIMIT);
        }
    }
});
