//! What the guard finds in a public data set that is known to repeat its test cases.

use std::{fs, path::Path};

use serde_json::Value;

use super::*;

fn texts(name: &str) -> Option<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/snips").join(name);
    let Ok(text) = fs::read_to_string(&path) else {
        eprintln!("SKIPPED: no data at {}", path.display());
        return None;
    };
    let row = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    Some(text.lines().map(|line| row(line)["text"].as_str().unwrap().to_owned()).collect())
}

#[test]
fn the_repeated_cases_of_snips_are_found() {
    let (Some(train), Some(test)) = (texts("train.jsonl"), texts("test.jsonl")) else { return };
    let test: Vec<&str> = test.iter().map(String::as_str).collect();
    let steps = train.iter().enumerate().map(|(nth, text)| {
        let name = nth.to_string();
        with(step(&name, &name, text, "{}"), Signal::Accept)
    });
    let draft = try_build(&all_train(), &[suite(&test)], steps).unwrap();
    let stage = draft.manifest().stages.iter().find(|s| s.stage == "decontaminate").unwrap();
    println!("of {} rows: {:?}", stage.rows_in, stage.reasons);
    // A label beside each row to imitate, hence two rows a text.
    let repeats = count(&draft, "decontaminate", "exact") / 2;
    assert!(repeats >= 15, "{repeats}");
    let dropped = (stage.rows_in - stage.rows_out) as f64 / stage.rows_in as f64;
    assert!(dropped < 0.03, "{dropped} of the rows were taken for copies");
}
