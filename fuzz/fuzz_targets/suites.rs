//! Suites of other programs, and ours: the first byte chooses which.
#![no_main]

use libfuzzer_sys::fuzz_target;
use understudy_ident::TaskName;
use understudy_ingest::{Beside, Foreign, Take, foreign_suite};
use understudy_manifest::{Suite, Tier};

const FORMATS: [&str; 9] = [
    "evals-match",
    "evals-includes",
    "evals-json",
    "bfcl",
    "promptfoo",
    "lm-eval",
    "evals",
    "promptfoo-results",
    "inspect",
];

fuzz_target!(|data: &[u8]| {
    let Some((&choice, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let name: TaskName = "fuzz".parse().expect("is a name");
    let Some(format) = FORMATS.get(usize::from(choice)).and_then(|name| Foreign::parse(name)) else {
        drop(Suite::parse(text));
        return;
    };
    // What lies in a file beside it follows an empty line.
    let (text, other) = text.split_once("\n\n").map_or((text, None), |(a, b)| (a, Some(b)));
    let beside = Beside {
        truths: other.filter(|_| format == Foreign::Bfcl),
        registry: other.filter(|_| format == Foreign::Evals),
        tests: other.filter(|_| format == Foreign::Promptfoo),
        ..Beside::default()
    };
    for take in [Take::Reply, Take::LastReply, Take::Scores] {
        let beside = Beside { take, ..beside };
        if let Ok(found) = foreign_suite(format, (text, beside), &name, Tier::Gate, None) {
            assert!(!found.suite.cases.is_empty());
        }
        // Nobody else's samples are taken in several ways.
        if format != Foreign::Inspect {
            break;
        }
    }
});
