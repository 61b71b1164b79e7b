//! Against sentence-transformers, on a tiny random BERT. Values and model are made by
//! `tests/golden/make_embedding_golden.py`.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

use serde::Deserialize;
use understudy_embedding::{EmbeddingError, SentenceEncoder};
use understudy_inference::Embedder;

#[derive(Deserialize)]
struct Case {
    text: String,
    vector: Vec<f32>,
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/embedding")
}

fn cases() -> Vec<Case> {
    serde_json::from_slice(&fs::read(golden().join("vectors.json")).unwrap()).unwrap()
}

fn tiny() -> SentenceEncoder {
    SentenceEncoder::load(&golden()).unwrap()
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

#[test]
fn vectors_are_those_of_sentence_transformers() {
    let (encoder, cases) = (tiny(), cases());
    let texts: Vec<&str> = cases.iter().map(|case| case.text.as_str()).collect();
    let together = encoder.embed(&texts).unwrap();
    assert!(cases.len() >= 8 && encoder.dimensions() == 32);
    for (case, vector) in cases.iter().zip(&together) {
        let off = difference(&case.vector, vector);
        assert!(off <= 1e-5, "{:?} is off by {off}", case.text);
    }
    // The cases tell texts apart, so a constant vector would not pass.
    for (at, case) in cases.iter().enumerate() {
        let mut others = cases[..at].iter();
        assert!(others.all(|other| difference(&other.vector, &case.vector) > 0.02), "{at}");
    }
}

#[test]
fn neighbours_in_a_batch_change_nothing() {
    let (encoder, cases) = (tiny(), cases());
    let alone: Vec<Vec<f32>> =
        cases.iter().map(|case| encoder.embed(&[&case.text]).unwrap().remove(0)).collect();
    // Every rotation puts a text beside others, in other places of the pass, and among its likes.
    for turn in 0..cases.len() {
        let mut texts: Vec<&str> = cases.iter().map(|case| case.text.as_str()).collect();
        texts.rotate_left(turn);
        texts.extend_from_within(..3);
        let vectors = encoder.embed(&texts).unwrap();
        for (text, vector) in texts.iter().zip(&vectors) {
            let at = cases.iter().position(|case| case.text == *text).unwrap();
            let off = difference(&alone[at], vector);
            assert!(off <= 1e-6, "{text:?} moved by {off} after {turn}");
        }
    }
}

#[test]
fn more_texts_than_one_pass_holds_keep_their_order() {
    let (encoder, cases) = (tiny(), cases());
    let texts: Vec<&str> = (0..400).map(|at| cases[(at * 7) % cases.len()].text.as_str()).collect();
    let vectors = encoder.embed(&texts).unwrap();
    for (at, vector) in vectors.iter().enumerate() {
        assert!(difference(&cases[(at * 7) % cases.len()].vector, vector) <= 1e-5, "{at}");
    }
    assert!(encoder.embed(&[]).unwrap().is_empty());
}

#[test]
fn every_vector_has_unit_length_and_what_is_cut_off_does_not_count() {
    let encoder = tiny();
    // 64 positions, two of them markers.
    let fits = "order ".repeat(62);
    let texts =
        [fits.as_str(), &format!("{fits}refund charged"), &"order ".repeat(1_000_000), "\0"];
    let vectors = encoder.embed(&texts).unwrap();
    for vector in &vectors {
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
    }
    assert_eq!(difference(&vectors[0], &vectors[1]), 0.0);
    assert_eq!(difference(&vectors[0], &vectors[2]), 0.0);
    let shorter = encoder.embed(&["order ".repeat(61).as_str()]).unwrap();
    assert!(difference(&vectors[0], &shorter[0]) > 1e-4, "the last token that fits counts");
}

#[test]
fn many_threads_may_share_one_encoder() {
    let (encoder, cases) = (tiny(), cases());
    thread::scope(|scope| {
        for shift in 0..4 {
            let (encoder, cases) = (&encoder, &cases);
            scope.spawn(move || {
                for at in 0..cases.len() {
                    let case = &cases[(at + shift) % cases.len()];
                    let vector = encoder.embed(&[&case.text]).unwrap().remove(0);
                    assert!(difference(&case.vector, &vector) <= 1e-5);
                }
            });
        }
    });
}

/// A copy of the model to damage.
fn copy() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        fs::copy(golden().join(name), home.path().join(name)).unwrap();
    }
    home
}

#[test]
fn the_name_is_of_the_content_not_of_the_place() {
    let (here, home) = (tiny(), copy());
    let elsewhere = SentenceEncoder::load(home.path()).unwrap();
    assert_eq!(here.name(), elsewhere.name());
    assert!(here.name().starts_with("bert-2x32@"), "{}", here.name());
    let path = home.path().join("model.safetensors");
    let mut weights = fs::read(&path).unwrap();
    *weights.last_mut().unwrap() ^= 1;
    fs::write(&path, weights).unwrap();
    assert_ne!(here.name(), SentenceEncoder::load(home.path()).unwrap().name());
}

#[test]
fn what_is_not_a_sentence_encoder_is_refused_with_the_reason() {
    let refusal = |home: &Path| SentenceEncoder::load(home).unwrap_err();
    let home = copy();
    fs::remove_file(home.path().join("model.safetensors")).unwrap();
    let error = refusal(home.path());
    assert!(
        matches!(&error, EmbeddingError::Read { path, .. } if path.ends_with("model.safetensors"))
    );
    assert!(error.to_string().contains("understudy model pull all-minilm-l6-v2"), "{error}");

    let home = copy();
    let edit = |name: &str, from: &str, to: &str| {
        let path = home.path().join(name);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{name} has no {from}");
        fs::write(path, text.replace(from, to)).unwrap();
    };
    edit("config.json", "\"intermediate_size\": 64", "\"intermediate_size\": 128");
    let error = refusal(home.path()).to_string();
    assert!(error.contains("has shape [64, 32] instead of [128, 32]"), "{error}");
    edit("config.json", "\"intermediate_size\": 128", "\"intermediate_size\": 64");
    edit("config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3");
    let error = refusal(home.path()).to_string();
    assert!(error.contains("no tensor `encoder.layer.2."), "{error}");
    edit("config.json", "\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2");
    fs::create_dir(home.path().join("1_Pooling")).unwrap();
    let cls = r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#;
    fs::write(home.path().join("1_Pooling/config.json"), cls).unwrap();
    let error = refusal(home.path()).to_string();
    assert!(error.contains("only the mean is supported"), "{error}");
    fs::write(home.path().join("model.safetensors"), b"GGUF").unwrap();
    fs::remove_dir_all(home.path().join("1_Pooling")).unwrap();
    assert!(matches!(refusal(home.path()), EmbeddingError::Unsuitable { .. }));
}
