//! What waits for the disk and what does not, on a disk that these tests hold in their hands.

use std::{sync::Arc, thread, time::Duration};

use serde_json::{Value, json};
use understudy_journal::FakeDisk;

use super::{CHAT, Server, Settings, chat, start_as, with};

fn start() -> (Server, Arc<FakeDisk>) {
    let disk = Arc::<FakeDisk>::default();
    let settings = Settings { disk: Some(Arc::clone(&disk)), ..Settings::default() };
    (start_as(settings), disk)
}

/// Asks while the disk stands still, and says whether the answer came only after it went on.
fn waits(server: &Server, disk: &FakeDisk, path: &str, body: &Value) -> bool {
    disk.hold(true);
    thread::scope(|scope| {
        let asked = scope.spawn(|| server.post(path, body));
        thread::sleep(Duration::from_millis(500));
        let has_waited = !asked.is_finished();
        disk.hold(false);
        let reply = asked.join().unwrap();
        assert!((200..300).contains(&reply.status), "{}", reply.text);
        has_waited
    })
}

#[test]
fn a_reply_waits_for_the_disk_where_that_is_asked_for_and_an_outcome_always() {
    let (server, disk) = start();
    disk.hold(true);
    let whole = server.post(CHAT, &chat("hi"));
    let streamed = server.post(CHAT, &with(chat("ho"), json!({"stream": true})));
    assert_eq!((whole.status, streamed.status), (200, 200));
    assert!(streamed.text.contains("[DONE]"));
    let said = json!({"response_id": whole.json()["id"], "signal": "accept"});
    assert!(waits(&server, &disk, "/v1/feedback", &said), "who is thanked has been recorded");
    server.gateway.flush_replies();
    assert!(waits(&server, &disk, CHAT, &chat("hey")));
    assert_eq!(server.steps().len(), 3);
}

#[test]
fn where_the_disk_fails_nothing_more_is_answered_that_could_not_be_recorded() {
    let (server, disk) = start();
    disk.fail(true);
    let outcome = json!({"response_id": "chatcmpl-1", "signal": "accept"});
    let refused = server.post("/v1/feedback", &outcome);
    assert_eq!(refused.status, 503, "{}", refused.text);
    for reply in [server.post(CHAT, &chat("hi")), server.get("/health")] {
        assert_eq!(reply.status, 503, "{}", reply.text);
        assert!(reply.text.contains("the cable is out"), "{}", reply.text);
    }
}
