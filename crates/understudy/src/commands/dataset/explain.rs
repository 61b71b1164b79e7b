//! `understudy dataset explain`: why a record is in a version, or is not.

use anyhow::{Result, bail};
use serde::Serialize;
use understudy_dataset::{FrozenDataset, RowKind, Verdict, list};
use understudy_ident::DatasetVersion;
use understudy_journal::Query;
use understudy_manifest::{Origin, Split};
use understudy_trajectory::{JudgedStep, Trajectory};

use crate::{
    cli::ExplainArgs,
    commands::{Exit, train},
    config::Config,
    output::Out,
    wiring::Stores,
};

#[derive(Debug, Serialize)]
struct Explained {
    step: String,
    response: String,
    trajectory: String,
    /// Outcomes linked to it, by kind.
    said: Vec<&'static str>,
    /// Rows of frozen versions that were made from it.
    rows: Vec<Found>,
    /// What a build by the recipe does to it now.
    verdicts: Option<Vec<Verdict>>,
}

#[derive(Debug, Serialize)]
struct Found {
    version: DatasetVersion,
    file: String,
    line: usize,
    because: Vec<String>,
    /// Whether it came, or something was said of it, after an earlier version that covers its time.
    late: bool,
}

pub(crate) fn run(args: &ExplainArgs, config: &Config, out: Out) -> Result<Exit> {
    let stores = Stores::open(&config.data)?;
    let judged = find(&stores, &args.record)?;
    let step = &judged.step;
    let versions = match &args.version {
        Some(version) => vec![version.parse()?],
        None => list(&config.data.datasets())?
            .into_iter()
            .filter(|version| version.name == step.task)
            .collect(),
    };
    let mut rows = Vec::new();
    for version in versions {
        rows.extend(rows_of(
            &FrozenDataset::find(&config.data.datasets(), &version)?,
            step.id.as_str(),
        )?);
    }
    let verdicts = match &args.recipe {
        None => None,
        Some(recipe) => {
            let recipe = train::recipe(recipe)?;
            let stages = train::stages(config, &stores, &recipe, out, false)?;
            Some(stages.explain(&recipe, step.id.as_str())?)
        }
    };
    let said = judged.outcomes.iter().map(|outcome| outcome.signal.name()).collect();
    let (response, trajectory) = (step.response_id.clone(), step.trajectory.to_string());
    let explained =
        Explained { step: step.id.to_string(), response, trajectory, said, rows, verdicts };
    out.either(describe(&explained), &explained)?;
    // What is too new for the train split is left out by the same stage.
    let has_place =
        |verdict: &Verdict| verdict.stage == "split" && verdict.what.starts_with("line");
    let is_in = !explained.rows.is_empty() || explained.verdicts.iter().flatten().any(has_place);
    Ok(if is_in { Exit::Ok } else { Exit::No })
}

/// The step that a record is, belongs to or is about.
fn find(stores: &Stores, record: &str) -> Result<JudgedStep> {
    let mut found: Vec<JudgedStep> = Vec::new();
    for trajectory in stores.journal.scan(&Query::default())? {
        let Trajectory { id, steps } = trajectory?;
        let is_whole = id.as_str() == record;
        found.extend(steps.into_iter().filter(|judged| {
            is_whole
                || judged.step.id.as_str() == record
                || judged.step.response_id == record
                || judged.step.session.as_deref() == Some(record)
                || judged.outcomes.iter().any(|outcome| outcome.id.as_str() == record)
        }));
    }
    if found.len() > 1 {
        let names: Vec<&str> = found.iter().map(|judged| judged.step.id.as_str()).collect();
        bail!("`{record}` has {} steps; explain one of them: {}", found.len(), names.join(", "));
    }
    let Some(judged) = found.pop() else {
        let pending = stores.journal.pending(usize::MAX >> 1)?;
        if let Some(outcome) = pending.iter().find(|outcome| outcome.id.as_str() == record) {
            bail!(
                "outcome {record} still waits for its target {:?}, so no row is made of it",
                outcome.target
            );
        }
        bail!(
            "the journal has no `{record}`; name a step, a response, a trajectory, a session or an \
             outcome, as `GET /v1/feedback` or a row's `origin` names them"
        );
    };
    Ok(judged)
}

fn rows_of(dataset: &FrozenDataset, step: &str) -> Result<Vec<Found>> {
    #[derive(serde::Deserialize)]
    struct Row {
        origin: Origin,
    }
    let late = dataset.beside()?.late.iter().any(|late| late.as_str() == step);
    let mut found = Vec::new();
    for kind in RowKind::ALL {
        for split in [Split::Train, Split::Dev] {
            let file = kind.file_name(split);
            if dataset.manifest().rows(&file) == 0 {
                continue;
            }
            let mut line = 0;
            dataset.each_line(&file, |text| -> Result<()> {
                line += 1;
                // Most lines are somebody else's, and need no parsing to tell.
                if !text.contains(step) {
                    return Ok(());
                }
                let Row { origin } = serde_json::from_str(text)?;
                if origin.steps.iter().any(|own| own == step) {
                    let (version, because) = (dataset.version().clone(), origin.because);
                    found.push(Found { version, file: file.clone(), line, because, late });
                }
                Ok(())
            })?;
        }
    }
    Ok(found)
}

fn describe(explained: &Explained) -> String {
    let Explained { step, response, trajectory, said, rows, verdicts } = explained;
    let said = if said.is_empty() { "nothing".to_owned() } else { said.join(", ") };
    let mut lines =
        vec![format!("{step}, response {response}, of {trajectory}; said of it: {said}")];
    for Found { version, file, line, because, late } in rows {
        lines.push(format!(
            "  in {version}: line {line} of {file}, because of {}{}",
            because.join(", "),
            if *late { ", late" } else { "" }
        ));
    }
    if rows.is_empty() {
        lines.push("  in no frozen version that was looked at".to_owned());
    }
    match verdicts {
        None => lines.push("  with --recipe, every stage tells what it does to it".to_owned()),
        Some(verdicts) => lines
            .extend(verdicts.iter().map(|Verdict { stage, what }| format!("  {stage:<14} {what}"))),
    }
    lines.join("\n")
}
