//! Memory on the command line and at a running server, from traces to forgetting; and that nothing
//! anybody said leaves the journal on the way.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use understudy_ident::Timestamp;
use understudy_memory::{Called, Failure, Transcript};
use understudy_toolworld::{Agent, Request, journal_lines};

use crate::cli::{text, understudy};

/// Shown to every session, so that what is shown can be looked for.
const ALWAYS: &str = "\n[settings.counters]\ncontrol_share = 0.0\nprobation_share = 0.0\n\
                      [settings.retrieval]\nbudget_ms = 5000\nsmall_model = false\n\
                      max_line_tokens = 400\nmax_tokens = 2000\ncontext_share = 0.5\n";

/// Everything starts so that was hidden in a trace; nothing else does.
const MARK: &str = "zq";

/// A data directory with the tool world's memory.toml and its runs, a token hidden in every field.
struct Home {
    directory: tempfile::TempDir,
    hidden: BTreeSet<String>,
    /// What commands and servers printed.
    said: Mutex<Vec<(String, Vec<u8>)>>,
}

impl Home {
    fn new(runs: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = include_str!("../../crates/toolworld/memory.toml");
        fs::write(directory.path().join("memory.toml"), format!("{file}{ALWAYS}")).unwrap();
        fs::write(directory.path().join("understudy.toml"), "tasks = [\"desk\"]\n").unwrap();
        let mut hidden = BTreeSet::new();
        let (agent, now) = (Agent::student(), Timestamp::now());
        let mut lines = String::new();
        for n in 0..runs {
            let played = agent.play(&Request::draw(3, n), None, 3, now);
            let [mut step, mut outcome] =
                journal_lines(&salted(played.transcript, n, &mut hidden), n);
            let mut at = |place: &str| token(&mut hidden, place, n);
            step["step"]["session"] = json!(at("session"));
            step["step"]["response_id"] = json!(at("response"));
            outcome["outcome"]["note"] = json!(at("note"));
            lines.extend([step.to_string(), "\n".into(), outcome.to_string(), "\n".into()]);
        }
        fs::write(directory.path().join("desk.jsonl"), lines).unwrap();
        Self { directory, hidden, said: Mutex::default() }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where lessons lie; the journal beside it holds what was said, and is for nobody else.
    fn memory(&self) -> PathBuf {
        self.path().join(".understudy/memory")
    }

    fn run(&self, line: &str) -> Output {
        let arguments: Vec<&str> = line.split(' ').collect();
        let output = understudy(self.path(), &arguments);
        let mut said = self.said.lock().unwrap();
        for (stream, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            said.push((format!("{stream} of {line}"), bytes.clone()));
        }
        output
    }

    fn code(&self, line: &str) -> i32 {
        self.run(line).status.code().unwrap()
    }

    fn json(&self, line: &str) -> Value {
        let output = self.run(&format!("{line} --json"));
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Traces to the journal, and lessons out of them.
    fn learn(&self) -> Value {
        assert_eq!(self.code("import desk.jsonl --task desk --format understudy"), 0);
        self.json("memory learn --owner ada --reason weekly")
    }

    /// Approves and releases what is worded so, and says how it is called.
    fn release(&self, words: &[&str]) -> Vec<String> {
        let waiting = self.json("memory review");
        let fits = |lesson: &Value| {
            let strategy = lesson["item"]["strategy"]["text"].as_str().unwrap();
            words.iter().any(|words| strategy.contains(words))
        };
        let chosen: Vec<String> = waiting
            .as_array()
            .unwrap()
            .iter()
            .filter(|lesson| fits(lesson))
            .map(|lesson| lesson["item"]["id"].as_str().unwrap().to_owned())
            .collect();
        assert!(!chosen.is_empty(), "{waiting}");
        for id in &chosen {
            let line = format!("memory review {id} --approve --reason read --owner ada");
            assert_eq!(self.code(&line), 0);
        }
        assert_eq!(self.code("memory release --reason first --owner ada"), 0);
        chosen
    }

    /// Nothing that was hidden is in any of these.
    fn holds_nothing_hidden<'a>(&self, places: impl IntoIterator<Item = (String, &'a [u8])>) {
        for (place, bytes) in places {
            let found = found(&self.hidden, bytes);
            assert!(found.is_none(), "{} in {place}", found.unwrap_or_default());
        }
    }
}

/// A token that is in no word list, different for every place.
fn token(seen: &mut BTreeSet<String>, place: &str, n: u64) -> String {
    let text = format!("{MARK}{place}{n}xv");
    seen.insert(text.clone());
    text
}

/// Puts a token into every field of a run that holds content.
fn salted(mut transcript: Transcript, n: u64, hidden: &mut BTreeSet<String>) -> Transcript {
    let mut at = |place: &str| token(hidden, place, n);
    transcript.goal = format!("{} {}", transcript.goal, at("goal"));
    transcript.answer = json!({"done": true, "said": at("answer")}).to_string();
    transcript.subject = Some(format!("{}@{}.example", at("mail"), at("host")));
    transcript.heard.push(format!("You are {}, for {}", at("system"), at("name")));
    transcript.heard.push(format!("Document: {}\nfile {}.pdf", at("title"), at("file")));
    transcript.heard.push(format!("https://{}.example/{}", at("site"), at("path")));
    for call in &mut transcript.calls {
        call.arguments[at("key")] = json!(at("value"));
        call.result = match &call.result {
            Ok(_) => Ok(json!({"title": at("output"), "body": [at("nested")]}).to_string()),
            Err(failure) => {
                let message = format!("{} for {} ({})", failure.message, at("error"), at("detail"));
                Err(Failure { message, code: failure.code })
            }
        };
    }
    transcript.calls.push(Called {
        tool: at("tool"),
        arguments: json!({"q": at("query")}),
        result: Ok(at("unknown")),
        batch: 99,
        latency_ms: 1,
        tokens: 1,
    });
    transcript
}

/// The first hidden token in some bytes, whatever its case.
fn found(hidden: &BTreeSet<String>, bytes: &[u8]) -> Option<String> {
    let lower = bytes.to_ascii_lowercase();
    let starts = lower.windows(MARK.len()).enumerate();
    starts.filter(|(_, window)| *window == MARK.as_bytes()).find_map(|(at, _)| {
        let rest = String::from_utf8_lossy(&lower[at..lower.len().min(at + 40)]).into_owned();
        hidden.iter().any(|token| rest.starts_with(token)).then_some(rest)
    })
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

fn any_holds(directory: &Path, needle: &str) -> bool {
    let holds = |path: &PathBuf| {
        fs::read(path).unwrap().windows(needle.len()).any(|window| window == needle.as_bytes())
    };
    files(directory).iter().any(holds)
}

/// A server with its log at its most talkative, killed at the end.
struct Served {
    process: Child,
    url: String,
    log: Arc<Mutex<Vec<u8>>>,
}

impl Served {
    fn start(home: &Home) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_understudy"))
            .current_dir(home.path())
            .env_remove("UNDERSTUDY_DATA_DIR")
            .env("UNDERSTUDY_LOG", "understudy_memory=trace,understudy_gateway=trace,info")
            .args(["serve", "--mock-engine", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut out = BufReader::new(process.stdout.take().unwrap());
        // What was routed before is told first.
        let url = loop {
            let mut line = String::new();
            assert!(out.read_line(&mut line).unwrap() > 0, "the server ended");
            log.lock().unwrap().extend_from_slice(line.as_bytes());
            let url = line.split_whitespace().find(|word| word.starts_with("http"));
            if let Some(url) = url {
                break url.trim_end_matches("/v1").to_owned();
            }
        };
        follow(out, &log);
        follow(process.stderr.take().unwrap(), &log);
        Self { process, url, log }
    }

    fn get(&self, path: &str) -> String {
        let mut response = ureq::get(format!("{}{path}", self.url)).call().unwrap();
        response.body_mut().read_to_string().unwrap()
    }

    /// The reply's headers, each on a line, and its body.
    fn post(&self, path: &str, body: &Value) -> (String, String) {
        let mut response = ureq::post(format!("{}{path}", self.url)).send_json(body).unwrap();
        let headers = response.headers().iter();
        let headers = headers.map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()));
        (headers.collect(), response.body_mut().read_to_string().unwrap())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn follow(mut from: impl std::io::Read + Send + 'static, log: &Arc<Mutex<Vec<u8>>>) {
    let log = Arc::clone(log);
    thread::spawn(move || {
        let mut some = [0; 4096];
        while let Ok(n @ 1..) = from.by_ref().read(&mut some) {
            log.lock().unwrap().extend_from_slice(&some[..n]);
        }
    });
}

const TOOLS: [&str; 4] = ["orders.find", "refunds.quote", "refunds.create", "shipments.history"];

fn chat(goal: &str) -> Value {
    let tool = |name: &&str| json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}});
    let tools: Vec<Value> = TOOLS.iter().map(tool).collect();
    json!({"model": "desk", "tools": tools, "user": "u1", "max_tokens": 8,
        "messages": [{"role": "user", "content": goal}]})
}

/// A failure that the runs ran into, with other values in it.
fn late_carrier(order: &str) -> Value {
    let message =
        format!("carrier did not answer for \"{order}\" within 30000 ms for \"{order}\" (504)");
    json!({"agent": "desk", "target": {"kind": "app", "key": "desk"},
        "action": {"tool": "shipments.track"}, "error": {"message": message}})
}

#[test]
fn lessons_go_from_traces_to_requests_and_back_out_on_the_command_line() {
    let home = Home::new(160);
    assert_eq!(home.code("memory list"), 1, "there is nothing yet");
    let dry = home.json("memory learn --dry-run");
    assert!(dry["lessons"].as_array().unwrap().is_empty(), "before any import: {dry}");
    let learnt = home.learn();
    assert!(learnt["report"]["learned"].as_u64().unwrap() >= 2, "{}", learnt["report"]);
    // The same traces again teach the same, which is noted with what is known and not added.
    let count = home.json("memory list").as_array().unwrap().len();
    home.json("memory learn --owner ada --reason again");
    assert_eq!(home.json("memory list").as_array().unwrap().len(), count);
    assert_eq!(home.code("memory release --reason early"), 1, "nobody has approved anything");

    let chosen = home.release(&["refunds.quote", "shipments.history"]);
    assert_eq!(home.code("memory release --reason again"), 1, "nothing has changed");
    let active = home.json("memory list --status active");
    assert_eq!(active.as_array().unwrap().len(), chosen.len());
    let releases = home.json("memory list --releases");
    assert_eq!(releases[0]["serves"], true);
    let name = releases[0]["release"].as_str().unwrap().to_owned();

    let told = home.json(&format!("memory explain {}", chosen[0]));
    let operations: Vec<&str> = told["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["op"].as_str().unwrap())
        .collect();
    assert!(operations.starts_with(&["add"]) && operations.ends_with(&["validate", "activate"]));
    let asked = explain(&home, "please refund my order");
    let block = asked["retrieved"]["block"].as_str().unwrap();
    assert!(block.contains("`refunds.quote`"), "{block}");
    let irrelevant = explain(&home, "translate a poem about the sea");
    assert!(irrelevant["retrieved"]["block"].is_null(), "{irrelevant}");

    fs::write(home.path().join("failure.json"), late_carrier("ORD-1").to_string()).unwrap();
    let healed = home.run("memory heal failure.json --json");
    let reply: Value = serde_json::from_slice(&healed.stdout).unwrap();
    assert_eq!(healed.status.code(), Some(0), "{reply}");
    let way = &reply["candidates"][0];
    assert_eq!(
        (&reply["tier"], &reply["escalate"], &way["mode"], &way["tool"]),
        (&json!("low"), &json!(false), &json!("general_approach"), &json!("shipments.history")),
        "{reply}"
    );
    let line = format!("memory heal --lesson {} --worked yes", way["id"].as_str().unwrap());
    assert_eq!((home.code(&line), home.code(&line)), (0, 2), "once for each time it was offered");
    let counted = home.json(&format!("memory explain {}", way["id"].as_str().unwrap()));
    let counters = &counted["lesson"]["counters"];
    assert!(counters["heal_worked"].as_f64().unwrap() > 0.9, "{counted}");
    assert_eq!(counters["success_with"], 0.0, "nothing was shown to anybody: {counted}");
    let lost = late_carrier("ORD-1").to_string().replace("carrier", "depot");
    fs::write(home.path().join("failure.json"), lost).unwrap();
    assert_eq!(
        home.code("memory heal failure.json"),
        1,
        "a failure of another kind is not this one"
    );

    home.json("memory rollback --reason worse --owner ada");
    assert!(explain(&home, "please refund my order")["retrieved"]["block"].is_null());
    home.json(&format!("memory rollback --to {} --reason better --owner ada", &name[..12]));
    assert!(explain(&home, "please refund my order")["retrieved"]["block"].is_string());

    let sentence = told["lesson"]["item"]["strategy"]["text"].as_str().unwrap();
    assert!(any_holds(&home.memory(), sentence));
    assert_eq!(home.code(&format!("memory forget {} --reason asked", chosen[0])), 0);
    assert!(!any_holds(&home.memory(), sentence), "{sentence}");
    assert_eq!(home.code(&format!("memory explain {}", chosen[0])), 2);
    assert_eq!(home.code("memory forget --user nobody@example.org --reason left"), 1);
    for line in [
        "memory forget --reason x",
        "memory list --status odd",
        "memory rollback --to 12345678 --reason x",
    ] {
        assert_eq!(home.code(line), 2, "{line}");
    }
}

#[test]
fn a_release_is_a_version_that_the_registry_admits_watches_and_takes_back() {
    let home = Home::new(120);
    home.learn();
    home.release(&["refunds.quote"]);
    let status = home.run("release status memory-greyhaven --json");
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["stable"], "memory-greyhaven@1", "{status}");
    let releases = home.json("memory list --releases");
    assert_eq!(
        (&releases[0]["version"], &releases[0]["status"], &releases[0]["serves"]),
        (&json!("memory-greyhaven@1"), &json!("registered"), &json!(true))
    );
    // Another lesson, on trial: refused without a report, admitted by whoever answers for it.
    let waiting = home.json("memory review");
    let id = waiting[0]["item"]["id"].as_str().unwrap().to_owned();
    assert_eq!(home.code(&format!("memory review {id} --approve --reason read")), 0);
    let trial = "memory release --canary --owner ada --reason trial";
    let refused = home.run(trial);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("needs a passing report"), "{}", text(&refused.stderr));
    let forced = [
        "memory",
        "release",
        "--canary",
        "--force",
        "--owner",
        "ada",
        "--json",
        "--reason",
        "there is no suite for the desk yet",
    ];
    let started = understudy(home.path(), &forced);
    assert!(started.status.success(), "{}", text(&started.stderr));
    let started: Value = serde_json::from_slice(&started.stdout).unwrap();
    assert_eq!(
        (&started["version"], &started["served"]),
        (&json!("memory-greyhaven@2"), &json!(false))
    );
    assert_eq!(home.json("memory list --releases").as_array().unwrap().len(), 2);
    assert_eq!(home.json(&format!("memory explain {id}"))["lesson"]["status"], "validated");
    let open = home.json("release status memory-greyhaven");
    assert_eq!(open["open"]["state"], "staging");
    // Taken off before it met anybody: the lesson waits, and what served never stopped.
    assert_eq!(home.code("memory rollback --owner ada --reason doubts"), 0);
    assert_eq!(home.json(&format!("memory explain {id}"))["lesson"]["status"], "suspended");
    assert!(explain(&home, "please refund my order")["retrieved"]["block"].is_string());
    let history = home.json("release history memory-greyhaven");
    let states: Vec<&Value> =
        history["releases"].as_array().unwrap().iter().map(|release| &release["state"]).collect();
    assert_eq!(states, ["promoted", "rolled_back"]);
    assert_eq!(home.code("audit verify"), 0);
    // No word of a lesson is in the registry, whose entries are never deleted.
    let registry = home.path().join(".understudy/registry.db");
    let bytes = fs::read(registry).unwrap();
    assert!(!bytes.windows(13).any(|window| window == b"refunds.quote"));
}

#[test]
fn an_agent_asks_for_lessons_over_the_model_context_protocol() {
    let home = Home::new(120);
    home.learn();
    home.release(&["refunds.quote", "shipments.history"]);
    let mut agent = Command::new(env!("CARGO_BIN_EXE_understudy"))
        .current_dir(home.path())
        .env_remove("UNDERSTUDY_DATA_DIR")
        .args(["memory", "mcp"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = agent.stdin.take().unwrap();
    let mut output = BufReader::new(agent.stdout.take().unwrap());
    let mut ask = |id: u32, method: &str, params: Value| -> Value {
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        writeln!(input, "{request}").unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(answer["id"], id, "{answer}");
        answer["result"].clone()
    };
    let hello = ask(0, "initialize", json!({"protocolVersion": "2025-06-18"}));
    assert_eq!(hello["serverInfo"]["name"], "understudy-memory");
    let tools = ask(1, "tools/list", json!({}));
    let names: Vec<&str> =
        tools["tools"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["heal", "heal_outcome", "plan"]);
    let plan = json!({"name": "plan", "arguments": {"goal": "please refund my order",
        "agent": "desk", "tools": TOOLS, "session": "s"}});
    let planned = ask(2, "tools/call", plan);
    assert_eq!(planned["isError"], false, "{planned}");
    let prefers = planned["structuredContent"]["prefer_tools"].to_string();
    assert!(prefers.contains("refunds.quote"), "{planned}");
    let failure = late_carrier("ORD-1");
    let healed = ask(3, "tools/call", json!({"name": "heal", "arguments": failure}));
    let healed = &healed["structuredContent"];
    assert_eq!(
        (&healed["tier"], &healed["candidates"][0]["tool"]),
        (&json!("low"), &json!("shipments.history")),
        "{healed}"
    );
    let wrong = ask(4, "tools/call", json!({"name": "heal", "arguments": {"user": "ada"}}));
    assert_eq!(wrong["isError"], true, "{wrong}");
    let shown = planned["structuredContent"]["shown"][0]["id"].as_str().unwrap().to_owned();
    let id = healed["candidates"][0]["id"].as_str().unwrap().to_owned();
    let worked =
        |id: &str| json!({"name": "heal_outcome", "arguments": {"id": id, "worked": true}});
    assert_eq!(ask(5, "tools/call", worked(&id))["isError"], false);
    assert_eq!(ask(6, "tools/call", worked(&id))["isError"], true, "once");
    assert_eq!(ask(7, "tools/call", worked(&shown))["isError"], true, "it was shown, not offered");
    drop(input);
    assert!(agent.wait().unwrap().success());
    let told = home.json(&format!("memory explain {id}"));
    assert!(told["lesson"]["counters"]["heal_worked"].as_f64().unwrap() > 0.9, "{told}");
}

#[test]
fn examples_and_cases_are_shown_the_lessons_that_fit_them() {
    let home = Home::new(120);
    home.learn();
    home.release(&["refunds.quote"]);
    let recipe = "schema = 1\ntask = \"desk\"\nbase = \"smollm2-135m-instruct\"\n[data]\n\
                  memory_slot = 0.5\nmin_verified = 5\n[[train]]\nmethod = \"sft\"\n";
    fs::write(home.path().join("desk.toml"), recipe).unwrap();
    let built = home.json("dataset build desk.toml");
    let release = home.json("memory list --releases")[0]["release"].as_str().unwrap().to_owned();
    let told = built.to_string();
    assert!(told.contains(&release) && told.contains("memory"), "{built}");
    let rows = files(&home.path().join(".understudy/datasets"));
    let train = rows.iter().find(|path| path.ends_with("sft.train.jsonl")).unwrap();
    let lines = fs::read_to_string(train).unwrap();
    let with = lines.lines().filter(|line| line.contains("<memory release=")).count();
    let all = lines.lines().count();
    assert!(0 < with && with < all, "{with} of {all}");
    assert!(
        lines
            .lines()
            .all(|line| !line.contains("<memory release=") || line.contains("refunds.quote"))
    );

    let tool = |name: &&str| json!({"name": name, "parameters": {"type": "object"}});
    let tools: Vec<Value> = TOOLS.iter().map(tool).collect();
    let case = |id: &str, goal: &str| {
        json!({"id": id, "prompt": [{"role": "user", "content": goal}], "expected": "x",
            "tools": tools})
        .to_string()
    };
    let header = json!({"schema": 1, "suite": "desk", "tier": "dev", "scorers": ["exact"]});
    let cases = [
        header.to_string(),
        case("one", "please refund my order"),
        case("two", "write a poem about the sea"),
    ];
    fs::write(home.path().join("cases.jsonl"), cases.join("\n")).unwrap();
    assert_eq!(home.code("suite import cases.jsonl --name desk"), 0, "{}", text_of(&home));
    let line =
        "eval base --memory serves --baseline base --suite desk --mock-engine --answers told";
    let judged = home.run(&format!("{line} --json"));
    let report: Value = serde_json::from_slice(&judged.stdout).unwrap();
    let candidate = &report["subjects"][1];
    assert!(candidate["name"].as_str().unwrap().starts_with("base with memory "), "{report}");
    assert_eq!(candidate["generation"], release, "the report is about the lessons");
    let tokens = |nth: usize| report["subjects"][nth]["prompt_tokens"].as_u64().unwrap();
    assert!(tokens(1) > tokens(0), "one of the two cases has a lesson: {report}");
    let used = &candidate["conditions"]["memory"];
    assert_eq!(used["release"], release, "{report}");
    assert_eq!(used["cases"], 1, "{report}");
    let checks = report["decision"]["checks"].to_string();
    assert!(checks.contains("lesson tokens") && checks.contains("lesson retrieval p95"));

    // Another agent has no lessons, and a comparison of equals is none.
    let nobody = home.run(&format!("{line} --agent nobody"));
    assert_eq!(nobody.status.code(), Some(2));
    assert!(text(&nobody.stderr).contains("--agent names whose"), "{}", text(&nobody.stderr));
}

fn text_of(home: &Home) -> String {
    let said = home.said.lock().unwrap();
    let last = said.iter().rev().take(2);
    last.map(|(place, bytes)| format!("{place}: {}", text(bytes))).collect::<Vec<_>>().concat()
}

fn explain(home: &Home, goal: &str) -> Value {
    let arguments = ["memory", "explain", "--goal", goal, "--agent", "desk", "--json"];
    let output = understudy(home.path(), &arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn nothing_that_was_said_in_any_field_leaves_the_journal() {
    let mut home = Home::new(160);
    let learnt = home.learn();
    assert!(learnt["report"]["learned"].as_u64().unwrap() >= 2);
    assert!(home.hidden.len() > 3_000, "{}", home.hidden.len());
    // The test can fail: all of it is in the journal's traces, which were read.
    assert!(found(&home.hidden, &fs::read(home.path().join("desk.jsonl")).unwrap()).is_some());
    home.release(&["refunds.quote", "shipments.history"]);

    let server = Served::start(&home);
    let mut shown = 0;
    for n in 0..12 {
        let asked = token(&mut home.hidden, "asked", n);
        let mut body = chat(&format!("please refund my order for {asked}"));
        body["user"] = json!(token(&mut home.hidden, "caller", n));
        let (headers, _) = server.post("/v1/chat/completions", &body);
        shown += usize::from(headers.contains("x-memory-ids: mem_"));
        home.holds_nothing_hidden([("a reply's headers".to_owned(), headers.as_bytes())]);
    }
    assert_eq!(shown, 12, "and lessons were shown to all of them");
    let mut answers = Vec::new();
    for n in 0..4 {
        let asked = token(&mut home.hidden, "planned", n);
        let plan = json!({"goal": format!("refund my order for {asked}"), "agent": "desk",
            "tools": TOOLS, "session": asked});
        let (_, answer) = server.post("/v1/memory/plan", &plan);
        assert!(answer.contains("refunds.quote"), "{answer}");
        answers.push(answer);
        let mut failure = late_carrier(&asked);
        failure["goal"] = json!(asked);
        failure["target"] =
            json!({"kind": "site", "key": format!("https://{asked}.example/{asked}")});
        failure["action"]["arg_keys"] = json!([asked]);
        answers.push(server.post("/v1/memory/heal", &failure).1);
        let healed: Value = serde_json::from_str(&answers[answers.len() - 1]).unwrap();
        let id = healed["candidates"][0]["id"].as_str().unwrap();
        server.post(&format!("/v1/memory/heal/{id}/outcome"), &json!({"worked": true}));
    }
    for path in ["/metrics", "/v1/memory/status", "/api/v1/audit", "/api/v1/tasks"] {
        answers.push(server.get(path));
    }
    for line in ["memory list", "memory list --releases", "memory review"] {
        home.json(line);
        home.run(line);
    }
    let began = Instant::now();
    while server.log.lock().unwrap().is_empty() && began.elapsed() < Duration::from_secs(5) {
        thread::sleep(Duration::from_millis(20));
    }
    let log = server.log.lock().unwrap().clone();
    assert!(!log.is_empty(), "the log was read");
    drop(server);

    home.holds_nothing_hidden([("the log".to_owned(), log.as_slice())]);
    home.holds_nothing_hidden(answers.iter().map(|text| ("an answer".to_owned(), text.as_bytes())));
    let said = home.said.lock().unwrap();
    home.holds_nothing_hidden(said.iter().map(|(place, bytes)| (place.clone(), bytes.as_slice())));
    let written = files(&home.memory());
    assert!(written.len() >= 4, "{written:?}");
    for path in &written {
        let bytes = fs::read(path).unwrap();
        let name = path.to_string_lossy().into_owned();
        home.holds_nothing_hidden([
            (format!("the name of {name}"), name.as_bytes()),
            (name.clone(), bytes.as_slice()),
        ]);
    }
    // What was released is in those files, so they are the right ones.
    assert!(any_holds(&home.memory(), "refunds.quote"));
}

#[test]
fn runs_that_repeat_a_case_teach_nothing_that_is_judged_by_it() {
    let home = Home::new(120);
    let lines = fs::read_to_string(home.path().join("desk.jsonl")).unwrap();
    let goals = lines.lines().filter_map(|line| {
        let step: Value = serde_json::from_str(line).unwrap();
        let prompt = step["step"]["prompt"].as_array()?.clone();
        let user = prompt.into_iter().find(|message| message["role"] == "user")?;
        Some(user["content"].as_str()?.to_owned())
    });
    let goals: Vec<String> = goals.collect();
    assert_eq!(goals.len(), 120);
    let mut cases =
        vec![json!({"schema": 1, "suite": "desk", "tier": "gate", "scorers": ["exact"]})];
    cases.extend(goals.iter().enumerate().map(|(n, goal)| {
        json!({"id": format!("c{n}"), "prompt": [{"role": "user", "content": goal}],
            "expected": "x"})
    }));
    let cases: Vec<String> = cases.iter().map(Value::to_string).collect();
    fs::write(home.path().join("cases.jsonl"), cases.join("\n")).unwrap();
    let imported = home.run("suite import cases.jsonl --name desk");
    assert!(imported.status.success(), "{}", text(&imported.stderr));
    let learnt = home.learn();
    let report = &learnt["report"];
    assert_eq!(
        (&report["learned"], &report["skipped"]["it repeats a case of a suite"]),
        (&json!(0), &json!(120)),
        "{report}"
    );
}

#[test]
fn an_erased_persons_lessons_go_and_what_their_runs_taught_waits_for_a_person() {
    let home = Home::new(120);
    home.learn();
    let chosen = home.release(&["refunds.quote"]);
    let status = |id: &str| home.json(&format!("memory explain {id}"))["lesson"]["status"].clone();
    assert_eq!(status(&chosen[0]), "active");
    let line = fs::read_to_string(home.path().join("desk.jsonl")).unwrap();
    let refund = line.lines().find(|line| line.contains("refunds.create")).unwrap();
    let step: Value = serde_json::from_str(refund).unwrap();
    let subject = step["step"]["subject"].as_str().unwrap();
    let deployment =
        understudy_memory::Deployment::parse(include_str!("../../crates/toolworld/memory.toml"))
            .unwrap();
    let root =
        understudy_memory::MemoryRoot::open(&home.memory(), deployment.settings.clone()).unwrap();
    let principal =
        understudy_memory::Principal::authenticated(deployment.tenant, subject).unwrap();
    drop(root.user(&principal).unwrap());
    let receipt = home.json(&format!("dataset erase --subject {subject} --reason asked"));
    assert_eq!(receipt["own_lessons_forgotten"], true, "{receipt}");
    assert!(!root.has_user(&principal));
    let suspended = receipt["lessons_suspended"].as_array().unwrap();
    assert!(suspended.contains(&json!(chosen[0])), "{receipt}");
    assert_eq!(status(&chosen[0]), "suspended");
    // Brought back by a person, and taken out by one.
    assert_eq!(home.code(&format!("memory review {} --restore --reason read", chosen[0])), 0);
    assert_eq!(home.code(&format!("memory suspend {} --reason 4711", chosen[0])), 0);
    assert_eq!(status(&chosen[0]), "suspended");
    assert_eq!(home.code(&format!("memory suspend {} --reason again", chosen[0])), 2);
}

#[test]
fn a_way_out_is_written_by_hand_and_found_where_it_belongs() {
    let home = Home::new(1);
    let propose = |extra: &[&str]| {
        let arguments = [
            &["memory", "propose", "--owner", "ada", "--reason", "seen it", "--json"][..],
            &["--situation", "When `shipments.track` fails", "--agent", "desk"],
            &["--text", "prefer calling `shipments.history` and go on from there."],
            extra,
        ];
        understudy(home.path(), &arguments.concat())
    };
    let message = "carrier did not answer for \"ORD-9\" within 30000 ms for \"ORD-9\" (504)";
    let way = ["--tactic", "alternative_tool", "--prefer", "shipments.history"];
    let refused = propose(&way);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("needs --error, --target"), "{}", text(&refused.stderr));
    let wrong = propose(&["--tactic", "pray", "--error", message]);
    assert!(text(&wrong.stderr).contains("retry_variation"), "{}", text(&wrong.stderr));
    let place = ["--target", "desk", "--error", message];
    let written = propose(&[&way[..], &place[..]].concat());
    assert!(written.status.success(), "{}", text(&written.stderr));
    home.release(&["shipments.history"]);
    fs::write(home.path().join("failure.json"), late_carrier("ORD-1").to_string()).unwrap();
    let healed = home.json("memory heal failure.json");
    assert_eq!(
        (&healed["tier"], &healed["candidates"][0]["mode"], &healed["candidates"][0]["tool"]),
        (&json!("high"), &json!("copy_solution"), &json!("shipments.history")),
        "{healed}"
    );
}
