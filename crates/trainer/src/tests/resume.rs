//! Equal inputs give equal bytes, whatever happened to the process in between.

use std::{fs, ops::ControlFlow, path::Path, time::Duration};

use serde_json::{Value, json};
use understudy_manifest::TrainStage;

use super::fixtures::{base, lora, pairs, request, sft, stage, train};
use crate::{TrainError, TrainOptions, TrainRequest, train_stage};

fn settings(method: &str) -> TrainStage {
    stage(json!({"method": method, "epochs": 3, "batch_size": 2, "weight_decay": 0.01}))
}

/// Saves after every step.
fn keeping<'a>(checkpoint: &'a Path, metrics: &'a Path) -> TrainOptions<'a> {
    TrainOptions {
        checkpoint: Some(checkpoint),
        checkpoint_every: Duration::ZERO,
        metrics: Some(metrics),
        ..TrainOptions::default()
    }
}

/// The metrics without what depends on the clock.
fn timeless(path: &Path) -> Vec<Value> {
    let strip = |line: &str| {
        let mut value: Value = serde_json::from_str(line).unwrap();
        let object = value.as_object_mut().unwrap();
        object.remove("step_time");
        object.remove("tokens_per_second");
        value
    };
    fs::read_to_string(path).unwrap().lines().map(strip).collect()
}

#[test]
fn a_run_killed_at_any_step_ends_with_the_bytes_of_one_that_was_not() {
    let (base, lora, rows, pairs) = (base(), lora(), sft(5), pairs(5));
    for method in ["sft", "dpo"] {
        let stage = settings(method);
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let (live, metrics) = (place("live"), place("metrics"));
        let whole = TrainRequest { sft: &rows, pairs: &pairs, ..request(&base, &stage, &lora) };
        let request = TrainRequest { options: keeping(&live, &metrics), ..whole.clone() };
        // What a kill leaves behind: the last checkpoint, and metrics that are ahead of it.
        let mut copies = Vec::new();
        let uninterrupted = train_stage(&request, &mut |progress| {
            if live.exists() {
                let copy = place(&format!("killed-{:?}-{}", progress.phase, progress.done));
                fs::copy(&live, &copy).unwrap();
                fs::copy(&metrics, copy.with_extension("metrics")).unwrap();
                copies.push(copy);
            }
            ControlFlow::Continue(())
        });
        let expected = uninterrupted.unwrap();
        assert_eq!(train(&whole).adapter.values(), expected.adapter.values());
        assert_eq!(copies.len(), 8);
        for checkpoint in copies {
            let lines = checkpoint.with_extension("metrics");
            let options = keeping(&checkpoint, &lines);
            let resumed = train(&TrainRequest { options, ..whole.clone() });
            assert_eq!(resumed.adapter.values(), expected.adapter.values());
            assert_eq!(resumed.lineage.tokens, expected.lineage.tokens);
            assert_eq!(resumed.lineage.first_loss, expected.lineage.first_loss);
            assert_eq!(timeless(&lines), timeless(&metrics));
        }
    }
}

#[test]
fn a_run_that_is_told_to_stop_saves_and_goes_on_later() {
    let (base, lora, rows) = (base(), lora(), sft(5));
    let (stage, folder) = (settings("sft"), tempfile::tempdir().unwrap());
    let checkpoint = folder.path().join("checkpoint");
    let whole = TrainRequest { sft: &rows, ..request(&base, &stage, &lora) };
    let options = TrainOptions { checkpoint: Some(&checkpoint), ..TrainOptions::default() };
    let request = TrainRequest { options, ..whole.clone() };
    let stopped = train_stage(&request, &mut |progress| match progress.done {
        4 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert!(matches!(stopped.unwrap_err(), TrainError::Interrupted { step: 4 }));

    let mut first = None;
    let resumed = train_stage(&request, &mut |progress| {
        first.get_or_insert(progress.done);
        ControlFlow::Continue(())
    });
    assert_eq!(first, Some(5));
    let expected = train(&whole);
    assert_eq!(resumed.unwrap().adapter.values(), expected.adapter.values());

    // Complete, it yields the same again without a step.
    let again = train_stage(&request, &mut |_| panic!("nothing is left to do")).unwrap();
    assert_eq!(again.adapter.values(), expected.adapter.values());
    assert_eq!(again.lineage.steps, expected.lineage.steps);
}

#[test]
fn a_checkpoint_fits_only_the_run_that_wrote_it() {
    let (base, lora, rows) = (base(), lora(), sft(4));
    let (stage, folder) = (settings("sft"), tempfile::tempdir().unwrap());
    let checkpoint = folder.path().join("checkpoint");
    let options = TrainOptions { checkpoint: Some(&checkpoint), ..TrainOptions::default() };
    let request = TrainRequest { sft: &rows, options, ..request(&base, &stage, &lora) };
    train(&request);

    let faster = TrainStage { learning_rate: 1e-3, ..stage.clone() };
    let changed = [
        TrainRequest { stage: &faster, ..request.clone() },
        TrainRequest { seed: 18, ..request.clone() },
        TrainRequest { sft: &rows[..3], ..request.clone() },
    ];
    for request in changed {
        let error = train_stage(&request, &mut |_| ControlFlow::Continue(())).unwrap_err();
        assert!(matches!(error, TrainError::ForeignCheckpoint { .. }), "{error}");
    }
}

#[test]
fn the_seed_decides_the_bytes() {
    let (base, lora, rows, stage) = (base(), lora(), sft(4), settings("sft"));
    let bytes = |seed| {
        let request = TrainRequest { sft: &rows, seed, ..request(&base, &stage, &lora) };
        train(&request).adapter.values().to_vec()
    };
    assert_eq!(bytes(1), bytes(1));
    assert_ne!(bytes(1), bytes(2));
}
