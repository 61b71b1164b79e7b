//! Clients of an engine in this process, and adapters for them to be served with.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use serde::Serialize;
use understudy_engine::Engine;
use understudy_ident::{DatasetVersion, Digest};
use understudy_inference::{Backend, Completion, Event, GenerateRequest, Prompt, Sampling};
use understudy_manifest::DatasetLineage;
use understudy_model::{BaseModel, Lora, LoraSpec, Targets};
use understudy_trainer::{Provenance, publish};

/// Words for prompts; every stream begins elsewhere in them.
const WORDS: &str = "The parcel was handed to the carrier on Monday evening, but the tracking page \
    has not moved since then, and the depot answers within two working days when it is asked.";

/// Longer than this without an event, and the engine is taken to hang.
const PATIENCE: Duration = Duration::from_mins(2);

/// What a stream asks, as ids.
pub(super) fn prompt(base: &BaseModel, stream: usize, len: usize) -> Result<Vec<u32>> {
    let ids = base.tokenizer.encode(WORDS)?;
    Ok(ids.iter().copied().cycle().skip(stream).take(len).collect())
}

/// Writes an adapter of its own for every number, with all that a trainer says about one.
pub(super) fn write_adapters(
    base: &BaseModel,
    folder: &Path,
    spec: &LoraSpec,
    count: usize,
) -> Result<Vec<PathBuf>> {
    (0..count).map(|number| write_adapter(base, folder, spec, number)).collect()
}

/// Rank as given, on every linear map.
pub(super) fn on_every_map(rank: usize) -> LoraSpec {
    LoraSpec::new(rank, 2.0 * rank as f32, Targets::AllLinear)
}

/// How many values such an adapter has.
pub(super) fn values(base: &BaseModel, spec: &LoraSpec) -> Result<usize> {
    Ok(Lora::init(base.decoder.config(), spec, 0)?.values().len())
}

fn write_adapter(
    base: &BaseModel,
    folder: &Path,
    spec: &LoraSpec,
    number: usize,
) -> Result<PathBuf> {
    /// Large enough that generations differ in what they say, small enough that they say something.
    const STRENGTH: f32 = 0.02;
    let mut lora = Lora::init(base.decoder.config(), spec, number as u64)?;
    for (at, value) in lora.values_mut().iter_mut().enumerate() {
        *value += ((at as f32 + 1.0) * (number as f32 + 2.0)).sin() * STRENGTH;
    }
    let directory = folder.join(format!("generation-{number}"));
    let digest = Digest::of(b"none");
    let version = DatasetVersion { name: "bench".parse()?, digest };
    let provenance = Provenance {
        task: "bench".to_owned(),
        base: "bench".to_owned(),
        recipe_digest: digest,
        dataset: DatasetLineage { version, sft_rows: 0, pair_rows: 0 },
        parent: None,
        code_version: env!("CARGO_PKG_VERSION").to_owned(),
        run: None,
    };
    publish(base, &lora, Vec::new(), provenance, &directory)
        .with_context(|| format!("failed to write an adapter to {}", directory.display()))?;
    Ok(directory)
}

/// A greedy request for an alias, or the base.
pub(super) fn request(prompt: &[u32], alias: Option<&str>, max_tokens: u32) -> GenerateRequest {
    GenerateRequest::new(Prompt::Tokens(prompt.to_vec()), Sampling::greedy(max_tokens))
        .with_adapter(alias.map(str::to_owned))
}

/// The time between two pieces of one reply, and when it ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gap {
    pub(super) at: Instant,
    pub(super) ms: f64,
}

/// Asks and waits, noting every gap.
pub(super) fn converse(
    engine: &Engine,
    request: GenerateRequest,
    gaps: &mut Vec<Gap>,
) -> Result<Completion> {
    let (sender, receiver) = mpsc::channel();
    let sink = move |event| match sender.send((Instant::now(), event)) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    };
    engine.submit(request, Box::new(sink))?;
    let mut last: Option<Instant> = None;
    loop {
        let (at, event) = receiver.recv_timeout(PATIENCE).context("the engine said nothing")?;
        match event {
            Event::Started(_) => {}
            Event::Delta(_) => {
                if let Some(last) = last.replace(at) {
                    gaps.push(Gap { at, ms: (at - last).as_secs_f64() * 1e3 });
                }
            }
            Event::Finished(completion) => return Ok(*completion),
            Event::Failed(error) => return Err(anyhow!(error)),
        }
    }
}

/// The generation that answered and the ids it answered with.
pub(super) fn answer(completion: Completion) -> Result<(String, Vec<u32>)> {
    let adapter = completion.served.adapter.context("a reply does not name its adapter")?;
    let tokens = completion.tokens.context("a reply does not record its tokens")?;
    Ok((adapter.generation, tokens.completion_ids))
}

/// How a quantity is spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
    pub(super) count: usize,
}

impl Spread {
    /// By nearest rank; zeros of nothing.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let rank = (sorted.len() as f64 * share).ceil() as usize;
            sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
        };
        Self { p50: at(0.5), p99: at(0.99), max: at(1.0), count: sorted.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_of_ranks_that_exist() {
        let spread = Spread::of((1..=200).map(f64::from));
        assert_eq!((spread.p50, spread.p99, spread.max), (100.0, 198.0, 200.0));
        assert_eq!(Spread::of([3.0]).p99, 3.0);
        assert_eq!(Spread::of([]).count, 0);
    }
}
