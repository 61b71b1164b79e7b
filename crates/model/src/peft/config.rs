//! `adapter_config.json`.

use regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::lora::{Lora, Module, ends_in};

/// The settings that decide what an adapter does.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) base_name: Option<String>,
    rank: usize,
    alpha: f64,
    rank_stabilised: bool,
    targets: TargetModules,
    rank_pattern: Vec<(Regex, f64)>,
    alpha_pattern: Vec<(Regex, f64)>,
}

#[derive(Debug)]
enum TargetModules {
    /// Module names equal to, or ending in `.` and, one of these.
    Suffixes(Vec<String>),
    Pattern(Regex),
    AllLinear,
}

#[derive(Deserialize)]
struct Raw {
    peft_type: Option<String>,
    base_model_name_or_path: Option<String>,
    r: Option<usize>,
    lora_alpha: Option<f64>,
    target_modules: Option<Value>,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    rank_pattern: Option<Map<String, Value>>,
    #[serde(default)]
    alpha_pattern: Option<Map<String, Value>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Settings that would change what the tensors mean. Any value but an empty one is refused.
const UNSUPPORTED: [&str; 15] = [
    "use_dora",
    "modules_to_save",
    "fan_in_fan_out",
    "lora_bias",
    "layer_replication",
    "trainable_token_indices",
    "target_parameters",
    "use_qalora",
    "use_bdlora",
    "alora_invocation_tokens",
    "arrow_config",
    "monteclora_config",
    "velora_config",
    "kasa_config",
    "lora_ga_config",
];

/// Settings that may have any value: they say how it was trained, or what the tensors show anyway.
/// What is neither here nor read, and set, may be a feature of a later version.
const HARMLESS: [&str; 19] = [
    "auto_mapping",
    "base_model_class",
    "bias",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_dropout",
    "megatron_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "task_type",
];

/// The largest rank; modules of a smaller one are padded to the largest of their adapter.
pub const LARGEST_RANK: usize = 512;

/// The largest rank that a config names; `None` where it cannot be read, which [`Settings::parse`]
/// says more about.
pub(super) fn rank(bytes: &[u8]) -> Option<usize> {
    let raw: Raw = serde_json::from_slice(bytes).ok()?;
    let patterns = patterns("rank_pattern", raw.rank_pattern).ok()?;
    patterns.iter().map(|(_, rank)| *rank as usize).chain(raw.r).max()
}

impl Settings {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let raw: Raw = serde_json::from_slice(bytes)
            .map_err(|error| format!("adapter_config.json is not readable: {error}"))?;
        match raw.peft_type.as_deref() {
            Some("LORA") => {}
            other => {
                return Err(format!(
                    "peft_type is {}; only LORA loads",
                    other.unwrap_or("missing")
                ));
            }
        }
        raw.refuse_unsupported()?;
        let missing =
            |name: &str| format!("adapter_config.json lacks {name}, which must not be guessed");
        let settings = Self {
            base_name: raw.base_model_name_or_path,
            rank: raw.r.filter(|rank| *rank > 0).ok_or_else(|| missing("r"))?,
            alpha: raw.lora_alpha.ok_or_else(|| missing("lora_alpha"))?,
            rank_stabilised: raw.use_rslora,
            targets: TargetModules::parse(raw.target_modules.as_ref())?,
            rank_pattern: patterns("rank_pattern", raw.rank_pattern)?,
            alpha_pattern: patterns("alpha_pattern", raw.alpha_pattern)?,
        };
        let patterned = settings.rank_pattern.iter().map(|(_, rank)| *rank as usize);
        match patterned.chain([settings.rank]).max() {
            Some(rank) if rank > LARGEST_RANK => {
                Err(format!("its rank is {rank}; at most {LARGEST_RANK} loads"))
            }
            _ => Ok(settings),
        }
    }

    /// Whether the config says that this module path (`model.layers.0.self_attn.q_proj`) is adapted.
    pub(super) fn targets(&self, path: &str) -> bool {
        match &self.targets {
            TargetModules::AllLinear => true,
            TargetModules::Pattern(pattern) => pattern.is_match(path),
            TargetModules::Suffixes(names) => names.iter().any(|name| ends_in(path, name)),
        }
    }

    /// A listed target that none of these paths is.
    pub(super) fn unmet_target(&self, paths: &[String]) -> Option<&str> {
        let TargetModules::Suffixes(names) = &self.targets else { return None };
        let met = |name: &&String| !paths.iter().any(|path| ends_in(path, name));
        names.iter().find(met).map(String::as_str)
    }

    /// Rank and scale of a module path.
    pub(super) fn rank_and_scale(&self, path: &str) -> (usize, f64) {
        let find = |patterns: &[(Regex, f64)]| {
            patterns.iter().find(|(pattern, _)| pattern.is_match(path)).map(|(_, value)| *value)
        };
        let rank = find(&self.rank_pattern).map_or(self.rank, |rank| rank as usize);
        let alpha = find(&self.alpha_pattern).unwrap_or(self.alpha);
        let divisor = rank as f64;
        (rank, alpha / if self.rank_stabilised { divisor.sqrt() } else { divisor })
    }
}

impl Raw {
    fn refuse_unsupported(&self) -> Result<(), String> {
        for (name, _) in self.rest.iter().filter(|(_, value)| is_set(value)) {
            if UNSUPPORTED.contains(&name.as_str()) {
                return Err(format!("{name} is set, which is not supported"));
            }
            if !HARMLESS.contains(&name.as_str()) {
                return Err(format!(
                    "{name} is set, which is not known here and may change what the tensors mean"
                ));
            }
        }
        match self.rest.get("bias").and_then(Value::as_str).unwrap_or("none") {
            "none" => {}
            other => return Err(format!("bias is {other}; only none is supported")),
        }
        // These shift the base weights at training time, so the tensors alone mean nothing.
        let init = self.rest.get("init_lora_weights").and_then(Value::as_str).unwrap_or_default();
        if ["pissa", "olora", "loftq", "corda"].iter().any(|name| init.starts_with(name)) {
            return Err(format!(
                "init_lora_weights is {init}, which changes the base; convert the adapter first"
            ));
        }
        Ok(())
    }
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

impl TargetModules {
    fn parse(value: Option<&Value>) -> Result<Self, String> {
        match value {
            Some(Value::String(word)) if word == "all-linear" => Ok(Self::AllLinear),
            Some(Value::String(pattern)) => anchored(pattern).map(Self::Pattern),
            Some(Value::Array(names)) if !names.is_empty() => names
                .iter()
                .map(|name| name.as_str().map(str::to_owned))
                .collect::<Option<_>>()
                .map(Self::Suffixes)
                .ok_or_else(|| "target_modules holds something that is not a name".to_owned()),
            _ => Err("target_modules is missing or empty".to_owned()),
        }
    }
}

fn anchored(pattern: &str) -> Result<Regex, String> {
    Regex::new(&format!("^(?:{pattern})$"))
        .map_err(|error| format!("pattern {pattern} is not supported: {error}"))
}

/// PEFT matches a pattern key against the end of the module path.
fn patterns(name: &str, entries: Option<Map<String, Value>>) -> Result<Vec<(Regex, f64)>, String> {
    let entries = entries.unwrap_or_default();
    let parse = |(key, value): (String, Value)| {
        let number = value.as_f64().filter(|number| *number > 0.0);
        let number = number.ok_or_else(|| format!("{name} gives {key} the value {value}"))?;
        Ok((anchored(&format!(r"(?:.*\.)?(?:{key})"))?, number))
    };
    entries.into_iter().map(parse).collect()
}

/// The config PEFT, vLLM and llama.cpp all accept: scale folded into alpha, nothing optional on.
pub(super) fn to_json(lora: &Lora, base_name: &str) -> String {
    let alpha = f64::from(lora.scale()) * lora.rank() as f64;
    let alpha = if alpha.fract() == 0.0 { json!(alpha as i64) } else { json!(alpha) };
    let config = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "revision": null,
        "r": lora.rank(),
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "target_modules": target_names(lora),
        "bias": "none",
        "use_rslora": false,
        "use_dora": false,
        "fan_in_fan_out": false,
        "init_lora_weights": true,
        "inference_mode": true,
        "modules_to_save": null,
        "rank_pattern": {},
        "alpha_pattern": {},
    });
    format!("{config:#}\n")
}

/// Short names when every layer adapts the same modules, else every path in full.
fn target_names(lora: &Lora) -> Vec<String> {
    let modules = lora.layout().modules();
    let slots = lora.layout().slots();
    let layers = slots.iter().map(|slot| slot.layer).max().map_or(0, |last| last + 1);
    if slots.len() == modules.len() * layers && layers == lora.layout().layers() {
        return modules.into_iter().map(|module: Module| module.name().to_owned()).collect();
    }
    slots.iter().map(|slot| format!("model.layers.{}.{}", slot.layer, slot.module.path())).collect()
}
