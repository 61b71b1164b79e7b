//! A model in bf16 against the same model in f32.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use understudy_model::{
    AdapterRun, BaseModel, Batch, Device, Family, KvDtype, Lora, LoraSpec, ModelConfig, Precision,
    Tensor, Term,
};

fn model(family: Family, precision: Precision) -> BaseModel {
    let config = ModelConfig { tied_head: family != Family::Qwen3, ..ModelConfig::tiny(family) };
    BaseModel::random_with(config, 7, &Device::Cpu, precision).unwrap()
}

/// Long enough for bands of rows, and one sequence of a single token.
fn batch() -> Batch {
    let tokens = |first: u32, len: u32| (0..len).map(|at| (first + 37 * at) % 320).collect();
    let sequences: [Vec<u32>; 3] = [tokens(1, 90), tokens(300, 1), tokens(40, 70)];
    Batch::of(&sequences)
}

fn adapter(model: &BaseModel) -> Lora {
    let mut lora = Lora::init(model.decoder.config(), &LoraSpec::standard(), 3).unwrap();
    for (index, value) in lora.values_mut().iter_mut().enumerate() {
        *value += ((index * 7919 % 1000) as f32 / 1000.0 - 0.5) * 0.1;
    }
    lora
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Mean log-probability of the next tokens, and its gradient.
fn objective(model: &BaseModel) -> (f32, Vec<f32>) {
    let (decoder, lora, batch) = (&model.decoder, adapter(model), batch());
    let next = batch.spans.iter().flat_map(|span| span.rows().skip(1));
    let terms: Vec<Term> =
        next.map(|row| Term { row: row - 1, target: batch.tokens[row] }).collect();
    let coefficients = vec![1.0 / terms.len() as f32; terms.len()];
    let (hidden, tape) = decoder.train_forward(&batch, Some(&lora)).unwrap();
    let (scores, d_hidden) = decoder.log_probs_grad(&hidden, &terms, &coefficients, 1.0).unwrap();
    let mut grads = lora.zero_grads();
    decoder.backward(tape, &d_hidden, &lora, &mut grads).unwrap();
    (scores.log_probs.iter().sum::<f32>() / terms.len() as f32, grads.values().to_vec())
}

/// |a − b| / |b|, and the cosine between them.
fn compare(a: &[f32], b: &[f32]) -> (f64, f64) {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let apart: Vec<f32> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let norm = |a: &[f32]| dot(a, a).sqrt();
    (norm(&apart) / norm(b), dot(a, b) / (norm(a) * norm(b)))
}

#[test]
fn gradients_of_rounded_models_point_where_those_in_f32_do() {
    for family in [Family::Llama, Family::Qwen2, Family::Qwen3] {
        let (exact, exact_gradient) = objective(&model(family, Precision::F32));
        // Eight bits move the weights themselves further than rounding to bf16 does.
        // Four do so more than any trained model would suffer: these weights are noise.
        for (precision, most, least) in
            [(Precision::Bf16, 5e-2, 0.99), (Precision::Q8, 1e-1, 0.99), (Precision::Q4, 0.8, 0.7)]
        {
            let (rounded, gradient) = objective(&model(family, precision));
            let what = format!("{family:?} in {precision:?}");
            assert!((exact - rounded).abs() < 2e-2 * exact.abs(), "{what}: {exact}, {rounded}");
            let (apart, cosine) = compare(&gradient, &exact_gradient);
            assert!(apart <= most && cosine >= least, "{what}: off by {apart}, cosine {cosine}");
            let is_used = precision.supported(&Device::Cpu) == precision;
            assert_eq!(gradient != exact_gradient, is_used, "asked for, used where it exists");
        }
    }
}

#[test]
fn a_second_step_over_used_buffers_equals_the_first() {
    for precision in [Precision::F32, Precision::Bf16, Precision::Q8, Precision::Q4] {
        let model = model(Family::Llama, precision);
        assert_eq!(objective(&model), objective(&model));
    }
}

#[test]
fn serving_in_bf16_agrees_with_training_in_bf16() {
    let model = model(Family::Llama, Precision::Bf16);
    let (decoder, lora) = (&model.decoder, adapter(&model));
    let tokens: Vec<u32> = (0..90).map(|at| (at * 37 + 11) % 320).collect();
    let whole = decoder.hidden(&Batch::of(&[&tokens]), Some(&lora)).unwrap();
    let whole = values(&decoder.logits(&whole).unwrap());
    let mut cache = decoder.cache().unwrap();
    let mut stepped = Vec::new();
    for piece in [&tokens[..70], &tokens[70..80]].into_iter().chain(tokens[80..].chunks(1)) {
        let mut batch = Batch::default();
        batch.push(piece, cache.len());
        let runs = AdapterRun::whole(&batch, Some(&lora));
        let hidden = decoder.infer(&batch, &mut [&mut cache], &runs).unwrap();
        stepped.extend(values(&decoder.logits(&hidden).unwrap()));
    }
    // Where an f32 sum differs in its last digit, a rounded input may differ in its last.
    let (apart, _) = compare(&stepped, &whole);
    assert!(apart < 2e-3, "logits differ by {apart} of their size");
}

#[test]
fn rounded_keys_and_values_change_scores_a_little_and_the_same_for_every_cut() {
    let model = model(Family::Llama, Precision::F32);
    let (decoder, lora) = (&model.decoder, adapter(&model));
    let tokens: Vec<u32> = (0..90).map(|at| (at * 37 + 11) % 320).collect();
    let read = |dtype, piece: usize| {
        let mut cache = decoder.cache_in(dtype).unwrap();
        let mut scores = Vec::new();
        for piece in tokens.chunks(piece) {
            let mut batch = Batch::default();
            batch.push(piece, cache.len());
            let runs = AdapterRun::whole(&batch, Some(&lora));
            let hidden = decoder.infer(&batch, &mut [&mut cache], &runs).unwrap();
            scores.extend(values(&decoder.logits(&hidden).unwrap()));
        }
        scores
    };
    let [exact, rounded] = [KvDtype::F32, KvDtype::F16].map(|dtype| read(dtype, 90));
    let (apart, _) = compare(&rounded, &exact);
    assert!(apart > 0.0 && apart < 1e-3, "logits differ by {apart} of their size");
    for piece in [1, 7, 64] {
        assert_eq!(read(KvDtype::F16, piece), rounded, "to the last bit");
    }
    assert_eq!(decoder.kv_bytes(KvDtype::F32), 2 * decoder.kv_bytes(KvDtype::F16));
}

#[test]
fn f32_is_the_default_and_the_digest_does_not_depend_on_the_precision() {
    let config = || ModelConfig::tiny(Family::Llama);
    let default = BaseModel::random(config(), 7, &Device::Cpu).unwrap();
    let [f32, bf16] = [Precision::F32, Precision::Bf16].map(|p| model(Family::Llama, p));
    assert_eq!(objective(&default), objective(&f32));
    assert_eq!(default.digests, bf16.digests);
    assert_eq!(Precision::default(), Precision::F32);
}
