//! Attempts that are made to learn from, and lessons tried before their release.

use std::fs;

use super::home::{Home, told};
use crate::cli::text;

const PRACTICE: &str = "--environment desk --mock-engine --seed 17";

#[test]
fn attempts_teach_and_a_lesson_is_tried_on_other_requests() {
    let home = Home::new(1);
    let line = format!("memory learn --runs 4 --requests 48 {PRACTICE} --owner ada");
    let learnt = home.json(&line);
    let made = &learnt["attempts"];
    assert_eq!((made["requests"].as_u64(), made["runs"].as_u64()), (Some(48), Some(48 * 5)));
    assert!(learnt["report"]["learned"].as_u64().unwrap() >= 1, "{}", learnt["report"]);
    let propose = |first: &str| {
        let (tools, strategy) =
            (format!("{first},refunds.create"), format!("prefer calling `{first}` first."));
        let extra = ["--intent", "refund-order", "--tools", tools.as_str(), "--prefer", first];
        let proposed = home.propose("When a task needs `refunds.create`", &strategy, &extra);
        told(&proposed)["lesson"].as_str().unwrap().to_owned()
    };
    let replay = |id: &str| format!("memory replay {id} --requests 200 --runs 2 {PRACTICE}");
    let line = replay(&propose("refunds.quote"));
    let tried = home.json(&line);
    assert_eq!(tried["comparison"]["verdict"], "better", "{tried}");
    let kinds = tried["comparison"]["skipped"]["it is of another kind of task"].as_u64().unwrap();
    let requests = tried["comparison"]["requests"].as_u64().unwrap();
    assert_eq!((kinds > 0, requests + kinds), (true, 200), "{tried}");
    let said = home.run(&line);
    assert!(text(&said.stdout).contains("better: +"), "{}", text(&said.stdout));
    // What would do harm says so with its exit code, before anybody was shown it.
    assert_eq!(home.code(&replay(&propose("orders.cancel"))), 1);
}

#[test]
fn attempts_that_cannot_be_judged_are_refused_and_nothing_is_ignored() {
    let home = Home::new(120);
    assert_eq!(home.code("import desk.jsonl --task desk --format understudy"), 0);
    for (line, why) in [
        ("memory learn --requests 9", "say how many with --runs"),
        ("memory learn --runs 0 --mock-engine", "--runs 0 attempts nothing"),
        ("memory learn --runs 2 --environment moon --mock-engine", "there is `desk`"),
        ("memory learn --runs 2 --mock-engine", "set [teacher] in understudy.toml"),
        ("memory learn --attempts a.jsonl", "--runs"),
        ("memory learn --runs 2 --suite desk --attempts a.jsonl", "cannot be used with"),
        ("memory learn --runs 2 --attempts desk.jsonl", "desk.jsonl exists"),
    ] {
        home.refuses(line, why);
    }
    // The mock repeats what it is told, so no attempt is like the recording; none writes either.
    let learnt = home.json("memory learn --owner ada --reason weekly");
    let id = learnt["lessons"][0]["id"].as_str().unwrap();
    let tried = home.json(&format!("memory replay {id} --mock-engine --requests 30"));
    let compared = &tried["comparison"];
    assert_eq!(compared["verdict"], "inconclusive", "{tried}");
    assert!(compared["skipped"]["it taught the lesson"].as_u64().unwrap() > 0, "{tried}");
}

#[test]
fn attempts_that_taught_lessons_are_imported_and_train_a_model() {
    let home = Home::new(1);
    let line = format!("memory learn --runs 4 --requests 48 {PRACTICE} --attempts a.jsonl");
    let learnt = home.json(&line);
    let written = &learnt["written"];
    let (runs, steps) = (written["runs"].as_u64().unwrap(), written["steps"].as_u64().unwrap());
    assert!(runs > 10 && steps > runs, "{written}");
    let imported = home.json("import a.jsonl --task desk --format understudy");
    assert_eq!(imported["added"].as_u64().unwrap(), runs + steps, "{imported}");
    let recipe = "schema = 1\ntask = \"desk\"\nbase = \"smollm2-135m-instruct\"\n[data]\n\
                  min_reward = 0.8\nholdout = 0.0\n[[train]]\nmethod = \"dpo\"\n";
    fs::write(home.path().join("desk.toml"), recipe).unwrap();
    let built = home.json("dataset build desk.toml").to_string();
    assert!(built.contains("pairs.train.jsonl") && built.contains("sft.train.jsonl"), "{built}");
    // What nobody asked for teaches no lessons.
    let again = home.json("memory learn --dry-run");
    let skipped = &again["report"]["skipped"]["it was attempted to learn from before"];
    assert_eq!(skipped.as_u64(), Some(runs), "{}", again["report"]);
}
