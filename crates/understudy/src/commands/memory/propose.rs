//! A lesson in a person's own words, which goes the way of all others from here.

use anyhow::{Result, bail};
use serde_json::json;
use understudy_ident::{Clock as _, SystemClock};
use understudy_memory::{DeploymentItem, ErrorSignature, Kind, Proposed, Tactic, Written};

use super::{Opened, by, show};
use crate::{cli::ProposeArgs, commands::Exit, config::Config, output::Out};

pub(super) fn propose(args: &ProposeArgs, config: &Config, out: Out) -> Result<Exit> {
    let opened = Opened::open(&args.scope, config)?;
    let [tools, prefer, avoid] = [&args.tools, &args.prefer, &args.avoid]
        .map(|names| names.iter().map(String::as_str).collect::<Vec<_>>());
    let key = opened.store.key();
    let tactic = args.tactic.as_deref().map(str::parse::<Tactic>).transpose();
    let tactic = tactic.map_err(anyhow::Error::msg)?;
    let kind = kind(args, tactic, prefer.is_empty() && !avoid.is_empty())?;
    let written = Written {
        kind,
        agent: args.agent.as_deref(),
        intent: args.intent.as_deref(),
        tools: &tools,
        situation: &args.situation,
        strategy: &args.text,
        prefer: &prefer,
        avoid: &avoid,
        error: args.error.as_deref().map(|message| ErrorSignature::of(message, None, key)),
        target: args.target.as_deref(),
        tactic,
    };
    let catalogue = &opened.deployment.catalogue;
    let now = SystemClock.now();
    let item = DeploymentItem::written(&written, catalogue, key, now)?;
    let whole = opened.lessons(&args.supersedes)?.into_iter();
    let whole = whole.map(|id| Ok(opened.store.get(&id, now)?.item)).collect::<Result<Vec<_>>>()?;
    let item = if whole.is_empty() { item } else { item.in_place_of(&whole) };
    let apart = opened.lessons(&args.apart_from)?;
    let sentence = show::sentence(&item);
    let embedder = opened.embedder()?;
    let by = by(&args.scope, &args.reason)?;
    let proposed = opened.store.propose_apart(item, &apart, embedder.as_ref(), &by)?;
    let (what, id) = match &proposed {
        Proposed::New { id } => ("proposed", id),
        Proposed::Merged { into } => ("known already", into),
        Proposed::Conflicting { id, .. } => ("proposed, against another", id),
        Proposed::Settled { by, .. } => ("retired before", by),
    };
    let text = format!("{what}: {} {sentence}", show::short(id));
    out.either(text, &json!({"lesson": id, "became": proposed}))?;
    Ok(Exit::Ok)
}

/// What kind of lesson was written; a way out of a failure that names neither a failure nor a place
/// would never be found.
fn kind(args: &ProposeArgs, tactic: Option<Tactic>, only_avoids: bool) -> Result<Kind> {
    let kind = match args.kind.as_deref() {
        None if tactic.is_some() => Kind::Recovery,
        None if only_avoids => Kind::Avoid,
        None | Some("strategy") => Kind::Strategy,
        Some("avoid") => Kind::Avoid,
        Some("recovery") => Kind::Recovery,
        Some(other) => bail!("{other:?} is no kind of lesson; use strategy, avoid or recovery"),
    };
    if kind == Kind::Recovery && tactic.is_none() {
        bail!("a recovery needs the way out of the failure: say it with --tactic");
    }
    if tactic.is_some() && args.error.is_none() && args.target.is_none() {
        bail!("a way out of a failure needs --error, --target, or both: nothing would find it");
    }
    Ok(kind)
}
