//! Lessons and releases, as lines.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use understudy_ident::{Clock as _, SystemClock};
use understudy_memory::{DeploymentItem, DeploymentText, Kept, MemoryId, Status};
use understudy_registry::Registry;

use super::Opened;
use crate::{
    cli::{MemoryDiffArgs, MemoryListArgs},
    commands::Exit,
    config::Config,
    output::Out,
};

/// The end of an id, which tells ids of one job apart where their beginning does not.
pub(super) fn short(id: &MemoryId) -> &str {
    let text = id.as_str();
    &text[text.len().saturating_sub(12)..]
}

pub(super) fn sentence(item: &DeploymentItem) -> String {
    format!("{}, {}", item.situation.text.as_str(), item.strategy.text.as_str())
}

pub(super) fn list(args: &MemoryListArgs, config: &Config, out: Out) -> Result<Exit> {
    let opened = Opened::open(&args.scope, config)?;
    if args.releases {
        return releases(&opened, config, out);
    }
    let mut all = opened.store.all(SystemClock.now())?;
    if let Some(status) = &args.status {
        let status: Status = status.parse().map_err(anyhow::Error::msg)?;
        all.retain(|kept| kept.status == status);
    }
    for kept in &all {
        out.say(line(kept));
    }
    out.value(&all)?;
    Ok(if all.is_empty() { Exit::No } else { Exit::Ok })
}

pub(super) fn waiting(opened: &Opened, out: Out) -> Result<Exit> {
    let now = SystemClock.now();
    let (mut all, surplus) = (opened.store.all(now)?, opened.store.surplus(now)?);
    all.retain(|kept| {
        let waits = matches!(kept.status, Status::Proposed | Status::Suspended);
        waits || kept.has_graduated() || surplus.contains(&kept.item.id)
    });
    for kept in &all {
        out.say(line(kept));
        let evidence = &kept.item.evidence;
        out.say(format!(
            "    {} winners, {} losers, {} users; {:.0} points more often, p {:.4}; {:?}",
            evidence.winners,
            evidence.losers,
            evidence.users,
            100.0 * evidence.lift,
            evidence.p,
            evidence.agreement
        ));
        if let Some(rescored) = kept.rescored.as_ref().filter(|_| kept.has_graduated()) {
            let upper = 100.0 * rescored.effect.upper;
            let version = &rescored.version;
            out.say(format!("    {version} needs it no longer (at most {upper:.0} points): retire it with --reject"));
        }
        if surplus.contains(&kept.item.id) {
            out.say("    too many are active, and it is of the least use: retire it with --reject");
        }
        for other in &kept.conflicts_with {
            out.say(format!("    contradicts {}", short(other)));
        }
        for other in &kept.item.supersedes {
            out.say(format!("    takes the place of {}", short(other)));
        }
    }
    if all.is_empty() {
        out.say("nothing waits for a review");
    }
    out.value(&all.iter().map(|kept| reviewed(kept, &surplus)).collect::<Result<Vec<_>>>()?)?;
    Ok(Exit::Ok)
}

/// With `surplus` where a cap is why it is proposed for retirement.
fn reviewed(kept: &Kept<DeploymentText>, surplus: &BTreeSet<MemoryId>) -> Result<Value> {
    let mut value = serde_json::to_value(kept)?;
    if surplus.contains(&kept.item.id) {
        value["surplus"] = json!(true);
    }
    Ok(value)
}

pub(super) fn one(opened: &Opened, id: &MemoryId, out: Out) -> Result<()> {
    let kept = opened.store.get(id, SystemClock.now())?;
    let history = opened.store.history(Some(id))?;
    out.say(line(&kept));
    let (effect, counters) = (&kept.effect, &kept.counters);
    out.say(format!(
        "    shown {} times, withheld {}; {:+.0} points, from {:+.0} to {:+.0}, by {:.0} outcomes",
        counters.injected,
        counters.withheld,
        100.0 * effect.mean,
        100.0 * effect.lower,
        100.0 * effect.upper,
        effect.outcomes
    ));
    for other in &kept.superseded_by {
        out.say(format!("    {} took its place", short(other)));
    }
    for entry in &history {
        let what = serde_json::to_value(&entry.operation)?;
        let what = what["op"].as_str().unwrap_or_default().to_owned();
        out.say(format!("    {} {what} by {}: {}", entry.at, entry.actor, entry.reason));
    }
    out.value(&json!({"lesson": kept, "history": history}))
}

pub(super) fn diff(args: &MemoryDiffArgs, config: &Config, out: Out) -> Result<Exit> {
    let opened = Opened::open(&args.scope, config)?;
    let before = opened.releases.find(&args.before)?;
    let after = match args.after.as_deref() {
        Some(text) => opened.releases.find(text)?,
        None => opened.store.releases()?.into_iter().next().flatten().context(
            "no memory release serves: name the one to compare with as the second argument",
        )?,
    };
    let (old, new) = (opened.releases.read(&before)?, opened.releases.read(&after)?);
    let diff = new.diff(&old);
    let rows = [
        ("+", &diff.added, &new.items),
        ("-", &diff.removed, &old.items),
        ("~", &diff.revised, &new.items),
    ];
    for (mark, ids, items) in rows {
        for item in items.iter().filter(|item| ids.contains(&item.id)) {
            out.say(format!("{mark} {}  {}", short(&item.id), sentence(item)));
        }
    }
    if diff.settings {
        out.say("  how lessons are found, or which are always shown, is not the same");
    }
    let same = diff.changes() == 0 && !diff.settings;
    if same {
        out.say("nothing differs");
    }
    out.value(&json!({"before": before, "after": after, "diff": diff}))?;
    Ok(if same { Exit::No } else { Exit::Ok })
}

fn releases(opened: &Opened, config: &Config, out: Out) -> Result<Exit> {
    let registry = Registry::open(&config.data.registry(), &config.data.adapters())?;
    let channel = opened.deployment.channel();
    let pointers = opened.store.releases()?;
    let mut rows = Vec::new();
    for digest in opened.releases.list()? {
        let manifest = opened.releases.manifest(&digest)?;
        let serves = pointers.first() == Some(&Some(digest));
        let version = registry.find(&channel, digest)?;
        let version = version.map(|found| (found.record.version.to_string(), found.status));
        let name = version.as_ref().map_or("by hand", |(name, _)| name.as_str());
        let mark = if serves { "serves" } else { "" };
        let (count, at) = (manifest.items.len(), manifest.cut_at);
        out.say(format!("{}  {name:<16}  {count:>3} lessons  {at}  {mark}", digest.short()));
        let (version, status) = version.unzip();
        rows.push(json!({"release": digest, "version": version, "status": status,
            "serves": serves, "manifest": manifest}));
    }
    out.value(&rows)?;
    Ok(if rows.is_empty() { Exit::No } else { Exit::Ok })
}

fn line(kept: &Kept<DeploymentText>) -> String {
    let effect = if kept.effect.outcomes >= 1.0 {
        format!("{:+.0} points", 100.0 * kept.effect.mean)
    } else {
        "unmeasured".to_owned()
    };
    let (id, status) = (short(&kept.item.id), kept.status);
    format!("{id}  {status:<9}  {effect:<10}  {}", sentence(&kept.item))
}
