//! A server over its life: it is told to end, and it comes back.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

struct Served {
    child: Child,
    url: String,
    agent: ureq::Agent,
}

/// A server of this directory that answers.
fn serve(home: &Path, arguments: &[&str]) -> Served {
    let mut child = Command::new(env!("CARGO_BIN_EXE_understudy"))
        .current_dir(home)
        .env_remove("UNDERSTUDY_DATA_DIR")
        .args(["serve", "--listen", "127.0.0.1:0", "--grpc", "off"])
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let url = lines
        .find_map(|line| {
            let (_, url) = line.strip_prefix("serving ")?.split_once(" at ")?;
            Some(url.trim_end_matches("/v1").to_owned())
        })
        .expect("the server starts");
    thread::spawn(move || lines.for_each(drop));
    // A server that ends closes the connections that idle, so each question has one of its own.
    let config = ureq::Agent::config_builder()
        .max_idle_connections(0)
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_mins(1)));
    Served { child, url, agent: config.build().into() }
}

impl Served {
    /// Status, whether it says when to come back, and the body.
    fn post(&self, path: &str, body: &Value) -> (u16, bool, String) {
        let mut reply = self.agent.post(format!("{}{path}", self.url)).send_json(body).unwrap();
        let says_when = reply.headers().contains_key("retry-after");
        (reply.status().as_u16(), says_when, reply.body_mut().read_to_string().unwrap())
    }

    /// A stream of 280 steps, of which the first words have come.
    fn stream(&self) -> impl Read + use<> {
        let text = "a word or two ".repeat(20);
        let body = json!({
            "model": "mock", "messages": [{"role": "user", "content": text}], "stream": true,
        });
        let url = format!("{}/v1/chat/completions", self.url);
        let reply = self.agent.post(&url).send_json(&body).unwrap();
        assert_eq!(reply.status(), 200);
        let mut stream = reply.into_body().into_reader();
        stream.read_exact(&mut [0; 10]).unwrap();
        stream
    }

    fn terminate(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server does not end");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn a_server_that_is_told_to_end_finishes_what_it_began_and_takes_nothing_new() {
    let home = tempfile::tempdir().unwrap();
    let mut server = serve(home.path(), &["--mock-engine", "--mock-step", "30"]);
    let mut stream = server.stream();
    server.terminate();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        // Who connected just before the signal may find the line closed before it was heard.
        let asked = server.agent.get(format!("{}/ready", server.url)).call();
        if let Some(reply) = asked.ok().filter(|reply| reply.status() == 503) {
            let said = reply.into_body().read_to_string().unwrap();
            assert!(said.contains("shutting_down"), "{said}");
            break;
        }
        assert!(Instant::now() < deadline, "it never says that it ends");
    }
    let chat = json!({"model": "mock", "messages": [{"role": "user", "content": "hi"}]});
    let (status, says_when, text) = server.post("/v1/chat/completions", &chat);
    assert_eq!((status, says_when), (503, true), "{text}");
    assert!(text.contains("shutting_down"), "{text}");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("data: [DONE]\n\n"), "the stream is whole: {rest}");
    assert!(server.end().success());
}

#[test]
fn a_server_that_is_told_twice_or_waits_too_long_ends_without_what_it_began() {
    let home = tempfile::tempdir().unwrap();
    let slow = ["--mock-engine", "--mock-step", "1000"];
    let mut server = serve(home.path(), &slow);
    let stream = server.stream();
    server.terminate();
    thread::sleep(Duration::from_millis(300));
    server.terminate();
    let told = Instant::now();
    assert!(!server.end().success(), "something was cut off");
    assert!(told.elapsed() < Duration::from_secs(10), "it took {:?}", told.elapsed());
    drop(stream);
    let mut server = serve(home.path(), &[&slow[..], &["--drain-timeout", "1"]].concat());
    let stream = server.stream();
    server.terminate();
    let told = Instant::now();
    assert!(server.end().success());
    assert!(told.elapsed() < Duration::from_secs(15), "it took {:?}", told.elapsed());
    drop(stream);
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/model/llama").join(name)
}

#[test]
fn adapters_loaded_over_http_are_served_after_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let (kept, lost) = (home.path().join("loras/kept"), home.path().join("loras/lost"));
    for directory in [&kept, &lost] {
        fs::create_dir_all(directory).unwrap();
        for file in ["adapter_config.json", "adapter_model.safetensors"] {
            fs::copy(golden("adapter").join(file), directory.join(file)).unwrap();
        }
    }
    // Other content: what is the same is in memory once, under whichever name.
    let config = lost.join("adapter_config.json");
    let mut other: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    other["lora_alpha"] = json!(2.5);
    fs::write(&config, other.to_string()).unwrap();
    let base = golden("").display().to_string();
    let start = || {
        let updates = ["--allow-adapter-updates", "--adapter-root", "loras"];
        serve(home.path(), &[&["--base", &base][..], &updates].concat())
    };
    let ask = |server: &Served, alias: &str| {
        let messages = json!([{"role": "user", "content": "hello"}]);
        let body = json!({"model": alias, "messages": messages, "max_tokens": 4, "seed": 1});
        let (status, _, text) = server.post("/v1/chat/completions", &body);
        let reply: Value = serde_json::from_str(&text).unwrap();
        (status, reply["adapter_generation"].clone(), reply["choices"][0]["message"].clone())
    };
    let mut server = start();
    for (alias, directory) in [("kept", &kept), ("lost", &lost)] {
        let body = json!({"lora_name": alias, "lora_path": directory});
        assert_eq!(server.post("/v1/load_lora_adapter", &body).0, 200);
    }
    let before = ask(&server, "kept");
    assert_eq!(before.0, 200);
    server.terminate();
    assert!(server.end().success());
    fs::remove_dir_all(&lost).unwrap();
    let server = start();
    assert_eq!(ask(&server, "kept"), before, "the same adapter says the same");
    assert_ne!(ask(&server, "lost").0, 200, "an adapter that is gone is never the base");
}

#[test]
fn settings_of_the_engine_are_read_and_refused_by_name() {
    let home = tempfile::tempdir().unwrap();
    let doctor = |settings: &str| {
        fs::write(home.path().join("understudy.toml"), settings).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_understudy"))
            .current_dir(home.path())
            .env_remove("UNDERSTUDY_DATA_DIR")
            .arg("doctor")
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).into_owned()
    };
    let good = doctor("[engine]\nkv_tokens = 4096\nmax_running = 3\n");
    assert!(good.contains("3 sequences at once, 4096 tokens"), "{good}");
    let bad = doctor("[engine]\nmax_running = 0\n");
    assert!(bad.contains("`max_running` must be at least 1"), "{bad}");
    let odd = doctor("[engine]\nkv_cache_dtype = \"f8\"\n");
    assert!(odd.contains("unknown variant `f8`, expected one of `auto`, `f32`, `f16`"), "{odd}");
    let unknown = doctor("[engine]\nkv_token = 4096\n");
    assert!(unknown.contains("unknown field `kv_token`"), "{unknown}");
}

/// The tiny Llama with what its makers would suggest.
fn base_with(home: &Path, suggested: &Value) -> PathBuf {
    let base = home.join("base");
    fs::create_dir_all(&base).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"] {
        fs::copy(golden(name), base.join(name)).unwrap();
    }
    fs::write(base.join("generation_config.json"), suggested.to_string()).unwrap();
    base
}

#[test]
fn what_a_bases_makers_suggest_holds_unless_it_is_switched_off() {
    let home = tempfile::tempdir().unwrap();
    let base = base_with(home.path(), &json!({"max_new_tokens": 3, "top_k": 1}));
    let base = base.to_str().unwrap();
    let ask = |more: &[&str]| {
        let server = serve(home.path(), &[&["--base", base], more].concat());
        let body = json!({"model": base, "messages": [{"role": "user", "content": "hi"}],
            "ignore_eos": true, "stop_token_ids": []});
        let (status, _, text) = server.post("/v1/chat/completions", &body);
        assert_eq!(status, 200, "{text}");
        let reply: Value = serde_json::from_str(&text).unwrap();
        let tokens = reply["usage"]["completion_tokens"].as_u64().unwrap();
        (tokens, reply["system_fingerprint"].as_str().unwrap().to_owned())
    };
    let (tokens, fingerprint) = ask(&[]);
    assert_eq!(tokens, 3);
    let (tokens, same) = ask(&["--generation-config", "openai"]);
    assert!(tokens > 3, "{tokens}");
    assert_eq!(fingerprint, same, "the same model after a restart");
    assert_ne!(fingerprint, ask(&["--precision", "f32"]).1, "held otherwise");
    assert_ne!(fingerprint, ask(&["--kv-cache-dtype", "f32"]).1, "remembered otherwise");

    base_with(home.path(), &json!({"top_p": 7}));
    let refused = Command::new(env!("CARGO_BIN_EXE_understudy"))
        .current_dir(home.path())
        .args(["serve", "--listen", "127.0.0.1:0", "--grpc", "off", "--base", base])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "{said}");
    assert!(said.contains("top_p") && said.contains("--generation-config openai"), "{said}");
}
