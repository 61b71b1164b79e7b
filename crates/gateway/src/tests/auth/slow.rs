//! Connections that say little, or nothing.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use super::{HERE, guarded_on, raw, status};
use crate::{
    Patience,
    tests::{Server, Settings, start_as},
};

const SHORT: Patience = Patience {
    handshake: Duration::from_millis(300),
    head: Duration::from_millis(300),
    body: Duration::from_millis(300),
    per_address: 100,
    drain: Duration::from_secs(1),
    silence: Duration::from_secs(10),
    longest_deadline: Duration::from_hours(1),
};

#[test]
fn nobody_takes_all_connections() {
    let few = Patience { per_address: 3, ..Patience::default() };
    let server = start_as(Settings { patience: few, ..Settings::default() });
    let mut held: Vec<_> = (0..3).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    // One that has said something is surely in.
    let ask = "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for socket in &mut held {
        socket.write_all(ask.as_bytes()).unwrap();
        assert!(socket.read(&mut [0; 16]).unwrap() > 0);
    }
    assert_eq!(raw(server.address, ask), "");
    held.pop();
    let begun = Instant::now();
    let closing = "GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    while status(&raw(server.address, closing)) != "200" {
        assert!(begun.elapsed() < Duration::from_secs(10), "a place was never given back");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn hasty() -> Server {
    start_as(Settings { patience: SHORT, ..Settings::default() })
}

/// What comes until the server hangs up, and after how long.
fn until_closed(mut socket: TcpStream) -> (String, Duration) {
    let begun = Instant::now();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut said = Vec::new();
    socket.read_to_end(&mut said).expect("the server hangs up");
    (String::from_utf8_lossy(&said).into_owned(), begun.elapsed())
}

#[test]
fn a_head_that_never_ends_does_not_hold_a_connection() {
    let server = hasty();
    for beginning in ["", "GET /health HTTP/1.1\r\nhost: localhost\r\nx-slow: "] {
        let mut socket = TcpStream::connect(server.address).unwrap();
        socket.write_all(beginning.as_bytes()).unwrap();
        let (said, waited) = until_closed(socket);
        assert!(waited < Duration::from_secs(10), "{waited:?}: {said}");
    }
    // Nor does one that drips.
    let mut socket = TcpStream::connect(server.address).unwrap();
    let mut dripped = 0;
    socket.write_all(b"GET /health HTTP/1.1\r\n").unwrap();
    while socket.write_all(b"x-drip: 1\r\n").is_ok() {
        dripped += 1;
        assert!(dripped < 200, "a head dripped for {dripped} times 50 ms");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_body_that_never_comes_is_answered_with_408() {
    let server = hasty();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
    let mut socket = TcpStream::connect(server.address).unwrap();
    socket.write_all(format!("{head}content-length: 100\r\n\r\n{{").as_bytes()).unwrap();
    let (said, waited) = until_closed(socket);
    assert_eq!(status(&said), "408", "{said}");
    assert!(waited < Duration::from_secs(10), "{waited:?}");
    // Telemetry has a reader of its own.
    let mut socket = TcpStream::connect(server.address).unwrap();
    let head = head.replace("chat/completions", "traces");
    socket.write_all(format!("{head}content-length: 100\r\n\r\n{{").as_bytes()).unwrap();
    assert_eq!(status(&until_closed(socket).0), "408");
}

#[test]
fn a_body_that_drips_is_not_waited_for() {
    let server = hasty();
    let mut socket = TcpStream::connect(server.address).unwrap();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                content-length: 100000\r\n\r\n";
    socket.write_all(head.as_bytes()).unwrap();
    let begun = Instant::now();
    let mut answer = [0; 16];
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    // A byte every 50 ms is never silent for long, and far too slow.
    let size = loop {
        assert!(begun.elapsed() < Duration::from_secs(10), "a body dripped for ten seconds");
        socket.write_all(b" ").ok();
        if let Ok(size) = socket.read(&mut answer) {
            break size;
        }
    };
    assert!(answer[..size].starts_with(b"HTTP/1.1 408"), "{:?}", &answer[..size]);
}

#[test]
fn a_head_without_end_is_refused() {
    let server = guarded_on(HERE.parse().unwrap(), Settings::default());
    let long = "x".repeat(300 << 10);
    let said = raw(
        server.address,
        &format!("GET /health HTTP/1.1\r\nhost: localhost\r\nx: {long}\r\n\r\n"),
    );
    assert!(["431", "none"].contains(&status(&said)), "{said:.100}");
    let many = "x-one: 1\r\n".repeat(500);
    let said =
        raw(server.address, &format!("GET /health HTTP/1.1\r\nhost: localhost\r\n{many}\r\n"));
    assert!(["431", "400", "none"].contains(&status(&said)), "{said:.100}");
}
