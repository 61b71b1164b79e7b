//! How far a precision's log-probabilities are from those in f32.

use anyhow::Result;
use serde::Serialize;
use understudy_model::{BaseModel, Batch, KvDtype, probe_in, token_log_prob};

use super::{super::work::TEXTS, settings};

/// |Δ log p| of the next token over fixed texts, in nats.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Bound {
    pub(super) tokens: usize,
    pub(super) mean: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
    /// Mean Δ log p: below zero, the texts became less likely.
    pub(super) bias: f64,
    /// The mean distance from what the training pass makes of them at the same precision.
    pub(super) from_training: f64,
    /// The same with keys and values in f32, as attempts to learn from are sampled.
    pub(super) from_training_exact: f64,
}

/// log p of every token but the first of every text.
type Scores = Vec<Vec<f32>>;

impl Bound {
    pub(super) fn reference(exact: &BaseModel) -> Result<Scores> {
        Ok(probe_in(exact, None, &texts(exact)?, KvDtype::F32)?)
    }

    /// As it is served, so that what keys and values are rounded to counts as well.
    pub(super) fn of(model: &BaseModel, reference: &[Vec<f32>]) -> Result<Self> {
        let texts = texts(model)?;
        let exact = probe_in(model, None, &texts, KvDtype::F32)?;
        let here = probe_in(model, None, &texts, settings().kv_dtype(model)?)?;
        let trained =
            texts.iter().map(|text| of_training(model, text)).collect::<Result<Scores>>()?;
        let differences = differences(&here, reference);
        let mut sizes: Vec<f64> = differences.iter().map(|one| one.abs()).collect();
        sizes.sort_by(f64::total_cmp);
        let tokens = sizes.len();
        let at = |share: f64| sizes.get(((tokens as f64 * share) as usize).min(tokens - 1));
        Ok(Self {
            tokens,
            mean: mean(&sizes),
            p99: at(0.99).copied().unwrap_or_default(),
            max: at(1.0).copied().unwrap_or_default(),
            bias: mean(&differences),
            from_training: distance(&here, &trained),
            from_training_exact: distance(&exact, &trained),
        })
    }
}

fn texts(model: &BaseModel) -> Result<Vec<Vec<u32>>> {
    Ok(TEXTS.iter().map(|text| model.tokenizer.encode(text)).collect::<Result<_, _>>()?)
}

fn of_training(model: &BaseModel, text: &[u32]) -> Result<Vec<f32>> {
    let hidden = model.decoder.hidden(&Batch::of(&[text]), None)?;
    let rows = model.decoder.logits(&hidden)?.to_vec2::<f32>()?;
    let next = text.iter().skip(1).zip(&rows);
    Ok(next.map(|(token, row)| token_log_prob(row, *token, 1.0).0).collect())
}

fn differences(here: &[Vec<f32>], there: &[Vec<f32>]) -> Vec<f64> {
    let pairs = here.iter().flatten().zip(there.iter().flatten());
    pairs.map(|(here, there)| f64::from(here - there)).collect()
}

fn distance(here: &[Vec<f32>], there: &[Vec<f32>]) -> f64 {
    mean(&differences(here, there).into_iter().map(f64::abs).collect::<Vec<f64>>())
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
