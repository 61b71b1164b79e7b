//! Low-rank adapters: y = x Wᵀ + s · (x Aᵀ) Bᵀ on any of the seven linear maps of every layer.
//!
//! All values of an adapter lie in one flat buffer in a fixed order, so that an optimiser, a
//! gradient all-reduce and a digest are each one pass over one slice.

mod distance;
mod layout;
mod module;
mod norm;
mod turned;

use std::{
    mem,
    ops::Range,
    sync::{Arc, OnceLock},
};

use candle_core::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use understudy_team as team;

pub use distance::Moved;
pub(crate) use layout::Slot;
pub use layout::{LoraLayout, Parameter};
pub(crate) use module::Group;
pub use module::{Module, Targets};
pub(crate) use norm::norm;
use turned::Turned;

use crate::{
    config::ModelConfig,
    error::{Result, refuse},
    host::Spare,
    kernels::steady::{Held, Panels},
    linear::Precision,
};

/// What an adapter is before it has values.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraSpec {
    pub rank: usize,
    /// The scale is alpha / rank, or alpha / √rank when `rank_stabilised`.
    pub alpha: f32,
    pub rank_stabilised: bool,
    pub targets: Targets,
    /// Other ranks for some modules, by the end of their path: `q_proj`, `layers.3.mlp.up_proj`.
    /// The last pattern that matches counts.
    pub rank_pattern: Vec<(String, usize)>,
    /// Other alphas, likewise.
    pub alpha_pattern: Vec<(String, f32)>,
}

impl LoraSpec {
    /// Rank 16, alpha 32, every linear map: what a recipe gets when it does not say.
    pub fn standard() -> Self {
        Self::new(16, 32.0, Targets::AllLinear)
    }

    pub fn new(rank: usize, alpha: f32, targets: Targets) -> Self {
        let (rank_pattern, alpha_pattern) = (Vec::new(), Vec::new());
        Self { rank, alpha, rank_stabilised: false, targets, rank_pattern, alpha_pattern }
    }

    /// The scale of a module without patterns of its own.
    pub fn scale(&self) -> f32 {
        self.scale_for(self.rank, self.alpha)
    }

    fn scale_for(&self, rank: usize, alpha: f32) -> f32 {
        let rank = rank as f32;
        alpha / if self.rank_stabilised { rank.sqrt() } else { rank }
    }

    /// Rank and scale of the module at a path.
    fn of(&self, path: &str) -> (usize, f32) {
        let rank = last_match(&self.rank_pattern, path).unwrap_or(self.rank);
        let alpha = last_match(&self.alpha_pattern, path).unwrap_or(self.alpha);
        (rank, self.scale_for(rank, alpha))
    }

    /// The largest rank any module has: what every tensor is stored with.
    fn widest(&self) -> usize {
        self.rank_pattern.iter().map(|(_, rank)| *rank).fold(self.rank, usize::max)
    }

    fn check(&self, layout: &LoraLayout) -> Result<()> {
        let names = self.rank_pattern.iter().map(|(name, _)| name);
        for name in names.chain(self.alpha_pattern.iter().map(|(name, _)| name)) {
            if !layout.slots().iter().any(|slot| ends_in(&slot.path(), name)) {
                return Err(refuse!(Lora, "the pattern {name} matches no module of the adapter"));
            }
        }
        for slot in layout.slots() {
            let (rank, scale) = self.of(&slot.path());
            if rank == 0 || !scale.is_finite() || scale == 0.0 {
                let path = slot.path();
                return Err(refuse!(Lora, "rank {rank} gives {path} the unusable scale {scale}"));
            }
        }
        Ok(())
    }
}

fn last_match<T: Copy>(patterns: &[(String, T)], path: &str) -> Option<T> {
    patterns.iter().rev().find(|(name, _)| ends_in(path, name)).map(|(_, value)| *value)
}

/// Whether a path is a name or ends with it after a dot.
pub(crate) fn ends_in(path: &str, name: &str) -> bool {
    path.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// An adapter's values: for each target, A `[rank, in]` and B `[out, rank]`, row-major.
#[derive(Debug)]
pub struct Lora {
    layout: Arc<LoraLayout>,
    scale: f32,
    /// The factor of every slot; equal to `scale` unless a pattern says otherwise.
    scales: Arc<[f32]>,
    values: Vec<f32>,
    /// Copies on an accelerator, made on first use and dropped when the values change.
    uploaded: OnceLock<Vec<Tensor>>,
    /// Transposes, kept under the same rule.
    turned: OnceLock<Turned>,
    /// Of every tensor, likewise.
    norms: OnceLock<Vec<f64>>,
}

/// Of the last adapter that nobody serves any more.
static SPARE: Spare<f32> = Spare::new();

impl Drop for Lora {
    fn drop(&mut self) {
        SPARE.give(mem::take(&mut self.values));
    }
}

impl Clone for Lora {
    fn clone(&self) -> Self {
        let scales = Arc::clone(&self.scales);
        Self::assemble(Arc::clone(&self.layout), (self.scale, scales), self.values.clone())
    }
}

impl Lora {
    /// A fresh adapter: A uniform in ±1/√in from a seeded ChaCha stream, B zero, so that it
    /// changes nothing until it is trained.
    pub fn init(config: &ModelConfig, spec: &LoraSpec, seed: u64) -> Result<Self> {
        let targeted = |_, module| spec.targets.contains(module);
        let layout = LoraLayout::new(config, spec.widest(), targeted)?;
        spec.check(&layout)?;
        let mut values = vec![0.0; layout.len()];
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        for slot in layout.slots() {
            let bound = 1.0 / (slot.inputs as f32).sqrt();
            // Rows beyond a module's own rank stay zero, and so do their columns of B: where both
            // are zero no gradient ever reaches either.
            let (rank, _) = spec.of(&slot.path());
            for value in &mut values[slot.a.clone()][..rank * slot.inputs] {
                *value = random.random_range(-bound..bound);
            }
        }
        let scales = layout.slots().iter().map(|slot| spec.of(&slot.path()).1).collect();
        Ok(Self::assemble(Arc::new(layout), (spec.scale(), scales), values))
    }

    /// A buffer for the values of an adapter, all of which the caller writes.
    pub(crate) fn room_for(len: usize) -> Vec<f32> {
        SPARE.take(len)
    }

    pub(crate) fn from_values(layout: Arc<LoraLayout>, scale: f32, values: Vec<f32>) -> Self {
        let scales = layout.slots().iter().map(|_| scale).collect();
        Self::assemble(layout, (scale, scales), values)
    }

    /// The same from values whose norms are known, one of every tensor.
    pub(crate) fn from_measured(
        layout: Arc<LoraLayout>,
        scale: f32,
        values: Vec<f32>,
        norms: Vec<f64>,
    ) -> Self {
        assert_eq!(layout.parameters().len(), norms.len(), "every tensor has a norm");
        let mut lora = Self::from_values(layout, scale, values);
        lora.norms = norms.into();
        lora
    }

    fn assemble(
        layout: Arc<LoraLayout>,
        (scale, scales): (f32, Arc<[f32]>),
        values: Vec<f32>,
    ) -> Self {
        assert_eq!(layout.len(), values.len(), "an adapter has one value per layout place");
        let (uploaded, turned, norms) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self { layout, scale, scales, values, uploaded, turned, norms }
    }

    /// The same adapter with one scale for all modules, which is all that servers read: a module's
    /// own scale is folded into its B.
    pub fn folded(&self) -> Self {
        let mut folded =
            Self::from_values(Arc::clone(&self.layout), self.scale, self.values.clone());
        for slot in self.layout.slots() {
            let factor = self.scale_of(slot) / self.scale;
            folded.values[slot.b.clone()].iter_mut().for_each(|value| *value *= factor);
        }
        folded
    }

    pub fn layout(&self) -> &LoraLayout {
        &self.layout
    }

    pub fn rank(&self) -> usize {
        self.layout.rank()
    }

    /// The same adapter with the scales of another of the same layout: what B loses there, it gains
    /// here, so that it acts as before.
    pub fn scaled_like(&self, other: &Self) -> Result<Self> {
        if !self.same_layout(other) {
            return Err(refuse!(Lora, "scales of an adapter of another shape do not fit"));
        }
        let mut scaled = self.clone();
        (scaled.scale, scaled.scales) = (other.scale, Arc::clone(&other.scales));
        for slot in self.layout.slots() {
            let factor = self.scale_of(slot) / other.scale_of(slot);
            if factor != 1.0 {
                scaled.values[slot.b.clone()].iter_mut().for_each(|value| *value *= factor);
            }
        }
        Ok(scaled)
    }

    /// The factor on BA, of every module that no pattern singles out.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// Whether both multiply every BA by the same.
    pub fn same_scales(&self, other: &Self) -> bool {
        self.scales == other.scales
    }

    pub(crate) fn has_one_scale(&self) -> bool {
        self.scales.iter().all(|scale| *scale == self.scale)
    }

    pub(crate) fn scale_of(&self, slot: &Slot) -> f32 {
        self.scales[slot.index]
    }

    /// Every value, in the layout's order.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    pub fn values_mut(&mut self) -> &mut [f32] {
        self.uploaded = OnceLock::new();
        self.turned = OnceLock::new();
        self.norms = OnceLock::new();
        &mut self.values
    }

    /// Every tensor with its place, in the layout's order.
    pub fn tensors(&self) -> impl Iterator<Item = (&Parameter, &[f32])> {
        self.layout.parameters().iter().map(|param| (param, &self.values[param.range.clone()]))
    }

    /// A gradient buffer of the same layout, all zero.
    pub fn zero_grads(&self) -> LoraGrads {
        LoraGrads { layout: Arc::clone(&self.layout), values: vec![0.0; self.values.len()] }
    }

    /// Whether two adapters have the same tensors in the same places, which is what exchanging
    /// gradients or optimiser state between them needs.
    pub fn same_layout(&self, other: &Self) -> bool {
        self.layout == other.layout
    }

    /// Whether every tensor has the shape that a base of this configuration needs.
    pub fn fits(&self, config: &ModelConfig) -> bool {
        let shape = |param: &Parameter| {
            let ((inputs, outputs), rank) = (param.module.dims(config), param.rank());
            if param.is_b { (outputs, rank) } else { (rank, inputs) }
        };
        self.layout.layers() == config.layers
            && self.layout.parameters().iter().all(|param| param.shape == shape(param))
    }

    /// The targeted modules of a group with their places, A's of one group being adjacent.
    pub(crate) fn slots(&self, layer: usize, group: Group) -> &[Slot] {
        self.layout.group(layer, group)
    }

    /// The stacked A of some adjacent slots: `[slots · rank, in]`.
    pub(crate) fn a_stack(&self, slots: &[Slot]) -> &[f32] {
        match (slots.first(), slots.last()) {
            (Some(first), Some(last)) => &self.values[first.a.start..last.a.end],
            _ => &[],
        }
    }

    /// The Euclidean norms of a slot's A and B.
    pub(crate) fn norms(&self, slot: &Slot) -> (f64, f64) {
        let tensors = self.layout.parameters();
        let norms = self.norms.get_or_init(|| {
            team::map(tensors.len(), |index| norm(&self.values[tensors[index].range.clone()]))
        });
        let of = |start| tensors.partition_point(|tensor| tensor.range.start < start);
        (norms[of(slot.a.start)], norms[of(slot.b.start)])
    }

    pub(crate) fn b(&self, slot: &Slot) -> &[f32] {
        &self.values[slot.b.clone()]
    }

    /// Makes the copies that products read, so that the first step with this adapter need not.
    /// Beside a base in fewer bits they are in sixteen, eleven of which count: half as much to read
    /// at every step, and rounded eight times finer than bf16.
    pub fn prepare(&self, base: Precision) {
        self.turned.get_or_init(|| {
            let half = base != Precision::F32 && self.has_one_scale();
            let half = if half { turned::half(self) } else { None };
            half.map_or_else(|| Turned::Plain(turned::plain(self)), Turned::Half)
        });
    }

    /// Whether products read it in sixteen bits.
    pub fn is_rounded(&self) -> bool {
        matches!(self.turned.get(), Some(Turned::Half(_)))
    }

    /// The same adapter, whose products read all bits.
    pub fn unrounded(mut self) -> Self {
        self.turned = OnceLock::new();
        self.prepare(Precision::F32);
        self
    }

    /// What it takes in memory, the copies that products read included.
    pub fn bytes(&self) -> u64 {
        let copied = self.turned.get().map_or(size_of_val(&self.values[..]), Turned::bytes);
        (size_of_val(&self.values[..]) + copied) as u64
    }

    /// The transpose of the stacked A of a whole group of slots: `[in, slots · rank]`.
    pub(crate) fn a_turned(&self, slots: &[Slot]) -> Held<'_> {
        let (Some(first), Some(last)) = (slots.first(), slots.last()) else {
            return Held::Plain(Panels::whole(&[], 1));
        };
        self.panels(first.a.start..last.a.end, slots.len() * self.rank())
    }

    /// The scaled transpose of a B: s · Bᵀ `[rank, out]`.
    pub(crate) fn b_turned(&self, slot: &Slot) -> Held<'_> {
        self.panels(slot.b.clone(), slot.outputs)
    }

    fn panels(&self, range: Range<usize>, width: usize) -> Held<'_> {
        match self.turned() {
            Turned::Plain(values) => Held::Plain(Panels::packed(&values[range], width)),
            Turned::Half(values) => Held::Half(Panels::packed(&values[range], width)),
        }
    }

    fn turned(&self) -> &Turned {
        self.turned.get_or_init(|| Turned::Plain(turned::plain(self)))
    }

    /// A tensor copy of one parameter pair on `device`: (A, B).
    pub(crate) fn pair(&self, slot: &Slot, device: &Device) -> Result<(Tensor, Tensor)> {
        let tensors = match self.uploaded.get() {
            Some(tensors) if tensors.first().is_none_or(|t| t.device().same_device(device)) => {
                tensors
            }
            _ => {
                let tensors = self.upload(device)?;
                self.uploaded.get_or_init(|| tensors)
            }
        };
        Ok((tensors[2 * slot.index].clone(), tensors[2 * slot.index + 1].clone()))
    }

    fn upload(&self, device: &Device) -> Result<Vec<Tensor>> {
        let rank = self.rank();
        let mut tensors = Vec::with_capacity(2 * self.layout.slots().len());
        for slot in self.layout.slots() {
            tensors.push(Tensor::from_slice(
                &self.values[slot.a.clone()],
                (rank, slot.inputs),
                device,
            )?);
            tensors.push(Tensor::from_slice(
                &self.values[slot.b.clone()],
                (slot.outputs, rank),
                device,
            )?);
        }
        Ok(tensors)
    }
}

/// Gradients of an adapter's values, in the same flat order; backward passes add to them.
#[derive(Debug, Clone)]
pub struct LoraGrads {
    layout: Arc<LoraLayout>,
    values: Vec<f32>,
}

impl LoraGrads {
    pub fn layout(&self) -> &LoraLayout {
        &self.layout
    }

    pub fn values(&self) -> &[f32] {
        &self.values
    }

    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// Every gradient tensor with its place, in the layout's order.
    pub fn tensors(&self) -> impl Iterator<Item = (&Parameter, &[f32])> {
        self.layout.parameters().iter().map(|param| (param, &self.values[param.range.clone()]))
    }

    pub fn clear(&mut self) {
        self.values.fill(0.0);
    }

    pub(crate) fn belongs_to(&self, lora: &Lora) -> bool {
        self.layout == lora.layout
    }

    /// The stacked dA of adjacent slots.
    pub(crate) fn a_stack_mut(&mut self, slots: &[Slot]) -> &mut [f32] {
        match (slots.first(), slots.last()) {
            (Some(first), Some(last)) => &mut self.values[first.a.start..last.a.end],
            _ => &mut [],
        }
    }

    pub(crate) fn b_mut(&mut self, slot: &Slot) -> &mut [f32] {
        &mut self.values[slot.b.clone()]
    }
}

#[cfg(test)]
mod tests;
