//! The faults of a release, rehearsed without the command line:
//! `cargo run -p understudy-drill --example drill -- unsafe dead-replica`, or `-- identical*20`, or
//! `-- soak 60 [RATE]`.
#![expect(clippy::print_stdout, reason = "an example tells what it found")]

use std::error::Error;

use understudy_drill::{Drill, Soak, drill_rules, repeat, soak};
use understudy_simulation::Scenario;

fn main() -> Result<(), Box<dyn Error>> {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    if asked.first().is_some_and(|first| first == "soak") {
        let seconds = asked.get(1).map_or(Ok(60), |text| text.parse())?;
        let rate = asked.get(2).map(|text| text.parse()).transpose()?;
        let soaked = soak(&Soak { seconds, rate, clients: 16, seed: 17 })?;
        println!("{}\n{}", soaked.text(), serde_json::to_string(&soaked)?);
        return if soaked.is_kept() { Ok(()) } else { Err("the soak did not come out".into()) };
    }
    let drill = Drill::of(drill_rules()?);
    for one in asked {
        let (name, runs) = one.split_once('*').unwrap_or((&one, "1"));
        let scenario: Scenario = name.parse()?;
        let repeated = repeat(scenario, &drill, runs.parse()?, &mut |played| {
            println!("{} [{} ms]", played.text(), played.wall_ms);
        })?;
        if repeated.runs > 1 {
            println!("{}", repeated.text());
        }
    }
    Ok(())
}
