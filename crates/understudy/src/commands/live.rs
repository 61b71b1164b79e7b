//! `understudy live`: the scorers of suites on what was served.

use anyhow::{Context, Result, bail};
use understudy_ident::TaskName;
use understudy_journal::Query;
use understudy_live::{Report, Row, Rules, Watch};
use understudy_manifest::{Check, Scorer, parse_age};

use super::Exit;
use crate::{cli::LiveArgs, config::Config, output::Out, wiring::Stores};

pub(crate) fn run(args: &LiveArgs, config: &Config, out: Out) -> Result<Exit> {
    let rules = rules(args, config)?;
    let stores = Stores::open(&config.data)?;
    let since = match &args.since {
        Some(age) => {
            let age = parse_age(age).with_context(|| {
                format!("`{age}` is no age: write a number and d, h or m, such as 7d")
            })?;
            Some(stores.clock.now().as_millisecond().saturating_sub(age))
        }
        None => None,
    };
    let task = args.task.as_ref().map(|name| name.parse::<TaskName>()).transpose()?;
    let mut watch = Watch::new(rules, 0);
    for trajectory in stores.journal.scan(&Query { task, ..Query::default() })? {
        for judged in trajectory?.steps {
            if since.is_none_or(|since| judged.step.at.as_millisecond() >= since) {
                watch.note(&judged.step);
            }
        }
    }
    let report = watch.report();
    out.either(text(&report), &report)?;
    Ok(if report.scored == 0 { Exit::No } else { Exit::Ok })
}

/// What the command line says counts before the configuration.
fn rules(args: &LiveArgs, config: &Config) -> Result<Rules> {
    let named = |name: &String| {
        Scorer::parse(name)
            .with_context(|| format!("unknown scorer `{name}`: use {}", Scorer::WORDS))
    };
    let scorers = args.scorers.iter().map(named).collect::<Result<Vec<_>>>()?;
    let written = config.live.as_ref();
    if scorers.is_empty() && written.is_none() {
        bail!("name a scorer with --scorer, or scorers under [live] in understudy.toml");
    }
    let share = args.share.or(written.map(|live| live.share)).unwrap_or(1.0);
    let (scorers, checks): (Vec<Scorer>, Vec<Check>) = match written {
        Some(live) if scorers.is_empty() => (live.scorers.clone(), live.checks.clone()),
        _ => (scorers, Vec::new()),
    };
    Ok(Rules::new(share, &scorers, &checks)?)
}

fn text(report: &Report) -> String {
    let Report { seen, scored, failed, left_out, .. } = report;
    let mut lines = vec![format!(
        "{scored} of {seen} replies scored, {failed} of them failed; intervals hold at all times"
    )];
    lines.extend(report.rows.iter().map(|row| {
        let Row { task, arm, adapter, scorer, scored, unscored, mean, low, high } = row;
        let adapter = adapter.as_deref().unwrap_or("-");
        let score = if *scored == 0 {
            "-".to_owned()
        } else {
            format!("{mean:.3} [{low:.3}, {high:.3}]")
        };
        format!("{task:<20} {arm:<8} {adapter:<20} {scorer:<20} {score:<24} {scored:>7} scored, {unscored} not")
    }));
    if *left_out > 0 {
        lines.push(format!(
            "warning: {left_out} scores had no room, because too many adapters were seen"
        ));
    }
    lines.join("\n")
}
