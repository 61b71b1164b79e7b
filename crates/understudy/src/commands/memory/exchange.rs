//! Lessons out of this memory as a file, and a file's lessons into it.

use std::{fs, io::Read as _, io::Write as _, path::Path};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use understudy_ident::{Clock as _, SystemClock};
use understudy_journal::Query;
use understudy_memory::{Import, Proposed, Sources, Status, Taken, Transcript};

use super::{Opened, by, show};
use crate::{
    cli::{MemoryExportArgs, MemoryImportArgs},
    commands::Exit,
    config::Config,
    output::Out,
    wiring::Stores,
};

pub(super) fn export(args: &MemoryExportArgs, config: &Config, out: Out) -> Result<Exit> {
    let opened = Opened::open(&args.scope, config)?;
    let status = args.status.as_deref().map(str::parse::<Status>).transpose();
    let status = status.map_err(anyhow::Error::msg)?;
    let lines = opened.store.export(&opened.deployment.tenant, status, SystemClock.now())?;
    match &args.out {
        None => lines.iter().for_each(|line| Out::row(line)),
        Some(path) => {
            write_new(path, &lines)?;
            let text = format!("{} lessons are in {}", lines.len(), path.display());
            out.either(text, &json!({"lessons": lines.len(), "file": path}))?;
        }
    }
    Ok(if lines.is_empty() { Exit::No } else { Exit::Ok })
}

/// Lines into a file that was not there before.
pub(super) fn write_new(path: &Path, lines: &[String]) -> Result<()> {
    let attempt = || format!("failed to write {}", path.display());
    let mut file = fs::File::create_new(path).with_context(attempt)?;
    let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(attempt)
}

pub(super) fn import(args: &MemoryImportArgs, config: &Config, out: Out) -> Result<Exit> {
    let opened = Opened::open(&args.scope, config)?;
    let text = read(&args.lessons)?;
    let by = by(&args.scope, &args.reason)?;
    let said = said(config)?;
    let import = opened.store.read_export(&text, &opened.deployment, &said, by.at)?;
    refuse_any(&import)?;
    if import.items.is_empty() {
        out.either("there is no lesson in the file", &json!({"lessons": []}))?;
        return Ok(Exit::No);
    }
    if args.dry_run {
        for item in &import.items {
            out.say(format!(
                "would be proposed: {} {}",
                show::short(&item.id),
                show::sentence(item)
            ));
        }
        out.value(&json!({"lessons": import.items}))?;
        return Ok(Exit::Ok);
    }
    let sentences: Vec<String> = import.items.iter().map(show::sentence).collect();
    let taken = opened.store.import(import, opened.embedder()?.as_ref(), &by)?;
    for (taken, sentence) in taken.iter().zip(&sentences) {
        out.say(format!("{}: {} {sentence}", became(taken), show::short(&taken.lesson)));
    }
    out.value(&json!({"lessons": taken}))?;
    Ok(Exit::Ok)
}

fn read(path: &Path) -> Result<String> {
    if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("failed to read standard input")?;
        return Ok(text);
    }
    fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
}

/// What anybody said to this deployment: a lesson that repeats it is refused, whoever wrote it down.
fn said(config: &Config) -> Result<Sources> {
    let stores = Stores::open(&config.data)?;
    let mut said = Sources::default();
    for trajectory in stores.journal.scan(&Query::default())? {
        if let Some(told) = Transcript::of_trajectory(&trajectory?) {
            said.add(&Sources::of_transcript(&told));
        }
    }
    Ok(said)
}

/// One line that may not come in keeps all of them out: half a memory is nobody's intention.
fn refuse_any(import: &Import) -> Result<()> {
    if import.refused.is_empty() {
        return Ok(());
    }
    let lines =
        import.refused.iter().map(|refused| format!("line {}: {}", refused.line, refused.why));
    bail!("nothing was imported\n  {}", lines.collect::<Vec<_>>().join("\n  "))
}

fn became(taken: &Taken) -> &'static str {
    match &taken.became {
        None => "here already",
        Some(Proposed::New { .. }) => "proposed",
        Some(Proposed::Merged { .. }) => "known already",
        Some(Proposed::Conflicting { .. }) => "proposed, against another",
        Some(Proposed::Settled { .. }) => "retired here before, and left out",
    }
}
