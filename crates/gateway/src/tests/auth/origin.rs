//! Web pages that try to use a server that needs no key.

use super::{Scope, guarded, raw, status};
use crate::tests::start;

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n")
}

#[test]
fn a_page_that_points_its_name_to_this_machine_gets_nothing() {
    let server = start();
    for host in ["evil.example", "evil.example:8700", "127.0.0.1.evil.example", "10.0.0.7", ""] {
        let said = raw(server.address, &get("/v1/models", &format!("host: {host}\r\n")));
        assert_eq!(status(&said), "403", "{host}: {said}");
        assert!(said.contains("understudy key create") && !said.contains("\"data\""), "{said}");
    }
    for host in ["localhost", "127.0.0.1:8700", "[::1]:8700", "a.localhost"] {
        let said = raw(server.address, &get("/v1/models", &format!("host: {host}\r\n")));
        assert_eq!(status(&said), "200", "{host}: {said}");
    }
    // A request that names its host twice, once as ours.
    let absolute = "GET http://evil.example/v1/models HTTP/1.1\r\nhost: localhost\r\n\
                    connection: close\r\n\r\n";
    assert_eq!(status(&raw(server.address, absolute)), "403");
}

#[test]
fn a_page_that_posts_blindly_changes_nothing() {
    let server = start();
    let body = r#"{"response_id":"chatcmpl-1","signal":"accept"}"#;
    let post = |origin: &str| {
        format!(
            "POST /v1/feedback HTTP/1.1\r\nhost: 127.0.0.1\r\norigin: {origin}\r\n\
             content-type: text/plain\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    for origin in
        ["https://evil.example", "null", "http://localhost.evil.example", "http://10.0.0.7"]
    {
        let said = raw(server.address, &post(origin));
        assert_eq!(status(&said), "403", "{origin}: {said}");
    }
    assert_eq!(server.journal.counts().unwrap().records, 0);
    assert_eq!(status(&raw(server.address, &post("http://localhost:3000"))), "202");
}

#[test]
fn a_page_with_a_token_may_come_from_anywhere_but_not_under_another_name() {
    let server = start();
    let ask = |host: &str| {
        format!(
            "OPTIONS /v1/feedback/signed HTTP/1.1\r\nhost: {host}\r\n\
             origin: https://shop.example\r\nconnection: close\r\n\r\n"
        )
    };
    assert_eq!(status(&raw(server.address, &ask("127.0.0.1"))), "204");
    assert_eq!(status(&raw(server.address, &ask("evil.example"))), "403");
}

#[test]
fn who_comes_through_a_proxy_needs_a_key() {
    let server = guarded();
    for header in ["x-forwarded-for: 203.0.113.9", "forwarded: for=203.0.113.9", "x-real-ip: ::1"] {
        let ask = get("/v1/models", &format!("host: 127.0.0.1\r\n{header}\r\n"));
        let said = raw(server.address, &ask);
        assert_eq!(status(&said), "403", "{header}: {said}");
        assert!(said.contains("understudy key create"), "{said}");
    }
    // With a key it is all one where it comes from, and by what name.
    let key = server.key(&[Scope::Infer]).expose();
    let headers =
        format!("host: gate.example\r\nx-forwarded-for: 203.0.113.9\r\nx-api-key: {key}\r\n");
    assert_eq!(status(&raw(server.address, &get("/v1/models", &headers))), "200");
}
