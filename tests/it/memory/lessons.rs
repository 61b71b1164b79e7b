//! Lessons on the command line, from traces to releases and back out.

use std::fs;

use serde_json::{Value, json};

use super::{
    home::{Home, any_holds, explain, told},
    served::late_carrier,
};
use crate::cli::{text, understudy};

#[test]
fn lessons_go_from_traces_to_requests_and_back_out_on_the_command_line() {
    let home = Home::new(160);
    assert_eq!(home.code("memory list"), 1, "there is nothing yet");
    let dry = home.json("memory learn --dry-run");
    assert!(dry["lessons"].as_array().unwrap().is_empty(), "before any import: {dry}");
    let learnt = home.learn();
    assert!(learnt["report"]["learned"].as_u64().unwrap() >= 2, "{}", learnt["report"]);
    // The same traces again teach the same, which is noted with what is known and not added.
    let count = home.json("memory list").as_array().unwrap().len();
    home.json("memory learn --owner ada --reason again");
    assert_eq!(home.json("memory list").as_array().unwrap().len(), count);
    assert_eq!(home.code("memory release --reason early"), 1, "nobody has approved anything");

    let chosen = home.release(&["refunds.quote", "shipments.history"]);
    assert_eq!(home.code("memory release --reason again"), 1, "nothing has changed");
    let active = home.json("memory list --status active");
    assert_eq!(active.as_array().unwrap().len(), chosen.len());
    let releases = home.json("memory list --releases");
    assert_eq!(releases[0]["serves"], true);
    let name = releases[0]["release"].as_str().unwrap().to_owned();

    let told = home.json(&format!("memory explain {}", chosen[0]));
    let operations: Vec<&str> = told["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["op"].as_str().unwrap())
        .collect();
    assert!(operations.starts_with(&["add"]) && operations.ends_with(&["validate", "activate"]));
    let asked = explain(&home, "please refund my order");
    let block = asked["retrieved"]["block"].as_str().unwrap();
    assert!(block.contains("`refunds.quote`"), "{block}");
    let irrelevant = explain(&home, "translate a poem about the sea");
    assert!(irrelevant["retrieved"]["block"].is_null(), "{irrelevant}");

    fs::write(home.path().join("failure.json"), late_carrier("ORD-1").to_string()).unwrap();
    let healed = home.run("memory heal failure.json --json");
    let reply: Value = serde_json::from_slice(&healed.stdout).unwrap();
    assert_eq!(healed.status.code(), Some(0), "{reply}");
    let way = &reply["candidates"][0];
    assert_eq!(
        (&reply["tier"], &reply["escalate"], &way["mode"], &way["tool"]),
        (&json!("low"), &json!(false), &json!("general_approach"), &json!("shipments.history")),
        "{reply}"
    );
    let line = format!("memory heal --lesson {} --worked yes", way["id"].as_str().unwrap());
    assert_eq!((home.code(&line), home.code(&line)), (0, 2), "once for each time it was offered");
    let counted = home.json(&format!("memory explain {}", way["id"].as_str().unwrap()));
    let counters = &counted["lesson"]["counters"];
    assert!(counters["heal_worked"].as_f64().unwrap() > 0.9, "{counted}");
    assert_eq!(counters["success_with"], 0.0, "nothing was shown to anybody: {counted}");
    let lost = late_carrier("ORD-1").to_string().replace("carrier", "depot");
    fs::write(home.path().join("failure.json"), lost).unwrap();
    assert_eq!(
        home.code("memory heal failure.json"),
        1,
        "a failure of another kind is not this one"
    );

    home.json("memory rollback --reason worse --owner ada");
    assert!(explain(&home, "please refund my order")["retrieved"]["block"].is_null());
    home.json(&format!("memory rollback --to {} --reason better --owner ada", &name[..12]));
    assert!(explain(&home, "please refund my order")["retrieved"]["block"].is_string());

    let sentence = told["lesson"]["item"]["strategy"]["text"].as_str().unwrap();
    assert!(any_holds(&home.memory(), sentence));
    assert_eq!(home.code(&format!("memory forget {} --reason asked", chosen[0])), 0);
    assert!(!any_holds(&home.memory(), sentence), "{sentence}");
    assert_eq!(home.code(&format!("memory explain {}", chosen[0])), 2);
    assert_eq!(home.code("memory forget --user nobody@example.org --reason left"), 1);
    for line in [
        "memory forget --reason x",
        "memory list --status odd",
        "memory rollback --to 12345678 --reason x",
    ] {
        assert_eq!(home.code(line), 2, "{line}");
    }
}

#[test]
fn a_release_is_a_version_that_the_registry_admits_watches_and_takes_back() {
    let (home, _) = Home::serving(120, &["refunds.quote"]);
    // Nothing is open, which its exit code says.
    let status = home.run("release status memory-greyhaven --json");
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["stable"], "memory-greyhaven@1", "{status}");
    let releases = home.json("memory list --releases");
    assert_eq!(
        (&releases[0]["version"], &releases[0]["status"], &releases[0]["serves"]),
        (&json!("memory-greyhaven@1"), &json!("registered"), &json!(true))
    );
    // Another lesson, on trial: refused without a report, admitted by whoever answers for it.
    let waiting = home.json("memory review");
    let id = waiting[0]["item"]["id"].as_str().unwrap().to_owned();
    assert_eq!(home.code(&format!("memory review {id} --approve --reason read")), 0);
    let trial = "memory release --canary --owner ada --reason trial";
    let refused = home.run(trial);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("needs a passing report"), "{}", text(&refused.stderr));
    let forced = [
        "memory",
        "release",
        "--canary",
        "--force",
        "--owner",
        "ada",
        "--json",
        "--reason",
        "there is no suite for the desk yet",
    ];
    let started = understudy(home.path(), &forced);
    let started = told(&started);
    assert_eq!(
        (&started["version"], &started["served"]),
        (&json!("memory-greyhaven@2"), &json!(false))
    );
    assert_eq!(home.json("memory list --releases").as_array().unwrap().len(), 2);
    assert_eq!(home.json(&format!("memory explain {id}"))["lesson"]["status"], "validated");
    let open = home.json("release status memory-greyhaven");
    assert_eq!(open["open"]["state"], "staging");
    // Taken off before it met anybody: the lesson waits, and what served never stopped.
    assert_eq!(home.code("memory rollback --owner ada --reason doubts"), 0);
    assert_eq!(home.json(&format!("memory explain {id}"))["lesson"]["status"], "suspended");
    assert!(explain(&home, "please refund my order")["retrieved"]["block"].is_string());
    let history = home.json("release history memory-greyhaven");
    let states: Vec<&Value> =
        history["releases"].as_array().unwrap().iter().map(|release| &release["state"]).collect();
    assert_eq!(states, ["promoted", "rolled_back"]);
    assert_eq!(home.code("audit verify"), 0);
    // No word of a lesson is in the registry, whose entries are never deleted.
    let registry = home.path().join(".understudy/registry.db");
    let bytes = fs::read(registry).unwrap();
    assert!(!bytes.windows(13).any(|window| window == b"refunds.quote"));
}

#[test]
fn runs_that_repeat_a_case_teach_nothing_that_is_judged_by_it() {
    let home = Home::new(120);
    let lines = fs::read_to_string(home.path().join("desk.jsonl")).unwrap();
    let goals = lines.lines().filter_map(|line| {
        let step: Value = serde_json::from_str(line).unwrap();
        let prompt = step["step"]["prompt"].as_array()?.clone();
        let user = prompt.into_iter().find(|message| message["role"] == "user")?;
        Some(user["content"].as_str()?.to_owned())
    });
    let goals: Vec<String> = goals.collect();
    assert_eq!(goals.len(), 120);
    let cases = goals.into_iter().enumerate().map(|(n, goal)| (format!("c{n}"), goal));
    home.suite("desk", "gate", &cases.collect::<Vec<_>>());
    let learnt = home.learn();
    let report = &learnt["report"];
    assert_eq!(
        (&report["learned"], &report["skipped"]["it repeats a case of a suite"]),
        (&json!(0), &json!(120)),
        "{report}"
    );
}

#[test]
fn a_way_out_is_written_by_hand_and_found_where_it_belongs() {
    let home = Home::new(1);
    let propose = |extra: &[&str]| {
        let strategy = "prefer calling `shipments.history` and go on from there.";
        home.propose("When `shipments.track` fails", strategy, extra)
    };
    let message = "carrier did not answer for \"ORD-9\" within 30000 ms for \"ORD-9\" (504)";
    let way = ["--tactic", "alternative_tool", "--prefer", "shipments.history"];
    let refused = propose(&way);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("needs --error, --target"), "{}", text(&refused.stderr));
    let wrong = propose(&["--tactic", "pray", "--error", message]);
    assert!(text(&wrong.stderr).contains("retry_variation"), "{}", text(&wrong.stderr));
    let place = ["--target", "desk", "--error", message];
    let written = propose(&[&way[..], &place[..]].concat());
    assert!(written.status.success(), "{}", text(&written.stderr));
    home.release(&["shipments.history"]);
    fs::write(home.path().join("failure.json"), late_carrier("ORD-1").to_string()).unwrap();
    let healed = home.json("memory heal failure.json");
    assert_eq!(
        (&healed["tier"], &healed["candidates"][0]["mode"], &healed["candidates"][0]["tool"]),
        (&json!("high"), &json!("copy_solution"), &json!("shipments.history")),
        "{healed}"
    );
}
