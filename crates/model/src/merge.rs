//! An adapter folded into its base: W' = W + s · B A, as a Hugging Face directory in f32.
//!
//! For programs that load no adapters. What is served elsewhere from such a directory is the same
//! model up to rounding, but it can no longer be swapped, and a bf16 copy of it differs from base
//! plus adapter in the second digit of a logit: merge for export, never to train on.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::Path,
};

use candle_core::quantized::gguf_file::Content;
use rayon::prelude::*;
use serde_json::{Map, Value, json};

use crate::{
    config::{Family, ModelConfig},
    error::{ModelError, Result, refuse},
    lora::{Lora, Module},
    tokenizer::{Tokenizer, gguf},
    weights::{GgufSource, HfSource, TensorSource},
};

/// Files of a Hugging Face base that say how to use its weights, as far as they exist.
const BESIDE: [&str; 6] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
];

/// Writes base and adapter as one model to a directory that must not exist; it appears whole or
/// not at all. One tensor is in memory at a time.
pub fn merge(base: &Path, lora: &Lora, directory: &Path) -> Result<()> {
    if directory.exists() {
        let what = "already exists; models are never overwritten".to_owned();
        return Err(ModelError::Adapter { path: directory.into(), what });
    }
    let parent = match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let write = |source| ModelError::Write { path: directory.into(), source };
    fs::create_dir_all(parent).map_err(write)?;
    let staged = tempfile::Builder::new().prefix(".merged-").tempdir_in(parent).map_err(write)?;
    if base.join("config.json").is_file() {
        merge_directory(base, lora, staged.path())?;
    } else {
        merge_gguf(base, lora, staged.path())?;
    }
    fs::rename(staged.path(), directory).map_err(write)?;
    let _moved = staged.keep();
    Ok(())
}

fn merge_directory(base: &Path, lora: &Lora, out: &Path) -> Result<()> {
    let path = base.join("config.json");
    let text = fs::read_to_string(&path)
        .map_err(|source| ModelError::Read { path: path.clone(), source })?;
    let config = ModelConfig::from_hf(&text)?;
    for name in BESIDE {
        let from = base.join(name);
        if from.is_file() {
            fs::copy(&from, out.join(name))
                .map_err(|source| ModelError::Read { path: from.clone(), source })?;
        }
    }
    write_weights(&config, &mut HfSource::open(base)?, lora, out)
}

fn merge_gguf(base: &Path, lora: &Lora, out: &Path) -> Result<()> {
    let (mut source, config) = GgufSource::open(base)?;
    if config.rope_scaling.is_some() {
        return Err(refuse!(
            Config,
            "{} turns heads by factors of its own, which no config.json can say; merge with the \
             Hugging Face directory of the same model",
            base.display()
        ));
    }
    let tokenizer = Tokenizer::from_gguf(source.content())?;
    let files = [
        ("config.json", config_json(&config, &tokenizer)),
        ("generation_config.json", json!({"eos_token_id": tokenizer.eos_ids()})),
        ("tokenizer_config.json", tokenizer_config(source.content())?),
    ];
    let put = |name: &str, text: &str| {
        let path = out.join(name);
        fs::write(&path, text).map_err(|source| ModelError::Write { path, source })
    };
    for (name, value) in files {
        put(name, &format!("{value:#}\n"))?;
    }
    put("tokenizer.json", &tokenizer.to_json()?)?;
    write_weights(&config, &mut source, lora, out)
}

fn tokenizer_config(content: &Content) -> Result<Value> {
    let template = gguf::chat_template(content)
        .ok_or_else(|| refuse!(Template, "the GGUF file has none; use a chat model"))?;
    let mut config = Map::new();
    config.insert("tokenizer_class".to_owned(), json!("PreTrainedTokenizerFast"));
    config.insert("chat_template".to_owned(), json!(template));
    for name in ["bos", "eos", "unk"] {
        let key = format!("tokenizer.ggml.{name}_token_id");
        if let Some(text) = gguf::special_text(content, &key) {
            config.insert(format!("{name}_token"), json!(text));
        }
    }
    Ok(Value::Object(config))
}

fn config_json(config: &ModelConfig, tokenizer: &Tokenizer) -> Value {
    let (kind, architecture) = match config.family {
        Family::Llama => ("llama", "LlamaForCausalLM"),
        Family::Qwen2 => ("qwen2", "Qwen2ForCausalLM"),
        Family::Qwen3 => ("qwen3", "Qwen3ForCausalLM"),
    };
    json!({
        "architectures": [architecture],
        "model_type": kind,
        "vocab_size": config.vocab,
        "hidden_size": config.hidden,
        "intermediate_size": config.intermediate,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "max_position_embeddings": config.max_positions,
        "tie_word_embeddings": config.tied_head,
        "attention_bias": false,
        "mlp_bias": false,
        "hidden_act": "silu",
        "eos_token_id": tokenizer.eos_ids(),
        "torch_dtype": "float32",
    })
}

/// A tensor to write: its name, its shape, and the map it is, if it is one.
struct Planned {
    name: String,
    shape: Vec<usize>,
    map: Option<(usize, Module)>,
}

fn plan(config: &ModelConfig) -> Vec<Planned> {
    let plain = |name: String, shape: Vec<usize>| Planned { name, shape, map: None };
    let matrix = vec![config.vocab, config.hidden];
    let mut all = vec![plain("model.embed_tokens.weight".to_owned(), matrix.clone())];
    for layer in 0..config.layers {
        let name = |suffix: &str| format!("model.layers.{layer}.{suffix}");
        for norm in ["input_layernorm.weight", "post_attention_layernorm.weight"] {
            all.push(plain(name(norm), vec![config.hidden]));
        }
        for module in Module::ALL {
            let (inputs, outputs) = module.dims(config);
            let path = module.path();
            let map = Some((layer, module));
            let shape = vec![outputs, inputs];
            all.push(Planned { name: name(&format!("{path}.weight")), shape, map });
            if config.qkv_bias && matches!(module, Module::Q | Module::K | Module::V) {
                all.push(plain(name(&format!("{path}.bias")), vec![outputs]));
            }
        }
        if config.qk_norm {
            for norm in ["self_attn.q_norm.weight", "self_attn.k_norm.weight"] {
                all.push(plain(name(norm), vec![config.head_dim]));
            }
        }
    }
    all.push(plain("model.norm.weight".to_owned(), vec![config.hidden]));
    if !config.tied_head {
        all.push(plain("lm_head.weight".to_owned(), matrix));
    }
    all
}

/// `model.safetensors`: the header first, which the shapes alone decide, then tensor by tensor.
fn write_weights(
    config: &ModelConfig,
    source: &mut dyn TensorSource,
    lora: &Lora,
    out: &Path,
) -> Result<()> {
    if !lora.fits(config) {
        return Err(refuse!(Lora, "the adapter was made for a base of another shape"));
    }
    let path = out.join("model.safetensors");
    let write = |source| ModelError::Write { path: path.clone(), source };
    let mut file = BufWriter::new(File::create(&path).map_err(write)?);
    let (planned, mut header, mut at) = (plan(config), Map::new(), 0);
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    for Planned { name, shape, .. } in &planned {
        let end = at + 4 * shape.iter().product::<usize>();
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [at, end]});
        header.insert(name.clone(), entry);
        at = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    file.write_all(&(header.len() as u64).to_le_bytes()).map_err(write)?;
    file.write_all(&header).map_err(write)?;
    for Planned { name, shape, map } in &planned {
        let mut values = source.tensor(name, shape)?;
        if let Some((layer, module)) = map {
            add(&mut values, lora, *layer, *module);
        }
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        file.write_all(&bytes).map_err(write)?;
    }
    let file = file.into_inner().map_err(|error| write(error.into_error()))?;
    file.sync_all().map_err(write)
}

/// W += s · B A for row-major W `[out, in]`.
fn add(w: &mut [f32], lora: &Lora, layer: usize, module: Module) {
    let slots = lora.layout().slots();
    let slot = slots.iter().find(|slot| slot.layer == layer && slot.module == module);
    let Some(slot) = slot else { return };
    let (a, b, scale) = (&lora.values()[slot.a.clone()], lora.b(slot), lora.scale_of(slot));
    w.par_chunks_mut(slot.inputs).zip(b.par_chunks(lora.rank())).for_each(|(row, b)| {
        for (b, a) in b.iter().zip(a.chunks_exact(slot.inputs)) {
            row.iter_mut().zip(a).for_each(|(w, a)| *w += scale * b * a);
        }
    });
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};
    use safetensors::SafeTensors;

    use super::*;
    use crate::{BaseModel, Batch, LoraSpec, Targets};

    fn folder() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/model")
    }

    fn hidden(base: &BaseModel, lora: Option<&Lora>) -> Vec<f32> {
        let batch = Batch::of(&[[1_u32, 5, 9, 20, 31, 7]]);
        let hidden: Tensor = base.decoder.hidden(&batch, lora).unwrap();
        hidden.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn a_merged_model_is_base_and_adapter_in_one() {
        for family in ["llama", "qwen2", "qwen3"] {
            let path = folder().join(family);
            let base = BaseModel::load(&path, &Device::Cpu).unwrap();
            let spec = LoraSpec {
                alpha_pattern: vec![("q_proj".to_owned(), 3.0)],
                ..LoraSpec::new(4, 8.0, Targets::AllLinear)
            };
            let mut lora = Lora::init(base.decoder.config(), &spec, 3).unwrap();
            for (nth, value) in lora.values_mut().iter_mut().enumerate() {
                *value += 0.05 * (nth as f32 * 0.7).sin();
            }
            let root = tempfile::tempdir().unwrap();
            let out = root.path().join("merged");
            merge(&path, &lora, &out).unwrap();
            let merged = BaseModel::load(&out, &Device::Cpu).unwrap();
            let (ours, expected) = (hidden(&merged, None), hidden(&base, Some(&lora)));
            for (a, b) in ours.iter().zip(&expected) {
                assert!((a - b).abs() < 1e-4, "{family}: {a} {b}");
            }
            assert_ne!(ours, hidden(&base, None));
            let bytes = fs::read(out.join("model.safetensors")).unwrap();
            SafeTensors::deserialize(&bytes).unwrap();
            assert!(merge(&path, &lora, &out).is_err(), "nothing is overwritten");
        }
    }

    #[test]
    fn an_adapter_of_another_base_is_refused_and_leaves_nothing() {
        let other = ModelConfig { layers: 3, ..ModelConfig::tiny(Family::Llama) };
        let lora = Lora::init(&other, &LoraSpec::standard(), 1).unwrap();
        let root = tempfile::tempdir().unwrap();
        let error = merge(&folder().join("llama"), &lora, &root.path().join("m")).unwrap_err();
        assert!(error.to_string().contains("another shape"), "{error}");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }
}
