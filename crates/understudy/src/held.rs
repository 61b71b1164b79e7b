//! In how many bits a base is served.

use clap::ValueEnum;
use serde::Serialize;
use understudy_model::{BaseModel, Precision};

/// What a base's weights are served in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum HeldIn {
    F32,
    /// As recipes train by default
    #[default]
    Bf16,
    /// Weights and inputs in eight bits
    Int8,
    /// Weights in four bits, inputs and head in eight
    Int4,
}

impl HeldIn {
    pub(crate) const ALL: [Self; 4] = [Self::F32, Self::Bf16, Self::Int8, Self::Int4];

    pub(crate) fn precision(self) -> Precision {
        match self {
            Self::F32 => Precision::F32,
            Self::Bf16 => Precision::Bf16,
            Self::Int8 => Precision::Int8,
            Self::Int4 => Precision::Int4,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        }
    }
}

/// What a server says when its base is not multiplied as asked for. Where it is, every map is.
pub(crate) fn remark(asked: HeldIn, model: &BaseModel) -> Option<String> {
    (model.precision != asked.precision()).then(|| {
        let asked = asked.as_str();
        format!("this device has no {asked} products; the base is held and multiplied in f32")
    })
}
