//! Lessons for agents over the Model Context Protocol, for examples and for cases.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use super::{
    home::{Home, files, two_cases},
    served::{TOOLS, late_carrier},
};

#[test]
fn an_agent_asks_for_lessons_over_the_model_context_protocol() {
    let (home, _) = Home::serving(120, &["refunds.quote", "shipments.history"]);
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
    let (home, _) = Home::serving(120, &["refunds.quote"]);
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

    home.suite("desk", "dev", &two_cases());
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
}
