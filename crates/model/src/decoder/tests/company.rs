//! What a token gets does not depend on what it is computed with, to the last bit.

use super::*;
use crate::{AdapterRun, Precision};

const LENGTH: usize = 150;

fn tokens(seed: u32) -> Vec<u32> {
    (0..LENGTH as u32).map(|at| (at * 7 + at * at * seed) % 256).collect()
}

/// Scores of one sequence's tokens, read in chunks of these sizes, each beside as many rows of
/// another sequence under another adapter as `beside` says.
fn scores(
    model: &BaseModel,
    chunks: &[usize],
    beside: usize,
    loras: [Option<&Lora>; 2],
) -> Vec<f32> {
    let decoder = &model.decoder;
    let cache = || decoder.cache().unwrap();
    let (tokens, others) = (tokens(3), tokens(5));
    let (mut own, mut scores, mut at) = (cache(), Vec::new(), 0);
    for chunk in chunks {
        let mut other = cache();
        let mut batch = Batch::default();
        let span = batch.push(&tokens[at..at + chunk], at).rows();
        let mut caches = vec![&mut own];
        let mut runs = vec![AdapterRun { rows: span.clone(), lora: loras[0] }];
        if beside > 0 {
            let rows = batch.push(&others[..beside], 0).rows();
            runs.push(AdapterRun { rows, lora: loras[1] });
            caches.push(&mut other);
        }
        let hidden = decoder.infer(&batch, &mut caches, &runs).unwrap();
        let logits = decoder.logits(&hidden).unwrap();
        scores.extend(values(&logits.narrow(0, span.start, span.len()).unwrap()));
        at += chunk;
    }
    assert_eq!(at, LENGTH);
    scores
}

#[test]
fn chunks_and_neighbours_change_no_bit_in_any_precision() {
    use Precision::{Bf16, F32, Int4, Int8, Q4, Q8};
    for (precision, family) in [
        (F32, Family::Llama),
        (Bf16, Family::Qwen2),
        (Int8, Family::Llama),
        (Int4, Family::Qwen3),
        (Q8, Family::Llama),
        (Q4, Family::Llama),
    ] {
        let config = ModelConfig::tiny(family);
        let model = BaseModel::random_with(config, 7, &Device::Cpu, precision).unwrap();
        let first = trained(&model.decoder, Targets::AllLinear, 3);
        let second = trained(&model.decoder, Targets::AllLinear, 4);
        for loras in [[None, None], [Some(&first), Some(&second)], [Some(&first), None]] {
            let whole = scores(&model, &[LENGTH], 0, loras);
            for (chunks, beside) in [
                (&[LENGTH][..], 1),
                (&[LENGTH], 120),
                (&[1; LENGTH], 0),
                (&[1; LENGTH], 9),
                (&[3, 70, 1, 63, 13], 0),
                (&[64, 64, 22], 70),
            ] {
                let same = scores(&model, chunks, beside, loras) == whole;
                assert!(same, "{precision:?}, {} chunks beside {beside} rows", chunks.len());
            }
        }
    }
}
