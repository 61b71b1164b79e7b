//! `understudy run`: a recipe as one durable run.

mod curves;
mod found;
mod show;
mod stage;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use serde_json::json;
use understudy_orchestrator::{Ending, Fact, Observer, Run, drive, plan::Next};

use super::{Exit, suite, train};
use crate::{
    cli::{RunArgs, RunCommand},
    config::Config,
    output::Out,
    wiring::Stores,
};

/// How often a release is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

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
                suite::deciding(&config.data, gate)?;
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
    let ending = drive(&stores.runs, &run, &stages, &mut Narrator::new(out))
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
    let exit = match ending {
        Ending::Promoted { .. } | Ending::Registered { .. } => Exit::Ok,
        Ending::Undecided { .. } => Exit::Inconclusive,
        Ending::Refused { .. }
        | Ending::RolledBack { .. }
        | Ending::NothingToTrain { .. }
        | Ending::AlreadyTried { .. }
        | Ending::Declined { .. }
        | Ending::GaveUp { .. } => Exit::No,
    };
    (ending.to_string(), exit)
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
    out: Out,
    spinner: Option<ProgressBar>,
}

impl Narrator {
    pub(crate) fn new(out: Out) -> Self {
        Self { out, spinner: None }
    }
}

impl Observer for Narrator {
    fn begins(&mut self, step: &Next) {
        let text = match step {
            Next::AwaitRelease { .. } => "the canary meets its users".to_owned(),
            Next::BuildDataset
            | Next::Train { .. }
            | Next::Evaluate { .. }
            | Next::StartRelease { .. } => step.to_string(),
            Next::Skip { .. } | Next::Select { .. } | Next::Register { .. } | Next::Finished(_) => {
                return;
            }
        };
        self.out.say(format!("· {text}"));
    }

    fn happened(&mut self, fact: &Fact) {
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
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
            Fact::Selected { why, .. }
            | Fact::ReleaseEnded { why, .. }
            | Fact::NoDataset { why }
            | Fact::AlreadyTried { why, .. } => why.clone(),
            // What the loop and people add is in the loop's own log.
            Fact::TurnBegan(_)
            | Fact::Approved { .. }
            | Fact::Declined { .. }
            | Fact::StepFailed { .. } => return,
        };
        self.out.say(format!("  {text}"));
    }

    fn waits(&mut self) {
        let out = self.out;
        let waiting = "waiting for live evidence (a server must be running)";
        self.spinner.get_or_insert_with(|| out.spinner(waiting));
        std::thread::sleep(LOOK_EVERY);
    }
}
