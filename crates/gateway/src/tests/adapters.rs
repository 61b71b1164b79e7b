use std::time::{Duration, Instant};

use serde_json::{Value, json};
use understudy_inference::{MockConfig, Student as _};
use understudy_router::Target;

use super::{CHAT, Server, chat, start, start_with, with};

const LOAD: &str = "/v1/load_lora_adapter";
const UNLOAD: &str = "/v1/unload_lora_adapter";
const ROLLBACK: &str = "/v1/rollback_lora_adapter";

#[test]
fn loading_and_unloading_answer_as_vllm_does() {
    let server = start();
    let path = server.adapter_files("a", "a");
    let body = json!({"lora_name": "sql", "lora_path": path});
    let reply = server.post(LOAD, &body);
    assert_eq!(reply.text, "Success: LoRA adapter 'sql' added successfully.");
    let again = server.post(LOAD, &body);
    assert_eq!(again.status, 400);
    assert_eq!(again.json()["error"]["reason"], "lora_adapter_already_loaded");
    assert_eq!(server.post(LOAD, &with(body, json!({"load_inplace": true}))).status, 200);
    let cards = server.get("/v1/models").json();
    let card = cards["data"].as_array().unwrap().iter().find(|card| card["id"] == "sql").unwrap();
    assert_eq!((&card["parent"], &card["rank"]), (&json!("mock"), &json!(8)));
    assert_eq!(card["max_model_len"], 4096);
    assert_eq!(server.get("/v1/models/sql").json()["id"], "sql");
    assert_eq!(server.get("/v1/models/none").status, 404);
    let reply = server.post(UNLOAD, &json!({"lora_name": "sql", "lora_int_id": 1}));
    assert_eq!(reply.text, "Success: LoRA adapter 'sql' removed successfully.");
    server.refuses(UNLOAD, &json!({"lora_name": "sql"}), 404, "lora_name");
    server.refuses(LOAD, &json!({"lora_path": "x"}), 400, "lora_name");
    server.refuses(LOAD, &json!({"lora_name": "x"}), 400, "lora_path");
    server.refuses(LOAD, &json!({"lora_name": "x", "lora_path": "/nowhere"}), 404, "lora_path");
    server.refuses(LOAD, &json!({"lora_name": "mock", "lora_path": "x"}), 400, "lora_name");
    for (field, value) in [
        ("ttl_s", json!(0)),
        ("ttl_s", json!("1h")),
        ("revision", json!("main")),
        ("wait", json!("drained")),
    ] {
        let body = json!({"lora_name": "x", "lora_path": "x", field: value});
        server.refuses(LOAD, &body, 400, field);
    }
}

#[test]
fn a_swap_is_compared_and_can_be_taken_back_at_once() {
    let server = start();
    let first = server.load("a", "one");
    let generation = |value: &Value| value["generation"].as_str().unwrap().to_owned();
    let second_files = server.adapter_files("two", "two");
    let swap = |expected: &str| {
        let body = json!({"lora_name": "a", "lora_path": second_files,
            "expected_generation": expected, "keep_previous": 2, "pinned": true});
        server.post_with(LOAD, &body, &[("accept", "application/json")])
    };
    let refused = swap("0000");
    assert_eq!((refused.status, refused.header("x-should-retry")), (409, Some("false")));
    assert_eq!(refused.json()["error"]["reason"], "lora_generation_mismatch");
    let swapped = swap(&generation(&first)).json();
    assert_eq!(swapped["replaced"], json!(generation(&first)));
    assert_eq!(swapped["pinned"], true);
    assert!(swapped["load_ms"]["publish"].is_f64());
    let status = server.get("/v1/lora_adapters").json();
    assert_eq!(status["data"][0]["previous"], json!([generation(&first)]));
    let back = server.post(ROLLBACK, &json!({"lora_name": "a"})).json();
    assert_eq!(generation(&back), generation(&first));
    let named = json!({"lora_name": "a", "to_generation": generation(&swapped)});
    assert_eq!(generation(&server.post(ROLLBACK, &named).json()), generation(&swapped));
    let lost = json!({"lora_name": "a", "to_generation": "gone"});
    server.refuses(ROLLBACK, &lost, 400, "to_generation");
    server.refuses(ROLLBACK, &json!({"lora_name": "none"}), 404, "lora_name");
    let wrong = json!({"lora_name": "b", "lora_path": second_files, "generation": "ff"});
    server.refuses(LOAD, &wrong, 400, "lora_path");
    let lazy = json!({"lora_name": "b", "lora_path": second_files, "on_demand": true});
    let loaded = server.post(&format!("{LOAD}?format=json"), &lazy).json();
    assert_eq!(loaded["resident"], false);
    assert_eq!(server.get("/v1/lora_adapters").json()["data"][1]["state"], "on_demand");
    server.post(CHAT, &with(chat("x"), json!({"model": "b"})));
    assert_eq!(server.get("/v1/lora_adapters").json()["data"][1]["resident"], true);
}

#[test]
fn adapters_come_from_allowed_places_only_whatever_links_say() {
    let server = start();
    let outside = server.directory.path().join("outside");
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::write(outside.join("adapter_config.json"), "{}").unwrap();
    std::fs::write(outside.join("adapter_model.safetensors"), "x").unwrap();
    let inside = server.adapter_files("fine", "fine");
    let link = server.directory.path().join("loras/link");
    std::os::unix::fs::symlink(&outside, &link).unwrap();
    let file = server.directory.path().join("loras/file");
    std::fs::create_dir_all(&file).unwrap();
    std::fs::write(file.join("adapter_config.json"), "{}").unwrap();
    let weights = "adapter_model.safetensors";
    std::os::unix::fs::symlink(outside.join(weights), file.join(weights)).unwrap();
    let dotted = format!("{inside}/../../outside");
    for path in [json!(outside), json!(link), json!(file), json!(dotted)] {
        let reply = server.post(LOAD, &json!({"lora_name": "x", "lora_path": path}));
        let answer = reply.json();
        assert_eq!(
            (reply.status, &answer["error"]["reason"]),
            (403, &json!("adapter_path_forbidden")),
            "{path}: {answer}"
        );
    }
    assert_eq!(server.post(LOAD, &json!({"lora_name": "x", "lora_path": inside})).status, 200);
}

#[test]
fn nothing_moves_unless_updates_are_allowed_and_nothing_under_a_route() {
    let closed = start_with(MockConfig::default(), false);
    for path in [LOAD, UNLOAD, ROLLBACK, "/pause", "/resume"] {
        assert_eq!(closed.post(path, &json!({"lora_name": "a", "lora_path": "b"})).status, 403);
    }
    let server = start();
    server.load("triage@1", "one");
    let target = Target::Adapter { version: "triage@1".to_owned(), generation: "g".to_owned() };
    server.route("triage", target);
    let reply = server.post(UNLOAD, &json!({"lora_name": "triage@1"}));
    assert_eq!((reply.status, reply.header("x-should-retry")), (409, Some("false")));
    let cards = server.get("/v1/models").json();
    let card =
        cards["data"].as_array().unwrap().iter().find(|card| card["id"] == "triage").unwrap();
    assert!(card["route"].is_object());
    let card = server.get("/v1/models/triage@1").json();
    assert_eq!(card["labels"], json!({"stage": "stable"}), "{card}");
    // What nobody has registered is wanted by whoever routes to it: here with other content.
    let row = &server.get("/v1/lora_adapters").json()["data"][0];
    assert_eq!(
        (&row["desired"]["generation"], &row["routed"], &row["in_sync"]),
        (&json!("g"), &json!("stable"), &json!(false)),
        "{row}"
    );
}

#[test]
fn no_more_loads_are_taken_than_there_are_places_for() {
    let server = start();
    let slow: Vec<_> = (0..8).map(|n| server.slow_adapter(&format!("slow-{n}"))).collect();
    let one = json!({"lora_name": "one", "lora_path": server.adapter_files("one", "one")});
    let (refused, loaded) = std::thread::scope(|scope| {
        let loads: Vec<_> =
            slow.iter().map(|(body, _)| scope.spawn(|| server.post(LOAD, body).status)).collect();
        while server.student.attempts().len() < slow.len() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let refused = server.post(LOAD, &one);
        // Whatever came of that, nobody may be left waiting.
        for (_, weights) in &slow {
            std::fs::write(weights, "weights").unwrap();
        }
        (refused, loads.into_iter().map(|load| load.join().unwrap()).collect::<Vec<_>>())
    });
    let answer = refused.json();
    assert_eq!((refused.status, &answer["error"]["type"]), (429, &json!("RateLimitError")));
    assert_eq!(answer["error"]["reason"], "lora_load_busy", "{answer}");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(loaded, [200; 8]);
    assert_eq!(server.post(LOAD, &one).status, 200, "there is room again");
}

#[test]
fn an_adapter_of_too_high_a_rank_is_refused_by_its_own_reason() {
    let server = start_with(MockConfig { max_lora_rank: 4, ..MockConfig::default() }, true);
    let body = json!({"lora_name": "a", "lora_path": server.adapter_files("a", "a")});
    let refused = server.post(LOAD, &body);
    let error = refused.json()["error"].clone();
    assert_eq!((refused.status, &error["param"]), (409, &json!("lora_path")), "{error}");
    assert_eq!(error["reason"], "lora_rank_limit_exceeded");
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    assert!(error["message"].as_str().unwrap().contains("rank 8; at most 4"), "{error}");
    assert_eq!(server.get("/v1/models/a").status, 404, "nothing was published");
}

/// A server whose replies take their time, and what asks its adapter `a` for a long one.
fn slow_server() -> (Server, Value) {
    let step = Duration::from_millis(10);
    let server = start_with(MockConfig { step, ..MockConfig::default() }, true);
    server.load("a", "one");
    (server, with(chat(&"x".repeat(60)), json!({"model": "a"})))
}

fn until_in_flight(server: &Server, count: usize) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while server.student.in_flight("a") != count {
        assert!(Instant::now() < deadline, "{} in flight", server.student.in_flight("a"));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_unload_that_waits_is_answered_after_the_last_token() {
    let (server, long) = slow_server();
    let server = &server;
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| server.post(CHAT, &long));
        until_in_flight(server, 1);
        server.student.pause();
        let body = json!({"lora_name": "a", "wait": "drained"});
        let unload = scope.spawn(move || server.post(&format!("{UNLOAD}?format=json"), &body));
        while !server.student.adapters().is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(100));
        assert!(!unload.is_finished(), "a request still holds what it meant");
        server.student.resume();
        let drained = unload.join().unwrap();
        assert_eq!(drained.json()["drained"], true, "{}", drained.text);
        let reply = asked.join().unwrap().json();
        let said = reply["choices"][0]["message"]["content"].as_str();
        assert_eq!(said, Some(format!("a: {}", "x".repeat(60)).as_str()), "{reply}");
    });
    assert_eq!(server.post(CHAT, &with(chat("x"), json!({"model": "a"}))).status, 404);
    server.load("b", "two");
    let idle = server.post(UNLOAD, &json!({"lora_name": "b", "wait": "drained"}));
    assert_eq!(idle.text, "Success: LoRA adapter 'b' removed successfully.");
}

#[test]
fn an_unload_waits_no_longer_than_it_was_told_to() {
    let (server, long) = slow_server();
    let long = with(long, json!({"max_tokens": 500, "ignore_eos": true, "min_tokens": 500}));
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| server.post(CHAT, &long));
        until_in_flight(&server, 1);
        let begun = Instant::now();
        let body = json!({"lora_name": "a", "wait": "drained", "drain_timeout_s": 1});
        let late = server.post(UNLOAD, &body);
        assert!(begun.elapsed() >= Duration::from_secs(1));
        let error = late.json()["error"].clone();
        assert_eq!((late.status, &error["reason"]), (504, &json!("lora_drain_timeout")), "{error}");
        assert_eq!(late.header("x-should-retry"), Some("false"), "it is unloaded all the same");
        assert!(error["message"].as_str().unwrap().contains("1 of the requests"), "{error}");
        server.refuses(UNLOAD, &json!({"lora_name": "a"}), 404, "lora_name");
        assert_eq!(asked.join().unwrap().status, 200, "who began with it finishes on it");
    });
    until_in_flight(&server, 0);
    let wrong = |more: Value, field: &str| {
        server.refuses(UNLOAD, &with(json!({"lora_name": "a"}), more), 400, field);
    };
    wrong(json!({"wait": "published"}), "wait");
    wrong(json!({"drain_timeout_s": 3}), "drain_timeout_s");
    wrong(json!({"wait": "drained", "drain_timeout_s": 0}), "drain_timeout_s");
    wrong(json!({"wait": "drained", "drain_timeout_s": 3601}), "drain_timeout_s");
}

#[test]
fn an_adapter_whose_time_is_over_is_unloaded_unless_a_route_names_it() {
    let server = start();
    for alias in ["brief", "triage@1", "kept"] {
        let path = server.adapter_files(alias, alias);
        let body = json!({"lora_name": alias, "lora_path": path, "ttl_s": 1});
        let loaded = server.post(&format!("{LOAD}?format=json"), &body).json();
        assert!(loaded["expires"].is_string(), "{loaded}");
    }
    // Loaded again without an end, it has none.
    assert!(server.load("kept", "kept")["expires"].is_null());
    let target = Target::Adapter { version: "triage@1".to_owned(), generation: "g".to_owned() };
    server.route("triage", target);
    let aliases = || {
        let all = server.student.adapters().into_iter().map(|adapter| adapter.alias);
        all.collect::<Vec<String>>()
    };
    let until = |left: &[&str]| {
        let deadline = Instant::now() + Duration::from_mins(1);
        while aliases() != left {
            assert!(Instant::now() < deadline, "{:?} are left", aliases());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    until(&["kept", "triage@1"]);
    server.route("triage", Target::Base);
    until(&["kept"]);
}
