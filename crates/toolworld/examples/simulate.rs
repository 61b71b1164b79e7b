//! What memory is worth in the tool world, as one JSON object; or, with `export N`, N runs of the
//! desk as lines that `understudy import --format understudy` reads.
//!
//! ```text
//! cargo run -p understudy-toolworld --example simulate
//! cargo run -p understudy-toolworld --example simulate -- export 200 > desk.jsonl
//! ```
#![expect(clippy::print_stdout, reason = "its output is what the example is for")]

use std::error::Error;

use serde_json::{Value, json};
use understudy_ident::Timestamp;
use understudy_inference::HashingEmbedder;
use understudy_memory::{By, Choice, Job, MemoryRoot, NoVerifier, Proposed, Settings, TenantId};
use understudy_toolworld::{Agent, Rate, Request, Service, catalogue, journal_lines, observe};

const SEED: u64 = 17;
/// Of the runs that are learnt from, and as many requests before and after.
const REQUESTS: u64 = 300;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => simulate(),
        ["export", count] => export(count.parse()?),
        _ => Err("usage: simulate [export N]".into()),
    }
}

fn simulate() -> Result<(), Box<dyn Error>> {
    let directory = std::env::temp_dir().join(format!("toolworld-{}", std::process::id()));
    let outcome = run(&directory);
    std::fs::remove_dir_all(&directory)?;
    println!("{}", serde_json::to_string_pretty(&outcome?)?);
    Ok(())
}

fn run(directory: &std::path::Path) -> Result<Value, Box<dyn Error>> {
    // The whole effect: no session goes without.
    let mut settings = Settings::default();
    (settings.counters.control_share, settings.counters.probation_share) = (0.0, 0.0);
    let root = MemoryRoot::open(directory, settings.clone())?;
    let tenant: TenantId = "greyhaven".parse()?;
    let (catalogue, key) = (catalogue(), root.key_of(&tenant));
    let now = Timestamp::from_second(1_900_000_000)?;
    let (store, releases) = (root.deployment(&tenant)?, root.releases(&tenant));
    let by = By::new("simulation", "to see what it is worth", now)?;

    let rate = || -> Result<Rate, Box<dyn Error>> {
        let mut service = Service::start(&catalogue, &store, &releases, now)?;
        let mut outcomes = Vec::new();
        for n in 0..REQUESTS {
            outcomes.push(service.serve(&Request::draw(SEED, 1_000_000 + n), SEED)?.0.success);
        }
        Ok(Rate::of(&outcomes))
    };
    let before = rate()?;
    let episodes = observe(SEED, REQUESTS, &catalogue, &key, now);
    let job = Job {
        catalogue: &catalogue,
        key: &key,
        settings: &settings,
        embedder: &HashingEmbedder,
        teacher: None,
        now,
    };
    let report = job.learn(&episodes, &mut NoVerifier)?;
    for some in report.proposals.chunks(settings.caps.per_release) {
        for item in some {
            if let Proposed::New { id } = store.propose(item.clone(), &HashingEmbedder, &by)? {
                store.validate(&id, &by)?;
            }
        }
        store.release(&releases, "hashing@1", &Choice::default(), &by)?;
    }
    let after = rate()?;
    let lessons: Vec<String> = report
        .proposals
        .iter()
        .map(|item| format!("{}, {}", item.situation.text.as_str(), item.strategy.text.as_str()))
        .collect();
    store.withdraw(&by)?;
    let rolled_back = rate()?;
    Ok(json!({"before": before, "after": after, "rolled_back": rolled_back, "lessons": lessons,
        "learning": report}))
}

fn export(count: u64) -> Result<(), Box<dyn Error>> {
    let agent = Agent::student();
    let now = Timestamp::now();
    for n in 0..count {
        let transcript = agent.play(&Request::draw(SEED, n), None, SEED, now).transcript;
        for line in journal_lines(&transcript, n) {
            println!("{line}");
        }
    }
    Ok(())
}
