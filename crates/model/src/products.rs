//! With which products the frozen maps of a base are multiplied here, map by map.

use std::fmt;

use candle_core::DType;

use crate::{
    decoder::Decoder,
    kernels::{
        bf16,
        instructions::Instructions,
        int8::{self, Bits},
        steady,
    },
    linear::{HeadLayout, Layout, Linear, Precision},
    weights::LayerWeights,
};

/// The elements of one product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Product {
    F32,
    /// Weights and inputs in sixteen bits.
    Bf16,
    /// Weights and inputs in eight bits.
    Int8,
    /// Weights in four bits, inputs in eight.
    Int4,
    /// Weights in eight bits, widened for each product.
    Widened8,
    /// Weights in four bits, likewise.
    Widened4,
}

/// One frozen map; those that read the same input are one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapProduct {
    /// As its tensors are called: `model.layers.0.mlp.gate_up`.
    pub name: String,
    pub product: Product,
    /// How many weights it has.
    pub weights: usize,
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
            Self::Widened8 => "eight bits, widened",
            Self::Widened4 => "four bits, widened",
        })
    }
}

impl Product {
    /// What a map, or the head, is multiplied with where everything a precision needs is there.
    pub fn meant(precision: Precision, is_head: bool) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
            Precision::Q8 | Precision::Q4 if is_head => Self::Bf16,
            Precision::Q8 => Self::Widened8,
            Precision::Q4 => Self::Widened4,
            Precision::Int4 if !is_head => Self::Int4,
            Precision::Int8 | Precision::Int4 => Self::Int8,
        }
    }
}

/// What products of a precision are made of on this processor; none where it has none, and those of
/// another precision are used.
pub fn instructions(precision: Precision) -> Option<Instructions> {
    match precision {
        Precision::F32 => Some(steady::instructions()),
        Precision::Bf16 | Precision::Q8 | Precision::Q4 => bf16::Packed::instructions(),
        Precision::Int8 | Precision::Int4 => {
            int8::Packed::is_fast().then(int8::Packed::instructions)
        }
    }
}

impl Decoder {
    /// Every frozen map, in the order it is run; the head comes last.
    pub fn products(&self) -> Vec<MapProduct> {
        let weights = self.weights();
        let layers = weights.layers.iter().enumerate();
        let mut all: Vec<MapProduct> = layers.flat_map(|(at, layer)| of_layer(at, layer)).collect();
        let head = weights.head();
        let product = match &head.weights {
            HeadLayout::Rows(rows) => of_tensor(rows.dtype()),
            HeadLayout::Pairs(_) => Product::Bf16,
            HeadLayout::Blocks(_) => Product::Int8,
        };
        all.push(MapProduct {
            name: MapProduct::HEAD.to_owned(),
            product,
            weights: head.vocab * head.hidden,
        });
        all
    }
}

impl MapProduct {
    const HEAD: &'static str = "lm_head";

    pub fn is_head(&self) -> bool {
        self.name == Self::HEAD
    }
}

fn of_layer(at: usize, layer: &LayerWeights) -> [MapProduct; 4] {
    [
        ("self_attn.qkv", &layer.qkv),
        ("self_attn.o_proj", &layer.o),
        ("mlp.gate_up", &layer.gate_up),
        ("mlp.down_proj", &layer.down),
    ]
    .map(|(name, map)| MapProduct {
        name: format!("model.layers.{at}.{name}"),
        product: of(map),
        weights: map.inputs * map.outputs,
    })
}

fn of(map: &Linear) -> Product {
    match &map.weights {
        Layout::Plain(tensor) => of_tensor(tensor.dtype()),
        Layout::Panels(_) => Product::F32,
        Layout::Pairs(_) => Product::Bf16,
        Layout::Quantised(quantised) => match quantised.bits() {
            Bits::Eight => Product::Widened8,
            Bits::Four => Product::Widened4,
        },
        Layout::Blocks(packed) => match packed.bits() {
            Bits::Eight => Product::Int8,
            Bits::Four => Product::Int4,
        },
    }
}

fn of_tensor(dtype: DType) -> Product {
    if dtype == DType::BF16 { Product::Bf16 } else { Product::F32 }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::{BaseModel, Family, ModelConfig, device::Place};

    fn products(place: Place) -> Vec<MapProduct> {
        let config = ModelConfig::tiny(Family::Llama);
        BaseModel::random_at(config, 1, place).unwrap().decoder.products()
    }

    #[test]
    fn every_map_is_told_once_and_all_its_weights_counted() {
        let config = ModelConfig::tiny(Family::Llama);
        let all = products(Place::new(&Device::Cpu, Precision::F32));
        assert_eq!(all.len(), 4 * config.layers + 1);
        assert_eq!(all[0].name, "model.layers.0.self_attn.qkv");
        assert_eq!(all[0].weights, config.hidden * config.qkv_dim());
        assert!(all.last().unwrap().is_head());
        assert_eq!(all.last().unwrap().weights, config.vocab * config.hidden);
        assert!(all.iter().all(|map| map.product == Product::F32));
    }

    #[test]
    fn a_precision_has_instructions_where_it_is_supported() {
        for asked in [Precision::F32, Precision::Bf16, Precision::Int8, Precision::Int4] {
            let supported = asked.supported(&Device::Cpu) == asked;
            assert_eq!(instructions(asked).is_some(), supported, "{asked:?}");
        }
    }

    #[test]
    fn a_map_is_multiplied_as_its_precision_means_wherever_that_is_supported() {
        for asked in [Precision::F32, Precision::Bf16, Precision::Int8, Precision::Int4] {
            let place = Place::new(&Device::Cpu, asked);
            let here = place.precision;
            for map in products(place) {
                assert_eq!(map.product, Product::meant(here, map.is_head()), "{map:?}");
            }
        }
        let portable = products(Place::portable(Precision::Bf16));
        assert!(portable.iter().all(|map| map.product == Product::Bf16));
    }
}
