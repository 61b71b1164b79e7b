//! `understudy run`: a recipe as one durable run.

mod curves;
mod found;
mod show;
mod stage;

use anyhow::{Context, Result, bail};
use serde_json::json;
use understudy_orchestrator::{Ending, Fact, Observer, Run, drive, plan::Next};

use super::{Exit, suite, train};
use crate::{
    cli::{RunArgs, RunCommand},
    config::Config,
    output::Out,
    wiring::Stores,
};

pub(crate) fn run(args: &RunArgs, config: &Config, out: Out) -> Result<Exit> {
    if let Some(RunCommand::Show(args)) = &args.command {
        return show::show(args, config, out);
    }
    let stores = Stores::open(&config.data)?;
    if args.list {
        return list(&stores, out);
    }
    let run = match (&args.recipe, &args.resume) {
        (Some(path), None) => {
            let recipe = train::recipe(path)?;
            if let Some(gate) = &recipe.gate {
                // Found now, not after the minutes that training takes.
                suite::read(&config.data, gate.suite.as_str())?;
            }
            if args.dry_run {
                let stages = train::stages(config, &stores, &recipe, out, true)?;
                let dataset = stages.dataset(&recipe)?;
                out.say(format!("dataset {}", dataset.version()));
                out.say(super::dataset::describe(dataset.manifest()));
                return train::dry_run(&recipe, &dataset, &stages, out);
            }
            stores.runs.begin(&recipe, &args.owner, &args.reason, None)?
        }
        (None, Some(id)) => stores.runs.get(id)?,
        _ => bail!("name a recipe, or a run to --resume; `understudy run --list` shows them"),
    };
    out.say(format!("run {}", run.id));
    let stages = train::stages(config, &stores, &run.recipe, out, true)?;
    let ending = drive(&stores.runs, &run, &stages, &mut Narrator { out })
        .with_context(|| format!("run {} stopped; go on with --resume {}", run.id, run.id))?;
    report(&run, &ending, out)
}

fn report(run: &Run, ending: &Ending, out: Out) -> Result<Exit> {
    let (text, exit) = conclude(ending);
    out.either(&text, &json!({"run": run.id, "ending": text}))?;
    Ok(exit)
}

/// How a run ended, in words and as an exit code.
pub(crate) fn conclude(ending: &Ending) -> (String, Exit) {
    match ending {
        Ending::Promoted { version } => (format!("{version} is promoted"), Exit::Ok),
        Ending::Registered { version } => (format!("{version} is registered"), Exit::Ok),
        Ending::Refused { version, why } => {
            (format!("the gate refused {version}: {why}"), Exit::No)
        }
        Ending::RolledBack { version, why } => {
            (format!("{version} was rolled back: {why}"), Exit::No)
        }
        Ending::Undecided { version, why } => {
            (format!("{version} is undecided: {why}"), Exit::Inconclusive)
        }
        Ending::NothingToTrain { why } => (format!("nothing to train: {why}"), Exit::No),
    }
}

fn list(stores: &Stores, out: Out) -> Result<Exit> {
    let runs = stores.runs.list()?;
    let mut rows = Vec::new();
    for run in &runs {
        let ending = run.ending.clone().unwrap_or_else(|| "unfinished".to_owned());
        out.say(format!("{}  {:<20} {ending}", run.id, run.recipe.task));
        rows.push(json!({"run": run.id, "task": run.recipe.task, "ending": run.ending}));
    }
    out.value(&rows)?;
    Ok(Exit::Ok)
}

/// Says what a run does as it does it.
pub(crate) struct Narrator {
    pub(crate) out: Out,
}

impl Observer for Narrator {
    fn begins(&mut self, step: &Next) {
        let text = match step {
            Next::BuildDataset => "building the dataset".to_owned(),
            Next::Train { stage, .. } => format!("training stage {}", stage + 1),
            Next::Evaluate { version } => format!("evaluating {version} on the suite"),
            Next::StartRelease { version } => format!("starting the release of {version}"),
            Next::AwaitRelease { .. } => "the canary meets its users".to_owned(),
            Next::Skip { .. } | Next::Select { .. } | Next::Register { .. } | Next::Finished(_) => {
                return;
            }
        };
        self.out.say(format!("· {text}"));
    }

    fn happened(&mut self, fact: &Fact) {
        let text = match fact {
            Fact::DatasetFrozen { version, sft_rows, pair_rows } => format!(
                "{} examples and {} pairs frozen as {}@{}",
                sft_rows,
                pair_rows,
                version.name,
                version.digest.short()
            ),
            Fact::StageTrained(trained) => train::describe(trained),
            Fact::StageSkipped { why, .. } => format!("skipped: {why}"),
            Fact::Registered { version, generation } => {
                format!("registered as {version}, generation {}", generation.short())
            }
            Fact::Evaluated { passed, summary } => {
                format!("gate {}: {summary}", if *passed { "passed" } else { "REFUSED" })
            }
            Fact::ReleaseStarted { release } => format!("release {release}"),
            Fact::Selected { why, .. } | Fact::ReleaseEnded { why, .. } => why.clone(),
        };
        self.out.say(format!("  {text}"));
    }
}
