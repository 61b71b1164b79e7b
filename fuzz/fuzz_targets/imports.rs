//! Files of `understudy import`: a row that cannot be read never stops the others, and reading twice
//! gives the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use understudy_ident::{TaskName, Timestamp};
use understudy_ingest::{Format, read};

const FORMATS: [&str; 8] =
    ["auto", "openai", "trl", "understudy", "tau-bench", "atif", "langsmith", "otlp"];

fuzz_target!(|data: &[u8]| {
    let Some((&choice, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(format) = Format::parse(FORMATS[usize::from(choice) % FORMATS.len()]) else { return };
    let task: TaskName = "fuzz".parse().expect("is a name");
    let again = || read(format, &task, text, None, None, Timestamp::UNIX_EPOCH);
    if let Ok(imported) = again() {
        assert_eq!(again().expect("it was read before"), imported);
    }
});
