//! HTTPS with a certificate of our own making.

use super::{HERE, Scope, guarded_on, raw};
use crate::{
    Patience, Tls,
    tests::{CHAT, Settings, chat, read},
};

fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[test]
fn chats_over_tls_with_a_key() {
    let (cert, key) = certificate();
    let tls = Some(Tls::from_pem(cert.as_bytes(), key.as_bytes()).unwrap());
    let server = guarded_on(HERE.parse().unwrap(), Settings { tls, ..Settings::default() });
    let api_key = format!("Bearer {}", server.key(&[Scope::Infer]).expose());
    let url = format!("https://localhost:{}{CHAT}", server.address.port());
    let agent = |roots| -> ureq::Agent {
        let tls = ureq::tls::TlsConfig::builder().root_certs(roots).build();
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        config.tls_config(tls).build().into()
    };
    let ours = ureq::tls::Certificate::from_pem(cert.as_bytes()).unwrap();
    let trusting = agent(ureq::tls::RootCerts::from(vec![ours]));
    let post = || trusting.post(&url).header("authorization", &api_key).send_json(chat("hi"));
    for _ in 0..3 {
        assert_eq!(read(post().unwrap()).status, 200);
    }
    assert_eq!(read(trusting.post(&url).send_json(chat("hi")).unwrap()).status, 401);
    // Who does not know the certificate does not talk to us.
    let (other, _) = certificate();
    let other = ureq::tls::Certificate::from_pem(other.as_bytes()).unwrap();
    let strict = agent(ureq::tls::RootCerts::from(vec![other]));
    assert!(strict.post(&url).send_json(chat("hi")).is_err());
    // And nothing is said in the clear.
    let said = raw(server.address, "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert!(!said.contains("HTTP/1.1"), "{said}");
    assert_eq!(read(post().unwrap()).status, 200);
}

#[test]
fn a_renewed_certificate_is_served_with_and_a_broken_one_is_not() {
    let (cert, key) = certificate();
    let tls = Tls::from_pem(cert.as_bytes(), key.as_bytes()).unwrap();
    let settings = Settings { tls: Some(tls.clone()), ..Settings::default() };
    let server = guarded_on(HERE.parse().unwrap(), settings);
    let url = format!("https://localhost:{}/health", server.address.port());
    let trusts = |cert: &str| {
        let cert = ureq::tls::Certificate::from_pem(cert.as_bytes()).unwrap();
        let roots = ureq::tls::RootCerts::from(vec![cert]);
        let tls = ureq::tls::TlsConfig::builder().root_certs(roots).build();
        let agent: ureq::Agent = ureq::Agent::config_builder().tls_config(tls).build().into();
        agent.get(&url).call().is_ok()
    };
    let (renewed, new_key) = certificate();
    assert!(trusts(&cert) && !trusts(&renewed));
    assert!(tls.renew(renewed.as_bytes(), key.as_bytes()).is_err());
    assert!(trusts(&cert));
    tls.renew(renewed.as_bytes(), new_key.as_bytes()).unwrap();
    assert!(trusts(&renewed) && !trusts(&cert));
}

#[test]
fn a_handshake_that_never_ends_is_ended() {
    let (cert, key) = certificate();
    let tls = Some(Tls::from_pem(cert.as_bytes(), key.as_bytes()).unwrap());
    let handshake = std::time::Duration::from_millis(200);
    let patience = Patience { handshake, ..Patience::default() };
    let server =
        guarded_on(HERE.parse().unwrap(), Settings { tls, patience, ..Settings::default() });
    let begun = std::time::Instant::now();
    assert_eq!(raw(server.address, "\x16\x03\x01"), "");
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
}

#[test]
fn what_is_no_certificate_is_refused_with_the_reason() {
    let (cert, key) = certificate();
    let (_, other) = certificate();
    let why = |cert: &str, key: &str| {
        Tls::from_pem(cert.as_bytes(), key.as_bytes()).map(|_| ()).unwrap_err().to_string()
    };
    assert!(why("", &key).contains("no certificate"));
    assert!(why(&key, &key).contains("no certificate"));
    assert!(why(&cert, &cert).contains("private key"));
    // A key that is another certificate's would fail every handshake.
    assert!(why(&cert, &other).contains("cannot be used"));
}
