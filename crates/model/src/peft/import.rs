//! Tensors of an adapter file, checked against its config and its base.

use std::{collections::BTreeMap, sync::Arc};

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use understudy_team as team;

use super::{PREFIX, config::Settings};
use crate::{
    config::ModelConfig,
    lora::{Lora, LoraLayout, Module},
};

/// A and B of one module as stored, with the rank and scale the config gives it.
#[derive(Default)]
struct Found<'a> {
    a: Option<TensorView<'a>>,
    b: Option<TensorView<'a>>,
    rank: usize,
    scale: f64,
}

type Place = (usize, Module);

pub(super) fn lora(
    settings: &Settings,
    bytes: &[u8],
    config: &ModelConfig,
) -> Result<Lora, String> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|error| format!("adapter_model.safetensors is not readable: {error}"))?;
    let mut found: BTreeMap<Place, Found<'_>> = BTreeMap::new();
    for (name, view) in file.iter() {
        let (layer, module, is_b) = place(name, config)?;
        let path = path(layer, module);
        if !settings.targets(&path) {
            return Err(format!("holds {path}, which target_modules does not name"));
        }
        let (rank, scale) = settings.rank_and_scale(&path);
        let (inputs, outputs) = module.dims(config);
        let shape = if is_b { [outputs, rank] } else { [rank, inputs] };
        if view.shape() != shape {
            let found = view.shape();
            return Err(format!("{name} has shape {found:?}; base and config expect {shape:?}"));
        }
        let entry = found.entry((layer, module)).or_default();
        (entry.rank, entry.scale) = (rank, scale);
        *(if is_b { &mut entry.b } else { &mut entry.a }) = Some(view);
    }
    let paths: Vec<String> = found.keys().map(|(layer, module)| path(*layer, *module)).collect();
    if let Some(name) = settings.unmet_target(&paths) {
        return Err(format!("target_modules names {name}, but no tensor belongs to it"));
    }
    assemble(&found, config)
}

/// Brings every module to the largest rank and one scale: s B A is unchanged when B is scaled by
/// s / s' and both are padded with zeros.
fn assemble(found: &BTreeMap<Place, Found<'_>>, config: &ModelConfig) -> Result<Lora, String> {
    let largest = found.values().max_by_key(|entry| entry.rank).ok_or("it holds no tensors")?;
    let (rank, scale) = (largest.rank, largest.scale);
    if !(scale.is_finite() && scale != 0.0) {
        return Err(format!("its scale is {scale}"));
    }
    let layout =
        LoraLayout::new(config, rank, |layer, module| found.contains_key(&(layer, module)))
            .map_err(|error| error.to_string())?;
    let mut values = Lora::room_for(layout.len());
    for parameter in layout.parameters() {
        team::breathe();
        let entry = &found[&(parameter.layer, parameter.module)];
        let (side, view) = if parameter.is_b { ("B", &entry.b) } else { ("A", &entry.a) };
        let path = || path(parameter.layer, parameter.module);
        let view = view.as_ref().ok_or_else(|| format!("{} has no lora_{side}", path()))?;
        if parameter.is_b && entry.rank < rank {
            let mut narrow = Vec::new();
            append(view, &mut narrow).map_err(|what| format!("lora_B of {} {what}", path()))?;
            for row in narrow.chunks_exact(entry.rank) {
                values.extend_from_slice(row);
                values.resize(values.len() + rank - entry.rank, 0.0);
            }
        } else {
            append(view, &mut values)
                .map_err(|what| format!("lora_{side} of {} {what}", path()))?;
            values.resize(parameter.range.end, 0.0);
        }
        if parameter.is_b && entry.scale != scale {
            let factor = entry.scale / scale;
            for value in &mut values[parameter.range.clone()] {
                *value = (f64::from(*value) * factor) as f32;
            }
        }
    }
    Ok(Lora::from_values(Arc::new(layout), scale as f32, values))
}

fn path(layer: usize, module: Module) -> String {
    format!("model.layers.{layer}.{}", module.path())
}

/// What a tensor name names: `base_model.model.model.layers.0.mlp.up_proj.lora_A.weight`.
fn place(name: &str, config: &ModelConfig) -> Result<(usize, Module, bool), String> {
    let parse = || {
        let rest = name.strip_prefix(PREFIX)?.strip_prefix("layers.")?;
        let (layer, rest) = rest.split_once('.')?;
        let (path, rest) = rest.split_once(".lora_")?;
        let is_b = match rest {
            "A.weight" => false,
            "B.weight" => true,
            _ => return None,
        };
        let module = Module::ALL.into_iter().find(|module| module.path() == path)?;
        Some((layer.parse::<usize>().ok()?, module, is_b))
    };
    let (layer, module, is_b) = parse().ok_or_else(|| {
        format!("holds {name}, which is not a plain LoRA tensor of a decoder layer")
    })?;
    if layer >= config.layers {
        return Err(format!("holds {name}, but the base has {} layers", config.layers));
    }
    Ok((layer, module, is_b))
}

/// Appends the values of a tensor.
fn append(view: &TensorView<'_>, to: &mut Vec<f32>) -> Result<(), String> {
    let (data, first) = (view.data(), to.len());
    match view.dtype() {
        Dtype::F32 => extend(to, data, f32::from_le_bytes),
        Dtype::F16 => extend(to, data, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Dtype::BF16 => extend(to, data, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        other => return Err(format!("has type {other:?}; use f32, f16 or bf16")),
    }
    // Counted and not searched for, which takes several values at a time.
    if to[first..].iter().map(|value| u32::from(!value.is_finite())).sum::<u32>() > 0 {
        return Err("holds a value that is not finite".to_owned());
    }
    Ok(())
}

fn extend<const N: usize>(to: &mut Vec<f32>, data: &[u8], read: impl Fn([u8; N]) -> f32) {
    let (values, _) = data.as_chunks::<N>();
    to.extend(values.iter().map(|bytes| read(*bytes)));
}
