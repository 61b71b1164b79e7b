//! How far a precision's log-probabilities are from those in f32.

use anyhow::Result;
use serde::Serialize;
use understudy_model::{BaseModel, probe_in};

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
}

impl Bound {
    /// As it is served: what keys and values are rounded to counts as well.
    pub(super) fn reference(exact: &BaseModel) -> Result<Vec<Vec<f32>>> {
        let texts = TEXTS.iter().map(|text| exact.tokenizer.encode(text));
        let dtype = settings().kv_dtype(exact)?;
        Ok(probe_in(exact, None, &texts.collect::<Result<Vec<_>, _>>()?, dtype)?)
    }

    pub(super) fn of(model: &BaseModel, reference: &[Vec<f32>]) -> Result<Self> {
        let here = Self::reference(model)?;
        let pairs = reference.iter().flatten().zip(here.iter().flatten());
        let differences: Vec<f64> = pairs.map(|(exact, here)| f64::from(here - exact)).collect();
        let mut sizes: Vec<f64> = differences.iter().map(|one| one.abs()).collect();
        sizes.sort_by(f64::total_cmp);
        let tokens = sizes.len();
        let at = |share: f64| sizes.get(((tokens as f64 * share) as usize).min(tokens - 1));
        let mean = |values: &[f64]| values.iter().sum::<f64>() / tokens as f64;
        Ok(Self {
            tokens,
            mean: mean(&sizes),
            p99: at(0.99).copied().unwrap_or_default(),
            max: at(1.0).copied().unwrap_or_default(),
            bias: mean(&differences),
        })
    }
}
