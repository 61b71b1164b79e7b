//! `understudy bench`: what it refuses, what it says without peers, and what its JSON has.
//! Nothing here is timed: figures come from a machine that is free.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::cli::{text, understudy};

/// A model of two layers that the repository holds.
fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/model/llama")
}

#[test]
fn what_cannot_be_measured_is_bad_input() {
    let home = tempfile::tempdir().unwrap();
    for (arguments, word) in [
        (&["bench", "inference"][..], "unrecognized"),
        (&["bench", "train", "--only", "ppo"], "possible values: sft, dpo, grpo"),
        (&["bench", "train", "--steps", "0"], "--steps"),
        (&["bench", "train", "--python", "./no-such-python"], "no-such-python"),
        (&["bench", "train", "--python", "/bin/false"], "no Python"),
        (&["bench", "train", "--base", "no-such-base"], "no-such-base"),
    ] {
        let output = understudy(home.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let message = text(&output.stderr);
        assert!(message.contains(word), "{arguments:?}: {message}");
    }
}

#[test]
fn the_environment_limits_instructions_and_scores_stay_the_same() {
    let home = tempfile::tempdir().unwrap();
    let base = tiny();
    let limited = |widest: &str, arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_understudy"))
            .current_dir(home.path())
            .env("UNDERSTUDY_INSTRUCTIONS", widest)
            .args(arguments)
            .output()
            .unwrap()
    };
    let logits = ["logits", "the parcel", "--out", "logits.json", "--base", base.to_str().unwrap()];
    let scores = |widest| -> Vec<f64> {
        let output = limited(widest, &logits);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let found: Value =
            serde_json::from_slice(&fs::read(home.path().join("logits.json")).unwrap()).unwrap();
        let rows = found["logits"][0].as_array().unwrap();
        rows.iter().flat_map(|row| row.as_array().unwrap()).map(|n| n.as_f64().unwrap()).collect()
    };
    let all = scores("amx");
    for widest in ["plain", "avx2", "avx-vnni", "avx512"] {
        let near = |(one, other): (&f64, &f64)| (one - other).abs() < 1e-3;
        assert!(scores(widest).iter().zip(&all).all(near), "{widest}");
    }
    let doctor = text(&limited("plain", &["doctor"]).stdout);
    assert!(doctor.contains("f32 by plain, no bf16, no int8"), "{doctor}");
    let unknown = limited("sse9", &logits);
    assert_eq!(unknown.status.code(), Some(2));
    let said = text(&unknown.stderr);
    assert!(said.contains("UNDERSTUDY_INSTRUCTIONS=sse9") && said.contains("avx-vnni"), "{said}");
}

/// A program that answers like a Python without any of the packages.
#[cfg(unix)]
fn bare_python(home: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = home.join("bare-python");
    let found = r#"{"torch":null,"transformers":null,"peft":null,"trl":null,"datasets":null}"#;
    fs::write(&path, format!("#!/bin/sh\necho '{found}'\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[cfg(unix)]
#[test]
fn without_torch_ours_are_measured_all_the_same_and_the_lack_is_said() {
    let home = tempfile::tempdir().unwrap();
    let (base, python) = (tiny(), bare_python(home.path()));
    let (base, python) = (base.to_str().unwrap(), python.to_str().unwrap());
    let arguments = ["bench", "train", "--base", base, "--steps", "1", "--python", python];

    let output = understudy(home.path(), &[&arguments[..], &["--only", "sft"]].concat());
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(said.contains("torch needs torch, transformers, peft"), "{said}");
    assert!(said.contains("understudy bf16") && said.contains("no ratios"), "{said}");
    assert!(said.contains("GFLOP/s") && said.contains("backward: frozen maps"), "{said}");

    let output = understudy(home.path(), &[&arguments[..], &["--json"]].concat());
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    check(&report);
}

fn check(report: &Value) {
    assert_eq!((&report["bench"], &report["measured_steps"]), (&"train".into(), &1.into()));
    assert!(report["peers"]["skipped"].as_str().unwrap().contains("trl needs"));
    assert_eq!(report["ratios"].as_array().unwrap().len(), 0);
    let measured = report["measurements"].as_array().unwrap();
    let steps: Vec<&str> = measured.iter().map(|entry| entry["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["sft", "sft", "dpo", "dpo", "grpo", "grpo"]);
    for (entry, tokens) in measured.iter().zip([2048, 2048, 4096, 4096, 1536, 1536]) {
        assert_eq!((&entry["program"], &entry["tokens"]), (&"understudy".into(), &tokens.into()));
        for field in ["step_seconds", "tokens_per_second", "peak_rss_bytes"] {
            assert!(entry[field].as_f64().unwrap() > 0.0, "{field} of {entry}");
        }
        assert_eq!(entry["seconds"].as_array().unwrap().len(), 1);
        assert!(entry["load"].is_object() && entry["busy"].is_boolean());
    }
    let dtypes: Vec<&str> = measured.iter().map(|entry| entry["dtype"].as_str().unwrap()).collect();
    assert_eq!(dtypes[..2], ["bfloat16", "float32"]);
    for floor in report["floors"].as_array().unwrap() {
        assert!(floor["share"].as_f64().unwrap() > 0.0 && floor["gflop_per_second"].is_f64());
    }
    let parts = report["profiles"][0]["parts"].as_array().unwrap();
    assert!(parts.len() >= 8 && parts.iter().all(|part| part["how"].is_string()), "{parts:?}");
}

#[test]
fn without_a_python_there_is_nothing_to_miss() {
    let home = tempfile::tempdir().unwrap();
    let base = tiny();
    let base = base.to_str().unwrap();
    let arguments = ["bench", "train", "--base", base, "--steps", "1", "--only", "dpo", "--json"];
    let output = understudy(home.path(), &arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["peers"]["skipped"].as_str().unwrap().contains("--python"));
    assert_eq!(report["measurements"].as_array().unwrap().len(), 2);
}

/// Every short run of this file is a test of its own; this one takes its minute beside the others.
#[test]
fn a_minute_of_everything_at_once_leaves_nothing_behind_and_memory_flat() {
    let home = tempfile::tempdir().unwrap();
    let base = tiny();
    let arguments =
        ["bench", "soak", "--base", base.to_str().unwrap(), "--seconds", "60", "--json"];
    let output = understudy(home.path(), &arguments);
    let said = [text(&output.stdout), text(&output.stderr)].concat();
    assert!(output.status.success(), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    for leak in ["failed", "leaked_leases", "leaked_sequences", "leaked_adapters"] {
        assert_eq!(report[leak], 0, "{leak}: {report}");
    }
    assert_eq!((&report["flat"], &report["seconds"]), (&true.into(), &60.into()), "{report}");
    let count = |name: &str| report[name].as_u64().unwrap();
    assert!(count("swaps") > 50 && count("rollbacks") > 10, "{report}");
    assert!(count("finished") > 50 && count("cancelled") > 10, "{report}");
}
