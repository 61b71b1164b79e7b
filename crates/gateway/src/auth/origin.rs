//! What protects a server that asks for no key from the web pages its user looks at.
//!
//! A page can let its own name point to 127.0.0.1 and then talk to us as if it were its own server
//! (DNS rebinding): the request's `host` gives it away. And it can post to us blindly: its `origin`
//! does.

use std::net::IpAddr;

use axum::{
    extract::Request,
    http::{HeaderName, Version, header, uri::Authority},
};

use super::Refusal;

/// What proxies add by themselves, most of them.
const PROXIES: [&str; 4] = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip"];

/// Whether a request without a key is made by this machine's user, as far as can be told. With
/// `from_anywhere` the origin says nothing, because the page holds a token.
pub(super) fn check(
    request: &Request,
    from: Option<IpAddr>,
    from_anywhere: bool,
) -> Result<(), Refusal> {
    if !from.is_some_and(|address| address.to_canonical().is_loopback()) {
        return Err(Refusal::NotHere);
    }
    // Who comes from elsewhere through a proxy on this machine looks like its user.
    if PROXIES.iter().any(|name| request.headers().contains_key(*name)) {
        return Err(Refusal::Proxied);
    }
    let named =
        |name: HeaderName| request.headers().get(name).map(|value| value.to_str().unwrap_or("?"));
    // Programs that speak HTTP/1.0 may leave it out; browsers never do. HTTP/2 has another place.
    let may_lack = request.version() < Version::HTTP_11;
    let absolute = request.uri().authority().map(Authority::as_str);
    let elsewhere = absolute.filter(|_| request.version() >= Version::HTTP_2);
    let host = named(header::HOST).or(elsewhere).or(may_lack.then_some("localhost"));
    for name in [Some(host.unwrap_or_default()), absolute] {
        if let Some(name) = name.filter(|name| !is_ours(name)) {
            return Err(Refusal::Host { name: name.chars().take(100).collect() });
        }
    }
    let foreign = named(header::ORIGIN).filter(|origin| {
        let host = origin.split_once("://").map(|(_, host)| host);
        !host.is_some_and(is_ours)
    });
    match foreign {
        Some(origin) if !from_anywhere => {
            Err(Refusal::Origin { origin: origin.chars().take(100).collect() })
        }
        _ => Ok(()),
    }
}

fn is_ours(authority: &str) -> bool {
    let name = without_port(authority).trim_end_matches('.').to_ascii_lowercase();
    let literal = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    match literal {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => name == "localhost" || name.ends_with(".localhost"),
    }
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        // The colons of a bare IPv6 address are in brackets.
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine_are_told_from_others() {
        for ours in [
            "localhost",
            "LOCALHOST:8700",
            "127.0.0.1",
            "127.0.0.1:8700",
            "127.1.2.3:1",
            "[::1]",
            "[::1]:8700",
            "a.localhost:80",
            "localhost.",
            "[::ffff:127.0.0.1]:80",
        ] {
            assert!(is_ours(ours), "{ours}");
        }
        for other in [
            "",
            "evil.example",
            "evil.example:8700",
            "127.0.0.1.evil.example",
            "localhost.evil",
            "notlocalhost",
            "10.0.0.1",
            "[::2]:8700",
            "0.0.0.0",
            "x.gate.example",
            "127.0.0.1:x",
            "user@127.0.0.1",
        ] {
            assert!(!is_ours(other), "{other}");
        }
    }
}
