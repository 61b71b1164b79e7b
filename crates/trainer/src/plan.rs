//! What a stage would do and cost, from its examples alone.

use understudy_manifest::{Method, TrainStage};
use understudy_model::ModelConfig;

use crate::{
    batching::split,
    error::Result,
    request::TrainRequest,
    rows::{Example, LeftOut},
    timeline::Timeline,
};

/// A stage that was not run.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub method: Method,
    /// Rows (SFT) or pairs (DPO).
    pub examples: u64,
    pub left_out: LeftOut,
    /// Of one epoch, prompts included.
    pub tokens_per_epoch: u64,
    /// Of those, the ones with a loss.
    pub trained_tokens_per_epoch: u64,
    /// Of the longest row.
    pub longest_row: usize,
    pub steps: u64,
    /// How many numbers are trained.
    pub adapter_values: u64,
    /// Floating-point operations of the whole stage.
    pub flops: f64,
    /// Peak memory, base weights included; measured runs stay up to a tenth below it.
    pub memory_bytes: u64,
}

/// Tokenises the examples and reckons; trains nothing and writes nothing.
pub fn plan(request: &TrainRequest<'_>) -> Result<Plan> {
    let examples = request.examples()?;
    let adapter_values = request.starting_adapter()?.values().len();
    let (left_out, examples) = (examples.left_out, examples.kept);
    let stage = request.stage;
    let timeline = Timeline::new(examples.len(), stage.batch_size, stage.epochs, request.seed);
    let cost = Cost { config: request.base.decoder.config(), adapter_values, stage };
    let rows = || examples.iter().flat_map(Example::rows);
    let tokens_per_epoch = rows().map(|row| row.ids().len() as u64).sum();
    let trained_tokens_per_epoch = rows().map(|row| row.completion().len() as u64).sum();
    let every: Vec<&Example> = examples.iter().collect();
    let budget = request.options.micro_batch_tokens;
    let largest = split(&every, budget)
        .into_iter()
        .map(|run| examples[run].iter().map(Example::tokens).sum::<usize>());
    Ok(Plan {
        method: stage.method,
        examples: examples.len() as u64,
        left_out,
        tokens_per_epoch,
        trained_tokens_per_epoch,
        longest_row: rows().map(|row| row.ids().len()).max().unwrap_or_default(),
        steps: timeline.steps(),
        adapter_values: adapter_values as u64,
        flops: rows().map(|row| cost.row_flops(row.ids().len(), row.completion().len())).sum(),
        memory_bytes: cost.memory(largest.max().unwrap_or_default(), budget),
    })
}

/// The arithmetic of one decoder shape.
struct Cost<'a> {
    config: &'a ModelConfig,
    adapter_values: usize,
    stage: &'a TrainStage,
}

impl Cost<'_> {
    /// Weights of the linear maps of all layers.
    fn linear(&self) -> f64 {
        let c = self.config;
        let attention = c.hidden * c.qkv_dim() + c.q_dim() * c.hidden;
        (c.layers * (attention + 3 * c.hidden * c.intermediate)) as f64
    }

    /// Weights of the head.
    fn head(&self) -> f64 {
        (self.config.hidden * self.config.vocab) as f64
    }

    /// A row of `tokens` over all epochs, `trained` of them with a loss.
    ///
    /// Per token, with N frozen weights and P adapter values: forward `2N + 2P`, backward to the
    /// inputs `2N`, adapter gradients `4P`; per trained token 2HV for logits and 2HV for their
    /// gradient; causal attention `2L·q` per token and layer forward, twice that backward. DPO
    /// looks at logits once more per step, and once runs the reference.
    fn row_flops(&self, tokens: usize, trained: usize) -> f64 {
        let c = self.config;
        let (tokens, trained) = (tokens as f64, trained as f64);
        let attention = 2.0 * tokens * tokens * (c.layers * c.q_dim()) as f64;
        let forward = tokens * 2.0 * self.linear() + attention;
        let adapter = tokens * 6.0 * self.adapter_values as f64;
        let backward = tokens * 2.0 * self.linear() + 2.0 * attention;
        let look = trained * 2.0 * self.head();
        let epoch = forward + backward + adapter + 2.0 * look;
        let epochs = f64::from(self.stage.epochs);
        match self.stage.method {
            Method::Sft => epochs * epoch,
            Method::Dpo => epochs * (epoch + look) + forward + look,
        }
    }

    /// Bytes at the peak, when the largest micro-batch has `rows` tokens and `budget` were meant.
    ///
    /// Base weights once; the adapter, its gradient and two moments, and the copies a checkpoint
    /// makes of three of those; what the backward pass reads of every row and layer; a chunk of
    /// logits and its gradient.
    fn memory(&self, rows: usize, budget: usize) -> u64 {
        const CHUNK: usize = 128;
        let c = self.config;
        let copies = if c.tied_head { 1.0 } else { 2.0 };
        let weights = self.linear() + copies * self.head();
        let adapter = 10.0 * self.adapter_values as f64;
        let layer = 3 * c.hidden + c.qkv_dim() + c.q_dim() + 2 * c.intermediate;
        let passing = 2 * c.qkv_dim() + 6 * c.intermediate + 4 * c.hidden;
        let oversized = rows > budget;
        let kept = if oversized { c.layers * c.hidden + layer } else { c.layers * layer };
        let logits = 2 * CHUNK * c.vocab;
        4 * (weights + adapter + (rows * (kept + passing) + logits) as f64) as u64
    }
}
