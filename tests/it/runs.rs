//! `understudy run show` as a user meets it: over a directory of `train`, a logged run, `latest`,
//! and over what a kill leaves behind.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};
use understudy_ident::{Digest, SystemClock};
use understudy_manifest::{AdapterManifest, DatasetLineage, Recipe, StageLineage};
use understudy_orchestrator::RunStore;

const RECIPE: &str = "schema = 1\ntask = \"quiz\"\nbase = \"smollm2-135m-instruct\"\n\
                      [data]\n[[train]]\nmethod = \"sft\"\n[[train]]\nmethod = \"dpo\"\n";

fn show(home: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_understudy"))
        .current_dir(home)
        .env_remove("UNDERSTUDY_DATA_DIR")
        .env("USER", "ada")
        .args(["run", "show"])
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn shown(home: &Path, arguments: &[&str]) -> String {
    let output = show(home, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn complaint(home: &Path, arguments: &[&str]) -> String {
    let output = show(home, arguments);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    text(&output.stderr)
}

fn recipe() -> Recipe {
    Recipe::parse("quiz.toml", RECIPE).unwrap()
}

/// Four steps of imitation, the third without a finite norm.
fn sft_metrics() -> String {
    let line = |step: u64| {
        let metrics = json!({
            "step": step, "epoch": step as f64 / 2.0, "loss": 4.0 / step as f64,
            "learning_rate": 1e-3, "grad_norm": (step != 3).then_some(0.5),
            "num_tokens": 100 * step, "tokens_per_second": 50.0, "mean_token_accuracy": 0.25,
            "entropy": 1.5,
        });
        format!("{metrics}\n")
    };
    (1..=4).map(line).collect()
}

fn dpo_metrics() -> String {
    let advice = "chosen_log_prob at step 2: chosen replies become less likely; raise sft_weight";
    let line = |step: u64| {
        let mut metrics = json!({
            "step": step, "epoch": step as f64 / 4.0, "loss": 0.69, "rewards/accuracies": 1.0,
            "rewards/margins": 0.1 * step as f64, "logps/chosen": -10.0,
        });
        if step == 2 {
            metrics["advice"] = advice.into();
        }
        format!("{metrics}\n")
    };
    (1..=2).map(line).collect()
}

/// What a finished stage leaves: an adapter with its manifest.
fn adapter(directory: &Path) {
    let lineage = StageLineage {
        settings: recipe().train[0].clone(),
        lora: recipe().lora,
        steps: 4,
        examples: 8,
        tokens: 400,
        first_loss: 4.0,
        last_loss: 1.0,
        skipped_steps: 0,
        seconds: 8.0,
        peak_memory_bytes: 0,
        left_out: 0,
        attempts: 0,
        stopped: None,
        notes: Vec::new(),
        offpolicy_unsound: false,
    };
    let digest = Digest::of(b"x");
    let dataset = DatasetLineage {
        version: format!("quiz@{digest}").parse().unwrap(),
        sft_rows: 8,
        pair_rows: 0,
    };
    let manifest = AdapterManifest {
        schema: AdapterManifest::SCHEMA,
        task: "quiz".to_owned(),
        base: "smollm2-135m-instruct".to_owned(),
        base_digest: String::new(),
        tokenizer_digest: String::new(),
        template_digest: String::new(),
        recipe_digest: recipe().digest(),
        dataset,
        parent: None,
        stages: vec![lineage],
        code_version: String::new(),
        device: "cpu".to_owned(),
        threads: 1,
        run: None,
        attestation: None,
    };
    fs::create_dir_all(directory).unwrap();
    let json = serde_json::to_vec(&manifest).unwrap();
    fs::write(directory.join(AdapterManifest::FILE), json).unwrap();
}

/// A directory of `understudy train` whose second stage was killed in the middle of a line.
fn trained(home: &Path) -> String {
    let directory = home.join("trained");
    adapter(&directory.join("0-sft"));
    let job = json!({"recipe": recipe(), "stage": 0});
    fs::write(directory.join("0-sft.job.json"), job.to_string()).unwrap();
    fs::write(directory.join("0-sft.metrics.jsonl"), sft_metrics()).unwrap();
    let torn = dpo_metrics() + "{\"step\":3,\"epo";
    fs::write(directory.join("1-dpo.metrics.jsonl"), torn).unwrap();
    "trained".to_owned()
}

#[test]
fn a_directory_shows_its_stages_with_sparklines_and_what_is_wrong() {
    let home = tempfile::tempdir().unwrap();
    let shown = shown(home.path(), &[&trained(home.path())]);
    for line in [
        "task quiz, base smollm2-135m-instruct",
        "stage 1 sft: trained, 4 steps in 8 s",
        "█▃▂▁",
        "4 → 1",
        "(1 to 4)",
        "stage 2 dpo: step 2, epoch 0.50 of 1, last written",
        "! chosen_log_prob at step 2",
        "the line after step 2 is torn",
    ] {
        assert!(shown.contains(line), "no `{line}` in:\n{shown}");
    }
    let names: Vec<&str> = shown
        .lines()
        .filter(|line| line.contains('→'))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let usual = "loss mean_token_accuracy entropy grad_norm tokens_per_second \
                 loss rewards/accuracies rewards/margins logps/chosen";
    assert_eq!(names, usual.split_whitespace().collect::<Vec<_>>());
    assert!(!home.path().join(".understudy").exists(), "looking created a data directory");
}

#[test]
fn the_same_as_json_has_every_point() {
    let home = tempfile::tempdir().unwrap();
    let directory = trained(home.path());
    let shown = shown(home.path(), &[&directory, "--json", "--metrics", "loss,grad_norm"]);
    let value: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&value["task"], &value["ending"]), (&"quiz".into(), &Value::Null));
    let [sft, dpo] = value["stages"].as_array().unwrap().as_slice() else { panic!("{value}") };
    assert_eq!(sft["progress"]["state"], "trained");
    assert_eq!(sft["metrics"]["loss"]["points"][0], json!([1.0, 4.0]));
    assert_eq!(sft["metrics"]["grad_norm"]["points"][2], json!([3.0, null]));
    assert_eq!(sft["metrics"].as_object().unwrap().len(), 2);
    assert_eq!(dpo["progress"]["state"], "unfinished");
    assert_eq!((&dpo["step"], &dpo["torn"]), (&2.into(), &true.into()));
    assert_eq!(dpo["metrics"]["loss"]["last"], 0.69);
    assert_eq!(dpo["advice"][0][0], 2);
}

#[test]
fn a_plot_has_a_panel_per_metric_and_a_line_per_stage() {
    let home = tempfile::tempdir().unwrap();
    let directory = trained(home.path());
    shown(home.path(), &[&directory, "--svg", "plots/quiz.svg"]);
    let svg = fs::read_to_string(home.path().join("plots/quiz.svg")).unwrap();
    // Of nine curves the two losses share a panel.
    assert_eq!(svg.matches("<g ").count(), 8, "{svg}");
    for text in [">quiz · trained<", ">1 sft<", ">2 dpo<", ">rewards/margins<"] {
        assert!(svg.contains(text), "no {text} in the plot");
    }
    assert_eq!(svg.matches("class=\"line s1\"").count(), 5, "a legend entry and four curves");
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    for tag in ["g", "text", "style", "title"] {
        let opened =
            svg.matches(&format!("<{tag}>")).count() + svg.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, svg.matches(&format!("</{tag}>")).count(), "{tag} is left open");
    }
}

#[test]
fn a_logged_run_is_shown_by_its_id_and_as_the_latest() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join(".understudy");
    fs::create_dir(&data).unwrap();
    let store = RunStore::open(&data.join("runs.db"), Box::new(SystemClock)).unwrap();
    let run = store.begin(&recipe(), "ada", "to see", None).unwrap();
    let waiting = shown(home.path(), &["latest"]);
    assert!(waiting.contains("stage 1 sft: not begun"), "{waiting}");

    let directory = data.join("runs").join(run.id.as_str());
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("0-sft.metrics.jsonl"), sft_metrics()).unwrap();
    for name in ["latest", run.id.as_str()] {
        let shown = shown(home.path(), &[name]);
        assert!(shown.starts_with(&format!("run {}: unfinished", run.id)), "{shown}");
        assert!(shown.contains("stage 1 sft: step 4, epoch 2.00 of"), "{shown}");
        assert!(shown.contains("stage 2 dpo: not begun"), "{shown}");
    }
    let message = complaint(home.path(), &["run_nowhere"]);
    assert!(message.contains(run.id.as_str()), "the known run is not named: {message}");
}

#[test]
fn what_cannot_be_shown_says_why() {
    let home = tempfile::tempdir().unwrap();
    let directory = trained(home.path());
    fs::create_dir(home.path().join("empty")).unwrap();
    for (arguments, word) in [
        (&["latest"][..], "nothing has been trained"),
        (&["nowhere"], "no run or directory `nowhere`"),
        (&["empty"], "0-sft.metrics.jsonl"),
        (&[&directory, "--metrics", "lose"], "mean_token_accuracy"),
        (&[&directory, "--follow"], "terminal"),
        (&[], "<RUN>"),
    ] {
        let message = complaint(home.path(), arguments);
        assert!(message.contains(word), "{arguments:?}: {message}");
    }
    fs::remove_file(home.path().join("trained/0-sft.metrics.jsonl")).unwrap();
    assert!(complaint(home.path(), &[&directory]).contains("are gone"));
}

#[test]
fn a_recipe_and_the_list_are_still_what_run_takes() {
    let home = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_understudy"))
            .current_dir(home.path())
            .env_remove("UNDERSTUDY_DATA_DIR")
            .env("USER", "ada")
            .arg("run")
            .args(arguments)
            .output()
            .unwrap()
    };
    let list = run(&["--list", "--json"]);
    assert_eq!((list.status.code(), text(&list.stdout).trim()), (Some(0), "[]"));
    let missing = run(&["missing.toml", "--owner", "eve"]);
    assert!(text(&missing.stderr).contains("failed to read the recipe missing.toml"));
    let mixed = run(&["--list", "show", "latest"]);
    assert_eq!(mixed.status.code(), Some(2), "{}", text(&mixed.stdout));
}
