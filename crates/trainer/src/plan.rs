//! What a stage would do and cost, from its examples alone.

use understudy_manifest::{GroupSource, GrpoSettings, Method, Objective};
use understudy_model::ModelConfig;

use crate::{
    batching::split,
    error::Result,
    request::{Prompts, TrainRequest},
    rows::{Advantage, Example, Kind, LeftOut, Row},
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

/// Tokenises the examples and reckons; trains nothing and writes nothing. Of attempts yet to be
/// sampled it assumes the longest, so that their stage may turn out cheaper.
pub fn plan(request: &TrainRequest<'_>) -> Result<Plan> {
    let examples = request.examples()?;
    let adapter_values = request.starting_adapter()?.values().len();
    let (left_out, mut examples) = (examples.left_out, examples.kept);
    let stage = request.stage;
    let mut timeline = Timeline::new(examples.len(), stage.batch_size, stage.epochs, request.seed);
    if let (Objective::Grpo(settings), Some(prompts)) = (&stage.objective, request.prompts) {
        timeline = Timeline::new(prompts.count, stage.batch_size, stage.epochs, request.seed)
            .repeating(settings.iterations, settings.max_rounds);
        examples = imagined(prompts, settings);
    }
    let config = request.base.decoder.config();
    let cost = Cost { config, adapter_values, objective: &stage.objective };
    let rows = || examples.iter().flat_map(|example| &example.rows);
    let tokens_per_epoch = examples.iter().map(|example| example.tokens() as u64).sum();
    let trained_tokens_per_epoch = rows().map(|row| row.trained_tokens() as u64).sum();
    let every: Vec<&Example> = examples.iter().collect();
    let budget = request.options.micro_batch_tokens;
    let largest = split(&every, budget)
        .into_iter()
        .map(|run| examples[run].iter().map(Example::tokens).sum::<usize>());
    let epochs = timeline.epoch(timeline.steps());
    Ok(Plan {
        method: stage.method,
        examples: request.prompts.map_or(examples.len(), |prompts| prompts.count) as u64,
        left_out,
        tokens_per_epoch,
        trained_tokens_per_epoch,
        longest_row: rows().map(|row| row.ids().len()).max().unwrap_or_default(),
        steps: timeline.steps(),
        adapter_values: adapter_values as u64,
        flops: examples.iter().map(|example| cost.example_flops(example, epochs)).sum(),
        memory_bytes: cost
            .memory(largest.max().unwrap_or_default(), request.options.recompute_above),
    })
}

/// Groups as large as they may become, one for every prompt.
fn imagined(prompts: &Prompts, settings: &GrpoSettings) -> Vec<Example> {
    let mean = (prompts.tokens / prompts.count.max(1)).max(1);
    let attempt = |nth: usize| {
        // Attempts differ from their first token on, or they would not be several.
        let completion: Vec<u32> =
            (0..settings.max_new_tokens).map(|at| if at == 0 { nth as u32 } else { 0 }).collect();
        Row::new(&vec![0; mean], &completion)
    };
    let rows: Vec<Row> = (0..settings.group_size).map(attempt).collect();
    let advantages = rows.iter().map(|_| Advantage::Row(1.0)).collect();
    vec![Example { rows, kind: Kind::Compare { advantages } }; prompts.count]
}

/// The arithmetic of one decoder shape.
pub(crate) struct Cost<'a> {
    pub(crate) config: &'a ModelConfig,
    pub(crate) adapter_values: usize,
    pub(crate) objective: &'a Objective,
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

    /// An example over some epochs.
    ///
    /// Per token, with N frozen weights and P adapter values: forward `2N + 2P`, backward to the
    /// inputs `2N`, adapter gradients `4P`; per trained token 2HV for logits and 2HV for their
    /// gradient; causal attention `2L·q` per token and layer forward, twice that backward. What
    /// rows share runs once. All but imitation look at the logits once more before they push; a
    /// reference looks once, or at every fresh round; and fresh attempts are first decoded.
    pub(crate) fn example_flops(&self, example: &Example, epochs: f64) -> f64 {
        let c = self.config;
        let (tokens, trained) = (example.tokens() as f64, example.trained_tokens() as f64);
        let squares: f64 = example.rows.iter().map(|row| (row.ids().len() as f64).powi(2)).sum();
        let attention = 2.0 * squares * (c.layers * c.q_dim()) as f64;
        let forward = tokens * 2.0 * self.linear() + attention;
        let adapter = tokens * 6.0 * self.adapter_values as f64;
        let backward = tokens * 2.0 * self.linear() + 2.0 * attention;
        let look = trained * 2.0 * self.head();
        let step = forward + backward + adapter + 2.0 * look;
        let reference = if self.objective.needs_reference() { forward + look } else { 0.0 };
        match self.objective {
            Objective::Sft { .. } => epochs * step,
            Objective::Dpo(_) => epochs * (step + look) + reference,
            // Its baseline asks policy and reference about every reply at another prompt, too.
            Objective::Kto(_) => epochs * (step + look + 2.0 * (forward + look)) + reference,
            Objective::Grpo(settings) if settings.source == GroupSource::Logged => {
                epochs * (step + look) + reference
            }
            Objective::Grpo(settings) => {
                let updates = f64::from(settings.iterations);
                let look_back = if settings.iterations > 1 { forward + look } else { 0.0 };
                let rounds = epochs * (forward + look + reference + look_back);
                rounds + epochs * updates * (step + look)
            }
        }
    }

    /// Bytes at the peak, when the largest micro-batch has `rows` tokens; from `recompute_above` on it
    /// keeps less of them.
    ///
    /// Base weights once; the adapter, its gradient and two moments, and the copies a checkpoint
    /// makes of three of those; what the backward pass reads of every row and layer; a chunk of
    /// logits and its gradient.
    fn memory(&self, rows: usize, recompute_above: usize) -> u64 {
        const CHUNK: usize = 128;
        let c = self.config;
        let copies = if c.tied_head { 1.0 } else { 2.0 };
        let weights = self.linear() + copies * self.head();
        let adapter = 10.0 * self.adapter_values as f64;
        let layer = 3 * c.hidden + c.qkv_dim() + c.q_dim() + 2 * c.intermediate;
        let passing = 2 * c.qkv_dim() + 6 * c.intermediate + 4 * c.hidden;
        let oversized = rows > recompute_above;
        let kept = if oversized { c.layers * c.hidden + layer } else { c.layers * layer };
        let logits = 2 * CHUNK * c.vocab;
        4 * (weights + adapter + (rows * (kept + passing) + logits) as f64) as u64
    }
}
