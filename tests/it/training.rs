//! Recipes of every method through the command line, on a tiny random model.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

fn understudy(home: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_understudy"))
        .current_dir(home)
        .env_remove("UNDERSTUDY_DATA_DIR")
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn base() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/model/llama")
}

/// A directory with imported rows and a recipe of these stages.
fn home(stages: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let rows: Vec<String> =
        (0..12).map(|n| format!(r#"{{"q":"question {n}","a":"answer {n}"}}"#)).collect();
    std::fs::write(home.path().join("rows.jsonl"), rows.join("\n")).unwrap();
    let base = base().display().to_string();
    let recipe = format!(
        "schema = 1\ntask = \"quiz\"\nbase = \"{base}\"\nprecision = \"f32\"\n[data]\n\
         min_verified = 1\n[lora]\nrank = 4\n{stages}"
    );
    std::fs::write(home.path().join("quiz.toml"), recipe).unwrap();
    let rows = ["--task", "quiz", "--format", "rows", "--input", "q", "--output", "a"];
    let output = understudy(home.path(), &[&["import", "rows.jsonl"], &rows[..]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    home
}

fn train(home: &Path, extra: &[&str]) -> Output {
    understudy(home, &[&["train", "quiz.toml", "--out", "out"], extra].concat())
}

fn lineage(directory: &Path) -> Value {
    let text = std::fs::read_to_string(directory.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&text).unwrap();
    manifest["stages"].as_array().unwrap().last().unwrap().clone()
}

const STAGES: &str = r#"
[[train]]
method = "sft"
epochs = 1

[[train]]
method = "dpo"
mine = 2

[[train]]
method = "kto"

[[train]]
method = "grpo"
rewards = [{ verify = "regex", pattern = "[a-m]" }]
group_size = 4
batch_size = 2
max_rounds = 2
max_new_tokens = 12
"#;

#[test]
fn every_method_trains_one_after_the_other() {
    let home = home(STAGES);
    let output = train(home.path(), &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let out = home.path().join("out");
    for stage in ["0-sft", "1-dpo", "2-kto", "3-grpo"] {
        assert!(out.join(stage).join("adapter_model.safetensors").is_file(), "{stage}");
        assert!(out.join(format!("{stage}.metrics.jsonl")).is_file(), "{stage}");
    }
    let grpo = lineage(&out.join("3-grpo"));
    assert_eq!((&grpo["steps"], &grpo["attempts"]), (&2.into(), &16.into()));
    assert_eq!(grpo["settings"]["advantage"]["std_ddof"], 1, "everything is resolved");
    assert!(lineage(&out.join("1-dpo"))["examples"].as_u64().unwrap() > 0, "pairs were mined");

    let shown = understudy(home.path(), &["run", "show", "out"]);
    let shown = text(&shown.stdout);
    assert!(shown.contains("grpo") && shown.contains("reward"), "{shown}");
}

#[test]
fn a_dry_run_says_what_every_stage_costs_and_writes_nothing() {
    let home = home(STAGES);
    let output = train(home.path(), &["--dry-run", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    let stages = plan["stages"].as_array().unwrap();
    assert_eq!(stages.len(), 4);
    for stage in stages {
        for key in ["steps", "flops", "memory_bytes", "seconds"] {
            assert!(stage[key].as_f64().unwrap() > 0.0, "{stage}");
        }
    }
    assert!(!home.path().join("out").exists());
}

#[test]
fn tasks_that_do_not_fit_the_model_are_refused_before_anything_is_sampled() {
    let home = home(
        "[[train]]\nmethod = \"grpo\"\nsource = \"environment\"\nenvironment = \"price_desk\"\n\
         group_size = 2\nbatch_size = 2\nmax_rounds = 1\nmax_new_tokens = 8\n",
    );
    let output = train(home.path(), &[]);
    assert_eq!(output.status.code(), Some(2));
    let message = text(&output.stderr);
    assert!(message.contains("do not fit the model's context of 256"), "{message}");
    assert!(!home.path().join("out/0-grpo").exists());
}

#[test]
fn a_stage_is_skipped_where_the_start_is_too_weak() {
    let home = home(
        "[[train]]\nmethod = \"sft\"\nepochs = 1\n[[train]]\nmethod = \"dpo\"\nmine = 2\n\
         min_sft_score = 0.9\n",
    );
    let output = train(home.path(), &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("min_sft_score"), "{}", text(&output.stdout));
    assert!(!home.path().join("out/1-dpo").exists());
}

#[test]
fn demonstrations_are_rows_that_can_be_imported() {
    let home = home("[[train]]\nmethod = \"sft\"\n");
    let shown =
        understudy(home.path(), &["environment", "demonstrate", "price_desk", "--count", "3"]);
    assert!(shown.status.success());
    std::fs::write(home.path().join("desk.jsonl"), &shown.stdout).unwrap();
    let import = ["import", "desk.jsonl", "--task", "desk", "--format", "trl", "--json"];
    let output = understudy(home.path(), &import);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let counted: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(counted["left_out"].as_array().map_or(0, Vec::len), 0, "{counted}");
    assert!(counted["added"].as_u64().unwrap() >= 12, "{counted}");
    let unknown = understudy(home.path(), &["environment", "demonstrate", "chess"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("price_desk"));
}

#[test]
fn an_adapter_merges_into_a_model_that_loads() {
    let home = home("[[train]]\nmethod = \"sft\"\nepochs = 1\n");
    assert!(train(home.path(), &[]).status.success());
    let base = base().display().to_string();
    let merge = ["adapter", "merge", "out/0-sft", "--base", &base, "--out", "merged"];
    let output = understudy(home.path(), &merge);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let logits = ["logits", "hello", "--base", "merged", "--out", "logits.json"];
    let output = understudy(home.path(), &logits);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let again = understudy(home.path(), &merge);
    assert_eq!(again.status.code(), Some(2), "nothing is overwritten");
}
