//! Tensors of an adapter file, checked against its config and its base.

use std::{collections::BTreeMap, sync::Arc};

use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::{PREFIX, config::Settings};
use crate::{
    config::ModelConfig,
    lora::{Lora, LoraLayout, Module},
};

/// A and B of one module as stored, with the rank and scale the config gives it.
#[derive(Default)]
struct Found {
    a: Option<Vec<f32>>,
    b: Option<Vec<f32>>,
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
    let mut found: BTreeMap<Place, Found> = BTreeMap::new();
    for (name, view) in file.iter() {
        let (layer, module, is_b) = place(name, config)?;
        let path = path(layer, module);
        if !settings.targets(&path) {
            return Err(format!("holds {path}, which target_modules does not name"));
        }
        let (rank, scale) = settings.rank_and_scale(&path);
        let (inputs, outputs) = module.dims(config);
        let shape = if is_b { [outputs, rank] } else { [rank, inputs] };
        let values = values(name, &view, shape)?;
        let entry = found.entry((layer, module)).or_default();
        (entry.rank, entry.scale) = (rank, scale);
        *(if is_b { &mut entry.b } else { &mut entry.a }) = Some(values);
    }
    let paths: Vec<String> = found.keys().map(|(layer, module)| path(*layer, *module)).collect();
    if let Some(name) = settings.unmet_target(&paths) {
        return Err(format!("target_modules names {name}, but no tensor belongs to it"));
    }
    assemble(&found, config)
}

/// Brings every module to the largest rank and one scale: s B A is unchanged when B is scaled by
/// s / s' and both are padded with zeros.
fn assemble(found: &BTreeMap<Place, Found>, config: &ModelConfig) -> Result<Lora, String> {
    let largest = found.values().max_by_key(|entry| entry.rank).ok_or("it holds no tensors")?;
    let (rank, scale) = (largest.rank, largest.scale);
    if !(scale.is_finite() && scale != 0.0) {
        return Err(format!("its scale is {scale}"));
    }
    let layout =
        LoraLayout::new(config, rank, |layer, module| found.contains_key(&(layer, module)))
            .map_err(|error| error.to_string())?;
    let mut values = vec![0.0; layout.len()];
    for slot in layout.slots() {
        let entry = &found[&(slot.layer, slot.module)];
        let missing = |side: &str| format!("{} has no {side}", path(slot.layer, slot.module));
        let a = entry.a.as_ref().ok_or_else(|| missing("lora_A"))?;
        let b = entry.b.as_ref().ok_or_else(|| missing("lora_B"))?;
        values[slot.a.clone()][..a.len()].copy_from_slice(a);
        let factor = entry.scale / scale;
        let rows = values[slot.b.clone()].chunks_exact_mut(rank);
        for (row, from) in rows.zip(b.chunks_exact(entry.rank)) {
            for (value, from) in row.iter_mut().zip(from) {
                *value = (f64::from(*from) * factor) as f32;
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

fn values(name: &str, view: &TensorView<'_>, shape: [usize; 2]) -> Result<Vec<f32>, String> {
    if view.shape() != shape {
        let found = view.shape();
        return Err(format!("{name} has shape {found:?}; base and config expect {shape:?}"));
    }
    let dtype = match view.dtype() {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        other => return Err(format!("{name} has type {other:?}; use f32, f16 or bf16")),
    };
    let read = || -> candle_core::Result<Vec<f32>> {
        let tensor = Tensor::from_raw_buffer(view.data(), dtype, &shape, &Device::Cpu)?;
        tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
    };
    let values = read().map_err(|error| format!("{name} is not readable: {error}"))?;
    if values.iter().any(|value| !value.is_finite()) {
        return Err(format!("{name} holds a value that is not finite"));
    }
    Ok(values)
}
