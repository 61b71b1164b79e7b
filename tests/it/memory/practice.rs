//! Attempts that are made to learn from, and lessons tried before their release.

use serde_json::Value;

use super::home::Home;
use crate::cli::{text, understudy};

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
        let tools = format!("{first},refunds.create");
        let strategy = format!("prefer calling `{first}` first.");
        let arguments = [
            &["memory", "propose", "--owner", "ada", "--reason", "a test", "--agent", "desk"][..],
            &["--json", "--intent", "refund-order", "--tools", tools.as_str(), "--prefer", first],
            &["--situation", "When a task needs `refunds.create`", "--text", strategy.as_str()],
        ];
        let output = understudy(home.path(), &arguments.concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let proposed: Value = serde_json::from_slice(&output.stdout).unwrap();
        proposed["lesson"].as_str().unwrap().to_owned()
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
    ] {
        let refused = home.run(line);
        assert_eq!(refused.status.code(), Some(2), "{line}");
        assert!(text(&refused.stderr).contains(why), "{line}: {}", text(&refused.stderr));
    }
    // The mock repeats what it is told, so no attempt is like the recording; none writes either.
    let learnt = home.json("memory learn --owner ada --reason weekly");
    let id = learnt["lessons"][0]["id"].as_str().unwrap();
    let tried = home.json(&format!("memory replay {id} --mock-engine --requests 30"));
    let compared = &tried["comparison"];
    assert_eq!(compared["verdict"], "inconclusive", "{tried}");
    assert!(compared["skipped"]["it taught the lesson"].as_u64().unwrap() > 0, "{tried}");
}
