//! `understudy suite`: held-out cases.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;
use understudy_ingest::RowMapping;
use understudy_manifest::{Scorer, Suite, Tier};
use understudy_storage::atomic;

use super::{Exit, import};
use crate::{
    cli::{RowArgs, SuiteCommand, SuiteImportArgs},
    config::Config,
    output::Out,
    paths::DataDir,
};

pub(crate) fn run(command: SuiteCommand, config: &Config, out: Out) -> Result<Exit> {
    match command {
        SuiteCommand::Import(args) => import(&args, config, out)?,
        SuiteCommand::List => {
            let suites = all(&config.data)?;
            for suite in &suites {
                out.say(line(suite));
            }
            out.value(&suites.iter().map(describe).collect::<Vec<_>>())?;
        }
        SuiteCommand::Show { name } => {
            let suite = read(&config.data, &name)?;
            out.either(line(&suite), &describe(&suite))?;
        }
    }
    Ok(Exit::Ok)
}

fn import(args: &SuiteImportArgs, config: &Config, out: Out) -> Result<()> {
    let text = import::rows(&args.file, args.rows.sample)?;
    let scorers = args
        .scorers
        .iter()
        .map(|name| {
            Scorer::parse(name).with_context(|| {
                format!("unknown scorer `{name}`: use exact, json_valid, json_equal, field_f1 or field:KEY")
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let tier = match args.tier.as_str() {
        "dev" => Tier::Dev,
        "gate" => Tier::Gate,
        "sealed" => Tier::Sealed,
        other => bail!("unknown tier `{other}`: use dev, gate or sealed"),
    };
    let mapping = mapping(&args.rows);
    let name = args.name.parse()?;
    let suite =
        understudy_ingest::suite(&text, mapping.as_ref(), &name, tier, &scorers, args.rows.limit)
            .with_context(|| format!("failed to make a suite of {}", args.file.display()))?;
    save(&config.data, &suite)?;
    out.either(line(&suite), &describe(&suite))
}

/// The mapping that row flags describe, if they describe one.
pub(crate) fn mapping(rows: &RowArgs) -> Option<RowMapping> {
    let input = rows.input.clone()?;
    Some(RowMapping { input, output: rows.output.clone(), system: rows.system.clone() })
}

/// Keeps a suite. A suite is fixed: another content needs another name.
pub(crate) fn save(data: &DataDir, suite: &Suite) -> Result<()> {
    let path = file(data, suite.name.as_str());
    if path.is_file() {
        if read(data, suite.name.as_str())?.digest() == suite.digest() {
            return Ok(());
        }
        bail!(
            "suite `{}` exists with other cases; a suite is fixed, so use another name",
            suite.name
        );
    }
    atomic::create_dir(&data.suites())?;
    Ok(atomic::write(&path, suite.to_text().as_bytes())?)
}

pub(crate) fn read(data: &DataDir, name: &str) -> Result<Suite> {
    let path = file(data, name);
    let text = fs::read_to_string(&path).with_context(|| {
        format!("no suite `{name}` at {}; see `understudy suite import --help`", path.display())
    })?;
    Suite::parse(&text).with_context(|| format!("failed to understand {}", path.display()))
}

/// Every suite, by name: what datasets are kept clear of.
pub(crate) fn all(data: &DataDir) -> Result<Vec<Suite>> {
    let Ok(entries) = fs::read_dir(data.suites()) else { return Ok(Vec::new()) };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".jsonl").map(str::to_owned))
        .collect();
    names.sort();
    names.iter().map(|name| read(data, name)).collect()
}

fn file(data: &DataDir, name: &str) -> PathBuf {
    data.suites().join(format!("{name}.jsonl"))
}

fn line(suite: &Suite) -> String {
    let scorers: Vec<String> = suite.scorers.iter().map(Scorer::name).collect();
    let tier = format!("{:?}", suite.tier).to_lowercase();
    format!(
        "{:<20} {tier:<7} {:>5} cases  {}  {}",
        suite.name,
        suite.cases.len(),
        suite.digest().short(),
        scorers.join(", ")
    )
}

fn describe(suite: &Suite) -> serde_json::Value {
    json!({
        "name": suite.name, "tier": suite.tier, "cases": suite.cases.len(),
        "digest": suite.digest(), "scorers": suite.scorers,
    })
}
