//! A lesson in a person's own words, which goes the way of all others from here.

use anyhow::Result;
use serde_json::json;
use understudy_ident::{Clock as _, SystemClock};
use understudy_memory::{DeploymentItem, Kind, Proposed, Written};

use super::{Opened, by, show};
use crate::{cli::ProposeArgs, commands::Exit, config::Config, output::Out};

pub(super) fn propose(args: &ProposeArgs, config: &Config, out: Out) -> Result<Exit> {
    let opened = Opened::open(&args.scope, config)?;
    let [tools, prefer, avoid] = [&args.tools, &args.prefer, &args.avoid]
        .map(|names| names.iter().map(String::as_str).collect::<Vec<_>>());
    let written = Written {
        kind: if prefer.is_empty() && !avoid.is_empty() { Kind::Avoid } else { Kind::Strategy },
        agent: args.agent.as_deref(),
        intent: args.intent.as_deref(),
        tools: &tools,
        situation: &args.situation,
        strategy: &args.text,
        prefer: &prefer,
        avoid: &avoid,
        ..Written::default()
    };
    let catalogue = &opened.deployment.catalogue;
    let key = opened.store.key();
    let item = DeploymentItem::written(&written, catalogue, key, SystemClock.now())?;
    let sentence = show::sentence(&item);
    let embedder = opened.embedder()?;
    let by = by(&args.scope, &args.reason)?;
    let proposed = opened.store.propose(item, embedder.as_ref(), &by)?;
    let (what, id) = match &proposed {
        Proposed::New { id } => ("proposed", id),
        Proposed::Merged { into } => ("known already", into),
        Proposed::Conflicting { id, .. } => ("proposed, against another", id),
    };
    let text = format!("{what}: {} {sentence}", show::short(id));
    out.either(text, &json!({"lesson": id, "became": proposed}))?;
    Ok(Exit::Ok)
}
