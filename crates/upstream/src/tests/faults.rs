//! Replicas that are dead, silent, failing now and then, or that break off.

use std::{
    io::Write,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use understudy_inference::{Backend, Gauge, InferenceError};

use super::{
    ask, run,
    server::{DONE, STOP, Server, begin_stream, delta},
};
use crate::{BreakerRules, Endpoint, Replay, Timeouts, Upstream};

fn well() -> Server {
    Server::streaming(&[&delta("well"), STOP, DONE])
}

/// Accepts and never answers.
fn silent() -> Server {
    Server::start(|_| thread::sleep(Duration::from_secs(5)))
}

/// An address at which nobody listens.
fn dead() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}/v1", listener.local_addr().unwrap())
}

fn endpoint(urls: &[&str]) -> Endpoint {
    Endpoint {
        urls: urls.iter().map(|url| (*url).to_owned()).collect(),
        timeouts: Timeouts {
            connect: Duration::from_secs(1),
            first_token: Duration::from_millis(500),
            between_tokens: Duration::from_millis(300),
            total: Duration::from_secs(5),
        },
        replay: Replay::Always,
        ..Endpoint::new("", "m", None)
    }
}

fn gauge(upstream: &Upstream, name: &str) -> f64 {
    let of_name = |gauge: &Gauge| gauge.name == name;
    upstream.gauges().into_iter().filter(of_name).map(|gauge| gauge.value).sum()
}

#[test]
fn a_dead_replica_costs_no_request_and_soon_no_attempt() {
    let (alive, dead) = (well(), dead());
    let upstream = Upstream::new(endpoint(&[&dead, &alive.url])).unwrap();
    for n in 0..40 {
        let completion = run(&upstream, ask(&format!("question {n}"))).completion();
        assert_eq!(completion.text, "well");
    }
    assert_eq!(alive.received().len(), 40);
    assert_eq!(gauge(&upstream, "replica_out"), 1.0, "its breaker is open");
    let repeated = gauge(&upstream, "upstream_repeated_total");
    assert!((1.0..=5.0).contains(&repeated), "{repeated} were sent there before");
}

#[test]
fn a_silent_replica_is_hedged_against() {
    let (alive, mute) = (well(), silent());
    let hedged = Endpoint {
        hedge_after: Some(Duration::from_millis(50)),
        timeouts: Timeouts { first_token: Duration::from_secs(4), ..endpoint(&[]).timeouts },
        ..endpoint(&[&mute.url, &alive.url])
    };
    let upstream = Upstream::new(hedged).unwrap();
    for n in 0..20 {
        let begun = Instant::now();
        let completion = run(&upstream, ask(&format!("question {n}"))).completion();
        assert_eq!(completion.text, "well");
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
    assert!(gauge(&upstream, "upstream_hedges_won_total") >= 1.0);
    let asked = mute.received().len();
    assert!((1..=6).contains(&asked), "asked {asked} times before it was left alone");
}

#[test]
fn hedges_are_one_in_ten_beside_the_first_few() {
    let slow = || {
        Server::start(|stream| {
            thread::sleep(Duration::from_millis(30));
            begin_stream(stream);
            stream.write_all(format!("{}{STOP}{DONE}", delta("late")).as_bytes()).unwrap();
        })
    };
    let (one, two) = (slow(), slow());
    let hedge_after = Some(Duration::from_millis(1));
    let upstream =
        Upstream::new(Endpoint { hedge_after, ..endpoint(&[&one.url, &two.url]) }).unwrap();
    for n in 0..60 {
        run(&upstream, ask(&format!("question {n}"))).completion();
    }
    let hedged = gauge(&upstream, "upstream_hedged_total");
    assert!((10.0..=17.0).contains(&hedged), "{hedged} of 60");
}

#[test]
fn a_silent_endpoint_times_out_and_is_not_asked_twice_unless_that_is_allowed() {
    let mute = silent();
    for (replay, times) in [(Replay::Never, 1), (Replay::Errors, 1), (Replay::Always, 3)] {
        let before = mute.received().len();
        let upstream = Upstream::new(Endpoint { replay, ..endpoint(&[&mute.url]) }).unwrap();
        let begun = Instant::now();
        let outcome = run(&upstream, ask("x"));
        assert!(!outcome.started);
        assert!(matches!(outcome.error(), InferenceError::TimedOut(ms) if ms >= 450));
        assert_eq!(mute.received().len() - before, times, "{replay:?}");
        assert!(begun.elapsed() < Duration::from_secs(4));
    }
}

#[test]
fn errors_of_the_server_are_repeated_within_the_attempts() {
    for (replay, expected) in [(Replay::Never, 1), (Replay::Errors, 3)] {
        let server = Server::failing("500 Internal Server Error", "", "oh");
        let upstream = Upstream::new(Endpoint { replay, ..endpoint(&[&server.url]) }).unwrap();
        assert!(run(&upstream, ask("x")).error().to_string().contains("in trouble"));
        assert_eq!(server.received().len(), expected, "{replay:?}");
    }
    let server = Server::failing("400 Bad Request", "", "your fault");
    let upstream = Upstream::new(endpoint(&[&server.url])).unwrap();
    assert!(matches!(run(&upstream, ask("x")).error(), InferenceError::Invalid { .. }));
    assert_eq!(server.received().len(), 1, "what is wrong stays wrong");
    assert_eq!(gauge(&upstream, "replica_out"), 0.0);
}

#[test]
fn a_rate_limit_is_waited_for() {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    let server = Server::start(move |stream| {
        if seen.fetch_add(1, Ordering::SeqCst) == 0 {
            let reply = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0\r\n\
                         connection: close\r\n\r\n";
            return stream.write_all(reply.as_bytes()).unwrap();
        }
        begin_stream(stream);
        stream.write_all(format!("{}{STOP}", delta("now")).as_bytes()).unwrap();
    });
    let upstream = Upstream::new(endpoint(&[&server.url])).unwrap();
    let begun = Instant::now();
    assert_eq!(run(&upstream, ask("x")).completion().text, "now");
    assert!(begun.elapsed() >= Duration::from_secs(1), "as long as it asked for");
}

#[test]
fn an_answer_cut_in_the_middle_is_told_and_never_continued_by_another() {
    let cut = || {
        Server::start(|stream| {
            begin_stream(stream);
            stream.write_all(delta("half a sen").as_bytes()).unwrap();
        })
    };
    let (one, two) = (cut(), cut());
    let upstream = Upstream::new(endpoint(&[&one.url, &two.url])).unwrap();
    let outcome = run(&upstream, ask("x"));
    assert_eq!(outcome.deltas, ["half a sen"]);
    assert!(outcome.error().to_string().contains("cut off"));
    assert_eq!(one.received().len() + two.received().len(), 1);
}

#[test]
fn one_error_in_twenty_is_made_good_and_opens_no_breaker() {
    let count = AtomicUsize::new(0);
    let flaky = Server::start(move |stream| {
        if count.fetch_add(1, Ordering::SeqCst) % 20 == 7 {
            let reply = "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            return stream.write_all(reply.as_bytes()).unwrap();
        }
        begin_stream(stream);
        stream.write_all(format!("{}{STOP}{DONE}", delta("fine")).as_bytes()).unwrap();
    });
    let upstream = Upstream::new(endpoint(&[&flaky.url])).unwrap();
    for n in 0..200 {
        assert_eq!(run(&upstream, ask(&format!("{n}"))).completion().text, "fine");
    }
    assert!(gauge(&upstream, "upstream_repeated_total") >= 9.0);
    assert_eq!(gauge(&upstream, "replica_out"), 0.0);
}

#[test]
fn when_all_are_out_the_answer_comes_at_once_and_a_probe_brings_them_back() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |stream| {
        if count.fetch_add(1, Ordering::SeqCst) < 5 {
            let reply = "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            return stream.write_all(reply.as_bytes()).unwrap();
        }
        begin_stream(stream);
        stream.write_all(format!("{}{STOP}{DONE}", delta("back")).as_bytes()).unwrap();
    });
    let breaker = BreakerRules { cooldown: Duration::from_millis(300), ..BreakerRules::default() };
    let rules = Endpoint { breaker, attempts: 1, ..endpoint(&[&server.url]) };
    let upstream = Upstream::new(rules).unwrap();
    for _ in 0..5 {
        run(&upstream, ask("x")).error();
    }
    let begun = Instant::now();
    let error = run(&upstream, ask("x")).error().to_string();
    assert!(error.contains("left alone for a while"), "{error}");
    assert!(begun.elapsed() < Duration::from_millis(200));
    thread::sleep(Duration::from_millis(350));
    assert_eq!(run(&upstream, ask("x")).completion().text, "back");
    assert_eq!(gauge(&upstream, "replica_out"), 0.0);
}
