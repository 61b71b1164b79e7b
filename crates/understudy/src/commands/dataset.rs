//! `understudy dataset`: frozen versions.

mod erase;
mod explain;
mod receipt;
mod records;

use std::path::Path;

use anyhow::Result;
use understudy_dataset::{Beside, Burst, Conflict, CountDiff, FrozenDataset, Review, list};
use understudy_export::{Arguments, Format};
use understudy_ident::{Clock, DatasetVersion, SystemClock};
use understudy_manifest::DatasetManifest;
use understudy_trajectory::Arm;

use super::{Exit, train};
use crate::{
    cli::{DatasetCommand, ExportArgs, ExportFormat},
    config::Config,
    exports::{self, Copy},
    output::Out,
    wiring::Stores,
};

pub(crate) fn run(command: DatasetCommand, config: &Config, out: Out) -> Result<Exit> {
    let root = config.data.datasets();
    let find = |text: &str| -> Result<FrozenDataset> {
        let version: DatasetVersion = text.parse()?;
        Ok(FrozenDataset::find(&root, &version)?)
    };
    match command {
        DatasetCommand::Build { recipe } => {
            let recipe = train::recipe(&recipe)?;
            let stores = Stores::open(&config.data)?;
            let stages = train::stages(config, &stores, &recipe, out, false)?;
            let dataset = stages.dataset(&recipe)?;
            let text = format!("{}\n{}", dataset.version(), describe(dataset.manifest()));
            out.either(text, dataset.manifest())?;
        }
        DatasetCommand::List => {
            let versions = list(&root)?;
            for version in &versions {
                out.say(version.to_string());
            }
            out.value(&versions)?;
        }
        DatasetCommand::Show { version } => {
            let dataset = find(&version)?;
            let lines = [dataset.dir().display().to_string(), describe(dataset.manifest())];
            let Beside { sources, late } = dataset.beside()?;
            let sources = sources.iter().map(|source| format!("  built first of {source}"));
            let late = (!late.is_empty()).then(|| {
                format!(
                    "  {} steps came after an earlier version that covers their time",
                    late.len()
                )
            });
            let text = lines.into_iter().chain(sources).chain(late).collect::<Vec<_>>().join("\n");
            out.either(text, dataset.manifest())?;
        }
        DatasetCommand::Diff { before, after } => {
            let diff = find(&before)?.diff(&find(&after)?)?;
            for file in &diff.files {
                out.say(format!(
                    "{:<22} {:>6} kept {:>6} added {:>6} removed",
                    file.path, file.kept, file.added, file.removed
                ));
            }
            for setting in &diff.settings {
                out.say(format!("{}: {} → {}", setting.name, setting.before, setting.after));
            }
            for CountDiff { stage, reason, before, after } in &diff.counts {
                out.say(format!("{stage} {reason}: {before} → {after}"));
            }
            out.value(&diff)?;
            return Ok(if diff.is_empty() { Exit::Ok } else { Exit::No });
        }
        DatasetCommand::Review { recipe } => return review(&recipe, config, out),
        DatasetCommand::Erase(args) => return erase::run(&args, config, out),
        DatasetCommand::Receipt(args) => return receipt::verify(&args, config, out),
        DatasetCommand::Records(args) => return records::run(&args, config),
        DatasetCommand::Explain(args) => return explain::run(&args, config, out),
        DatasetCommand::Exports => return copies(config, out),
        DatasetCommand::Export(args) => export(&find(&args.version)?, &args, config, out)?,
    }
    Ok(Exit::Ok)
}

fn review(recipe: &Path, config: &Config, out: Out) -> Result<Exit> {
    let recipe = train::recipe(recipe)?;
    let stores = Stores::open(&config.data)?;
    let found = train::stages(config, &stores, &recipe, out, false)?.review(&recipe)?;
    for one in &found {
        out.say(in_words(one));
    }
    let replies = found.iter().filter(|one| matches!(one, Review::Reply(_))).count();
    let text = match found.len() - replies {
        0 => format!("{replies} replies to review"),
        bursts => format!("{replies} replies and {bursts} bursts to review"),
    };
    out.either(text, &found)?;
    Ok(if found.is_empty() { Exit::Ok } else { Exit::No })
}

fn in_words(found: &Review) -> String {
    match found {
        Review::Reply(Conflict { step, response, why, said, .. }) => {
            format!("{step}, response {response}: {why} ({})", said.join(", "))
        }
        Review::Burst(Burst { why, subject, arm, from, said, usual }) => {
            let whose = subject.as_deref().or(arm.map(Arm::as_str)).unwrap_or_default();
            format!(
                "{whose}: {why} ({said} within ten minutes from {from}, where {usual:.1} is usual)"
            )
        }
    }
}

/// What was exported, after those whose time is over were removed.
fn copies(config: &Config, out: Out) -> Result<Exit> {
    let removed = exports::expire(&config.data, SystemClock.now())?;
    let copies = exports::all(&config.data)?;
    let mut rows = Vec::new();
    for copy in &copies {
        let expired = removed.iter().any(|gone| gone.directory == copy.directory);
        let state = match (copy.is_there(), copy.directory.exists()) {
            _ if expired => "removed now",
            (true, _) => "there",
            (false, true) => "changed since",
            (false, false) => "gone",
        };
        let until =
            copy.until.map_or_else(|| "removed by hand".to_owned(), |at| format!("until {at}"));
        out.say(format!("{}  {}  {state}, {until}", copy.version, copy.directory.display()));
        rows.push(serde_json::json!({"version": copy.version, "directory": copy.directory,
            "at": copy.at, "until": copy.until, "state": state}));
    }
    out.value(&rows)?;
    Ok(if copies.is_empty() { Exit::No } else { Exit::Ok })
}

fn export(dataset: &FrozenDataset, args: &ExportArgs, config: &Config, out: Out) -> Result<()> {
    let format = match args.format {
        ExportFormat::Trl => Format::Trl,
        ExportFormat::Parquet => Format::Parquet,
    };
    let arguments = if args.tools_as_string { Arguments::Text } else { Arguments::Json };
    let spinner = out.spinner("export");
    // Noted first: a copy that is not on the list would outlive the erasure of who is in it.
    let directory = std::path::absolute(&args.dest)?;
    let (version, at) = (dataset.version().clone(), SystemClock.now());
    let until = args.keep_for.map(|keep| at.checked_add(keep)).transpose()?;
    exports::note(&config.data, &Copy { version, directory, at, until })?;
    let exported = understudy_export::export(dataset, format, arguments, &args.dest)?;
    spinner.finish_and_clear();
    for (file, rows) in &exported.files {
        out.say(format!("{rows:>9}  {}", exported.directory.join(file).display()));
    }
    for (file, rows) in &exported.left_out {
        out.say(format!("left out: {rows} rows of {file}, which TRL has no form for; Parquet has"));
    }
    out.value(&exported)
}

/// Counts per stage and files, as aligned lines.
pub(crate) fn describe(manifest: &DatasetManifest) -> String {
    let mut lines = Vec::new();
    for stage in &manifest.stages {
        let reasons: Vec<String> =
            stage.reasons.iter().map(|(why, count)| format!("{count} {why}")).collect();
        lines.push(format!(
            "  {:<14} {:>6} → {:>6}  {}",
            stage.stage,
            stage.rows_in,
            stage.rows_out,
            reasons.join(", ")
        ));
    }
    let masked: Vec<String> =
        manifest.redacted.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    if !masked.is_empty() {
        lines.push(format!("  masked         {}", masked.join(", ")));
    }
    for file in manifest.files.iter().filter(|file| file.rows > 0) {
        lines.push(format!("  {:<22} {:>6} rows", file.path, file.rows));
    }
    lines.join("\n")
}
