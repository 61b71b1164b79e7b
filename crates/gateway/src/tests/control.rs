use std::{net::TcpListener, thread, time::Duration};

use serde_json::{Value, json};
use understudy_access::Scope;
use understudy_inference::Student as _;

use super::{CHAT, Server, auth::guarded, chat, read, start, with};
use crate::Patience;

#[test]
fn a_paused_server_says_so_and_goes_on_after() {
    let server = start();
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(server.get("/ready").status, 200);
    assert_eq!(server.post("/pause", &json!({})).json()["status"], "paused");
    assert_eq!(server.get("/is_paused").json()["is_paused"], true);
    let reply = server.post(CHAT, &chat("hi"));
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    assert_eq!(reply.header("retry-after-ms"), Some("1000"));
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

/// What dashboards and autoscalers look for.
const NAMES: &str = "
    vllm:num_requests_running vllm:num_requests_waiting vllm:num_requests_waiting_by_reason \
    vllm:kv_cache_usage_perc vllm:engine_sleep_state vllm:cache_config_info \
    vllm:lora_requests_info vllm:lora_adapter_loaded vllm:num_gpu_loaded_lora_adapters \
    vllm:num_cpu_loaded_lora_adapters vllm:prompt_tokens_total vllm:generation_tokens_total \
    vllm:request_success_total vllm:num_preemptions_total vllm:prefix_cache_queries_total \
    vllm:prefix_cache_hits_total vllm:prompt_tokens_cached_total \
    vllm:admission_rejections_total vllm:time_to_first_token_seconds \
    vllm:inter_token_latency_seconds vllm:request_time_per_output_token_seconds \
    vllm:e2e_request_latency_seconds vllm:request_queue_time_seconds \
    vllm:request_inference_time_seconds vllm:request_prefill_time_seconds \
    vllm:request_decode_time_seconds vllm:request_prompt_tokens vllm:request_generation_tokens \
    vllm:request_max_num_generation_tokens vllm:request_params_n vllm:request_params_max_tokens \
    vllm:iteration_tokens_total understudy:adapter_load_seconds \
    understudy:adapter_generation_info understudy:adapter_active_leases \
    understudy:adapter_resident_bytes understudy:adapter_swap_total \
    understudy:route_requests_total understudy:adapter_time_to_first_token_seconds \
    understudy:adapter_inter_token_latency_seconds understudy:adapter_requests_waiting \
    understudy:adapter_requests_running";

#[test]
fn every_metric_that_is_promised_is_there_once() {
    let server = start();
    let page = server.get("/metrics").text;
    for name in NAMES.split_whitespace() {
        let heading = format!("# TYPE {name} ");
        assert_eq!(page.matches(&heading).count(), 1, "{name}");
    }
    if cfg!(target_os = "linux") {
        assert!(server.metric("process_resident_memory_bytes", "") > 1e6);
    }
}

#[test]
fn loads_are_counted_whoever_asks_for_them() {
    let server = start();
    server.load("a", "one");
    let path = server.adapter_files("two", "two");
    // As a release does, past HTTP.
    server.student.load_adapter("a", path.as_ref()).unwrap();
    server.student.load_adapter("a", "/nowhere".as_ref()).unwrap_err();
    server.student.rollback_adapter("a", None).unwrap();
    for result in ["added", "replaced", "refused", "rolled_back"] {
        let label = format!("result=\"{result}\"");
        assert_eq!(server.metric("understudy:adapter_swap_total", &label), 1.0, "{result}");
    }
    for phase in ["read", "verify", "publish"] {
        let label = format!("phase=\"{phase}\"");
        assert_eq!(server.metric("understudy:adapter_load_seconds_count", &label), 2.0, "{phase}");
    }
}

/// What `/ready` says while an adapter is being loaded.
fn ready_meanwhile(server: &Server) -> Value {
    let (load, weights) = server.slow_adapter("slow");
    thread::scope(|scope| {
        let directory = load["lora_path"].as_str().unwrap().to_owned();
        let student = &server.student;
        let loading = scope.spawn(move || student.load_adapter("slow", directory.as_ref()));
        while server.student.attempts().is_empty() {
            thread::sleep(Duration::from_millis(1));
        }
        let ready = server.get("/ready");
        std::fs::write(weights, "weights").unwrap();
        loading.join().unwrap().unwrap();
        assert_eq!(ready.status, 200, "requests go on beside it: {}", ready.text);
        ready.json()
    })
}

#[test]
fn a_ready_server_says_what_it_is_loading_to_those_who_may_know() {
    let server = start();
    let meanwhile = ready_meanwhile(&server);
    assert_eq!(meanwhile, json!({"status": "ok", "loading": {"adapters": 1, "names": ["slow"]}}));
    assert_eq!(server.get("/ready").json(), json!({"status": "ok"}), "it is loaded");
    // Whoever needs no key there learns nobody's names.
    let guarded = guarded();
    guarded.key(&[Scope::Read]);
    assert_eq!(ready_meanwhile(&guarded), json!({"status": "ok", "loading": {"adapters": 1}}));
}

#[test]
fn a_server_says_that_it_loads_its_model_until_it_answers_at_the_same_port() {
    let server = start();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let listener = || {
        let _runtime = server.runtime().enter();
        tokio::net::TcpListener::from_std(socket.try_clone().unwrap()).unwrap()
    };
    let url = |path: &str| format!("http://{}{path}", socket.local_addr().unwrap());
    let get = |path: &str| read(server.agent.get(url(path)).call().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let stopped = async { drop(stopped.await) };
    let (early, patience) = (listener(), Patience::default());
    let loading = server
        .runtime()
        .spawn(async move { crate::serve_loading(early, "large", None, patience, stopped).await });
    for path in ["/ready", "/v1/health", "/health", "/v1/models"] {
        let reply = get(path);
        assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")), "{path}");
        let error = reply.json()["error"].clone();
        assert_eq!(error["reason"], "loading_model");
        let message = error["message"].as_str().unwrap();
        assert!(message.starts_with("Loading model `large`"), "{message}");
    }
    assert_eq!(read(server.agent.post(url(CHAT)).send_json(chat("hi")).unwrap()).status, 503);
    assert_eq!(get("/ping").status, 200, "it is there");
    drop(stop);
    server.runtime().block_on(loading).unwrap();
    let gateway = server.gateway.clone();
    server.runtime().spawn(crate::serve(listener(), gateway, std::future::pending()));
    assert_eq!(get("/ready").status, 200);
}
