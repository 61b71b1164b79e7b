//! Keys: none, wrong, ended, stolen, and for something else.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use understudy_access::{Role, Scope};
use understudy_ident::{Clock as _, SystemClock, Timestamp};

use super::{NewKey, guarded, guarded_on, new_key, open};
use crate::{
    auth::TABLE,
    tests::{CHAT, Settings, chat, start},
};

/// Every route that answers, as axum has it, is in the table with every method it takes.
#[test]
fn every_route_has_its_row_in_the_table() {
    let server = start();
    let shown = format!("{:?}", crate::app(server.gateway.clone()));
    let mut paths = BTreeSet::new();
    for part in shown.split("RouteId(").skip(1) {
        let Some((_, rest)) = part.split_once("): \"") else { continue };
        paths.insert(rest.split('"').next().unwrap().to_owned());
    }
    // The fallback, which answers that there is nothing.
    paths.retain(|path| path != "/" && !path.contains("__private__axum_fallback"));
    assert!(paths.len() > 30, "the routes are shown otherwise now: {shown:.300}");
    let rows: BTreeSet<String> = TABLE.iter().map(|row| row.path.to_owned()).collect();
    assert_eq!(
        paths, rows,
        "a route without a row is for admins alone; a row without a route is none"
    );
    // Which methods a path takes is asked of the server itself.
    for path in &paths {
        let url = path.replace("{*id}", "mock").replace("{id}", "out_1");
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let head =
                format!("{method} {url} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
            let said = super::raw(server.address, &(head + "content-length: 0\r\n\r\n"));
            let taken = !said.starts_with("HTTP/1.1 405");
            let listed = TABLE.iter().any(|row| row.path == path && row.method == method);
            assert_eq!(taken, listed, "{method} {path}: {said:.60}");
        }
    }
}

/// What each role gets of each route: by the table, and by the server.
#[test]
fn every_role_at_every_route() {
    let server = guarded();
    let ours: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("application", ["infer", "feedback", "telemetry"].as_slice()),
        ("engineer", &["infer", "feedback", "telemetry", "read", "release"]),
        ("release_manager", &["read", "release", "metrics", "audit:read"]),
        ("on_call", &["read", "release", "metrics", "adapter:write"]),
        ("monitor", &["metrics"]),
    ]);
    for role in Role::ALL {
        let (key, _) = server.keys.create(new_key(role.scopes(false))).unwrap();
        let bearer = format!("Bearer {}", key.expose());
        for row in TABLE {
            let url = row.path.replace("{*id}", "mock").replace("{id}", "out_1");
            // To pause would be a success that the next test case waits for.
            if ["/pause", "/resume"].contains(&row.path) {
                continue;
            }
            let said = super::raw(
                server.address,
                &format!(
                    "{} {url} HTTP/1.1\r\nhost: gate.example\r\nconnection: close\r\n\
                     authorization: {bearer}\r\ncontent-length: 0\r\n\r\n",
                    row.method
                ),
            );
            let scope = match &row.needs {
                crate::auth::Needs::Scope(scope) | crate::auth::Needs::Whole(scope) => {
                    Some(scope.to_string())
                }
                _ => None,
            };
            let may = role == Role::Admin
                || scope.is_none_or(|scope| ours[role.as_str()].contains(&scope.as_str()));
            // What the handler then says of an empty body is not the door's.
            let let_in = !said.contains("missing_scope") && super::status(&said) != "401";
            assert_eq!(let_in, may, "{role} at {} {}: {said:.200}", row.method, row.path);
        }
    }
}

#[test]
fn without_a_key_nothing_but_the_health_of_the_server_is_told() {
    let server = guarded();
    server.key(&[Scope::Admin]);
    let open = ["/health", "/ready", "/v1/health", "/ping", "/version"];
    for row in TABLE {
        let url = row.path.replace("{*id}", "mock").replace("{id}", "out_1");
        let reply = match row.method {
            "GET" => server.get(&url),
            "POST" => server.post(&url, &json!({})),
            _ => continue,
        };
        let expected = match row.path {
            path if open.contains(&path) => 200,
            "/v1/feedback/signed" => 400,
            _ => 401,
        };
        assert_eq!(reply.status, expected, "{} {}", row.method, row.path);
        if reply.status == 401 {
            let error = &reply.json()["error"];
            assert_eq!(error["type"], "AuthenticationError");
            assert_eq!(
                (&error["code"], &error["reason"]),
                (&json!(401), &json!("invalid_api_key"))
            );
            assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"understudy\""));
        }
    }
    // Nor is it told what there is.
    assert_eq!(server.get("/v1/secrets").status, 401);
    assert_eq!(server.get("/v1/chat/completions").status, 401);
}

#[test]
fn every_client_s_way_of_sending_a_key_opens() {
    let server = guarded();
    let key = server.key(&[Scope::Infer, Scope::Telemetry]).expose();
    let basic = format!("Basic {}", STANDARD.encode(format!("pk-lf-1:{key}")));
    for (name, value) in [
        ("authorization", format!("Bearer {key}")),
        ("authorization", basic),
        ("x-api-key", key.clone()),
    ] {
        assert_eq!(server.get_with("/v1/models", &[(name, &value)]).status, 200, "{name} {value}");
        assert_eq!(server.get_with("/info", &[(name, &value)]).status, 200, "{name} {value}");
    }
    // Not where it ends up in logs.
    assert_eq!(server.get(&format!("/v1/models?api_key={key}")).status, 401);
    let two = [("authorization", "Bearer us_0_0".to_owned()), ("x-api-key", key)];
    let two: Vec<(&str, &str)> = two.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(server.get_with("/v1/models", &two).status, 401);
}

#[test]
fn wrong_keys_are_told_nothing() {
    let server = guarded();
    let key = server.key(&[Scope::Infer]);
    let whole = key.expose();
    let (head, secret) = whole.rsplit_once('_').unwrap();
    let unknown = understudy_access::Key::generate().unwrap().expose();
    let mut texts = BTreeSet::new();
    for wrong in [
        format!("{head}_{}", "0".repeat(64)),
        unknown,
        format!("{head}_{}", &secret[..63]),
        whole.to_uppercase(),
        format!("{whole}0"),
        "' OR 1=1 --".to_owned(),
    ] {
        let reply = server.get_with("/v1/models", &[("authorization", &format!("Bearer {wrong}"))]);
        assert_eq!(reply.status, 401, "{wrong}");
        assert!(!reply.text.contains(&wrong));
        texts.insert(reply.text);
    }
    assert_eq!(texts.len(), 1, "{texts:?}");
    let reply = server.get_as(&key, "/v1/models");
    let length = reply.header("content-length").map(str::to_owned);
    assert_eq!((reply.status, length), (200, Some(reply.text.len().to_string())));
}

#[test]
fn a_key_that_is_over_opens_nothing_within_a_second() {
    let server = guarded();
    let (key, record) =
        open(&server.desk).create(new_key([Scope::Infer].into_iter().collect())).unwrap();
    let until = |status: u16| {
        let begun = std::time::Instant::now();
        while server.get_as(&key, "/v1/models").status != status {
            assert!(begun.elapsed().as_secs() < 10, "never {status}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        begun.elapsed()
    };
    // Until it is seen, nobody needs one; then this one opens. From then on none is needed no more.
    let begun = std::time::Instant::now();
    while server.get("/v1/models").status != 401 {
        assert!(begun.elapsed().as_secs() < 10);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    until(200);
    open(&server.desk).revoke(&record.id, "grace", "a test").unwrap();
    assert!(until(401).as_millis() < 2000);
    let reply = server.get_as(&key, "/v1/models");
    assert!(reply.text.contains("revoked"), "{}", reply.text);
    // And the door does not fall open because no key is left.
    assert_eq!(server.get("/v1/models").status, 401);
    let soon = Timestamp::from_millisecond(SystemClock.now().as_millisecond() + 300).unwrap();
    let scopes = [Scope::Infer].into_iter().collect();
    let (short, _) =
        server.keys.create(NewKey { expires_at: Some(soon), ..new_key(scopes) }).unwrap();
    assert_eq!(server.get_as(&short, "/v1/models").status, 200);
    std::thread::sleep(std::time::Duration::from_millis(350));
    assert_eq!(server.get_as(&short, "/v1/models").status, 401);
}

#[test]
fn a_guesser_is_told_to_wait_and_the_holder_elsewhere_is_not() {
    let server = guarded();
    let (key, other) = (server.key(&[Scope::Infer]), server.key(&[Scope::Infer]));
    let guess = format!("Bearer us_{}_{}", key.id(), "0".repeat(64));
    let guess = [("authorization", guess.as_str())];
    for _ in 0..10 {
        assert_eq!(server.get_with("/v1/models", &guess).status, 401);
    }
    let locked = server.get_with("/v1/models", &guess);
    assert_eq!(
        (locked.status, &locked.json()["error"]["reason"]),
        (429, &json!("too_many_wrong_keys"))
    );
    let wait: u64 = locked.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=10).contains(&wait), "{wait}");
    // From here even the right secret is not looked at, so that nobody learns that it was right.
    assert_eq!(server.get_as(&key, "/v1/models").status, 429);
    assert_eq!(server.get_as(&other, "/v1/models").status, 200);
}

#[test]
fn a_key_for_one_task_asks_nothing_else() {
    let server = guarded();
    server.route("triage", understudy_router::Target::Base);
    server.route("payroll", understudy_router::Target::Base);
    let key = server.key(&["infer:triage".parse().unwrap()]);
    let ask = |model: &str| {
        let mut body = chat("hi");
        body["model"] = json!(model);
        server.post_as(&key, CHAT, &body).status
    };
    assert_eq!(ask("triage"), 200);
    assert_eq!((ask("payroll"), ask("mock"), ask("nothing")), (403, 403, 403));
    let mut body = chat("hi");
    (body["model"], body["adapter"]) = (json!("triage"), json!("payroll@1"));
    assert_eq!(server.post_as(&key, CHAT, &body).status, 403);
    let models = server.get_as(&key, "/v1/models").json();
    let ids: Vec<_> = models["data"].as_array().unwrap().iter().map(|m| m["id"].clone()).collect();
    assert_eq!(ids, ["triage"]);
}

#[test]
fn beyond_this_machine_a_door_without_keys_is_shut() {
    let server = guarded_on("0.0.0.0:8700".parse().unwrap(), Settings::default());
    assert_eq!(server.get("/v1/models").status, 401);
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn a_large_body_without_a_key_is_answered_and_not_kept() {
    let server = guarded();
    server.key(&[Scope::Infer]);
    let body =
        json!({"model": "mock", "messages": [{"role": "user", "content": "x".repeat(3 << 20)}]});
    assert_eq!(server.post(CHAT, &body).status, 401);
}
