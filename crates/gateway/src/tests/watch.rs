//! Following a server's routes, and what its loops say.

use std::{thread, time::Instant};

use serde_json::json;
use understudy_router::{Canary, Exposure, Salt};

use super::*;
use crate::wire::WatchAnswer;

impl Server {
    fn watch(&self, node: &str, answer: Option<&WatchAnswer>, wait_ms: u64) -> WatchAnswer {
        let (epoch, since) = answer.map_or(("", 0), |a| (a.epoch.as_str(), a.sequence));
        let query = format!("node={node}&epoch={epoch}&since={since}&wait_ms={wait_ms}");
        let reply = self.get(&format!("/api/v1/watch?{query}"));
        assert_eq!(reply.status, 200, "{}", reply.text);
        serde_json::from_str(&reply.text).unwrap()
    }
}

#[test]
fn a_change_is_told_at_once_and_its_absence_in_time() {
    let server = start();
    server.route("triage", Target::Base);
    let first = server.watch("one", None, 0);
    let told = first.table.as_ref().unwrap();
    assert_eq!(told.tasks[&"triage".parse().unwrap()].route, Route::to(Target::Base));
    let begun = Instant::now();
    let still = server.watch("one", Some(&first), 300);
    assert!(still.table.is_none() && begun.elapsed().as_millis() >= 300);
    assert_eq!(still.sequence, first.sequence);
    let (told, heard) = thread::scope(|scope| {
        let waiting = scope.spawn(|| (server.watch("one", Some(&first), 8_000), Instant::now()));
        thread::sleep(std::time::Duration::from_millis(200));
        let published = Instant::now();
        server.route("triage", Target::Teacher);
        let (answer, heard) = waiting.join().unwrap();
        (answer, heard - published)
    });
    assert_eq!(told.table.unwrap().tasks[&"triage".parse().unwrap()].route.stable, Target::Teacher);
    assert!(heard.as_secs() < 4, "the answer waited for the deadline: {heard:?}");
    // A table of another process is another table, whatever its number.
    let foreign = WatchAnswer { epoch: "run_before".to_owned(), ..first };
    assert!(server.watch("one", Some(&foreign), 8_000).table.is_some());
}

#[test]
fn asking_on_is_the_acknowledgement_and_nodes_are_listed_with_it() {
    let server = start();
    server.route("triage", Target::Base);
    let first = server.watch("one", None, 0);
    server.watch("two", None, 0);
    server.watch("one", Some(&first), 0);
    let listing = server.get("/api/v1/watch/nodes").json();
    assert_eq!((&listing["acknowledged"], &listing["sequence"]), (&json!(1), &json!(1)));
    assert_eq!(listing["nodes"][0]["node"], "one");
    assert_eq!(listing["nodes"][0]["is_current"], true);
    assert_eq!(listing["nodes"][1]["is_current"], false);
    assert!(listing["nodes"][1]["lease_left_ms"].as_u64().unwrap() > 0);
    server.route("triage", Target::Teacher);
    assert_eq!(server.get("/api/v1/watch/nodes").json()["acknowledged"], 0);
}

#[test]
fn a_table_names_the_files_of_its_adapters_and_only_those_can_be_had() {
    let server = start();
    let version = server.directory.path().join("adapters").join("triage").join("1");
    std::fs::create_dir_all(&version).unwrap();
    std::fs::write(version.join("adapter_config.json"), "{}").unwrap();
    std::fs::write(server.directory.path().join("adapters").join("secret"), "x").unwrap();
    let target = Target::Adapter { version: "triage@1".into(), generation: "g".into() };
    let canary = Canary { target, share: Exposure::new(0.1).unwrap(), salt: Salt::new([3; 16]) };
    let route = Route { canary: Some(canary), ..Route::to(Target::Base) };
    server.routes.publish("triage".parse().unwrap(), route, Some("rel_1".to_owned()));
    let told = server.watch("one", None, 0).table.unwrap();
    assert_eq!(told.adapters[0].files, ["adapter_config.json"]);
    let file = |name: &str| server.get(&format!("/api/v1/watch/adapters/triage@1/{name}"));
    assert_eq!(file("adapter_config.json").text, "{}");
    for wrong in ["other.json", "..%2F..%2Fsecret", "%2E%2E%2F%2E%2E%2Fsecret", "..%2F.."] {
        assert_eq!(file(wrong).status, 404, "{wrong}");
    }
}

#[test]
fn what_a_follower_served_and_heard_is_in_our_journal_once() {
    let (here, there) = (start(), start());
    there.route("triage", Target::Base);
    let chat = json!({"model": "triage", "messages": [{"role": "user", "content": "hi"}]});
    let id = there.post("/v1/chat/completions", &chat).json()["id"].clone();
    let accept = json!({"id": "out_1", "response_id": id, "signal": "accept"});
    assert_eq!(there.post("/v1/feedback", &accept).status, 202);
    let records: Vec<Value> = there
        .journal
        .follow(0, 10)
        .unwrap()
        .into_iter()
        .map(|arrival| match arrival.entry {
            understudy_journal::Entry::Step(step) => json!({"entry": "step", "body": step}),
            understudy_journal::Entry::Outcome(outcome) => {
                json!({"entry": "outcome", "body": outcome})
            }
        })
        .collect();
    assert_eq!(records.len(), 2);
    for _ in 0..2 {
        let body = json!({"node": "one", "records": records});
        let reply = here.post("/api/v1/watch/arrivals", &body);
        assert_eq!((reply.status, &reply.json()["records"]), (200, &json!(2)));
    }
    let counts = here.journal.counts().unwrap();
    assert_eq!((counts.steps, counts.outcomes, counts.pending_outcomes), (1, 1, 0));
    let wrong = here.post("/api/v1/watch/arrivals", &json!({"node": "one", "records": [{}]}));
    assert_eq!(wrong.status, 400, "{}", wrong.text);
}

#[test]
fn a_loop_is_shown_as_it_last_said() {
    let server = start();
    assert_eq!(server.get("/api/v1/loop").json(), json!({"loops": []}));
    let missing = server.get("/api/v1/loop/triage");
    assert_eq!(missing.status, 404);
    assert!(missing.text.contains("--loop"), "{}", missing.text);
    server.board.post("triage", json!({"state": "waiting"}));
    server.board.post("triage", json!({"state": "working"}));
    assert_eq!(server.get("/api/v1/loop/triage").json()["state"], "working");
    assert_eq!(server.get("/api/v1/loop").json()["loops"].as_array().unwrap().len(), 1);
}
