//! Agreement with the leaderboard's checker on a file that `tests/golden/make_bfcl_golden.py` wrote:
//! `cargo run -p understudy-scorer --example bfcl_parity -- ALL.jsonl`.

use std::io::Write;

use serde::Deserialize;
use serde_json::{Map, Value};
use understudy_reward::calls::Call;
use understudy_scorer::calls::{Expected, Rules};

#[derive(Deserialize)]
struct Row {
    id: String,
    tools: Vec<Value>,
    truth: Value,
    answers: Vec<(Vec<Map<String, Value>>, bool)>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("name the file to check")?;
    let mut out = std::io::stdout().lock();
    let (mut answers, mut differing, mut stricter, mut milder) = (0, 0, 0, 0);
    for line in std::fs::read_to_string(path)?.lines() {
        let row: Row = serde_json::from_str(line)?;
        let expected = match Expected::parse(&row.truth.to_string(), &row.tools) {
            Ok(expected) => expected,
            Err(why) => {
                writeln!(out, "{}: unreadable: {why}", row.id)?;
                differing += row.answers.len();
                continue;
            }
        };
        for (calls, valid) in row.answers {
            answers += 1;
            let made: Vec<Call> = calls.into_iter().flat_map(read).collect();
            if expected.check(&made, Rules::Bfcl).is_ok() != valid {
                differing += 1;
                writeln!(out, "{}: theirs is {valid} for {made:?}", row.id)?;
            }
            match (expected.check(&made, Rules::Strict), valid) {
                (Ok(()), false) => milder += 1,
                (Err(_), true) => stricter += 1,
                _ => {}
            }
        }
    }
    writeln!(out, "{answers} answers, {differing} judged otherwise than by the leaderboard")?;
    writeln!(out, "strict rules refuse {stricter} that it allows and allow {milder} it refuses")?;
    Ok(())
}

fn read(call: Map<String, Value>) -> Vec<Call> {
    let with = |(name, arguments): (String, Value)| {
        arguments.as_object().map(|arguments| Call { name, arguments: arguments.clone() })
    };
    call.into_iter().filter_map(with).collect()
}
