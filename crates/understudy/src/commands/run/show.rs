//! `understudy run show`: what a run has learnt so far, as sparklines, a plot or JSON.

use std::{collections::BTreeSet, io::IsTerminal, path::Path, thread, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use understudy_chart::{Drawing, Panel, Series, short, sparkline, svg};
use understudy_storage::atomic;

use super::{
    found::{Found, find},
    stage::{StageView, State},
};
use crate::{cli::ShowArgs, commands::Exit, config::Config, output::Out};

const SPARKLINE: usize = 32;
const PLOT_COLUMNS: usize = 2;

/// How often `--follow` looks; a step is rarely faster.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Back to the first line, and everything below it gone.
const CLEAR: &str = "\x1b[H\x1b[J";

pub(super) fn show(args: &ShowArgs, config: &Config, out: Out) -> Result<Exit> {
    if args.follow && !std::io::stdout().is_terminal() {
        bail!("--follow draws on a terminal, and the output is none; leave it away, or use --svg");
    }
    loop {
        let found = find(&args.run, &config.data)?;
        let stages = StageView::all(&found)?;
        check_names(&args.metrics, &stages)?;
        if let Some(path) = &args.svg {
            plot(path, &found, &stages, &args.metrics)?;
        }
        let text = text(&found, &stages, args);
        let is_over = stages.iter().all(StageView::is_over);
        if !args.follow || is_over {
            out.either(text, &value(&found, &stages, &args.metrics))?;
            return Ok(Exit::Ok);
        }
        out.say(format!("{CLEAR}{text}\n\nlooking every second; Ctrl-C ends this, not the run"));
        thread::sleep(LOOK_EVERY);
    }
}

/// A name that no stage knows is a slip of the pen.
fn check_names(names: &[String], stages: &[StageView]) -> Result<()> {
    let curves = stages.iter().filter_map(|stage| stage.curves.as_ref());
    let known: BTreeSet<&str> =
        curves.flat_map(|curves| &curves.series).map(|series| series.name.as_str()).collect();
    let unknown = names.iter().find(|name| *name != "all" && !known.contains(name.as_str()));
    match unknown {
        Some(name) if known.is_empty() => bail!("no stage has a metric `{name}`, or any, yet"),
        Some(name) => {
            let known: Vec<&str> = known.into_iter().collect();
            bail!("no stage has a metric `{name}`; there are: {}", known.join(", "))
        }
        None => Ok(()),
    }
}

fn text(found: &Found, stages: &[StageView], args: &ShowArgs) -> String {
    let mut lines = vec![heading(found)];
    if let Some(recipe) = &found.recipe {
        let digest = recipe.digest();
        lines.push(format!(
            "task {}, base {}, recipe {}",
            recipe.task,
            recipe.base,
            digest.short()
        ));
    }
    if found.logged.is_some() && found.directory.is_dir() {
        lines.push(format!("in {}", found.directory.display()));
    }
    let shown = stages.iter().flat_map(|stage| stage.chosen(&args.metrics));
    let width = shown.map(|series| series.name.chars().count()).max().unwrap_or(0);
    for stage in stages {
        lines.push(String::new());
        lines.push(format!("stage {}: {}", stage.name(), state(stage)));
        lines.extend(stage.chosen(&args.metrics).into_iter().map(|series| line(series, width)));
        lines.extend(remarks(stage));
    }
    if let Some(path) = &args.svg {
        lines.push(format!("\nplot in {}", path.display()));
    }
    lines.join("\n")
}

fn heading(found: &Found) -> String {
    let ending = match &found.logged {
        Some(logged) => logged.ending.as_deref().unwrap_or("unfinished"),
        None => return format!("training in {}", found.directory.display()),
    };
    format!("run {}: {ending}", found.name)
}

fn state(stage: &StageView) -> String {
    match &stage.state {
        State::Waiting => "not begun".to_owned(),
        State::Skipped { why } => format!("skipped, {why}"),
        State::Unfinished { seconds_since_last_step } => {
            let (step, epoch) =
                stage.curves.as_ref().map_or((0, 0.0), |curves| (curves.step, curves.epoch));
            let of = stage.epochs.map(|epochs| format!(" of {epochs}")).unwrap_or_default();
            let ago = seconds_since_last_step;
            format!("step {step}, epoch {epoch:.2}{of}, last written {ago:.0} s ago")
        }
        State::Trained { steps, seconds, dev_score, dev_cases, .. } => {
            let dev = match (dev_score, dev_cases) {
                (Some(score), Some(cases)) => format!(", dev score {score:.3} on {cases} cases"),
                _ => String::new(),
            };
            format!("trained, {steps} steps in {seconds:.0} s{dev}")
        }
    }
}

/// `  loss   ▇▅▃▂▁   2.314 → 0.412   (0.398 to 2.314)`
fn line(series: &Series, width: usize) -> String {
    let drawn = sparkline(series, SPARKLINE);
    let numbers = match (series.first(), series.last(), series.range()) {
        (Some(first), Some(last), Some((low, high))) => {
            format!("{:>8} → {:<8} ({} to {})", short(first), short(last), short(low), short(high))
        }
        _ => "no finite value".to_owned(),
    };
    format!("  {:<width$}  {drawn:<SPARKLINE$}  {numbers}", series.name)
}

fn remarks(stage: &StageView) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Some(curves) = &stage.curves {
        remarks.extend(curves.advice.iter().map(|(_, advice)| format!("  ! {advice}")));
        if curves.torn {
            let after = curves.step;
            remarks.push(format!(
                "  the line after step {after} is torn and left out: the stage was killed while \
                 writing it, or is writing it now"
            ));
        }
    }
    if let State::Trained { stopped: Some(why), .. } = &stage.state {
        remarks.push(format!("  stopped early and taken back to when it was healthy: {why}"));
    }
    remarks
}

fn value(found: &Found, stages: &[StageView], names: &[String]) -> Value {
    let recipe = found.recipe.as_ref();
    json!({
        "run": found.name,
        "directory": found.directory,
        "task": recipe.map(|recipe| &recipe.task),
        "base": recipe.map(|recipe| &recipe.base),
        "ending": found.logged.as_ref().and_then(|logged| logged.ending.as_ref()),
        "stages": stages.iter().map(|stage| stage_value(stage, names)).collect::<Vec<_>>(),
    })
}

fn stage_value(stage: &StageView, names: &[String]) -> Value {
    let metric = |series: &Series| {
        let range = series.range();
        let metric = json!({
            "first": series.first(), "last": series.last(),
            "min": range.map(|range| range.0), "max": range.map(|range| range.1),
            "points": series.points,
        });
        (series.name.clone(), metric)
    };
    let metrics: serde_json::Map<String, Value> =
        stage.chosen(names).into_iter().map(metric).collect();
    let curves = stage.curves.as_ref();
    json!({
        "stage": stage.index,
        "method": stage.method,
        "progress": stage.state,
        "step": curves.map(|curves| curves.step),
        "epoch": curves.map(|curves| curves.epoch),
        "torn": curves.is_some_and(|curves| curves.torn),
        "advice": curves.map(|curves| &curves.advice),
        "metrics": metrics,
    })
}

/// One panel per metric, with a line per stage that has it.
fn plot(path: &Path, found: &Found, stages: &[StageView], names: &[String]) -> Result<()> {
    let mut panels: Vec<Panel> = Vec::new();
    for stage in stages {
        for series in stage.chosen(names) {
            let line = Series { name: stage.name(), points: series.points.clone() };
            match panels.iter_mut().find(|panel| panel.title == series.name) {
                Some(panel) => panel.series.push(line),
                None => panels.push(Panel { title: series.name.clone(), series: vec![line] }),
            }
        }
    }
    if panels.is_empty() {
        bail!("there is nothing to plot yet: no stage of {} has written a step", found.name);
    }
    let task = found.recipe.as_ref().map(|recipe| format!("{} · ", recipe.task));
    let title = format!("{}{}", task.unwrap_or_default(), found.name);
    let drawing = Drawing { title: &title, steps: "step", columns: PLOT_COLUMNS };
    atomic::write(path, svg(&panels, drawing).as_bytes())
        .with_context(|| format!("failed to write the plot {}", path.display()))
}
