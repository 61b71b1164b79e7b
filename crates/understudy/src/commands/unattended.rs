//! `understudy loop`: what the loop does by itself, and a person's word on it.

use std::fs;

use anyhow::{Context, Result, bail};
use understudy_ident::{Clock, SystemClock, TaskName, Timestamp};
use understudy_manifest::ApprovalStep;
use understudy_orchestrator::{
    Fact, Note, NoteKind, Past, Run, RunStore,
    plan::{Next, next},
};

use super::Exit;
use crate::{
    attend::Posted,
    cli::{LoopCommand, LoopSaid},
    config::Config,
    output::Out,
};

pub(crate) fn run(command: LoopCommand, config: &Config, out: Out) -> Result<Exit> {
    match command {
        LoopCommand::Status { task } => status(task.as_deref(), config, out),
        LoopCommand::Log { task, last } => log(&task.parse()?, last, config, out),
        LoopCommand::Pause(said) => say(&said, NoteKind::Paused, config, out),
        LoopCommand::Resume(said) => say(&said, NoteKind::Resumed, config, out),
        LoopCommand::Approve(said) => approve(&said, config, out),
        LoopCommand::Decline(said) => decline(&said, config, out),
    }
}

fn status(task: Option<&str>, config: &Config, out: Out) -> Result<Exit> {
    let wanted = task.map(str::parse::<TaskName>).transpose()?;
    let store = store(config)?;
    let tasks = store
        .loops()?
        .into_iter()
        .filter(|task| wanted.as_ref().is_none_or(|wanted| wanted == task));
    let mut posted = Vec::new();
    for task in tasks {
        let path = config.data.loop_status(&task);
        if let Ok(text) = fs::read_to_string(&path) {
            let read: Posted = serde_json::from_str(&text)
                .with_context(|| format!("failed to understand {}", path.display()))?;
            posted.push(read);
        }
    }
    if posted.is_empty() {
        let which = task.map(|task| format!(" of {task}")).unwrap_or_default();
        out.say(format!(
            "no loop{which} has run in {}; `understudy serve --loop RECIPE` starts one",
            config.data.root().display()
        ));
        out.value(&posted)?;
        return Ok(Exit::No);
    }
    for one in &posted {
        out.say(one.text(SystemClock.now()));
    }
    out.value(&posted)?;
    Ok(Exit::Ok)
}

fn log(task: &TaskName, last: Option<usize>, config: &Config, out: Out) -> Result<Exit> {
    let notes = store(config)?.notes(task)?;
    let from = last.map_or(0, |last| notes.len().saturating_sub(last));
    for note in &notes[from..] {
        out.say(note.line());
    }
    out.value(&notes[from..].to_vec())?;
    Ok(if notes.is_empty() { Exit::No } else { Exit::Ok })
}

fn say(said: &LoopSaid, kind: NoteKind, config: &Config, out: Out) -> Result<Exit> {
    let (store, task) = (store(config)?, known(said, config)?);
    let note = Note::new(kind, SystemClock.now(), meant(said)?).by(&said.owner);
    store.note(&task, &note)?;
    out.either(note.line(), &note)?;
    Ok(Exit::Ok)
}

fn approve(said: &LoopSaid, config: &Config, out: Out) -> Result<Exit> {
    let store = store(config)?;
    let run = under_way(&store, &known(said, config)?)?;
    let facts = store.facts(&run.id)?;
    let step = next(&run.recipe, &facts);
    let Some(approval) = step.approval() else {
        bail!("{} is at {step}, which nobody has to approve", run.id);
    };
    let given = |step: ApprovalStep| {
        facts
            .iter()
            .any(|fact| matches!(fact, Fact::Approved { step: given, .. } if *given == step))
    };
    if given(approval) {
        out.say(format!("{step} of {} is approved already", run.id));
        return Ok(Exit::No);
    }
    let (owner, reason) = (said.owner.clone(), meant(said)?.to_owned());
    answer(&store, &run, &Fact::Approved { step: approval, owner, reason }, &step, out)
}

fn decline(said: &LoopSaid, config: &Config, out: Out) -> Result<Exit> {
    let store = store(config)?;
    let run = under_way(&store, &known(said, config)?)?;
    let step = next(&run.recipe, &store.facts(&run.id)?);
    if let Next::AwaitRelease { .. } = step {
        bail!(
            "{} has a release open; `understudy release rollback {}` takes its candidate back",
            run.id,
            run.recipe.task
        );
    }
    let (owner, reason) = (said.owner.clone(), meant(said)?.to_owned());
    answer(&store, &run, &Fact::Declined { owner, reason }, &step, out)
}

fn answer(store: &RunStore, run: &Run, answer: &Fact, step: &Next, out: Out) -> Result<Exit> {
    store.answer(run, answer)?;
    let verb = if matches!(answer, Fact::Approved { .. }) { "approved" } else { "declined" };
    out.either(format!("{verb}: {step} of {}", run.id), answer)?;
    Ok(Exit::Ok)
}

fn under_way(store: &RunStore, task: &TaskName) -> Result<Run> {
    match Past::read(store, task)?.open {
        Some(run) => Ok(run),
        None => bail!("the loop of {task} is between turns; `understudy loop status` says more"),
    }
}

/// Whoever decides says why; a blank is no reason.
fn meant(said: &LoopSaid) -> Result<&str> {
    match said.reason.trim() {
        "" => bail!("say why with --reason; it is kept for ever"),
        reason => Ok(reason),
    }
}

fn known(said: &LoopSaid, config: &Config) -> Result<TaskName> {
    let task: TaskName = said.task.parse()?;
    if !store(config)?.loops()?.contains(&task) {
        bail!(
            "no loop of {task} has run in {}; `understudy serve --loop RECIPE` starts one",
            config.data.root().display()
        );
    }
    Ok(task)
}

/// Opened only where there is one: looking creates nothing.
fn store(config: &Config) -> Result<RunStore> {
    let path = config.data.runs_log();
    if !path.is_file() {
        bail!("nothing has run in {} yet", config.data.root().display());
    }
    RunStore::open(&path, Box::new(SystemClock))
        .with_context(|| format!("failed to open the run log {}", path.display()))
}

impl Posted {
    fn text(&self, now: Timestamp) -> String {
        let age = (now.as_second() - self.at.as_second()).max(0);
        let age = match age {
            0..10 => String::new(),
            seconds => format!("\n  (as of {seconds} s ago; is the server running?)"),
        };
        format!("{}{age}", self.status.text(&self.settings))
    }
}
