//! How much of what is said reaches the journal.

use serde_json::{Value, json};
use understudy_capture::Capture;
use understudy_journal::{Entry, Journal};

use super::{CHAT, Server, chat, start};

const SAID: &str = "my quokka is at ada@lovelace.example";

/// A server at this level to which SAID was said in every way, and what each was answered.
fn told(level: Capture) -> (Server, Vec<u16>) {
    let server = start();
    server.gateway.capture_at(level);
    let reply = server.post(CHAT, &chat(SAID));
    assert!(reply.text.contains("quokka"), "the mock repeats what it is told: {}", reply.text);
    let id = reply.json()["id"].clone();
    let says = |signal: Value| {
        let mut outcome = json!({"response_id": id, "note": SAID});
        outcome.as_object_mut().unwrap().extend(signal.as_object().unwrap().clone());
        server.post("/v1/feedback", &outcome).status
    };
    let edit = says(json!({"signal": "edit", "text": SAID}));
    let flag = says(json!({"signal": "flag", "reason": SAID}));
    (server, vec![reply.status, edit, flag])
}

/// Everything in it, and the bytes of its files.
fn content(server: &Server, journal: &Journal) -> (Vec<Entry>, String) {
    let entries: Vec<Entry> =
        journal.follow(0, 100).unwrap().into_iter().map(|arrival| arrival.entry).collect();
    let mut text = format!("{entries:?}");
    for file in std::fs::read_dir(server.directory.path()).unwrap() {
        if let Ok(bytes) = std::fs::read(file.unwrap().path()) {
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
    (entries, text)
}

#[test]
fn what_a_level_does_not_keep_reaches_no_file() {
    let (server, statuses) = told(Capture::Full);
    assert_eq!(statuses, [200, 202, 202]);
    assert!(content(&server, &server.journal).1.contains("ada@lovelace.example"));

    let (server, statuses) = told(Capture::Redacted);
    assert_eq!(statuses, [200, 202, 202]);
    let (entries, text) = content(&server, &server.journal);
    assert!(text.contains("my quokka is at <EMAIL>") && !text.contains("ada@"), "{text}");
    assert_eq!(entries.len(), 3);

    let (server, statuses) = told(Capture::Metadata);
    assert_eq!(statuses, [200, 202, 202]);
    let (entries, text) = content(&server, &server.journal);
    assert!(!text.contains("quokka") && !text.contains("ada@"), "{text}");
    let judged = server.steps();
    assert_eq!((entries.len(), judged.len(), judged[0].prompt.is_empty()), (3, 1, false));
    assert!(judged[0].usage.completion_tokens > 0, "what it cost is known");

    let (server, statuses) = told(Capture::None);
    assert_eq!(statuses, [200, 403, 403], "there is nothing to say anything of");
    let (entries, text) = content(&server, &server.journal);
    assert!(entries.is_empty() && !text.contains("quokka"), "{text}");
}
