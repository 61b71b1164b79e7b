//! What a file holds, before it is imported:
//!
//! ```text
//! cargo run -p understudy-ingest --example figures -- tau-bench gpt-4o-airline.json
//! ```
#![allow(clippy::print_stdout, reason = "an example's output is for whoever runs it")]

use std::{collections::BTreeSet, env, error::Error, fs};

use understudy_ident::Timestamp;
use understudy_ingest::{Format, read};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [format, file] = arguments.as_slice() else {
        return Err("name a format and a file".into());
    };
    let text = fs::read_to_string(file)?;
    let task = "figures".parse()?;
    let format = Format::parse(format)?;
    let imported = read(format, &task, &text, None, None, Timestamp::UNIX_EPOCH)?;
    let trajectories: BTreeSet<_> = imported.steps.iter().map(|step| &step.trajectory).collect();
    let mixed = imported.groups.iter().filter(|group| group.is_mixed()).count();
    let pairs: usize = imported.groups.iter().map(understudy_ingest::Group::pairs).sum();
    println!(
        "{} trajectories, {} steps, {} outcomes, {} groups, {mixed} mixed, {pairs} pairs, {} left out",
        trajectories.len(),
        imported.steps.len(),
        imported.outcomes.len(),
        imported.groups.len(),
        imported.rejected.len()
    );
    Ok(())
}
