//! Tensors of an adapter file, checked against its config and its base.

use std::{collections::BTreeMap, sync::Arc};

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use understudy_team as team;

use super::{PREFIX, config::Settings};
use crate::{
    config::ModelConfig,
    lora::{Lora, LoraLayout, Module, Parameter, norm},
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
    let (found, layout) = team::once(|| {
        let found = find(settings, bytes, config)?;
        let layout = layout(&found, config)?;
        Ok::<_, String>((found, layout))
    })?;
    assemble(&found, layout)
}

/// The tensors of a file, which are those that its config names and have the shapes that the base
/// needs.
fn find<'a>(
    settings: &Settings,
    bytes: &'a [u8],
    config: &ModelConfig,
) -> Result<BTreeMap<Place, Found<'a>>, String> {
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
    Ok(found)
}

/// Where tensors go when every module has the largest rank.
fn layout(found: &BTreeMap<Place, Found<'_>>, config: &ModelConfig) -> Result<LoraLayout, String> {
    let rank = largest(found)?.rank;
    LoraLayout::new(config, rank, |layer, module| found.contains_key(&(layer, module)))
        .map_err(|error| error.to_string())
}

fn largest<'f, 'a>(found: &'f BTreeMap<Place, Found<'a>>) -> Result<&'f Found<'a>, String> {
    let largest = found.values().max_by_key(|entry| entry.rank);
    largest.ok_or_else(|| "it holds no tensors".to_owned())
}

/// Brings every module to the largest rank and one scale: s B A is unchanged when B is scaled by
/// s / s' and both are padded with zeros.
fn assemble(found: &BTreeMap<Place, Found<'_>>, layout: LoraLayout) -> Result<Lora, String> {
    let scale = largest(found)?.scale;
    if !(scale.is_finite() && scale != 0.0) {
        return Err(format!("its scale is {scale}"));
    }
    let mut values = Lora::room_for(layout.len());
    let (mut rest, mut places) = (&mut values[..], Vec::new());
    for parameter in layout.parameters() {
        let place = rest.split_off_mut(..parameter.range.len()).unwrap_or_default();
        places.push((parameter, &found[&(parameter.layer, parameter.module)], place));
    }
    // Norms are taken while the values lie in the cache.
    let measured = team::map_items(places, |(parameter, entry, place)| {
        let filled = fill(place, parameter, entry, scale).map(|()| norm(place));
        filled.map_err(|what| {
            let side = if parameter.is_b { "B" } else { "A" };
            format!("lora_{side} of {} {what}", path(parameter.layer, parameter.module))
        })
    });
    let norms = measured.into_iter().collect::<Result<_, String>>()?;
    Ok(Lora::from_measured(Arc::new(layout), scale as f32, values, norms))
}

/// Writes one tensor as it is with the rank and the scale of the whole adapter.
fn fill(
    place: &mut [f32],
    parameter: &Parameter,
    entry: &Found<'_>,
    scale: f64,
) -> Result<(), String> {
    let (rank, view) = (parameter.rank(), if parameter.is_b { &entry.b } else { &entry.a });
    let view = view.as_ref().ok_or("is missing")?;
    if parameter.is_b && entry.rank < rank {
        let mut narrow = vec![0.0; place.len() / rank * entry.rank];
        widen(view, &mut narrow)?;
        for (to, row) in place.chunks_exact_mut(rank).zip(narrow.chunks_exact(entry.rank)) {
            let (to, padding) = to.split_at_mut(entry.rank);
            to.copy_from_slice(row);
            padding.fill(0.0);
        }
    } else {
        let (held, padding) = place.split_at_mut(view.shape().iter().product());
        widen(view, held)?;
        padding.fill(0.0);
    }
    if parameter.is_b && entry.scale != scale {
        let factor = entry.scale / scale;
        for value in place {
            *value = (f64::from(*value) * factor) as f32;
        }
    }
    Ok(())
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

/// Reads the values of a tensor, as many as there are places.
fn widen(view: &TensorView<'_>, to: &mut [f32]) -> Result<(), String> {
    let data = view.data();
    match view.dtype() {
        Dtype::F32 => read(data, to, f32::from_le_bytes),
        Dtype::F16 => read(data, to, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Dtype::BF16 => read(data, to, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        other => return Err(format!("has type {other:?}; use f32, f16 or bf16")),
    }
    // Counted and not searched for, which takes several values at a time.
    if to.iter().map(|value| u32::from(!value.is_finite())).sum::<u32>() > 0 {
        return Err("holds a value that is not finite".to_owned());
    }
    Ok(())
}

fn read<const N: usize>(data: &[u8], to: &mut [f32], widen: impl Fn([u8; N]) -> f32) {
    let (values, _) = data.as_chunks::<N>();
    for (to, bytes) in to.iter_mut().zip(values) {
        *to = widen(*bytes);
    }
}
