//! The header of a safetensors file: that it is one, and that no tensor reaches outside the file or
//! into another. Whether the numbers act as they should is for whoever loads them.
//!
//! Layout: eight bytes with the header's length N in little-endian order, N bytes of JSON that map
//! each name to `{dtype, shape, data_offsets: [begin, end]}`, then the tensors' bytes.

use std::{collections::BTreeMap, fs::File, io::Read, path::Path};

use serde::Deserialize;
use serde_json::Value;

use super::{Attempt, WEIGHTS};
use crate::RegistryError;

/// More than any adapter's header, and little enough to be read into memory.
const LONGEST_HEADER: u64 = 100 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// Refuses weights whose header is not sound.
pub(crate) fn check_header(directory: &Path) -> Result<(), RegistryError> {
    let path = directory.join(WEIGHTS);
    let unsound = |why: String| RegistryError::UnsoundWeights { path: path.clone(), why };
    let mut file = File::open(&path).attempt("open", &path)?;
    let length = file.metadata().attempt("look at", &path)?.len();
    let mut prefix = [0; 8];
    file.read_exact(&mut prefix).map_err(|_| unsound("it has no header".to_owned()))?;
    let header = u64::from_le_bytes(prefix);
    let data = length.checked_sub(8).and_then(|rest| rest.checked_sub(header));
    let Some(data) = data.filter(|_| header <= LONGEST_HEADER) else {
        return Err(unsound(format!("its header of {header} bytes does not fit the file")));
    };
    let mut text = vec![0; header as usize];
    file.read_exact(&mut text).attempt("read", &path)?;
    check_tensors(&text, data).map_err(unsound)
}

fn check_tensors(header: &[u8], data: u64) -> Result<(), String> {
    let mut entries: BTreeMap<String, Value> = serde_json::from_slice(header)
        .map_err(|error| format!("its header is no JSON: {error}"))?;
    entries.remove("__metadata__");
    let mut spans = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        let tensor: Tensor = serde_json::from_value(entry)
            .map_err(|error| format!("`{name}` is no tensor: {error}"))?;
        let (begin, end) = tensor.data_offsets;
        let numbers = tensor.shape.iter().try_fold(1_u64, |all, side| all.checked_mul(*side));
        let bytes = width(&tensor.dtype).zip(numbers).and_then(|(w, n)| w.checked_mul(n));
        if bytes.is_none() || end.checked_sub(begin) != bytes || end > data {
            return Err(format!("`{name}` does not fit its place in the file"));
        }
        spans.push((begin, end, name));
    }
    spans.sort();
    match spans.windows(2).find(|pair| pair[0].1 > pair[1].0) {
        Some(pair) => Err(format!("`{}` and `{}` overlap", pair[0].2, pair[1].2)),
        None => Ok(()),
    }
}

/// Bytes of a number, for the types adapters come in.
fn width(dtype: &str) -> Option<u64> {
    match dtype {
        "F32" => Some(4),
        "F16" | "BF16" => Some(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::check_tensors;

    #[test]
    fn sound_headers_pass_and_others_are_refused_with_the_tensor() {
        let sound = br#"{"__metadata__":{"a":"b"},"a":{"dtype":"F32","shape":[2,3],
            "data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}}"#;
        check_tensors(sound, 32).unwrap();
        for (header, data, why) in [
            (&b"{"[..], 0, "no JSON"),
            (sound, 31, "`b` does not fit"),
            (br#"{"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}"#, 8, "`a` does not fit"),
            (br#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, 8, "`a` does not fit"),
            (
                br#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#,
                8,
                "`a` does not fit",
            ),
            (
                br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"path":"x"}}"#,
                4,
                "`a` is no tensor",
            ),
            (
                br#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
                     "b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
                8,
                "overlap",
            ),
        ] {
            let refused = check_tensors(header, data).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }
}
