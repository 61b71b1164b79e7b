//! `understudy bench swap`: streams under a rain of new generations, beside the same streams left
//! alone.
//!
//! Every swap reads, verifies and publishes an adapter that is not in memory. Every reply must be,
//! token by token, what exactly one generation says, and the one it names.
//!
//! Three spells take turns, so that what else the machine does hits all: calm, all streams on one
//! generation; mixed, the same generations side by side and nothing loaded; and swaps. In flight
//! replies finish on what they began with, so swaps cost what mixed generations in a batch cost and
//! what loading costs, and the second spell tells the two apart.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use serde::Serialize;
use understudy_engine::Engine;
use understudy_inference::{LoadAdapter, LoadTiming, Student};
use understudy_model::{BaseModel, device};

use super::{
    load::{Load, Watch},
    streams::{self, Gap, Spread},
};
use crate::{
    cli::BenchSwapArgs,
    commands::{Exit, model},
    config::Config,
    held::HeldIn,
    output::Out,
};

const ALIAS: &str = "live";

/// Generations that take turns.
const GENERATIONS: usize = 6;

const PROMPT: usize = 24;

/// Rounds of the three spells.
const TURNS: u32 = 2;

/// Of every spell, left out: replies of the spell before are still in flight.
const SETTLING: Duration = Duration::from_secs(3);

const ROLLBACKS: usize = 200;

/// What the p99 gap under swaps may be of that in the calm.
const AIM: f64 = 1.2;

/// What every generation says to every stream.
type References = BTreeMap<(String, usize), Vec<u32>>;

#[derive(Debug, Serialize)]
struct Report {
    bench: &'static str,
    base: String,
    streams: usize,
    rank: usize,
    every_ms: u64,
    seconds: u64,
    swaps: usize,
    replies: usize,
    failed: usize,
    /// Replies that are not what the generation they name says.
    mixed: usize,
    /// Generations that answered.
    generations_seen: usize,
    /// Of the generations' answers to the first stream, how many are different ones.
    generations_distinct: usize,
    gap_ms_steady: Spread,
    gap_ms_mixed: Spread,
    gap_ms_swapping: Spread,
    ratio_p50: f64,
    ratio_p99: f64,
    aim_ratio_p99: f64,
    /// Swapping over mixed: what loading costs.
    loading_ratio_p50: f64,
    loading_ratio_p99: f64,
    read_ms: Spread,
    verify_ms: Spread,
    publish_us: Spread,
    rollback_us: Spread,
    load: Load,
}

pub(super) fn run(args: &BenchSwapArgs, config: &Config, out: Out) -> Result<Exit> {
    ensure!(args.streams > 0 && args.seconds > 0, "--streams and --seconds must be at least 1");
    let name = args.base.as_deref().unwrap_or(&config.base);
    let path = model::obtain(config, name, out)?;
    let base = BaseModel::load_with(&path, &device(&config.device)?, HeldIn::default().precision())
        .with_context(|| format!("failed to load the base model {}", path.display()))?;
    let folder = tempfile::tempdir().context("failed to make a directory for adapters")?;
    out.say(format!("writing {GENERATIONS} adapters of rank {}", args.rank));
    let adapters = streams::write_adapters(
        &base,
        folder.path(),
        &streams::on_every_map(args.rank),
        GENERATIONS,
    )?;
    let prompts = (0..args.streams)
        .map(|stream| streams::prompt(&base, stream, PROMPT))
        .collect::<Result<Vec<_>>>()?;
    let engine = Engine::start(base, name, understudy_engine::Config::default())?;
    let bench = Bench { args, engine, adapters, prompts, mixed: AtomicBool::new(false) };
    out.say("asking every generation alone");
    let references = bench.references()?;
    out.say(format!("{} s of calm and as much of swaps, by turns", args.seconds));
    let report = bench.measure(name, &references)?;
    out.either(report.text(), &report)?;
    Ok(report.exit())
}

struct Bench<'a> {
    args: &'a BenchSwapArgs,
    engine: Engine,
    adapters: Vec<PathBuf>,
    prompts: Vec<Vec<u32>>,
    /// Whether every stream asks for a generation of its own.
    mixed: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spell {
    Calm,
    Mixed,
    Swaps,
}

/// What the streams saw.
#[derive(Default)]
struct Seen {
    gaps: Vec<Gap>,
    replies: usize,
    failed: usize,
    mixed: usize,
    generations: BTreeSet<String>,
}

/// What the swapper did, and when swaps rained.
#[derive(Default)]
struct Rain {
    timings: Vec<LoadTiming>,
    spells: Vec<(Spell, Instant, Instant)>,
    rollback_us: Vec<f64>,
}

impl Bench<'_> {
    fn publish(&self, number: usize) -> Result<LoadTiming> {
        let load = LoadAdapter::new(ALIAS, &self.adapters[number % self.adapters.len()]);
        // Nothing is kept, so that the same directory is a load like the first one next time.
        let loaded = self.engine.publish_adapter(LoadAdapter { keep_previous: Some(0), ..load })?;
        Ok(loaded.timing)
    }

    fn references(&self) -> Result<References> {
        let mut references = References::new();
        for number in 0..self.adapters.len() {
            self.publish(number)?;
            let answers: Vec<Result<(String, Vec<u32>)>> = thread::scope(|scope| {
                let ask = |prompt| {
                    let request = streams::request(prompt, Some(ALIAS), self.args.tokens);
                    streams::answer(streams::converse(&self.engine, request, &mut Vec::new())?)
                };
                let asking: Vec<_> =
                    self.prompts.iter().map(|prompt| scope.spawn(move || ask(prompt))).collect();
                asking.into_iter().map(join).collect()
            });
            for (stream, answer) in answers.into_iter().enumerate() {
                let (generation, tokens) = answer?;
                references.insert((generation, stream), tokens);
            }
        }
        Ok(references)
    }

    fn measure(&self, base: &str, references: &References) -> Result<Report> {
        let done = AtomicBool::new(false);
        let watch = Watch::begin();
        let (seen, rain) = thread::scope(|scope| {
            let done = &done;
            let streams: Vec<_> = (0..self.prompts.len())
                .map(|stream| scope.spawn(move || self.stream(stream, references, done)))
                .collect();
            let rain = self.rain();
            done.store(true, Relaxed);
            let seen: Vec<Seen> =
                streams.into_iter().map(|stream| join_infallible(stream)).collect::<Result<_>>()?;
            anyhow::Ok((seen, rain?))
        })?;
        Ok(self.report(base, references, seen, rain, watch.end()))
    }

    fn stream(&self, stream: usize, references: &References, done: &AtomicBool) -> Seen {
        let mut seen = Seen::default();
        while !done.load(Relaxed) {
            let side = side_alias(stream % self.adapters.len());
            let alias = if self.mixed.load(Relaxed) { &side } else { ALIAS };
            let request = streams::request(&self.prompts[stream], Some(alias), self.args.tokens);
            let answer =
                streams::converse(&self.engine, request, &mut seen.gaps).and_then(streams::answer);
            seen.replies += 1;
            match answer {
                Ok((generation, tokens)) => {
                    let expected = references.get(&(generation.clone(), stream));
                    seen.mixed += usize::from(expected != Some(&tokens));
                    seen.generations.insert(generation);
                }
                Err(_) => seen.failed += 1,
            }
        }
        seen
    }

    fn rain(&self) -> Result<Rain> {
        let mut rain = Rain::default();
        let length = SETTLING + Duration::from_secs(self.args.seconds) / TURNS;
        for _ in 0..TURNS {
            for spell in [Spell::Calm, Spell::Mixed, Spell::Swaps] {
                self.begin(spell)?;
                let begun = Instant::now();
                while spell == Spell::Swaps && begun.elapsed() < length {
                    let next = Instant::now() + Duration::from_millis(self.args.every_ms);
                    rain.timings.push(self.publish(rain.timings.len())?);
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                }
                thread::sleep(length.saturating_sub(begun.elapsed()));
                rain.spells.push((spell, begun + SETTLING, Instant::now()));
            }
        }
        for number in 0..2 {
            self.engine.load_adapter(ALIAS, &self.adapters[number])?;
        }
        for _ in 0..ROLLBACKS {
            let begun = Instant::now();
            self.engine.rollback_adapter(ALIAS, None)?;
            rain.rollback_us.push(begun.elapsed().as_secs_f64() * 1e6);
            thread::sleep(Duration::from_millis(2));
        }
        Ok(rain)
    }

    /// Loads what a spell needs and nothing else, so that it starts with nothing left to read.
    fn begin(&self, spell: Spell) -> Result<()> {
        self.mixed.store(false, Relaxed);
        for number in 0..self.adapters.len() {
            if spell == Spell::Mixed {
                self.engine.load_adapter(&side_alias(number), &self.adapters[number])?;
            }
        }
        self.mixed.store(spell == Spell::Mixed, Relaxed);
        if spell == Spell::Swaps {
            (0..self.adapters.len())
                .try_for_each(|number| self.engine.unload_adapter(&side_alias(number)))?;
        }
        Ok(())
    }

    fn report(
        &self,
        base: &str,
        references: &References,
        seen: Vec<Seen>,
        rain: Rain,
        load: Load,
    ) -> Report {
        let during = |spell| {
            let within = |at: Instant| {
                rain.spells
                    .iter()
                    .any(|(one, from, to)| *one == spell && (*from..*to).contains(&at))
            };
            let gaps = seen.iter().flat_map(|one| &one.gaps);
            Spread::of(gaps.filter(|gap| within(gap.at)).map(|gap| gap.ms))
        };
        let (steady, mixed) = (during(Spell::Calm), during(Spell::Mixed));
        let swapping = during(Spell::Swaps);
        let firsts = references.iter().filter(|((_, stream), _)| *stream == 0);
        let of = |part: fn(&LoadTiming) -> f64| Spread::of(rain.timings.iter().map(part));
        let all: BTreeSet<&String> = seen.iter().flat_map(|one| &one.generations).collect();
        Report {
            bench: "swap",
            base: base.to_owned(),
            streams: self.args.streams,
            rank: self.args.rank,
            every_ms: self.args.every_ms,
            seconds: self.args.seconds,
            swaps: rain.timings.len(),
            replies: seen.iter().map(|one| one.replies).sum(),
            failed: seen.iter().map(|one| one.failed).sum(),
            mixed: seen.iter().map(|one| one.mixed).sum(),
            generations_seen: all.len(),
            generations_distinct: firsts.map(|(_, tokens)| tokens).collect::<BTreeSet<_>>().len(),
            gap_ms_steady: steady,
            gap_ms_mixed: mixed,
            gap_ms_swapping: swapping,
            ratio_p50: swapping.p50 / steady.p50,
            ratio_p99: swapping.p99 / steady.p99,
            aim_ratio_p99: AIM,
            loading_ratio_p50: swapping.p50 / mixed.p50,
            loading_ratio_p99: swapping.p99 / mixed.p99,
            read_ms: of(|timing| timing.read),
            verify_ms: of(|timing| timing.verify),
            publish_us: of(|timing| timing.publish * 1e3),
            rollback_us: Spread::of(rain.rollback_us),
            load,
        }
    }
}

impl Report {
    fn text(&self) -> String {
        let Self { streams, swaps, replies, failed, mixed, generations_seen, .. } = self;
        let row = |what: &str, unit: &str, spread: Spread| {
            let Spread { p50, p99, max, count } = spread;
            format!("  {what:<16} {p50:>9.2} {p99:>9.2} {max:>9.2} {unit}  ({count})\n")
        };
        format!(
            "{streams} streams, {swaps} swaps: {replies} replies, {failed} failed, {mixed} not of \
             exactly one generation; {generations_seen} generations answered\n  \
             {:<16} {:>9} {:>9} {:>9}\n{}{}{}{}{}{}{}  \
             under swaps, p50 is {:.2}x and p99 {:.2}x (aim {AIM}x) of calm, {:.2}x and {:.2}x of \
             the same generations mixed without loading; others took {:.0} % of the machine",
            "",
            "p50",
            "p99",
            "max",
            row("gap, steady", "ms", self.gap_ms_steady),
            row("gap, mixed", "ms", self.gap_ms_mixed),
            row("gap, swapping", "ms", self.gap_ms_swapping),
            row("read and hash", "ms", self.read_ms),
            row("verify", "ms", self.verify_ms),
            row("publish", "µs", self.publish_us),
            row("rollback", "µs", self.rollback_us),
            self.ratio_p50,
            self.ratio_p99,
            self.loading_ratio_p50,
            self.loading_ratio_p99,
            self.load.others.unwrap_or_default() * 100.0,
        )
    }

    /// A wrong or failed reply is a no; a slow one on a machine with other things to do is none.
    fn exit(&self) -> Exit {
        if self.failed > 0 || self.mixed > 0 {
            Exit::No
        } else if self.ratio_p99 <= AIM {
            Exit::Ok
        } else if self.load.is_busy() {
            Exit::Inconclusive
        } else {
            Exit::No
        }
    }
}

/// Under which a generation is loaded beside the others.
fn side_alias(number: usize) -> String {
    format!("side-{number}")
}

fn join<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    join_infallible(thread)?
}

fn join_infallible<T>(thread: thread::ScopedJoinHandle<'_, T>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a stream panicked"))
}
