//! Evaluations of lessons that could say nothing of them, each refused with its reason.

use std::fs;

use serde_json::json;
use understudy_ident::{Timestamp, TrajectoryId};
use understudy_inference::HashingEmbedder;
use understudy_manifest::Suite;
use understudy_memory::{
    By, Choice, Deployment, DeploymentItem, Distiller, MemoryId, MemoryRoot, Written,
};

use super::home::{Home, two_cases};

const EVAL: &str = "eval base --baseline base --suite desk --mock-engine";

#[test]
fn lessons_that_are_not_there_are_not_evaluated() {
    let home = Home::new(1);
    home.suite("desk", "dev", &two_cases());
    home.refuses(&format!("{EVAL} --memory serves"), "no memory release serves");
    home.refuses(&format!("{EVAL} --memory ffffffff"), "there is no memory release ffffffff");
    home.refuses(&format!("{EVAL} --memory ff"), "there is no memory release ff");
    home.refuses(&format!("{EVAL} --agent desk"), "--agent says whose lessons are shown");
    home.refuses("eval base --memory serves --suite moon --mock-engine", "moon");
    fs::remove_file(home.path().join("memory.toml")).unwrap();
    home.refuses(&format!("{EVAL} --memory serves"), "there is no memory.toml here or above");
}

#[test]
fn lessons_that_nobody_would_be_shown_are_not_evaluated() {
    let (home, _) = Home::serving(120, &["refunds.quote"]);
    home.suite("desk", "dev", &two_cases());
    let line = format!("{EVAL} --memory serves");
    assert!(matches!(home.code(&line), 0 | 1 | 3), "the evaluation itself is a sound one");
    let nobody = format!("{line} --agent nobody");
    home.refuses(&nobody, "gets a lesson of memory release");
    home.refuses(&nobody, "--agent names whose lessons are meant");
    home.refuses(&format!("{line} --baseline-memory serves"), "would be held against itself");
    // Whoever has answered before can be shown nothing any more.
    let answers = two_cases().map(|(id, _)| json!({"id": id, "output": "x"}).to_string());
    fs::write(home.path().join("told.jsonl"), answers.join("\n")).unwrap();
    let recorded = "eval told.jsonl --baseline base --suite desk --mock-engine";
    home.refuses(&format!("{recorded} --memory serves"), "was answered before");
    let recorded = "eval base --baseline told.jsonl --suite desk --mock-engine";
    home.refuses(&format!("{recorded} --baseline-memory serves"), "was answered before");
    // Another tenant's memory is another memory, whatever release is named.
    let release = home.json("memory list --releases")[0]["release"].as_str().unwrap().to_owned();
    let file = home.path().join("memory.toml");
    let other = fs::read_to_string(&file).unwrap().replace("greyhaven", "elsewhere");
    fs::write(&file, other).unwrap();
    home.refuses(&line, "no memory release serves");
    let named = format!("{EVAL} --memory {release}");
    home.refuses(&named, &format!("there is no memory release {release}"));
}

#[test]
fn lessons_are_not_evaluated_by_the_cases_that_taught_them() {
    let home = Home::new(1);
    home.suite("desk", "gate", &two_cases());
    let suites = home.path().join(".understudy/suites");
    let suite = super::home::files(&suites)
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .find_map(|text| Suite::parse(&text).ok())
        .unwrap();
    let file = fs::read_to_string(home.path().join("memory.toml")).unwrap();
    let Deployment { tenant, settings, catalogue, .. } = Deployment::parse(&file).unwrap();
    let root = MemoryRoot::open(&home.memory(), settings).unwrap();
    let (key, now) = (root.key_of(&tenant), Timestamp::now());
    let written = Written {
        agent: Some("desk"),
        intent: Some("refund-order"),
        tools: &["refunds.quote", "refunds.create"],
        situation: "When a task needs `refunds.create`",
        strategy: "prefer calling `refunds.quote` first.",
        prefer: &["refunds.quote"],
        ..Written::default()
    };
    let mut item = DeploymentItem::written(&written, &catalogue, &key, now).unwrap();
    let case = TrajectoryId::derived(&format!("case {}", suite.cases[0].digest()));
    item.provenance.origins.push(key.name("source", case.as_str()));
    item.provenance.distiller = Distiller::Human;
    let id: MemoryId = item.id.clone();
    let by = By::new("ada", "a test", now).unwrap();
    let store = root.deployment(&tenant).unwrap();
    store.propose(item, &HashingEmbedder, &by).unwrap();
    store.validate(&id, &by).unwrap();
    store.release(&root.releases(&tenant), "hashing@1", &Choice::default(), &by).unwrap();
    let why = format!("lesson {id} of memory release");
    home.refuses(&format!("{EVAL} --memory serves --agent desk"), &why);
    home.refuses(&format!("{EVAL} --memory serves --agent desk"), "evaluate on another suite");
    home.refuses(&format!("{EVAL} --baseline-memory serves --agent desk"), &why);
}
