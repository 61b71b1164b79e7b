//! Whole stages: what is learnt, what is left untouched, what is refused.

use std::ops::ControlFlow;

use serde_json::json;
use understudy_ident::{DatasetVersion, Digest};
use understudy_manifest::{AdapterManifest, DatasetLineage, SftExample};
use understudy_message::Message;
use understudy_model::{Batch, adapter_digest, attest, read_peft};

use super::fixtures::{base, lora, moved, pairs, request, sft, stage, train};
use crate::{
    Phase, Provenance, TrainError, TrainOptions, TrainRequest, plan, publish, train_stage,
};

#[test]
fn imitation_learns_eight_examples_by_heart() {
    let (base, lora, rows) = (base(), lora(), sft(8));
    let settings = json!({"method": "sft", "epochs": 60, "batch_size": 4, "learning_rate": 1e-2});
    let stage = stage(settings);
    let trained = train(&TrainRequest { sft: &rows, ..request(&base, &stage, &lora) });
    let lineage = &trained.lineage;
    assert!(lineage.first_loss > 2.0 && lineage.last_loss < 0.05, "{lineage:?}");
    assert_eq!((lineage.steps, lineage.examples, lineage.skipped_steps), (120, 8, 0));
}

/// The same request is answered in two ways, and only the lesson before it says which is right.
#[test]
fn imitation_learns_to_read_the_lessons_of_a_prompt() {
    let (base, lora) = (base(), lora());
    let asked = |shown: bool| {
        let example = |(index, mut example): (usize, SftExample)| {
            let (lesson, answer) = [("say left", "left"), ("say right", "right")][index % 2];
            let block = format!("<memory release=\"r\">\n- (m1) {lesson}\n</memory>");
            example.prompt = vec![Message::user("which way?")];
            if shown {
                example.prompt.insert(0, Message::system(block));
            }
            example.completion = vec![Message::assistant(answer)];
            example
        };
        sft(8).into_iter().enumerate().map(example).collect::<Vec<_>>()
    };
    let stage =
        stage(json!({"method": "sft", "epochs": 60, "batch_size": 4, "learning_rate": 1e-2}));
    let learnt = |shown: bool| {
        let rows = asked(shown);
        train(&TrainRequest { sft: &rows, ..request(&base, &stage, &lora) }).lineage.last_loss
    };
    let (with, without) = (learnt(true), learnt(false));
    assert!(with < 0.05 && without > 0.1, "{with} with lessons, {without} without");
}

#[test]
fn preference_learns_eight_pairs_to_an_accuracy_of_one() {
    let (base, lora, pairs) = (base(), lora(), pairs(8));
    let folder = tempfile::tempdir().unwrap();
    let metrics = folder.path().join("metrics.jsonl");
    let settings = json!({"method": "dpo", "epochs": 10, "batch_size": 8, "learning_rate": 5e-3});
    let stage = stage(settings);
    let options = TrainOptions { metrics: Some(&metrics), ..TrainOptions::default() };
    let request = TrainRequest { pairs: &pairs, options, ..request(&base, &stage, &lora) };
    let trained = train(&request);
    let lines = std::fs::read_to_string(&metrics).unwrap();
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 10);
    assert!((trained.lineage.first_loss - std::f64::consts::LN_2).abs() < 1e-6);
    let last = lines.last().unwrap();
    assert_eq!(last["rewards/accuracies"], 1.0);
    assert!(last["rewards/margins"].as_f64().unwrap() > 1.0, "{last}");
    assert_eq!(last["num_tokens"], trained.lineage.tokens);
}

#[test]
fn the_base_is_the_same_to_the_bit_after_training() {
    let (base, lora, rows) = (base(), lora(), sft(4));
    let batch = Batch::of(&[[1_u32, 2, 3, 4, 5]]);
    let logits = || {
        let hidden = base.decoder.hidden(&batch, None).unwrap();
        base.decoder.logits(&hidden).unwrap().to_vec2::<f32>().unwrap()
    };
    let before = logits();
    let stage = stage(json!({"method": "sft", "epochs": 3}));
    let trained = train(&TrainRequest { sft: &rows, ..request(&base, &stage, &lora) });
    assert_eq!(logits(), before);
    let hidden = base.decoder.hidden(&batch, Some(&trained.adapter)).unwrap();
    assert_ne!(base.decoder.logits(&hidden).unwrap().to_vec2::<f32>().unwrap(), before);
}

#[test]
fn a_reference_that_starts_with_the_adapter_sees_no_margin_and_one_without_it_does() {
    let (base, lora, pairs) = (base(), lora(), pairs(4));
    let start = moved(&base);
    let first_loss = |reference: &str| {
        let stage = stage(json!({"method": "dpo", "batch_size": 4, "reference": reference}));
        let request =
            TrainRequest { pairs: &pairs, start: Some(&start), ..request(&base, &stage, &lora) };
        train(&request).lineage.first_loss
    };
    let ln_2 = std::f64::consts::LN_2;
    assert!((first_loss("start") - ln_2).abs() < 1e-6);
    assert!((first_loss("adapter_off") - ln_2).abs() > 1e-3);
}

#[test]
fn progress_is_told_about_every_pair_and_every_step() {
    let (base, lora, pairs) = (base(), lora(), pairs(5));
    let stage = stage(json!({"method": "dpo", "batch_size": 2, "epochs": 2}));
    let request = TrainRequest { pairs: &pairs, ..request(&base, &stage, &lora) };
    let mut seen = Vec::new();
    let mut note = |progress: &crate::Progress| {
        seen.push((progress.phase, progress.done, progress.total));
        ControlFlow::Continue(())
    };
    train_stage(&request, &mut note).unwrap();
    let steps: Vec<_> = seen.iter().filter(|(phase, ..)| *phase == Phase::Training).collect();
    assert_eq!(steps.len(), 6);
    assert_eq!(seen.last(), Some(&(Phase::Training, 6, 6)));
    assert!(seen.contains(&(Phase::Reference, 5, 5)));
}

#[test]
fn what_is_not_finite_is_skipped_and_counted_and_ends_a_run_that_diverged() {
    let (base, lora, rows) = (base(), lora(), sft(4));
    let run = |epochs: u32| {
        let settings = json!({"method": "sft", "epochs": epochs, "learning_rate": 1e30});
        let stage = stage(settings);
        let request = TrainRequest { sft: &rows, ..request(&base, &stage, &lora) };
        train_stage(&request, &mut |_| ControlFlow::Continue(()))
    };
    let few = run(5).unwrap().lineage;
    assert_eq!((few.steps, few.skipped_steps), (5, 4));
    assert!(few.last_loss.is_finite());
    assert!(matches!(run(20).unwrap_err(), TrainError::Diverged { steps: 10 }));
}

#[test]
fn a_gradient_broken_from_the_start_names_its_tensor() {
    let (base, lora, rows) = (base(), lora(), sft(4));
    let mut start = moved(&base);
    start.values_mut().fill(f32::MAX);
    let stage = stage(json!({"method": "sft"}));
    let request = TrainRequest { sft: &rows, start: Some(&start), ..request(&base, &stage, &lora) };
    let error = train_stage(&request, &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(matches!(&error, TrainError::BrokenGradient { tensor, .. } if tensor.contains("lora")));
}

#[test]
fn stages_without_usable_examples_or_with_a_foreign_adapter_are_refused() {
    let (base, lora, rows) = (base(), lora(), sft(2));
    let stage = stage(json!({"method": "sft", "max_tokens": 3}));
    let too_short = TrainRequest { sft: &rows, ..request(&base, &stage, &lora) };
    let error = plan(&too_short).unwrap_err();
    assert!(error.to_string().contains("2 are longer than 3 tokens"), "{error}");

    let start = moved(&base);
    let wider = understudy_manifest::Lora { rank: 8, ..lora };
    let stage = super::fixtures::stage(json!({"method": "sft"}));
    let foreign =
        TrainRequest { sft: &rows, start: Some(&start), ..request(&base, &stage, &wider) };
    let error = plan(&foreign).unwrap_err();
    assert!(matches!(error, TrainError::StartMismatch { .. }), "{error}");
}

#[test]
fn the_plan_is_what_happens() {
    let (base, lora, rows, pairs) = (base(), lora(), sft(7), pairs(7));
    let mut flops = Vec::new();
    for method in ["sft", "dpo"] {
        let stage = stage(json!({"method": method, "epochs": 2, "batch_size": 3}));
        let request = TrainRequest { sft: &rows, pairs: &pairs, ..request(&base, &stage, &lora) };
        let planned = plan(&request).unwrap();
        let lineage = train(&request).lineage;
        assert_eq!(planned.steps, lineage.steps);
        assert_eq!(planned.examples, lineage.examples);
        assert_eq!(2 * planned.tokens_per_epoch, lineage.tokens);
        assert!(planned.trained_tokens_per_epoch < planned.tokens_per_epoch);
        flops.push(planned.flops);
    }
    assert!(flops[1] > 1.5 * flops[0], "a pair is two rows that share a prompt, and a reference");
}

#[test]
fn a_published_adapter_reads_back_with_its_lineage_and_is_never_overwritten() {
    let (base, lora, rows) = (base(), lora(), sft(4));
    let stage = stage(json!({"method": "sft"}));
    let trained = train(&TrainRequest { sft: &rows, ..request(&base, &stage, &lora) });
    let digest = Digest::of(b"anything");
    let version = DatasetVersion { name: "triage".parse().unwrap(), digest };
    let provenance = Provenance {
        task: "triage".to_owned(),
        base: "tiny".to_owned(),
        recipe_digest: digest,
        dataset: DatasetLineage { version, sft_rows: 4, pair_rows: 0 },
        parent: None,
        code_version: "0".to_owned(),
        run: None,
    };
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("adapter");
    let write = || {
        let stages = vec![trained.lineage.clone()];
        publish(&base, &trained.adapter, stages, provenance.clone(), &directory)
    };
    let published = write().unwrap();
    let read = read_peft(&directory, base.decoder.config()).unwrap();
    assert_eq!(read.lora.values(), trained.adapter.values());
    assert_eq!(published.digest.to_hex(), adapter_digest(&directory).unwrap());
    let manifest = std::fs::read_to_string(directory.join(AdapterManifest::FILE)).unwrap();
    let manifest: AdapterManifest = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest.base_digest, base.digests.base);
    assert_eq!(manifest.stages[0].settings, stage);
    assert_eq!(manifest.stages[0].steps, 2);
    let attestation = manifest.attestation.unwrap();
    assert_eq!(attestation.generation, published.digest);
    assert_eq!(attestation.modules.len(), read.lora.layout().parameters().len() / 2);
    assert!(attestation.probes.iter().any(|probe| probe.base != probe.adapted), "it acts");
    // Whoever reads the files measures the same, to the last bit on the same machine.
    assert_eq!(attest(&base, &read.lora, published.digest).unwrap(), attestation);
    assert!(write().is_err());
}
