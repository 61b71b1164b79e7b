//! That nothing anybody said leaves the journal by way of a lesson, and that people can be forgotten.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    home::{Home, any_holds, files, found, token},
    served::{Served, TOOLS, chat, late_carrier},
};

#[test]
fn nothing_that_was_said_in_any_field_leaves_the_journal() {
    let mut home = Home::new(160);
    let learnt = home.learn();
    assert!(learnt["report"]["learned"].as_u64().unwrap() >= 2);
    assert!(home.hidden.len() > 3_000, "{}", home.hidden.len());
    // The test can fail: all of it is in the journal's traces, which were read.
    assert!(found(&home.hidden, &fs::read(home.path().join("desk.jsonl")).unwrap()).is_some());
    home.release(&["refunds.quote", "shipments.history"]);

    let server = Served::start(&home);
    let mut shown = 0;
    for n in 0..12 {
        let asked = token(&mut home.hidden, "asked", n);
        let mut body = chat(&format!("please refund my order for {asked}"));
        body["user"] = json!(token(&mut home.hidden, "caller", n));
        let (headers, _) = server.post("/v1/chat/completions", &body);
        shown += usize::from(headers.contains("x-memory-ids: mem_"));
        home.holds_nothing_hidden([("a reply's headers".to_owned(), headers.as_bytes())]);
    }
    assert_eq!(shown, 12, "and lessons were shown to all of them");
    let mut answers = Vec::new();
    for n in 0..4 {
        let asked = token(&mut home.hidden, "planned", n);
        let plan = json!({"goal": format!("refund my order for {asked}"), "agent": "desk",
            "tools": TOOLS, "session": asked});
        let (_, answer) = server.post("/v1/memory/plan", &plan);
        assert!(answer.contains("refunds.quote"), "{answer}");
        answers.push(answer);
        let mut failure = late_carrier(&asked);
        failure["goal"] = json!(asked);
        failure["target"] =
            json!({"kind": "site", "key": format!("https://{asked}.example/{asked}")});
        failure["action"]["arg_keys"] = json!([asked]);
        answers.push(server.post("/v1/memory/heal", &failure).1);
        let healed: Value = serde_json::from_str(&answers[answers.len() - 1]).unwrap();
        let id = healed["candidates"][0]["id"].as_str().unwrap();
        server.post(&format!("/v1/memory/heal/{id}/outcome"), &json!({"worked": true}));
    }
    for path in ["/metrics", "/v1/memory/status", "/api/v1/audit", "/api/v1/tasks"] {
        answers.push(server.get(path));
    }
    for line in ["memory list", "memory list --releases", "memory review"] {
        home.json(line);
        home.run(line);
    }
    let began = Instant::now();
    while server.log.lock().unwrap().is_empty() && began.elapsed() < Duration::from_secs(5) {
        thread::sleep(Duration::from_millis(20));
    }
    let log = server.log.lock().unwrap().clone();
    assert!(!log.is_empty(), "the log was read");
    drop(server);

    home.holds_nothing_hidden([("the log".to_owned(), log.as_slice())]);
    home.holds_nothing_hidden(answers.iter().map(|text| ("an answer".to_owned(), text.as_bytes())));
    let said = home.said.lock().unwrap();
    home.holds_nothing_hidden(said.iter().map(|(place, bytes)| (place.clone(), bytes.as_slice())));
    let written = files(&home.memory());
    assert!(written.len() >= 4, "{written:?}");
    for path in &written {
        let bytes = fs::read(path).unwrap();
        let name = path.to_string_lossy().into_owned();
        home.holds_nothing_hidden([
            (format!("the name of {name}"), name.as_bytes()),
            (name.clone(), bytes.as_slice()),
        ]);
    }
    // What was released is in those files, so they are the right ones.
    assert!(any_holds(&home.memory(), "refunds.quote"));
}

#[test]
fn an_erased_persons_lessons_go_and_what_their_runs_taught_waits_for_a_person() {
    let (home, chosen) = Home::serving(120, &["refunds.quote"]);
    let status = |id: &str| home.json(&format!("memory explain {id}"))["lesson"]["status"].clone();
    assert_eq!(status(&chosen[0]), "active");
    let line = fs::read_to_string(home.path().join("desk.jsonl")).unwrap();
    let refund = line.lines().find(|line| line.contains("refunds.create")).unwrap();
    let step: Value = serde_json::from_str(refund).unwrap();
    let subject = step["step"]["subject"].as_str().unwrap();
    let deployment =
        understudy_memory::Deployment::parse(include_str!("../../../crates/toolworld/memory.toml"))
            .unwrap();
    let root =
        understudy_memory::MemoryRoot::open(&home.memory(), deployment.settings.clone()).unwrap();
    let principal =
        understudy_memory::Principal::authenticated(deployment.tenant, subject).unwrap();
    drop(root.user(&principal).unwrap());
    let receipt = home.json(&format!("dataset erase --subject {subject} --reason asked"));
    assert_eq!(receipt["own_lessons_forgotten"], true, "{receipt}");
    assert!(!root.has_user(&principal));
    let suspended = receipt["lessons_suspended"].as_array().unwrap();
    assert!(suspended.contains(&json!(chosen[0])), "{receipt}");
    assert_eq!(status(&chosen[0]), "suspended");
    // Brought back by a person, and taken out by one.
    assert_eq!(home.code(&format!("memory review {} --restore --reason read", chosen[0])), 0);
    assert_eq!(home.code(&format!("memory suspend {} --reason 4711", chosen[0])), 0);
    assert_eq!(status(&chosen[0]), "suspended");
    assert_eq!(home.code(&format!("memory suspend {} --reason again", chosen[0])), 2);
}
