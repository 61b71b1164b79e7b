//! The seven linear maps an adapter may act on, and how a recipe names them.

use crate::{
    config::ModelConfig,
    error::{Result, refuse},
};

/// One linear map of a decoder layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Module {
    Q,
    K,
    V,
    O,
    Gate,
    Up,
    Down,
}

impl Module {
    pub const ALL: [Self; 7] =
        [Self::Q, Self::K, Self::V, Self::O, Self::Gate, Self::Up, Self::Down];

    /// The name Hugging Face models give it: `q_proj`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q => "q_proj",
            Self::K => "k_proj",
            Self::V => "v_proj",
            Self::O => "o_proj",
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
        }
    }

    /// The path within a layer: `self_attn.q_proj`.
    pub fn path(self) -> String {
        let block = if self.is_attention() { "self_attn" } else { "mlp" };
        format!("{block}.{}", self.name())
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|module| module.name() == name)
    }

    pub(crate) fn is_attention(self) -> bool {
        matches!(self, Self::Q | Self::K | Self::V | Self::O)
    }

    /// (inputs, outputs).
    pub(crate) fn dims(self, config: &ModelConfig) -> (usize, usize) {
        match self {
            Self::Q => (config.hidden, config.q_dim()),
            Self::K | Self::V => (config.hidden, config.kv_dim()),
            Self::O => (config.q_dim(), config.hidden),
            Self::Gate | Self::Up => (config.hidden, config.intermediate),
            Self::Down => (config.intermediate, config.hidden),
        }
    }

    /// First output column within the fused map of its group.
    pub(crate) fn column(self, config: &ModelConfig) -> usize {
        match self {
            Self::Q | Self::O | Self::Gate | Self::Down => 0,
            Self::K => config.q_dim(),
            Self::V => config.q_dim() + config.kv_dim(),
            Self::Up => config.intermediate,
        }
    }
}

/// Maps that read the same input and whose weights are therefore stored as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    Qkv,
    O,
    GateUp,
    Down,
}

impl Group {
    pub(crate) const ALL: [Self; 4] = [Self::Qkv, Self::O, Self::GateUp, Self::Down];

    pub(crate) fn modules(self) -> &'static [Module] {
        match self {
            Self::Qkv => &[Module::Q, Module::K, Module::V],
            Self::O => &[Module::O],
            Self::GateUp => &[Module::Gate, Module::Up],
            Self::Down => &[Module::Down],
        }
    }

    /// (inputs, outputs) of the fused map.
    pub(crate) fn dims(self, config: &ModelConfig) -> (usize, usize) {
        let dims = self.modules().iter().map(|module| module.dims(config));
        dims.fold((0, 0), |(_, sum), (inputs, outputs)| (inputs, sum + outputs))
    }
}

/// Which maps of every layer an adapter acts on. Embeddings and the head are never among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    AllLinear,
    Attention,
    Mlp,
    /// Only these; at least one.
    Modules(Vec<Module>),
}

impl Targets {
    /// Reads a recipe's word: `all-linear`, `attention` or `mlp`.
    pub fn parse(word: &str) -> Result<Self> {
        match word {
            "all-linear" => Ok(Self::AllLinear),
            "attention" => Ok(Self::Attention),
            "mlp" => Ok(Self::Mlp),
            other => Self::names(&[other]),
        }
    }

    /// Reads a list of module names such as `q_proj`.
    pub fn names<S: AsRef<str>>(names: &[S]) -> Result<Self> {
        let modules = names.iter().map(|name| parse_name(name.as_ref()));
        let modules: Vec<Module> = modules.collect::<Result<_>>()?;
        if modules.is_empty() {
            return Err(refuse!(Lora, "no target modules are named"));
        }
        Ok(Self::Modules(modules))
    }

    pub fn contains(&self, module: Module) -> bool {
        match self {
            Self::AllLinear => true,
            Self::Attention => module.is_attention(),
            Self::Mlp => !module.is_attention(),
            Self::Modules(modules) => modules.contains(&module),
        }
    }
}

fn parse_name(name: &str) -> Result<Module> {
    if let "lm_head" | "embed_tokens" = name {
        return Err(refuse!(Lora, "{name} cannot be adapted; servers do not load such adapters"));
    }
    Module::from_name(name).ok_or_else(|| {
        let known = Module::ALL.map(Module::name).join(", ");
        refuse!(Lora, "{name} is not a target; use all-linear, attention, mlp or {known}")
    })
}
