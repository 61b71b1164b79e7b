//! The command line as a user meets it: exit codes, messages, and nothing lost on bad input.

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

pub(crate) fn understudy(home: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_understudy"))
        .current_dir(home)
        .env_remove("UNDERSTUDY_DATA_DIR")
        .args(arguments)
        .output()
        .unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A directory with a recipe, rows to import and a held-out case.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let rows: Vec<String> = (0..40)
        .map(|n| format!(r#"{{"q":"question number {n} about topic {}","a":"answer {n}"}}"#, n % 7))
        .collect();
    std::fs::write(home.path().join("rows.jsonl"), rows.join("\n")).unwrap();
    std::fs::write(
        home.path().join("cases.jsonl"),
        r#"{"q":"question number 3 about topic 3","a":"answer 3"}"#,
    )
    .unwrap();
    let recipe = "schema = 1\ntask = \"quiz\"\nbase = \"smollm2-135m-instruct\"\n\
                  [data]\nmin_verified = 5\n[[train]]\nmethod = \"sft\"\n";
    std::fs::write(home.path().join("quiz.toml"), recipe).unwrap();
    home
}

const ROWS: &[&str] = &["--task", "quiz", "--format", "rows", "--input", "q", "--output", "a"];

fn import(home: &Path, extra: &[&str]) -> Value {
    let arguments = [&["import", "rows.jsonl", "--json"], ROWS, extra].concat();
    let output = understudy(home, &arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn importing_twice_adds_nothing() {
    let home = home();
    assert_eq!(import(home.path(), &[])["added"], 80);
    let again = import(home.path(), &[]);
    assert_eq!((&again["added"], &again["duplicates"]), (&0.into(), &80.into()));
}

#[test]
fn attempts_at_one_problem_are_told_as_a_group() {
    let home = home();
    let trial = |trial: u32, reward: f64| {
        serde_json::json!({
            "task_id": 7, "trial": trial, "reward": reward, "info": {}, "traj": [
                {"role": "system", "content": "policy"},
                {"role": "user", "content": "cancel my order"},
                {"role": "assistant", "content": format!("answer {trial}")},
            ],
        })
    };
    let rows = serde_json::json!([trial(0, 1.0), trial(1, 0.0), trial(2, 0.0)]);
    std::fs::write(home.path().join("trials.json"), rows.to_string()).unwrap();
    let arguments = ["import", "trials.json", "--task", "retail", "--format", "tau-bench"];
    let output = understudy(home.path(), &arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(
        said.contains("problems tried more than once: 1, with 3 attempts; 1 with unequal"),
        "{said}"
    );
    assert!(said.contains("2 pairs"), "{said}");
    let output = understudy(home.path(), &[&arguments[..], &["--json"]].concat());
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["groups"][0]["attempts"].as_array().unwrap().len(), 3, "{told}");
    let help = text(&understudy(home.path(), &["import", "--help"]).stdout);
    for format in ["tau-bench", "atif", "langsmith", "otlp"] {
        assert!(help.contains(format), "{help}");
    }
}

#[test]
fn a_sample_is_always_the_same_rows() {
    let (one, other) = (home(), home());
    assert_eq!(import(one.path(), &["--sample", "10"])["added"], 20);
    import(other.path(), &["--sample", "10"]);
    let digest = |home: &Path| {
        let output = understudy(home, &["dataset", "build", "quiz.toml", "--json"]);
        let manifest: Value = serde_json::from_slice(&output.stdout).unwrap();
        manifest["files"].clone()
    };
    assert_eq!(digest(one.path()), digest(other.path()));
}

#[test]
fn a_held_out_case_stays_out_of_the_dataset() {
    let home = home();
    import(home.path(), &[]);
    let suite = [
        "suite",
        "import",
        "cases.jsonl",
        "--name",
        "quiz",
        "--input",
        "q",
        "--output",
        "a",
        "--scorer",
        "exact",
    ];
    assert!(understudy(home.path(), &suite).status.success());
    let output = understudy(home.path(), &["dataset", "build", "quiz.toml", "--json"]);
    let manifest: Value = serde_json::from_slice(&output.stdout).unwrap();
    let stages = manifest["stages"].as_array().unwrap();
    let stage = stages.iter().find(|stage| stage["stage"] == "decontaminate").unwrap();
    assert!(stage["rows_out"].as_u64() < stage["rows_in"].as_u64(), "{stage}");
}

#[test]
fn a_wrong_recipe_names_file_line_and_the_nearest_key() {
    let home = home();
    let wrong = std::fs::read_to_string(home.path().join("quiz.toml")).unwrap();
    std::fs::write(home.path().join("wrong.toml"), wrong.replace("method", "methods")).unwrap();
    let output = understudy(home.path(), &["run", "wrong.toml", "--dry-run"]);
    assert_eq!(output.status.code(), Some(2));
    let message = text(&output.stderr);
    assert!(message.contains("wrong.toml:7"), "{message}");
    assert!(message.contains("did you mean `method`"), "{message}");
}

#[test]
fn bad_input_exits_two_and_says_what_to_do() {
    let home = home();
    for (arguments, word) in [
        (&["import", "nowhere.jsonl", "--task", "quiz"][..], "nowhere.jsonl"),
        (&["import", "rows.jsonl", "--task", "Bad Name"], "task name"),
        (&["import", "rows.jsonl", "--task", "quiz", "--format", "parquet"], "langsmith"),
        (&["eval", "base", "--suite", "missing"], "suite import"),
        (&["adapter", "show", "quiz@1"], "adapter list"),
        (&["release", "rollback", "quiz", "--reason", "x"], "nothing to roll back"),
        (&["run", "--resume", "run_x"], "run --list"),
        (&["frobnicate"], "unrecognized"),
    ] {
        let output = understudy(home.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let message = text(&output.stderr);
        assert!(message.contains(word), "{arguments:?}: {message}");
    }
}

#[test]
fn init_writes_a_recipe_that_parses_and_never_overwrites() {
    let home = tempfile::tempdir().unwrap();
    assert!(understudy(home.path(), &["init", "my-task"]).status.success());
    let recipe = std::fs::read_to_string(home.path().join("recipes/my-task.toml")).unwrap();
    understudy_manifest::Recipe::parse("my-task.toml", &recipe).unwrap();
    let output = understudy(home.path(), &["init", "my-task"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("nothing was written"));
    // What it wrote is what later commands find.
    assert!(understudy(home.path(), &["audit", "verify"]).status.success());
    assert!(home.path().join(".understudy/registry.db").is_file());
}

#[test]
fn every_command_has_an_example_or_subcommands() {
    let home = tempfile::tempdir().unwrap();
    let help = text(&understudy(home.path(), &["--help"]).stdout);
    let commands = help.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1);
    let names: Vec<&str> = commands
        .take_while(|line| !line.trim().is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(names.len() >= 14, "{names:?}");
    for name in names {
        let help = text(&understudy(home.path(), &[name, "--help"]).stdout);
        assert!(help.contains("Example") || help.contains("Commands:"), "{name} has no example");
    }
}

#[test]
fn a_policy_is_simulated_before_it_decides() {
    let home = home();
    let policy = "steps = [50, 100]\nmargin = 0.2\nmin_outcomes_per_step = 20\nmax_units = 300\n";
    std::fs::write(home.path().join("policy.toml"), policy).unwrap();
    let of = |command: &str, extra: &[&str]| {
        let common = ["release", command, "--policy", "policy.toml", "--replications", "5"];
        understudy(home.path(), &[&common, extra].concat())
    };
    let output = of("simulate", &["--scenario", "dead-replica", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let played: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(played[0]["rolled_back"]["count"], 5);
    assert!(played[0]["guards"]["errors"].as_u64().unwrap() >= 4, "{played}");
    let output = of("plan", &["--units-per-hour", "40"]);
    assert!(text(&output.stdout).contains("step 1, 50 %: 1.0 h for 20 outcomes per arm"));
    let refused = of("simulate", &["--scenario", "sunny"]);
    assert!(text(&refused.stderr).contains("is no scenario"));
    std::fs::write(home.path().join("policy.toml"), "control = \"pooled\"\n").unwrap();
    let refused = of("simulate", &[]);
    assert!(!refused.status.success());
    assert!(text(&refused.stderr).contains("`control` is pooled"), "{}", text(&refused.stderr));
}
