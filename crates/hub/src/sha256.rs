//! SHA-256, the digest in which the world publishes model files.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::Path,
};

use sha2::Digest;

/// A SHA-256 digest; prints as 64 lowercase hexadecimal characters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// Reads a whole file.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut hasher = sha2::Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(Self(hasher.finalize().into())),
                n => hasher.update(&buffer[..n]),
            }
        }
    }

    pub fn parse(hex: &str) -> Option<Self> {
        Self::from_hex(hex)
    }

    /// A digest written in the source code; a slip of the pen fails to compile.
    pub(crate) const fn pinned(hex: &'static str) -> Self {
        Self::from_hex(hex).expect("a pinned digest is 64 lowercase hexadecimal characters")
    }

    const fn from_hex(hex: &str) -> Option<Self> {
        let hex = hex.as_bytes();
        if hex.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        let mut position = 0;
        while position < 64 {
            let nibble = match hex[position] {
                digit @ b'0'..=b'9' => digit - b'0',
                letter @ b'a'..=b'f' => letter - b'a' + 10,
                _ => return None,
            };
            bytes[position / 2] = bytes[position / 2] << 4 | nibble;
            position += 1;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256({self})")
    }
}

impl serde::Serialize for Sha256 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_digest_the_standard_says() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        // FIPS 180-4, example B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Sha256::of_file(&path).unwrap().to_string(), expected);
        assert_eq!(Sha256::parse(expected), Some(Sha256::of_file(&path).unwrap()));
    }

    #[test]
    fn what_is_not_a_digest_is_refused() {
        let good = "0".repeat(64);
        assert!(Sha256::parse(&good).is_some());
        for bad in [&good[1..], &good.replacen('0', "g", 1), &good.replacen('0', "A", 1), ""] {
            assert_eq!(Sha256::parse(bad), None, "{bad}");
        }
    }
}
