//! What waits for the disk and what does not, on a disk that these tests hold in their hands.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use super::{CHAT, Server, Settings, chat, start_as, with};

#[derive(Default)]
struct Disk {
    holds: Mutex<bool>,
    let_go: Condvar,
    fails: AtomicBool,
}

impl Disk {
    fn flush(&self) -> io::Result<()> {
        let held = self.holds.lock().unwrap();
        drop(self.let_go.wait_while(held, |holds| *holds).unwrap());
        if self.fails.load(SeqCst) { Err(io::Error::other("the cable is out")) } else { Ok(()) }
    }

    fn hold(&self, holds: bool) {
        *self.holds.lock().unwrap() = holds;
        self.let_go.notify_all();
    }
}

fn start() -> (Server, Arc<Disk>) {
    let disk = Arc::new(Disk::default());
    let under = Arc::clone(&disk);
    let settings = Settings { flush: Some(Box::new(move || under.flush())), ..Settings::default() };
    (start_as(settings), disk)
}

/// Asks while the disk stands still, and says whether the answer came only after it went on.
fn waits(server: &Server, disk: &Disk, path: &str, body: &Value) -> bool {
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
    disk.fails.store(true, SeqCst);
    let outcome = json!({"response_id": "chatcmpl-1", "signal": "accept"});
    let refused = server.post("/v1/feedback", &outcome);
    assert_eq!(refused.status, 503, "{}", refused.text);
    for reply in [server.post(CHAT, &chat("hi")), server.get("/health")] {
        assert_eq!(reply.status, 503, "{}", reply.text);
        assert!(reply.text.contains("the cable is out"), "{}", reply.text);
    }
}
