//! `understudy bench retrieval`: how well, and how fast, memory finds what belongs to a request.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use serde::Serialize;
use understudy_toolworld::{Found, Hits, RetrievalPlan, Ticket};

use super::load::{Load, Watch};
use crate::{cli::BenchRetrievalArgs, commands::Exit, config::Config, meaning, output::Out};

/// Where each kind has ten lessons, the vectors must put one of the query's kind first at least as
/// often as words do; a sentence model that does not is broken.
const FLOOR_FROM: usize = 770;
/// The share of the processors that others took, above which lateness says nothing about us.
const BUSY: f64 = 0.25;

#[derive(Debug, Serialize)]
struct Report {
    embedder: String,
    kinds: usize,
    queries: usize,
    seed: u64,
    stores: Vec<Found>,
    floor: Floor,
    budget_ms: f64,
    in_time: bool,
    load: Load,
}

#[derive(Debug, Serialize)]
struct Floor {
    from_lessons: usize,
    /// `None` where no store was large enough, or nothing knew meaning.
    held: Option<bool>,
}

pub(super) fn run(args: &BenchRetrievalArgs, config: &Config, out: Out) -> Result<Exit> {
    if args.sizes.is_empty() || args.sizes.contains(&0) || args.queries == 0 {
        bail!("--sizes and --queries must be at least 1: a figure needs something measured");
    }
    let sentences = meaning::sentences(config)?;
    let knows_meaning = sentences.is_some();
    let embedder = meaning::embedder(config)?;
    out.say(format!("compared by {}", meaning::described(embedder.name())));
    let plan = RetrievalPlan { seed: args.seed, sizes: args.sizes.clone(), queries: args.queries };
    let watch = Watch::begin();
    let bar = out.bar(1, "retrieving");
    let stores = plan.measure(embedder.as_ref(), &mut |done, of| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    let load = watch.end();
    let report = Report {
        embedder: embedder.name().to_owned(),
        kinds: Ticket::KINDS,
        queries: args.queries,
        seed: args.seed,
        floor: Floor { from_lessons: FLOOR_FROM, held: held(&stores, knows_meaning) },
        in_time: stores.iter().all(|found| found.query_ms.p95 <= args.budget_ms),
        budget_ms: args.budget_ms,
        load,
        stores,
    };
    out.either(text(&report), &report)?;
    Ok(exit(&report))
}

fn held(stores: &[Found], knows_meaning: bool) -> Option<bool> {
    let mut large = stores.iter().filter(|found| found.lessons >= FLOOR_FROM).peekable();
    let checked = knows_meaning && large.peek().is_some();
    checked.then(|| large.all(|found| found.by_meaning.p_at_1 >= found.by_words.p_at_1))
}

fn exit(report: &Report) -> Exit {
    match (report.floor.held, report.in_time) {
        (Some(false), _) => Exit::No,
        (_, false) if report.load.others.is_some_and(|share| share > BUSY) => Exit::Inconclusive,
        (_, false) => Exit::No,
        (None, true) => Exit::Inconclusive,
        (Some(true), true) => Exit::Ok,
    }
}

fn text(report: &Report) -> String {
    let mut text = format!(
        "{:>8}  {:^17}  {:^17}  {:^17}  {:>15}\n{:>8}  {:^17}  {:^17}  {:^17}  {:>15}\n",
        "",
        "by meaning",
        "by words",
        "as memory ranks",
        "query, ms",
        "lessons",
        "P@1  @3   @5",
        "P@1  @3   @5",
        "P@1  @3   @5",
        "p50     p95"
    );
    let hits =
        |hits: &Hits| format!("{:.3} {:.3} {:.3}", hits.p_at_1, hits.hit_at_3, hits.hit_at_5);
    for found in &report.stores {
        let line = writeln!(
            text,
            "{:>8}  {:^17}  {:^17}  {:^17}  {:>7.2} {:>7.2}",
            found.lessons,
            hits(&found.by_meaning),
            hits(&found.by_words),
            hits(&found.hybrid),
            found.query_ms.p50,
            found.query_ms.p95
        );
        line.expect("a string takes any text");
    }
    text.push_str(match report.floor.held {
        Some(true) => "the floor holds",
        Some(false) => "below the floor: the sentence model finds less than words do",
        None => "no floor was checked: it needs a sentence model and a store of 770 lessons",
    });
    if !report.in_time {
        text.push_str("; too late for the budget");
    }
    if let Some(share) = report.load.others.filter(|share| *share > BUSY) {
        write!(text, "; others took {:.0} % of the processors", 100.0 * share)
            .expect("a string takes any text");
    }
    text
}
