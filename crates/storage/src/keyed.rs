//! An append-only file of texts by key, for what is dear to compute and no loss to lose.
//!
//! One `key text` a line, written with one call. A kill may tear the last line, which is then not
//! read; a power cut may lose the latest lines, because nothing is flushed. Several processes may
//! append to one file; each sees what was there when it opened it, and its own.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::{
    atomic,
    error::{Attempt, StorageError},
};

/// Texts by key, the latest of a key counting.
#[derive(Debug)]
pub struct KeyedLog {
    path: PathBuf,
    file: File,
    texts: BTreeMap<String, String>,
}

impl KeyedLog {
    /// Opens the file, and creates it, and the directories above it, if there is none.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        atomic::create_dir(atomic::parent(path))?;
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .attempt("open the log", path)?;
        let bytes = std::fs::read(path).attempt("read the log", path)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if whole < bytes.len() {
            // What is appended must not become a part of the torn line.
            file.write_all(b"\n").attempt("end a torn line of", path)?;
        }
        let lines = bytes[..whole].split(|byte| *byte == b'\n');
        let texts = lines
            .filter_map(|line| std::str::from_utf8(line).ok()?.split_once(' '))
            .map(|(key, text)| (key.to_owned(), text.to_owned()))
            .collect();
        Ok(Self { path: path.to_owned(), file, texts })
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.texts.get(key).map(String::as_str)
    }

    pub fn len(&self) -> usize {
        self.texts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Keeps a text of one line under a key without a space.
    pub fn put(&mut self, key: &str, text: &str) -> Result<(), StorageError> {
        if key.is_empty() || key.contains([' ', '\n']) || text.contains('\n') {
            let why = "a key is one word, and a text is one line";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why))
                .attempt("append to the log", &self.path);
        }
        let line = format!("{key} {text}\n");
        self.file.write_all(line.as_bytes()).attempt("append to the log", &self.path)?;
        self.texts.insert(key.to_owned(), text.to_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep").join("answers.log");
        (dir, path)
    }

    #[test]
    fn what_was_put_is_there_when_it_is_opened_again() {
        let (_dir, path) = log();
        let mut first = KeyedLog::open(&path).unwrap();
        assert!(first.is_empty());
        first.put("a", "one text").unwrap();
        first.put("b", "").unwrap();
        first.put("a", "another").unwrap();
        let again = KeyedLog::open(&path).unwrap();
        for log in [&first, &again] {
            assert_eq!(
                (log.get("a"), log.get("b"), log.get("c")),
                (Some("another"), Some(""), None)
            );
            assert_eq!(log.len(), 2);
        }
    }

    #[test]
    fn a_torn_line_is_lost_and_nothing_else() {
        let (_dir, path) = log();
        let mut log = KeyedLog::open(&path).unwrap();
        log.put("a", "1").unwrap();
        log.put("b", "22222").unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        let mut torn = KeyedLog::open(&path).unwrap();
        assert_eq!((torn.get("a"), torn.get("b")), (Some("1"), None));
        torn.put("c", "3").unwrap();
        let again = KeyedLog::open(&path).unwrap();
        assert_eq!((again.get("a"), again.get("c")), (Some("1"), Some("3")));
    }

    #[test]
    fn what_would_break_the_lines_is_refused() {
        let (_dir, path) = log();
        let mut log = KeyedLog::open(&path).unwrap();
        for (key, text) in [("", "x"), ("a b", "x"), ("a", "x\ny")] {
            assert!(log.put(key, text).is_err(), "{key:?} {text:?}");
        }
        assert!(KeyedLog::open(&path).unwrap().is_empty());
    }
}
