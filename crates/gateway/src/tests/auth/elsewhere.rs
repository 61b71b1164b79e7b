//! Requests that try to send the server somewhere, or to speak to its database.

use std::net::TcpListener;

use serde_json::json;
use understudy_access::Scope;
use understudy_journal::Query;
use understudy_router::Target;

use super::guarded;
use crate::tests::{CHAT, chat, with};

#[test]
fn no_request_sends_the_server_elsewhere() {
    let server = guarded();
    server.route("triage", Target::Base);
    let key = server.key(&[Scope::Admin]);
    let bait = TcpListener::bind("127.0.0.1:0").unwrap();
    bait.set_nonblocking(true).unwrap();
    let url = format!("http://{}/v1", bait.local_addr().unwrap());
    let inner = json!({"model_list": [{"litellm_params": {"api_base": url, "base_url": url}}]});
    for more in [
        json!({"api_base": url, "base_url": url, "api_key": "x"}),
        json!({"user_config": inner}),
        json!({"metadata": {"api_base": url}, "extra_body": {"base_url": url}}),
        json!({"messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": url}}]}]}),
    ] {
        let reply = server.post_as(&key, CHAT, &with(chat("hi"), more.clone()));
        assert!([200, 400].contains(&reply.status), "{more}: {}", reply.text);
    }
    for path in [url.as_str(), "file:///etc/passwd", "s3://bucket/key", "../../etc", "/etc"] {
        let load = json!({"lora_name": "a", "lora_path": path});
        let reply = server.post_as(&key, "/v1/load_lora_adapter", &load);
        assert!([400, 403, 404].contains(&reply.status), "{path}: {}", reply.text);
        assert!(!reply.text.contains("root:"), "{}", reply.text);
    }
    let forwarded = [("x-forwarded-host", url.as_str()), ("x-original-url", "/metrics")];
    assert_eq!(server.get_with("/v1/models", &forwarded).status, 401);
    let caught = bait.accept().map(|(_, from)| from);
    assert!(caught.is_err(), "somebody came from {caught:?}");
}

#[test]
fn what_is_said_is_text_and_never_a_statement() {
    let server = guarded();
    server.route("triage", Target::Base);
    let key = server.key(&[Scope::Admin]);
    let evil = "x'); DROP TABLE steps; DROP TABLE key; --";
    let more = json!({"model": "triage", "session_id": evil, "user": evil});
    assert_eq!(server.post_as(&key, CHAT, &with(chat(evil), more)).status, 200);
    let said = json!({"session_id": evil, "signal": "flag", "reason": evil, "id": evil});
    let reply = server.post_as(&key, "/v1/feedback", &said);
    assert_eq!(reply.json()["results"][0]["state"], "linked", "{}", reply.text);
    for wildcard in ["%", "*", "out_*", "[a-z]", "acme.*"] {
        let about = json!({"session_id": wildcard, "signal": "accept"});
        let reply = server.post_as(&key, "/v1/feedback", &about);
        assert_eq!(reply.json()["results"][0]["state"], "pending", "{wildcard}");
    }
    let found = server.journal.trajectories(&Query::default()).unwrap();
    let steps: Vec<_> = found.iter().flat_map(|trajectory| &trajectory.steps).collect();
    assert_eq!((steps.len(), steps[0].step.session.as_deref()), (1, Some(evil)));
    assert_eq!(steps[0].outcomes.len(), 1);
    assert_eq!(server.keys.list().len(), 1);
    assert_eq!(server.get_with("/v1/models", &[("x-api-key", evil)]).status, 401);
}
