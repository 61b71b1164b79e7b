use serde_json::json;
use understudy_inference::Student as _;

use super::{CHAT, chat, start, with};

#[test]
fn a_paused_server_says_so_and_goes_on_after() {
    let server = start();
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(server.get("/ready").status, 200);
    assert_eq!(server.post("/pause", &json!({})).json()["status"], "paused");
    assert_eq!(server.get("/is_paused").json()["is_paused"], true);
    let reply = server.post(CHAT, &chat("hi"));
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    assert_eq!(reply.json()["error"]["type"], "ServiceUnavailableError");
    assert_eq!((server.get("/ready").status, server.get("/v1/health").status), (503, 503));
    assert_eq!(server.get("/health").status, 200, "alive all the same");
    server.refuses("/pause?mode=abort", &json!({}), 400, "mode");
    server.refuses("/pause?clear_cache=true", &json!({}), 400, "clear_cache");
    assert_eq!(server.post("/resume", &json!({})).json()["status"], "resumed");
    assert_eq!(server.post(CHAT, &chat("hi")).status, 200);
}

#[test]
fn small_questions_have_small_answers() {
    let server = start();
    assert_eq!(
        (server.get("/ping").status, server.get("/load").json()["server_load"].clone()),
        (200, json!(0))
    );
    assert!(server.get("/version").json()["version"].is_string());
    let loaded = server.load("a", "one");
    let info = server.get("/weight_info").json();
    assert_eq!(
        (&info["base"], &info["weight_versions"]["a"]),
        (&json!("mock"), &loaded["generation"])
    );
}

#[test]
fn choices_of_one_prompt_are_counted_as_one_request() {
    let server = start();
    server.post(CHAT, &with(chat("hello"), json!({"n": 3})));
    let two = json!({"model": "mock", "prompt": ["a", "abcd"], "n": 2});
    server.post("/v1/completions", &two);
    let page = server.get("/metrics").text;
    let of = |name: &str| {
        let found = page.lines().find_map(|line| line.strip_prefix(name)?.split(' ').next_back());
        found.unwrap_or_else(|| panic!("no {name} in\n{page}")).to_owned()
    };
    assert_eq!(of("vllm:request_max_num_generation_tokens_count"), "3", "one for each prompt");
    assert_eq!(of("vllm:request_max_num_generation_tokens_sum"), "13", "6, 2 and 5 with the ends");
    assert_eq!(of("vllm:request_generation_tokens_count"), "7");
    assert_eq!(of("vllm:request_params_n_sum"), "5");
}

#[test]
fn metrics_have_vllms_names_and_every_adapter() {
    let server = start();
    server.load("a", "one");
    server.post(CHAT, &with(chat("hello"), json!({"model": "a"})));
    server.post(CHAT, &chat("hello"));
    server.post(CHAT, &with(chat("hello"), json!({"max_tokens": 5000})));
    let page = server.get("/metrics");
    assert!(page.header("content-type").unwrap().starts_with("text/plain"));
    let value = |line: &str| {
        let found = page.text.lines().find_map(|text| text.strip_prefix(line));
        let found = found.unwrap_or_else(|| panic!("no {line} in\n{}", page.text));
        found.trim().parse::<f64>().unwrap()
    };
    let common = "model_name=\"mock\",engine=\"0\"";
    let of = |name: &str, labels: &str| value(&format!("{name}{{{common}{labels}}}"));
    assert_eq!(of("vllm:num_requests_running", ""), 0.0);
    assert_eq!(of("vllm:generation_tokens_total", ""), 15.0, "hello, a: hello, and two ends");
    assert_eq!(of("vllm:request_success_total", ",finished_reason=\"stop\""), 2.0);
    assert_eq!(of("vllm:time_to_first_token_seconds_count", ""), 2.0);
    assert_eq!(of("vllm:time_to_first_token_seconds_bucket", ",le=\"+Inf\""), 2.0);
    assert!(of("vllm:time_to_first_token_seconds_bucket", ",le=\"0.001\"") <= 2.0);
    assert_eq!(of("vllm:request_generation_tokens_bucket", ",le=\"5.0\""), 0.0);
    assert_eq!(of("vllm:request_params_n_bucket", ",le=\"1.0\""), 2.0);
    assert_eq!(of("vllm:request_generation_tokens_sum", ""), 15.0);
    // Fifteen tokens, one or two a step, besides the prompts.
    assert!(of("vllm:iteration_tokens_total_sum", "") > 15.0);
    let steps = of("vllm:iteration_tokens_total_count", "");
    assert!((8.0..=15.0).contains(&steps), "{steps} steps");
    assert_eq!(of("vllm:iteration_tokens_total_bucket", ",le=\"+Inf\""), steps);
    let loaded = ",adapter_name=\"a\",level=\"cpu\",pinned=\"false\"";
    assert_eq!(of("vllm:lora_adapter_loaded", loaded), 1.0);
    assert_eq!(of("understudy:adapter_swap_total", ",result=\"added\""), 1.0);
    let bytes = server.student.stats().resident_bytes;
    assert!(bytes > 0);
    assert_eq!(of("understudy:adapter_resident_bytes", ""), bytes as f64);
    let asked =
        (of("understudy:adapter_hits_total", ""), of("understudy:adapter_misses_total", ""));
    assert_eq!(asked, (1.0, 0.0));
    assert_eq!(of("understudy:adapter_requests_total", ",adapter=\"a\""), 1.0);
    assert_eq!(of("understudy:route_requests_total", ",route=\"base\",arm=\"base\""), 1.0);
    let refused = ",reason=\"context_length_exceeded\"";
    assert_eq!(of("understudy:refused_requests_total", refused), 1.0);
    for line in page.text.lines().filter(|line| !line.starts_with('#')) {
        let (_, number) = line.rsplit_once(' ').unwrap();
        assert!(number.parse::<f64>().is_ok(), "{line}");
    }
}
