//! In how many bits a base is served.

use clap::ValueEnum;
use serde::Serialize;
use understudy_model::{MapProduct, Precision, Product};

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

/// What a server says of a base that is not, or not wholly, multiplied as it was asked to be: how
/// much of it is not, and which maps.
pub(crate) fn remark(asked: HeldIn, maps: &[MapProduct]) -> Option<String> {
    let misses =
        |map: &&MapProduct| map.product != Product::meant(asked.precision(), map.is_head());
    let missed: Vec<&MapProduct> = maps.iter().filter(misses).collect();
    let held = missed.first()?.product;
    let asked = asked.as_str();
    if missed.len() == maps.len() {
        return Some(format!(
            "this device has no {asked} products; the base is held and multiplied in {held}"
        ));
    }
    let all: usize = maps.iter().map(|map| map.weights).sum();
    let of: usize = missed.iter().map(|map| map.weights).sum();
    let share = 100.0 * of as f64 / all as f64;
    let named: Vec<String> =
        missed.iter().map(|map| format!("{} ({})", map.name, map.product)).collect();
    let named = named.join(", ");
    Some(format!("{share:.1} % of the base's weights miss the {asked} products: {named}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(name: &str, product: Product, weights: usize) -> MapProduct {
        MapProduct { name: name.to_owned(), product, weights }
    }

    #[test]
    fn a_base_held_as_asked_needs_no_remark_and_a_head_in_eight_bits_is_as_asked() {
        let maps = [
            map("model.layers.0.mlp.down_proj", Product::Int4, 9),
            map("lm_head", Product::Int8, 3),
        ];
        assert_eq!(remark(HeldIn::Int4, &maps), None);
    }

    #[test]
    fn maps_that_miss_the_products_asked_for_are_named_with_their_share() {
        let maps = [
            map("model.layers.0.mlp.gate_up", Product::Int4, 90),
            map("model.layers.0.mlp.down_proj", Product::Int8, 25),
            map("lm_head", Product::Int8, 85),
        ];
        let said = remark(HeldIn::Int4, &maps).unwrap();
        assert_eq!(
            said,
            "12.5 % of the base's weights miss the int4 products: model.layers.0.mlp.down_proj (int8)"
        );
    }

    #[test]
    fn a_device_without_any_of_the_products_is_said_to_have_none() {
        let maps =
            [map("model.layers.0.mlp.gate_up", Product::F32, 90), map("lm_head", Product::F32, 9)];
        let said = remark(HeldIn::Bf16, &maps).unwrap();
        assert_eq!(
            said,
            "this device has no bf16 products; the base is held and multiplied in f32"
        );
    }
}
