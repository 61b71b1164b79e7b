//! Lessons out of one memory and into another, and what a recorded reply met.

use std::fs;

use serde_json::{Value, json};

use super::{
    home::Home,
    served::{Served, chat},
};
use crate::cli::text;

#[test]
fn lessons_go_to_another_memory_and_come_back_equal() {
    let (home, chosen) = Home::serving(160, &["refunds.quote", "shipments.history"]);
    assert_eq!(home.code("memory export --out lessons.jsonl"), 0);
    assert_eq!(home.code("memory export --out lessons.jsonl"), 2, "no file is written over");
    let lines = fs::read_to_string(home.path().join("lessons.jsonl")).unwrap();
    home.holds_nothing_hidden([("the export".to_owned(), lines.as_bytes())]);
    let active = home.run("memory export --status active");
    assert_eq!(text(&active.stdout).lines().count(), chosen.len());

    // A new memory beside the same journal, with the same key.
    let kept = home.path().join("kept");
    fs::rename(home.memory(), &kept).unwrap();
    fs::create_dir(home.memory()).unwrap();
    fs::copy(kept.join("key"), home.memory().join("key")).unwrap();
    assert_eq!(home.code("memory import lessons.jsonl --reason check --dry-run"), 0);
    assert_eq!(home.code("memory list"), 1, "nothing was proposed yet");
    let taken = home.json("memory import lessons.jsonl --reason staging --owner ada");
    assert_eq!(taken["lessons"].as_array().unwrap().len(), lines.lines().count(), "{taken}");
    let item = |id: &str| home.json(&format!("memory explain {id}"))["lesson"].clone();
    let sent: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &sent {
        let here = item(line["lesson"]["id"].as_str().unwrap());
        assert_eq!((&here["item"], &here["status"]), (&line["lesson"], &json!("proposed")));
    }
    let user = lines.replacen("\"scope\":\"deployment\"", "\"scope\":\"user\"", 1);
    fs::write(home.path().join("mixed.jsonl"), user).unwrap();
    home.refuses("memory import mixed.jsonl --reason x", "line 1: ");
    home.refuses("memory import mixed.jsonl --reason x", "never leave their user");
}

#[test]
fn releases_are_compared_and_a_reply_tells_what_it_met() {
    let (home, _) = Home::serving(160, &["refunds.quote"]);
    home.release(&["shipments.history"]);
    let releases = home.json("memory list --releases");
    let name = |nth: usize| releases[nth]["release"].as_str().unwrap()[..12].to_owned();
    let serves = usize::from(releases[1]["serves"] == true);
    let (new, old) = (name(serves), name(1 - serves));
    let diff = home.json(&format!("memory diff {old} {new}"));
    let added = diff["diff"]["added"].as_array().unwrap().len();
    assert!(added > 0 && diff["diff"]["removed"].as_array().unwrap().is_empty(), "{diff}");
    let back = home.json(&format!("memory diff {new} {old}"));
    assert_eq!(back["diff"]["removed"].as_array().unwrap().len(), added, "{back}");
    assert_eq!(home.code(&format!("memory diff {new}")), 1, "what serves is what serves");
    assert_eq!(home.code("memory diff 12345678"), 2);

    let server = Served::start(&home);
    let (headers, body) = server.post("/v1/chat/completions", &chat("please refund my order"));
    let shown = headers.lines().find_map(|line| line.strip_prefix("x-memory-ids: ")).unwrap();
    let reply: Value = serde_json::from_str(&body).unwrap();
    let id = reply["id"].as_str().unwrap().to_owned();
    drop(server);
    let told = home.json(&format!("memory explain {id}"));
    assert_eq!(told["response"], json!(id));
    assert!(told["met"]["release"].as_str().unwrap().starts_with(&new), "{told}");
    let then: Vec<&str> =
        told["met"]["shown"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!(then.join(","), shown);
    let considered = told["considered"].as_array().unwrap();
    let of = |decision: &str| considered.iter().filter(|one| one["decision"] == decision).count();
    assert_eq!(of("shown"), then.len(), "nothing has changed since: {told}");
    assert!(considered.iter().all(|one| one["score"].is_number() && one["relevance"].is_number()));
    assert!(told["budget"].as_u64() > told["retrieved"]["tokens"].as_u64(), "{told}");
    let said = home.run(&format!("memory explain {id}"));
    let said = text(&said.stdout);
    assert!(said.contains("shown then") && said.contains(" tokens"), "{said}");
    assert_eq!(home.code("memory explain chatcmpl-none"), 2);
}
