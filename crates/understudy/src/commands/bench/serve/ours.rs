//! Our side: requests submitted together, timed from then to their last events.

use std::{
    ops::ControlFlow,
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use understudy_engine::Engine;
use understudy_inference::{Backend, Event, GenerateRequest, Prompt, Sampling, Sink};

use super::{Load, Rates};

const PATIENCE: Duration = Duration::from_mins(5);

/// Prefill from completions of one token, decoding from what longer ones take beyond that. Streams
/// use the named adapters in turn, or the base if there are none.
pub(super) fn measure(
    engine: &Engine,
    load: Load,
    prompts: &[Vec<u32>],
    adapters: &[String],
) -> Result<Rates> {
    let first = together(engine, load, prompts, adapters, 1)?.as_secs_f64();
    let whole = together(engine, load, prompts, adapters, load.tokens + 1)?.as_secs_f64();
    let prefill = (load.batch * load.prompt) as f64 / first;
    let decode = (load.batch * load.tokens) as f64 / (whole - first).max(1e-9);
    Ok(Rates { prefill, decode })
}

/// How long all streams take for completions of this many tokens.
fn together(
    engine: &Engine,
    load: Load,
    prompts: &[Vec<u32>],
    adapters: &[String],
    tokens: usize,
) -> Result<Duration> {
    let (sender, receiver) = mpsc::channel();
    let requests = prompts[..load.batch].iter().enumerate().map(|(stream, prompt)| {
        let sampling = Sampling { ignore_eos: true, ..Sampling::greedy(tokens as u32) };
        let prompt = Prompt::Tokens(prompt[..load.prompt].to_vec());
        let adapter = adapters.iter().cycle().nth(stream).cloned();
        let sender = sender.clone();
        let sink: Sink = Box::new(move |event| match sender.send(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        });
        (GenerateRequest::new(prompt, sampling).with_adapter(adapter), sink)
    });
    let begun = Instant::now();
    engine.submit_all(requests.collect())?;
    let mut left = load.batch;
    while left > 0 {
        match receiver.recv_timeout(PATIENCE).context("the engine said nothing")? {
            Event::Started(_) | Event::Delta(_) => {}
            Event::Failed(error) => return Err(anyhow!(error)),
            Event::Finished(completion) => {
                let produced = completion.tokens.map_or(0, |record| record.completion_ids.len());
                ensure!(produced == tokens, "a completion has {produced} tokens, not {tokens}");
                left -= 1;
            }
        }
    }
    Ok(begun.elapsed())
}
