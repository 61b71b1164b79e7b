//! A data directory with runs of the tool world, in which something is hidden in every field.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Output,
    sync::Mutex,
};

use serde_json::{Value, json};
use understudy_ident::Timestamp;
use understudy_memory::{Called, Failure, Transcript};
use understudy_toolworld::{Agent, Request, journal_lines};

use super::served::TOOLS;
use crate::cli::{text, understudy};

/// Shown to every session, so that what is shown can be looked for.
pub(super) const ALWAYS: &str = "\n[settings.counters]\ncontrol_share = 0.0\nprobation_share = 0.0\n\
                      [settings.retrieval]\nbudget_ms = 5000\nsmall_model = false\n\
                      max_line_tokens = 400\nmax_tokens = 2000\ncontext_share = 0.5\n";

/// Everything starts so that was hidden in a trace; nothing else does.
pub(super) const MARK: &str = "zq";

/// A data directory with the tool world's memory.toml and its runs, a token hidden in every field.
pub(super) struct Home {
    directory: tempfile::TempDir,
    pub(super) hidden: BTreeSet<String>,
    /// What commands and servers printed.
    pub(super) said: Mutex<Vec<(String, Vec<u8>)>>,
}

impl Home {
    pub(super) fn new(runs: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = include_str!("../../../crates/toolworld/memory.toml");
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

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where lessons lie; the journal beside it holds what was said, and is for nobody else.
    pub(super) fn memory(&self) -> PathBuf {
        self.path().join(".understudy/memory")
    }

    pub(super) fn run(&self, line: &str) -> Output {
        let arguments: Vec<&str> = line.split(' ').collect();
        let output = understudy(self.path(), &arguments);
        let mut said = self.said.lock().unwrap();
        for (stream, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            said.push((format!("{stream} of {line}"), bytes.clone()));
        }
        output
    }

    pub(super) fn code(&self, line: &str) -> i32 {
        self.run(line).status.code().unwrap()
    }

    pub(super) fn json(&self, line: &str) -> Value {
        told(&self.run(&format!("{line} --json")))
    }

    /// A home whose runs were learnt from, and which serves what is worded so; and how that is called.
    pub(super) fn serving(runs: u64, words: &[&str]) -> (Self, Vec<String>) {
        let home = Self::new(runs);
        home.learn();
        let chosen = home.release(words);
        (home, chosen)
    }

    /// Which is refused as bad input, for this reason.
    pub(super) fn refuses(&self, line: &str, why: &str) {
        let refused = self.run(line);
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{line}: {said}");
        assert!(said.contains(why), "{line}: {said}");
    }

    /// Proposes a lesson by hand; `extra` says which.
    pub(super) fn propose(&self, situation: &str, strategy: &str, extra: &[&str]) -> Output {
        let arguments = [
            &["memory", "propose", "--owner", "ada", "--reason", "a test", "--agent", "desk"][..],
            &["--json", "--situation", situation, "--text", strategy],
            extra,
        ];
        understudy(self.path(), &arguments.concat())
    }

    /// Imports cases of the desk, `(id, goal)`, as a suite.
    pub(super) fn suite(&self, name: &str, tier: &str, cases: &[(String, String)]) {
        let tool = |name: &&str| json!({"name": name, "parameters": {"type": "object"}});
        let tools: Vec<Value> = TOOLS.iter().map(tool).collect();
        let header = json!({"schema": 1, "suite": name, "tier": tier, "scorers": ["exact"]});
        let case = |(id, goal): &(String, String)| {
            json!({"id": id, "prompt": [{"role": "user", "content": goal}], "expected": "x",
                "tools": tools})
        };
        let lines: Vec<String> =
            std::iter::once(header).chain(cases.iter().map(case)).map(|v| v.to_string()).collect();
        let file = format!("{name}.cases.jsonl");
        fs::write(self.path().join(&file), lines.join("\n")).unwrap();
        let imported = self.run(&format!("suite import {file} --name {name}"));
        assert!(imported.status.success(), "{}", text(&imported.stderr));
    }

    /// Traces to the journal, and lessons out of them.
    pub(super) fn learn(&self) -> Value {
        assert_eq!(self.code("import desk.jsonl --task desk --format understudy"), 0);
        self.json("memory learn --owner ada --reason weekly")
    }

    /// Approves and releases what is worded so, and says how it is called.
    pub(super) fn release(&self, words: &[&str]) -> Vec<String> {
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
    pub(super) fn holds_nothing_hidden<'a>(
        &self,
        places: impl IntoIterator<Item = (String, &'a [u8])>,
    ) {
        for (place, bytes) in places {
            let found = found(&self.hidden, bytes);
            assert!(found.is_none(), "{} in {place}", found.unwrap_or_default());
        }
    }
}

/// A token that is in no word list, different for every place.
pub(super) fn token(seen: &mut BTreeSet<String>, place: &str, n: u64) -> String {
    let text = format!("{MARK}{place}{n}xv");
    seen.insert(text.clone());
    text
}

/// Puts a token into every field of a run that holds content.
pub(super) fn salted(
    mut transcript: Transcript,
    n: u64,
    hidden: &mut BTreeSet<String>,
) -> Transcript {
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
pub(super) fn found(hidden: &BTreeSet<String>, bytes: &[u8]) -> Option<String> {
    let lower = bytes.to_ascii_lowercase();
    let starts = lower.windows(MARK.len()).enumerate();
    starts.filter(|(_, window)| *window == MARK.as_bytes()).find_map(|(at, _)| {
        let rest = String::from_utf8_lossy(&lower[at..lower.len().min(at + 40)]).into_owned();
        hidden.iter().any(|token| rest.starts_with(token)).then_some(rest)
    })
}

pub(super) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

pub(super) fn any_holds(directory: &Path, needle: &str) -> bool {
    let holds = |path: &PathBuf| {
        fs::read(path).unwrap().windows(needle.len()).any(|window| window == needle.as_bytes())
    };
    files(directory).iter().any(holds)
}

/// Two cases of which one is about what there is a lesson for.
pub(super) fn two_cases() -> [(String, String); 2] {
    [("one", "please refund my order"), ("two", "write a poem about the sea")]
        .map(|(id, goal)| (id.to_owned(), goal.to_owned()))
}

pub(super) fn explain(home: &Home, goal: &str) -> Value {
    let arguments = ["memory", "explain", "--goal", goal, "--agent", "desk", "--json"];
    told(&understudy(home.path(), &arguments))
}

/// What a command that went well said, as JSON.
pub(super) fn told(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
