use serde_json::{Value, json};

use super::*;
use crate::{Family, LoraSpec, Module, Targets};

fn config() -> ModelConfig {
    ModelConfig::tiny(Family::Llama)
}

fn adapter(spec: &LoraSpec) -> Lora {
    let mut lora = Lora::init(&config(), spec, 5).unwrap();
    let mut next = 0.0_f32;
    lora.values_mut().iter_mut().for_each(|value| {
        next += 0.37;
        *value += next.sin() * 0.1;
    });
    lora
}

fn spec(targets: Targets) -> LoraSpec {
    LoraSpec::new(4, 8.0, targets)
}

/// Writes an adapter, lets `change` edit its config, and reads it again.
fn reread(lora: &Lora, change: impl FnOnce(&mut Value)) -> Result<PeftAdapter> {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("adapter");
    write_peft(lora, &directory, "base", &[]).unwrap();
    let path = directory.join(CONFIG);
    let mut config_json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut config_json);
    fs::write(&path, config_json.to_string()).unwrap();
    read_peft(&directory, &config())
}

/// The product s B A of one module, which is all an adapter does.
fn product(lora: &Lora, layer: usize, module: Module) -> Vec<f32> {
    let slot = lora
        .layout()
        .slots()
        .iter()
        .find(|slot| slot.layer == layer && slot.module == module)
        .unwrap();
    let (a, b, rank) = (&lora.values()[slot.a.clone()], lora.b(slot), lora.rank());
    let mut out = Vec::new();
    for row in b.chunks_exact(rank) {
        for column in 0..slot.inputs {
            let sum: f32 = (0..rank).map(|k| row[k] * a[k * slot.inputs + column]).sum();
            out.push(lora.scale() * sum);
        }
    }
    out
}

#[test]
fn an_adapter_comes_back_bit_for_bit() {
    for targets in [Targets::AllLinear, Targets::Mlp, Targets::Modules(vec![Module::V])] {
        let lora = adapter(&spec(targets));
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("deep/adapter");
        let digest = write_peft(&lora, &directory, "base", &[("manifest.json", b"{}")]).unwrap();
        let back = read_peft(&directory, &config()).unwrap();
        assert_eq!(back.lora.values(), lora.values());
        assert_eq!(back.lora.scale(), lora.scale());
        assert!(back.lora.same_layout(&lora));
        assert_eq!(back.lora.inventory(), lora.inventory());
        assert_eq!(
            (back.digest.as_str(), back.base_name.as_deref()),
            (digest.as_str(), Some("base"))
        );
        assert_eq!(adapter_digest(&directory).unwrap(), digest);
        assert_eq!(fs::read(directory.join("manifest.json")).unwrap(), b"{}");
        assert_eq!(fs::read_dir(root.path().join("deep")).unwrap().count(), 1, "no leftovers");
    }
}

#[test]
fn an_existing_directory_is_never_overwritten() {
    let root = tempfile::tempdir().unwrap();
    let error = write_peft(&adapter(&spec(Targets::Mlp)), root.path(), "base", &[]).unwrap_err();
    assert!(error.to_string().contains("never overwritten"));
}

#[test]
fn rank_stabilised_scale_is_folded_on_export() {
    let stabilised = LoraSpec { rank_stabilised: true, ..spec(Targets::Attention) };
    let lora = adapter(&stabilised);
    let back = reread(&lora, |config| {
        assert_eq!(config["use_rslora"], false);
        assert_eq!(config["lora_alpha"], json!(16));
    });
    assert_eq!(back.unwrap().lora.scale(), 4.0);
}

#[test]
fn rank_stabilised_scale_is_understood_on_import() {
    let lora = adapter(&spec(Targets::Attention));
    let back = reread(&lora, |config| config["use_rslora"] = json!(true)).unwrap();
    assert_eq!(back.lora.scale(), 4.0);
}

#[test]
fn target_modules_may_be_paths_or_a_pattern() {
    let lora = adapter(&spec(Targets::Modules(vec![Module::Q, Module::Down])));
    for targets in [
        json!(["model.layers.0.self_attn.q_proj", "layers.1.self_attn.q_proj", "down_proj"]),
        json!(r".*\.(q_proj|down_proj)"),
        json!("all-linear"),
    ] {
        let back = reread(&lora, |config| config["target_modules"] = targets).unwrap();
        assert_eq!(back.lora.values(), lora.values());
    }
}

#[test]
fn alpha_patterns_change_the_scale_of_their_modules_only() {
    let lora = adapter(&spec(Targets::Attention));
    let change = |config: &mut Value| config["alpha_pattern"] = json!({"k_proj": 24});
    let back = reread(&lora, change).unwrap().lora;
    let scaled: Vec<f32> = product(&lora, 1, Module::K).iter().map(|value| value * 3.0).collect();
    for (left, right) in product(&back, 1, Module::K).iter().zip(scaled) {
        assert!((left - right).abs() < 1e-6);
    }
    assert_eq!(product(&back, 1, Module::Q), product(&lora, 1, Module::Q));
}

#[test]
fn what_would_act_differently_is_refused_by_name() {
    let lora = adapter(&spec(Targets::Attention));
    let refusals: [(&str, Value, &str); 12] = [
        ("peft_type", json!("IA3"), "only LORA"),
        ("lora_alpha", Value::Null, "lacks lora_alpha"),
        ("r", Value::Null, "lacks r"),
        ("r", json!(8), "has shape"),
        ("bias", json!("all"), "bias is all"),
        ("use_dora", json!(true), "use_dora"),
        ("modules_to_save", json!(["lm_head"]), "modules_to_save"),
        ("layer_replication", json!([[0, 1]]), "layer_replication"),
        ("init_lora_weights", json!("pissa_niter_4"), "changes the base"),
        ("target_modules", json!(["q_proj"]), "does not name"),
        (
            "target_modules",
            json!(["q_proj", "k_proj", "v_proj", "o_proj", "up_proj"]),
            "names up_proj",
        ),
        ("target_modules", json!("(?!q)"), "not supported"),
    ];
    for (key, value, expected) in refusals {
        let error = reread(&lora, |config| config[key] = value).unwrap_err().to_string();
        assert!(error.contains(expected), "{key}: {error}");
    }
}

#[test]
fn a_broken_weight_file_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("adapter");
    let lora = adapter(&spec(Targets::Attention));
    write_peft(&lora, &directory, "base", &[]).unwrap();
    let path = directory.join(WEIGHTS);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 8]).unwrap();
    assert!(read_peft(&directory, &config()).unwrap_err().to_string().contains("not readable"));
    let mut smaller = config();
    smaller.layers = 1;
    fs::write(&path, &whole).unwrap();
    assert!(read_peft(&directory, &smaller).unwrap_err().to_string().contains("1 layers"));
    let mut poisoned = whole.clone();
    let end = poisoned.len();
    poisoned[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, &poisoned).unwrap();
    assert!(read_peft(&directory, &config()).unwrap_err().to_string().contains("not finite"));
}

#[test]
fn values_that_are_not_finite_are_not_written() {
    let mut lora = adapter(&spec(Targets::Attention));
    lora.values_mut()[3] = f32::INFINITY;
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("adapter");
    assert!(write_peft(&lora, &directory, "base", &[]).is_err());
    assert!(!directory.exists());
}

#[test]
fn what_is_not_known_is_refused_once_it_is_set() {
    let lora = adapter(&spec(Targets::AllLinear));
    let set = |name: &str, value: Value| reread(&lora, |config| config[name] = value);
    let error = set("use_future_feature", json!(true)).unwrap_err().to_string();
    assert!(error.contains("use_future_feature is set, which is not known"), "{error}");
    for nothing in [json!(null), json!(false), json!([]), json!({}), json!("")] {
        set("use_future_feature", nothing).unwrap();
    }
    set("megatron_core", json!("megatron.core")).unwrap();
    let error = set("r", json!(513)).unwrap_err().to_string();
    assert!(error.contains("its rank is 513; at most 512 loads"), "{error}");
    let error = set("rank_pattern", json!({"q_proj": 100_000})).unwrap_err().to_string();
    assert!(error.contains("its rank is 100000"), "{error}");
}

#[test]
fn only_files_are_read_and_of_a_config_no_more_than_a_config_has() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("adapter");
    write_peft(&adapter(&spec(Targets::Mlp)), &directory, "base", &[]).unwrap();
    let weights = directory.join(WEIGHTS);
    let kept = fs::read(&weights).unwrap();
    fs::remove_file(&weights).unwrap();
    // A pipe that nobody writes to would be waited for without end.
    assert!(std::process::Command::new("mkfifo").arg(&weights).status().unwrap().success());
    let error = read_peft(&directory, &config()).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("not a regular file"), "{source}");
    fs::remove_file(&weights).unwrap();
    fs::write(&weights, kept).unwrap();
    read_peft(&directory, &config()).unwrap();
    let path = directory.join(CONFIG);
    let long = format!("{}{}", fs::read_to_string(&path).unwrap(), " ".repeat(1 << 20));
    fs::write(&path, long).unwrap();
    let error = read_peft(&directory, &config()).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("at most 1048576 are read"), "{source}");
}
