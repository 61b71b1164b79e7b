//! Requests that say of themselves what is not theirs to say, and words that must not travel.

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;
use understudy_access::Scope;
use understudy_router::{Canary, Exposure, Route, Salt, Target};

use super::guarded;
use crate::tests::{CHAT, COMPLETIONS, chat, start, with};

#[test]
fn no_request_chooses_its_own_arm_or_tenant() {
    let server = start();
    let [stable, canary] = ["one", "two"].map(|weights| {
        let loaded = server.load(&format!("triage@{weights}"), weights);
        let generation = loaded["generation"].as_str().unwrap().to_owned();
        Target::Adapter { version: format!("triage@{weights}"), generation }
    });
    let canary = Canary { target: canary, share: Exposure::HALF, salt: Salt::new([3; 16]) };
    server.publish("triage", Route { canary: Some(canary), ..Route::to(stable) });
    let arm = |session: &str, more, headers: &[(&str, &str)]| {
        let body = with(with(chat("hi"), json!({"model": "triage"})), more);
        let headers: Vec<_> = [("x-session-id", session)].iter().chain(headers).copied().collect();
        let reply = server.post_with(CHAT, &body, &headers);
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.header("x-understudy-arm").unwrap().to_owned()
    };
    let mut met = std::collections::BTreeSet::new();
    for nth in 0..24 {
        let session = format!("visitor-{nth}");
        let drawn = arm(&session, json!({}), &[]);
        for wanted in ["canary", "stable", "teacher"] {
            let more = json!({"metadata": {"arm": wanted, "x-understudy-arm": wanted}});
            let headers = [
                ("x-understudy-arm", wanted),
                ("x-arm-override", wanted),
                ("x-understudy-release", "rel_other"),
                ("x-tenant", "acme"),
                ("x-understudy-tenant", "acme"),
            ];
            assert_eq!(arm(&session, more, &headers), drawn, "{session} asked for {wanted}");
        }
        met.insert(drawn);
    }
    assert!(met.len() > 1, "only {met:?} was met");
    assert!(server.steps().iter().all(|step| step.task.as_str() == "triage"));
}

/// What is logged by anybody in this process.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[test]
fn what_is_a_person_s_or_a_secret_is_in_no_log_line_no_metric_and_no_audit_entry() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(lines.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let server = guarded();
    server.route("triage", Target::Base);
    let key = server.key(&[Scope::Admin]);
    let forged = "ada-0b5c\"} 1 understudy_forged_line 1";
    let prompt = "my words are 7f1e-private";
    let more = json!({"model": "triage", "session_id": forged, "user": forged});
    let bearer = format!("Bearer {}", key.expose());
    let headers = [("authorization", bearer.as_str()), ("cookie", "crumb=5d3a-cookie")];
    assert_eq!(server.post_with(CHAT, &with(chat(prompt), more), &headers).status, 200);
    // A line of its own is no name, and is written down nowhere.
    for name in ["session_id", "user"] {
        let line = json!({"model": "triage", name: "b\nERROR forged\nunderstudy_forged 1"});
        let status = server.post_as(&key, CHAT, &with(chat(prompt), line)).status;
        assert!([200, 400].contains(&status), "{name}: {status}");
    }
    let said = json!({"session_id": forged, "signal": "flag", "reason": "reason-91c2-private"});
    assert_eq!(server.post_as(&key, "/v1/feedback", &said).status, 202);
    // Enough wrong ones that somebody is told of it.
    let wrong = format!("us_0123456789ab_{}", "c4d9".repeat(16));
    for _ in 0..12 {
        let headers = [("authorization", format!("Bearer {wrong}"))];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        server.post_with(CHAT, &chat(prompt), &headers);
    }
    let metrics = server.get_as(&key, "/metrics").text;
    let audit = server.get_as(&key, "/api/v1/audit").text;
    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("wrong API keys come from here"), "nothing was logged: {log}");
    assert!(metrics.contains("task=\"triage\""), "{metrics}");
    let expected = key.expose();
    let secret = expected.rsplit('_').next().unwrap();
    for told in ["ada-0b5c", "forged", "7f1e", "5d3a", "91c2", "c4d9c4d9", secret] {
        for (what, text) in [("the log", &log), ("/metrics", &metrics), ("the audit", &audit)] {
            let line = text.lines().find(|line| line.contains(told));
            assert_eq!(line, None, "{what} tells {told}");
        }
    }
}

#[test]
fn a_body_that_nests_without_end_costs_its_sender_an_error() {
    let server = start();
    let deep = "[".repeat(200_000);
    let nested = format!("{{\"model\":\"mock\",\"messages\":{deep}");
    let closed = format!("{{\"resourceSpans\":{deep}{}}}", "]".repeat(200_000));
    for path in [CHAT, COMPLETIONS, "/v1/feedback", "/v1/traces", "/v1/load_lora_adapter"] {
        for body in [&deep, &nested, &closed] {
            let post = server.agent.post(server.url(path)).content_type("application/json");
            let status = post.send(body).unwrap().status().as_u16();
            // An export is answered with what of it was taken, which is nothing.
            let is_told = status == 200 && path == "/v1/traces";
            assert!(is_told || [400, 403, 413].contains(&status), "{path}: {status}");
        }
    }
    assert_eq!(server.journal.counts().unwrap().steps, 0);
    assert_eq!(server.post(CHAT, &chat("hi")).status, 200, "it is still there");
}
