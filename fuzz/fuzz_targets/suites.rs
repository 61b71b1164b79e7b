//! Suites of other programs, and ours: the first byte chooses which.
#![no_main]

use libfuzzer_sys::fuzz_target;
use understudy_ident::TaskName;
use understudy_ingest::{Foreign, foreign_suite};
use understudy_manifest::{Suite, Tier};

const FORMATS: [&str; 6] =
    ["evals-match", "evals-includes", "evals-json", "bfcl", "promptfoo", "lm-eval"];

fuzz_target!(|data: &[u8]| {
    let Some((&choice, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let name: TaskName = "fuzz".parse().expect("is a name");
    let Some(format) = FORMATS.get(usize::from(choice)).and_then(|name| Foreign::parse(name)) else {
        drop(Suite::parse(text));
        return;
    };
    // The possible answers of the leaderboard follow an empty line.
    let (text, truths) = text.split_once("\n\n").unwrap_or((text, ""));
    let truths = (format == Foreign::Bfcl).then_some(truths);
    if let Ok(found) = foreign_suite(format, text, truths, &name, Tier::Gate, None) {
        assert!(!found.suite.cases.is_empty());
    }
});
