//! An adapter acts or does not load: one test for every reason, each with its numbers.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use serde_json::{Value, json};
use understudy_manifest::{AdapterManifest, Precision};
use understudy_model::{PeftFiles, attest};

use super::*;
use crate::{
    step::step,
    verify::tolerance,
    visit::{Door, Visit},
};

/// An adapter with everything a trainer of ours writes beside it.
struct Attested {
    _root: tempfile::TempDir,
    path: PathBuf,
    manifest: Value,
}

fn attested() -> Attested {
    let root = tempfile::tempdir().unwrap();
    let path = write_adapter(&root, 0);
    let model = model();
    let lora = read_peft(&path, model.decoder.config()).unwrap().lora;
    let digest = PeftFiles::read(&path).unwrap().digest();
    let manifest = json!({
        "schema": 1, "task": "t", "base": "tiny", "base_digest": model.digests.base,
        "tokenizer_digest": model.digests.tokenizer, "template_digest": model.digests.template,
        "recipe_digest": "0".repeat(64),
        "dataset": {"version": format!("t@{}", "0".repeat(64)), "sft_rows": 0, "pair_rows": 0},
        "parent": null, "stages": [], "code_version": "0", "device": "cpu", "threads": 1,
        "run": null, "attestation": attest(&model, &lora, digest).unwrap(),
    });
    let attested = Attested { _root: root, path, manifest };
    attested.write();
    attested
}

impl Attested {
    fn write(&self) {
        fs::write(self.path.join(AdapterManifest::FILE), self.manifest.to_string()).unwrap();
    }

    /// Changes what it says about itself.
    fn claiming(mut self, pointer: &str, value: impl Into<Value>) -> Self {
        *self.manifest.pointer_mut(&format!("/attestation{pointer}")).unwrap() = value.into();
        self.write();
        self
    }

    /// Changes one value of its weights: the fourth of the first tensor in the file.
    fn with_weight(self, change: impl FnOnce(f32) -> f32) -> Self {
        let file = self.path.join("adapter_model.safetensors");
        let mut bytes = fs::read(&file).unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let value = &mut bytes[8 + header + 12..][..4];
        let changed = change(f32::from_le_bytes(value.try_into().unwrap()));
        value.copy_from_slice(&changed.to_le_bytes());
        fs::write(&file, bytes).unwrap();
        self
    }

    fn with_setting(self, name: &str, value: impl Into<Value>) -> Self {
        let file = self.path.join("adapter_config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        config[name] = value.into();
        fs::write(&file, config.to_string()).unwrap();
        self
    }

    fn refusal(&self) -> String {
        refusal(&engine(Config::default()), &self.path)
    }
}

fn refusal(engine: &Engine, path: &Path) -> String {
    let why = match engine.load_adapter("task", path) {
        Err(InferenceError::BadAdapter { why, .. }) => why,
        other => panic!("expected a refusal, got {other:?}"),
    };
    assert!(engine.adapters().is_empty(), "nothing is served");
    why
}

#[track_caller]
fn assert_says(why: &str, parts: &[&str]) {
    for part in parts {
        assert!(why.contains(part), "`{part}` is not in: {why}");
    }
}

#[test]
fn probes_in_a_step_of_others_score_what_they_score_alone() {
    let (model, attested) = (model(), attested());
    let lora = read_peft(&attested.path, model.decoder.config()).unwrap().lora;
    let texts = vec![(5..18).collect(), vec![1, 2], vec![300, 20, 4]];
    let alone = understudy_model::probe(&model, Some(&lora), &texts).unwrap();
    let rows: usize = alone.iter().map(Vec::len).sum();
    for (at_once, most) in [(1, 8), (6, 6), (14, 14), (100, 100)] {
        let mut visit = Visit::new(lora.clone(), &texts, at_once);
        for _ in 0..rows.div_ceil(most) {
            assert!(!visit.is_over() && visit.rows() <= most);
            step(&model, &mut [], Some(&mut visit), &mut Vec::new());
        }
        assert!(visit.is_over());
        assert_eq!(visit.into_scores(&model).unwrap().1, alone, "{at_once} rows at once");
    }
}

#[test]
fn what_it_does_is_checked_beside_those_who_decode() {
    let engine = engine(Config::default());
    let stop = Arc::new(AtomicBool::new(false));
    let (told, begun) = mpsc::channel();
    let stopping = Arc::clone(&stop);
    let sink = move |event| {
        if matches!(event, Event::Delta(_)) {
            let _heard = told.send(());
        }
        if stopping.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    engine.submit(request(&[1, 5, 9], None, 900), Box::new(sink)).unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    let off = attested().claiming("/probes/0/adapted/0", -40.0);
    assert_says(&refusal(&engine, &off.path), &["probe 1 with the adapter is off by"]);
    engine.load_adapter("task", &attested().path).unwrap();
    stop.store(true, Relaxed);
}

#[test]
fn one_that_was_attested_with_all_bits_and_acts_otherwise_in_sixteen_is_served_with_all() {
    let config = ModelConfig::tiny(Family::Llama);
    let bf16 = understudy_model::Precision::Bf16;
    let model = BaseModel::random_with(config.clone(), 7, &here(), bf16).unwrap();
    if model.precision != bf16 {
        // Without bf16 products the base is f32, beside which no adapter is rounded.
        return;
    }
    // Values so large that rounding them shows.
    let spec = LoraSpec::new(4, 8.0, Targets::AllLinear);
    let mut lora = Lora::init(&config, &spec, 1).unwrap();
    let values = lora.values_mut().iter_mut().enumerate();
    values.for_each(|(n, value)| *value += (n as f32 * 0.7).sin() * 3.0);
    let mut attested = attested();
    write_peft(&lora, &attested.path.with_file_name("large"), "tiny", &[]).unwrap();
    attested.path = attested.path.with_file_name("large");
    let digest = PeftFiles::read(&attested.path).unwrap().digest();
    let attestation = attest(&model, &lora, digest).unwrap();
    attested.manifest["attestation"] = serde_json::to_value(&attestation).unwrap();
    let texts: Vec<Vec<u32>> = attestation.probes.iter().map(|one| one.tokens.clone()).collect();
    let all = understudy_model::probe(&model, Some(&lora), &texts).unwrap();
    // Just within what is allowed of what all bits say, on the side away from the rounded ones.
    let away = |all: &f32, rounded: &f32| all + 0.045_f32.copysign(all - rounded);
    let rounded = attestation.probes.iter().map(|one| &one.adapted);
    let claims: Vec<Vec<f32>> = all
        .iter()
        .zip(rounded)
        .map(|(all, rounded)| all.iter().zip(rounded).map(|(all, one)| away(all, one)).collect())
        .collect();
    let gaps = claims[0].iter().zip(&attestation.probes[0].adapted).map(|(a, b)| (a - b).abs());
    let gap = gaps.sum::<f32>() / claims[0].len() as f32;
    assert!(gap > tolerance(Precision::Bf16, Precision::Bf16), "rounding shows: {gap}");

    let engine = Engine::start(model, "tiny", Config::default()).unwrap();
    attested.write();
    let half = engine.load_adapter("task", &attested.path).unwrap().generation;
    engine.unload_adapter("task").unwrap();
    let attested = (0..claims.len()).fold(attested, |attested, nth| {
        attested.claiming(&format!("/probes/{nth}/adapted"), json!(claims[nth]))
    });
    let whole = engine.load_adapter("task", &attested.path).unwrap().generation;
    assert_eq!(half, whole, "the same content");
    engine.unload_adapter("task").unwrap();
    let off = attested.claiming("/probes/0/adapted/0", -40.0);
    assert_says(&refusal(&engine, &off.path), &["probe 1 with the adapter is off by"]);
}

#[test]
fn a_probe_with_more_rows_than_a_step_is_scored_while_a_prompt_is_read() {
    let config = Config { max_running: 1, step_tokens: 2, ..Config::default() };
    let engine = engine(config);
    let attested = attested();
    // Prompts are read two tokens a step; nobody decodes for most of the time.
    let prompt: Vec<u32> = (0..800).map(|n| n % 300 + 1).collect();
    let replies: Vec<Reply> =
        (0..3).map(|_| submit(&engine, request(&prompt, None, 1)).unwrap()).collect();
    for _ in 0..10 {
        engine.load_adapter("task", &attested.path).unwrap();
        engine.unload_adapter("task").unwrap();
    }
    drop(replies);
}

fn some_lora() -> Lora {
    let spec = LoraSpec::new(4, 8.0, Targets::AllLinear);
    Lora::init(&ModelConfig::tiny(Family::Llama), &spec, 3).unwrap()
}

#[test]
fn a_visit_that_no_step_takes_along_comes_back_unscored() {
    let back = Door::default().visit(Visit::new(some_lora(), &[vec![1, 2]], 1)).unwrap();
    assert_eq!(back.left(), 1);
}

#[test]
fn a_guest_stays_for_the_next_step_until_it_is_over_or_gets_no_further() {
    let door = Door::default();
    let take = || {
        loop {
            match door.take() {
                Some(guest) => return guest,
                None => std::thread::yield_now(),
            }
        }
    };
    let visit = || Visit::new(some_lora(), &[vec![1; 21]], 1);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| door.visit(visit()).unwrap().left());
        let guest = take();
        assert_eq!((guest.0.left(), guest.0.rows()), (20, 8), "as many as it may");
        // It was 28 before this step.
        door.see_off(guest, 28);
        let guest = door.take().expect("nobody has to bring it again");
        assert!(!waiting.is_finished(), "it is not over");
        door.see_off(guest, 20);
        assert!(door.take().is_none(), "that step failed");
        assert_eq!(waiting.join().unwrap(), 20);
    });
}

#[test]
fn an_adapter_that_does_here_what_it_did_there_loads() {
    let attested = attested();
    let engine = engine(Config::default());
    let loaded = engine
        .publish_adapter(understudy_inference::LoadAdapter::new("t", &attested.path))
        .unwrap();
    assert_eq!(loaded.adapter.generation, attested.manifest["attestation"]["generation"]);
    assert!(loaded.replaced.is_none());
    let timing = loaded.timing;
    assert!(timing.read > 0.0 && timing.verify > 0.0 && timing.publish > 0.0, "{timing:?}");
    // In every precision this machine can serve.
    for precision in [understudy_model::Precision::Bf16, understudy_model::Precision::Q8] {
        let config = ModelConfig::tiny(Family::Llama);
        let model = BaseModel::random_with(config, 7, &here(), precision).unwrap();
        let engine = Engine::start(model, "tiny", Config::default()).unwrap();
        engine.load_adapter("t", &attested.path).unwrap();
    }
    assert!(
        tolerance(Precision::F32, Precision::F32) < tolerance(Precision::Bf16, Precision::Bf16)
    );
    // What was trained in bf16 was seen 0.09 off in f32, and is served there.
    assert!(tolerance(Precision::Bf16, Precision::Bf16) < 0.09);
    assert!(tolerance(Precision::Bf16, Precision::F32) > 0.1);
}

#[test]
fn one_flipped_weight_is_seen_by_its_norm_or_by_the_digest() {
    let why = attested().with_weight(|value| value * 2.0 + 0.1).refusal();
    assert_says(&why, &["of layers.0.", "has norm", "attested was"]);
    // A flipped sign leaves every norm as it was, and is far below what any probe could see.
    let why = attested().with_weight(|value| -value).refusal();
    assert_says(&why, &["digest", "were written with", "changed since"]);
}

#[test]
fn another_base_is_seen_by_its_digest_or_by_what_it_says() {
    let attested = attested();
    let other = || BaseModel::random(ModelConfig::tiny(Family::Llama), 8, &here()).unwrap();
    let engine = Engine::start(other(), "tiny", Config::default()).unwrap();
    assert_says(&refusal(&engine, &attested.path), &["other base weights"]);
    // One that goes by the right name.
    let forged = BaseModel { digests: model().digests, ..other() };
    let engine = Engine::start(forged, "tiny", Config::default()).unwrap();
    let why = refusal(&engine, &attested.path);
    assert_says(&why, &["probe 1 without the adapter is off by", "nats per token", "0.002"]);
}

#[test]
fn an_adapter_that_scores_its_probes_otherwise_is_refused() {
    let claim = attested();
    let score = claim.manifest["attestation"]["probes"][1]["adapted"][0].as_f64().unwrap();
    let why = claim.claiming("/probes/1/adapted/0", score - 0.5).refusal();
    assert_says(&why, &["probe 2 with the adapter is off by 0.07"]);
    let why = attested().claiming("/probes", json!([])).refusal();
    assert_says(&why, &["attests 0 probes"]);
    let why = attested().claiming("/probes/0/tokens", vec![1; 300]).refusal();
    assert_says(&why, &["do not match their scores"]);
}

#[test]
fn modules_that_do_not_bind_as_attested_are_named() {
    let mut more = attested();
    let modules = more.manifest["attestation"]["modules"].as_array_mut().unwrap();
    let mut extra = modules[0].clone();
    extra["path"] = "layers.9.self_attn.q_proj".into();
    modules.push(extra);
    more.write();
    assert_says(&more.refusal(), &["14 modules bind and 15 were", "layers.9.self_attn.q_proj"]);

    let why = attested().claiming("/modules/3/inputs", 48).refusal();
    assert_says(&why, &["layers.0.", "and was attested to map 48 to"]);
    let why = attested().claiming("/rank", 8).refusal();
    assert_says(&why, &["it has rank 4 and scale 2", "attested with rank 8"]);
}

#[test]
fn a_wrong_rank_or_a_value_that_is_no_number_is_refused_with_its_tensor() {
    let why = attested().with_setting("r", 8).refusal();
    assert_says(&why, &["lora_", "has shape", "base and config expect [", "8"]);
    let why = attested().with_weight(|_| f32::NAN).refusal();
    assert_says(&why, &["layers.0.", "holds a value that is not finite"]);
    let why = attested().with_weight(|_| f32::INFINITY).refusal();
    assert_says(&why, &["holds a value that is not finite"]);
}

#[test]
fn features_that_would_change_the_meaning_of_the_tensors_are_refused_by_name() {
    for (name, value) in [
        ("use_dora", json!(true)),
        ("bias", json!("all")),
        ("modules_to_save", json!(["lm_head"])),
        ("init_lora_weights", json!("pissa")),
        ("peft_type", json!("IA3")),
    ] {
        let why = attested().with_setting(name, value).refusal();
        assert_says(&why, &[name]);
    }
    let why = attested().with_setting("target_modules", json!(["q_proj"])).refusal();
    assert_says(&why, &["which target_modules does not name"]);
}
