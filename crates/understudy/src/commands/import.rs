//! `understudy import`: files into the journal.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result, bail};
use serde_json::json;
use understudy_ident::{Digest, TaskName};
use understudy_ingest::{Format, Group, Imported, telemetry::media};
use understudy_journal::{Ack, Journal};
use understudy_trajectory::Step;

use super::{Exit, suite::mapping};
use crate::{cli::ImportArgs, config::Config, output::Out, wiring::Stores};

/// Appends in flight: enough to fill a commit, few enough to stay far from the queue's limit.
const IN_FLIGHT: usize = 512;

#[derive(Debug, Default)]
struct Stored {
    added: u64,
    duplicates: u64,
}

pub(crate) fn run(args: &ImportArgs, config: &Config, out: Out) -> Result<Exit> {
    let task: TaskName = args.task.parse()?;
    let format = Format::parse(&args.format)?;
    let stores = Stores::open(&config.data)?;
    let mut total = Stored::default();
    let mut rejected = Vec::new();
    let mut groups: Vec<Group> = Vec::new();
    for file in &args.files {
        let text = rows(file, args.rows.sample)?;
        let mapping = mapping(&args.rows);
        let now = stores.clock.now();
        let imported =
            understudy_ingest::read(format, &task, &text, mapping.as_ref(), args.rows.limit, now)
                .with_context(|| format!("failed to import {}", file.display()))?;
        for row in &imported.rejected {
            rejected.push(format!("{}:{}: {}", file.display(), row.line, row.why));
        }
        groups.extend(imported.groups.iter().cloned());
        let tenant = task.tenant();
        let imported = Imported {
            steps: imported.steps.into_iter().map(|step| step.within(tenant.as_ref())).collect(),
            outcomes: imported.outcomes.into_iter().map(|o| o.within(tenant.as_ref())).collect(),
            ..imported
        };
        store(&stores, imported, file, out, &mut total)?;
    }
    rejected.iter().take(20).for_each(|row| out.say(format!("left out {row}")));
    let mut text = format!(
        "{} records added to the journal for {task}, {} were there already, {} rows left out",
        total.added,
        total.duplicates,
        rejected.len()
    );
    if !groups.is_empty() {
        text.push_str(&describe(&groups));
    }
    let data = json!({
        "task": task, "added": total.added, "duplicates": total.duplicates, "rejected": rejected,
        "groups": groups,
    });
    out.either(text, &data)?;
    Ok(if total.added + total.duplicates == 0 { Exit::No } else { Exit::Ok })
}

/// How much there is to compare in attempts at the same problems.
fn describe(groups: &[Group]) -> String {
    let attempts: usize = groups.iter().map(|group| group.attempts.len()).sum();
    let mixed = groups.iter().filter(|group| group.is_mixed()).count();
    let pairs: usize = groups.iter().map(Group::pairs).sum();
    format!(
        "\nproblems tried more than once: {}, with {attempts} attempts; {mixed} with unequal \
         rewards, which makes {pairs} pairs of a better and a worse attempt",
        groups.len()
    )
}

/// A file's text, or a sample of its lines: those whose digests sort first, in the file's order.
/// Lines are chosen by content, so the same file always gives the same sample.
pub(crate) fn rows(file: &Path, sample: Option<usize>) -> Result<String> {
    let text =
        fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))?;
    let Some(count) = sample else { return Ok(text) };
    if text.trim_start().starts_with('[') {
        bail!("--sample needs one row a line, but {} is a JSON array", file.display());
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let mut chosen: Vec<(Digest, usize, &str)> =
        lines.map(|(n, line)| (Digest::of(line.as_bytes()), n, line)).collect();
    chosen.sort_unstable();
    chosen.truncate(count);
    chosen.sort_unstable_by_key(|(_, n, _)| *n);
    Ok(chosen.iter().map(|(_, _, line)| *line).collect::<Vec<_>>().join("\n"))
}

fn store(
    stores: &Stores,
    imported: Imported,
    file: &Path,
    out: Out,
    total: &mut Stored,
) -> Result<()> {
    let records = imported.steps.len() + imported.outcomes.len();
    let bar = out.bar(records as u64, "import");
    let mut waiting: Vec<Ack> = Vec::new();
    let mut settle = |waiting: &mut Vec<Ack>| -> Result<()> {
        for ack in waiting.drain(..) {
            let appended =
                ack.wait().with_context(|| format!("failed to store {}", file.display()))?;
            *(if appended.duplicate { &mut total.duplicates } else { &mut total.added }) += 1;
            bar.inc(1);
        }
        Ok(())
    };
    let mut kept = Kept::default();
    for step in imported.steps {
        keep_media(&stores.journal, &step, &imported.media, &mut kept)?;
        waiting.push(stores.journal.append_step(step)?);
        if waiting.len() >= IN_FLIGHT {
            settle(&mut waiting)?;
        }
    }
    for outcome in imported.outcomes {
        waiting.push(stores.journal.append_outcome(outcome)?);
        if waiting.len() >= IN_FLIGHT {
            settle(&mut waiting)?;
        }
    }
    settle(&mut waiting)?;
    bar.finish_and_clear();
    Ok(())
}

/// Media that are in the journal, and whom they are of.
type Kept = BTreeSet<(Option<String>, Digest)>;

/// Keeps what a step refers to: before the step, so that no reference leads nowhere, and once for
/// whom it is of.
fn keep_media(
    journal: &Journal,
    step: &Step,
    bytes: &BTreeMap<Digest, Vec<u8>>,
    kept: &mut Kept,
) -> Result<()> {
    let parts: Vec<(Digest, Vec<u8>)> = media(step)
        .into_iter()
        .filter_map(|digest| Some((digest, bytes.get(&digest)?.clone())))
        .filter(|(digest, _)| kept.insert((step.subject.clone(), *digest)))
        .collect();
    if !parts.is_empty() {
        journal.keep_media(step.subject.as_deref(), parts)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use understudy_ident::{Clock, StepId, SystemClock, TrajectoryId};
    use understudy_journal::Query;

    use super::*;
    use crate::paths::DataDir;

    /// Records of two people who showed the same image, as `dataset records` tells them.
    fn records(task: &TaskName) -> Imported {
        let step = |subject: &str, n: u32| {
            let image = json!({"type": "media", "mime": "image/png", "bytes": 3,
                "digest": Digest::of(&[1, 2, 3]), "data": "AQID"});
            json!({"step": {
                "id": StepId::derived(&n.to_string()), "trajectory": TrajectoryId::derived(subject),
                "task": task,
                "subject": subject, "response_id": format!("resp-{n}"),
                "at": "2026-01-01T00:00:00Z",
                "prompt": [{"role": "user", "content": [image]}],
                "reply": {"role": "assistant", "content": "a cat"}, "finish_reason": "stop",
                "served": {"base": "b"}, "usage": {"prompt_tokens": 1, "completion_tokens": 1},
                "timing": {"queued_ms": 0.0, "first_token_ms": 0.0, "total_ms": 0.0},
            }})
        };
        let text = [("ada", 1), ("bob", 2)].map(|(who, n)| step(who, n).to_string()).join("\n");
        let now = SystemClock.now();
        let format = Format::parse("understudy").unwrap();
        let imported = understudy_ingest::read(format, task, &text, None, None, now).unwrap();
        assert!(imported.rejected.is_empty(), "{:?}", imported.rejected);
        imported
    }

    #[test]
    fn imported_media_are_kept_for_each_person_and_go_with_them() {
        let directory = tempfile::tempdir().unwrap();
        let stores = Stores::open(&DataDir::new(directory.path().to_owned())).unwrap();
        let imported = records(&"triage".parse().unwrap());
        let out = Out::new(true);
        let mut total = Stored::default();
        store(&stores, imported, Path::new("kept.jsonl"), out, &mut total).unwrap();
        assert_eq!((total.added, total.duplicates), (2, 0));
        let digest = Digest::of(&[1, 2, 3]);
        let told = serde_json::to_value(stores.journal.trajectories(&Query::default()).unwrap());
        let told: Value = told.unwrap();
        assert_eq!(told[0]["steps"][0]["step"]["prompt"][0]["content"][0]["digest"], json!(digest));
        assert_eq!(stores.journal.media(&digest).unwrap(), Some(vec![1, 2, 3]));
        assert_eq!(stores.journal.erase("ada", &[]).unwrap().media, 1);
        assert_eq!(stores.journal.media(&digest).unwrap(), Some(vec![1, 2, 3]), "bob's");
        assert_eq!(stores.journal.erase("bob", &[]).unwrap().media, 1);
        assert_eq!(stores.journal.media(&digest).unwrap(), None);
    }
}
