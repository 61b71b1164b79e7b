//! Where every tensor of an adapter lies in its flat buffer.

use std::ops::Range;

use super::{Group, Module};
use crate::{
    config::ModelConfig,
    error::{Result, refuse},
};

/// One tensor of an adapter and its place in the flat buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// As PEFT names it, without prefix and suffix: `layers.0.self_attn.q_proj.lora_A`.
    pub name: String,
    pub layer: usize,
    pub module: Module,
    pub is_b: bool,
    /// (rows, columns): `(rank, in)` for A, `(out, rank)` for B.
    pub shape: (usize, usize),
    pub range: Range<usize>,
}

impl Parameter {
    pub fn rank(&self) -> usize {
        if self.is_b { self.shape.1 } else { self.shape.0 }
    }
}

/// The A and B of one module of one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) index: usize,
    pub(crate) layer: usize,
    pub(crate) module: Module,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    /// First output column within the group's fused map.
    pub(crate) column: usize,
    pub(crate) a: Range<usize>,
    pub(crate) b: Range<usize>,
}

impl Slot {
    /// Where the module is: `layers.3.self_attn.q_proj`.
    pub(crate) fn path(&self) -> String {
        format!("layers.{}.{}", self.layer, self.module.path())
    }
}

/// The fixed order of an adapter's tensors: by layer, then by group of maps sharing an input, all
/// A of the group, then all B. Adjacent A's make x Aᵀ one product for the whole group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoraLayout {
    rank: usize,
    layers: usize,
    len: usize,
    slots: Vec<Slot>,
    /// For layer l and group g, where `slots` of that pair begin; one more entry ends the last.
    starts: Vec<usize>,
    parameters: Vec<Parameter>,
}

impl LoraLayout {
    pub(crate) fn new(
        config: &ModelConfig,
        rank: usize,
        targeted: impl Fn(usize, Module) -> bool,
    ) -> Result<Self> {
        if rank == 0 || rank > config.hidden.min(config.intermediate) {
            return Err(refuse!(Lora, "rank {rank} is not between 1 and the layer width"));
        }
        let mut layout = Self {
            rank,
            layers: config.layers,
            len: 0,
            slots: Vec::new(),
            starts: Vec::new(),
            parameters: Vec::new(),
        };
        for layer in 0..config.layers {
            for group in Group::ALL {
                let modules = group.modules().iter().copied();
                layout.push_group(config, layer, modules.filter(|module| targeted(layer, *module)));
            }
        }
        layout.starts.push(layout.slots.len());
        if layout.slots.is_empty() {
            return Err(refuse!(Lora, "the adapter targets nothing"));
        }
        Ok(layout)
    }

    fn push_group(
        &mut self,
        config: &ModelConfig,
        layer: usize,
        modules: impl Iterator<Item = Module>,
    ) {
        let first = self.slots.len();
        self.starts.push(first);
        for module in modules {
            let (inputs, outputs) = module.dims(config);
            let a = self.push(layer, module, false, (self.rank, inputs));
            let (index, column) = (self.slots.len(), module.column(config));
            self.slots.push(Slot { index, layer, module, inputs, outputs, column, a, b: 0..0 });
        }
        for index in first..self.slots.len() {
            let Slot { module, outputs, .. } = self.slots[index];
            self.slots[index].b = self.push(layer, module, true, (outputs, self.rank));
        }
    }

    fn push(
        &mut self,
        layer: usize,
        module: Module,
        is_b: bool,
        shape: (usize, usize),
    ) -> Range<usize> {
        let range = self.len..self.len + shape.0 * shape.1;
        self.len = range.end;
        let side = if is_b { "lora_B" } else { "lora_A" };
        let name = format!("layers.{layer}.{}.{side}", module.path());
        self.parameters.push(Parameter { name, layer, module, is_b, shape, range: range.clone() });
        range
    }

    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many layers the base has.
    pub fn layers(&self) -> usize {
        self.layers
    }

    /// How many values the adapter has.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Every tensor, in the order of the flat buffer.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The distinct modules acted on, in a fixed order.
    pub fn modules(&self) -> Vec<Module> {
        let used = |module: &Module| self.slots.iter().any(|slot| slot.module == *module);
        Module::ALL.into_iter().filter(used).collect()
    }

    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The slots of every group of every layer, some of them none.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &[Slot]> {
        self.starts.windows(2).map(|ends| &self.slots[ends[0]..ends[1]])
    }

    pub(crate) fn group(&self, layer: usize, group: Group) -> &[Slot] {
        let index = layer * Group::ALL.len() + group as usize;
        match (self.starts.get(index), self.starts.get(index + 1)) {
            (Some(start), Some(end)) => &self.slots[*start..*end],
            _ => &[],
        }
    }
}
