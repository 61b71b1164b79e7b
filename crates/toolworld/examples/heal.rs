//! What the heal query is worth in the tool world, as one JSON object: the same failures, met by an
//! agent that asks and by one that guesses.
//!
//! ```text
//! cargo run -p understudy-toolworld --example heal
//! ```
#![expect(clippy::print_stdout, reason = "its output is what the example is for")]

use std::{error::Error, path::Path};

use serde_json::{Value, json};
use understudy_ident::Timestamp;
use understudy_inference::HashingEmbedder;
use understudy_memory::{
    By, Choice, DeploymentStore, HealReply, HealRequest, Library, MemoryRoot, Proposed, Settings,
    Shelf, Standings, TenantId,
};
use understudy_toolworld::{Browser, Draw, Rate, browser_catalogue};

const SEED: u64 = 5;
/// Failures that somebody got past and wrote down.
const TAUGHT: u64 = 120;
/// Failures that are met with the query and without.
const MET: u64 = 400;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::temp_dir().join(format!("toolworld-heal-{}", std::process::id()));
    let outcome = run(&directory);
    std::fs::remove_dir_all(&directory)?;
    println!("{}", serde_json::to_string_pretty(&outcome?)?);
    Ok(())
}

fn run(directory: &Path) -> Result<Value, Box<dyn Error>> {
    let mut settings = Settings::default();
    // The library is filled at once, by people who looked.
    settings.caps.per_release = 64;
    let root = MemoryRoot::open(directory, settings)?;
    let tenant: TenantId = "greyhaven".parse()?;
    let (store, releases) = (root.deployment(&tenant)?, root.releases(&tenant));
    let (browser, catalogue) = (Browser::new(SEED), browser_catalogue());
    let now = Timestamp::from_second(1_900_000_000)?;
    let by = By::new("simulation", "to see what it is worth", now)?;
    let mut draw = Draw::new(SEED, "taught");
    for _ in 0..TAUGHT {
        let met = browser.meet(&mut draw);
        let item = browser.lesson(met, browser.truth(met), &catalogue, store.key(), now)?;
        if let Proposed::New { id } = store.propose(item, &HashingEmbedder, &by)? {
            store.validate(&id, &by)?;
        }
    }
    let (digest, _) = store.release(&releases, "hashing@1", &Choice::default(), &by)?;
    let shelf =
        Shelf::of_release(digest, &releases.read(&digest)?, Some(&HashingEmbedder), &catalogue)?;
    let nothing = Shelf::default();
    let silent = ask(&nothing, &store, now)?;
    let asked = ask(&shelf, &store, now)?;

    let (mut with, mut without) = (Vec::new(), Vec::new());
    for n in 0..MET {
        let met = browser.meet(&mut Draw::new(SEED, &format!("met {n}")));
        let request = browser.request(met, Vec::new());
        // Whoever is told nothing guesses; both would guess alike.
        let guess = || Draw::new(SEED, &format!("guess {n}"));
        with.push(browser.works(met, browser.follow(&asked(&request)?, &mut guess())));
        without.push(browser.works(met, browser.follow(&silent(&request)?, &mut guess())));
    }
    Ok(json!({"lessons": shelf.len(), "without": Rate::of(&without), "with": Rate::of(&with),
        "paired_difference": paired(&with, &without)}))
}

type Asked = Result<HealReply, Box<dyn Error>>;

/// Heal queries over one shelf.
fn ask<'a>(
    shelf: &'a Shelf,
    store: &'a DeploymentStore,
    now: Timestamp,
) -> Result<impl Fn(&HealRequest) -> Asked + 'a, Box<dyn Error>> {
    let settings = store.settings();
    let standings = Standings::of(&store.all(now)?, &settings.counters, now);
    Ok(move |request: &HealRequest| {
        let library = Library {
            deployment: shelf,
            user: None,
            standings: &standings,
            embedder: Some(&HashingEmbedder),
            intents: None,
            settings: &settings.retrieval,
            counters: &settings.counters,
            key: store.key(),
        };
        Ok(library.heal(request, now)?)
    })
}

/// The mean difference of the pairs with its interval at 95 %, by the normal distribution.
fn paired(with: &[bool], without: &[bool]) -> Value {
    let differences: Vec<f64> = with
        .iter()
        .zip(without)
        .map(|(with, without)| f64::from(u8::from(*with)) - f64::from(u8::from(*without)))
        .collect();
    let n = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / n;
    let variance = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let half = 1.96 * (variance / n).sqrt();
    json!({"mean": mean, "interval": [mean - half, mean + half]})
}
