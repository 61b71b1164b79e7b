use super::*;
use crate::{
    cache::{Blocks, KvDtype},
    config::{Family, ModelConfig},
    kernels::reference::{assert_near, differences, noise},
};

const SHAPE: HeadShape = HeadShape { heads: 4, kv_heads: 2, dim: 6 };

fn width() -> usize {
    SHAPE.q_dim() + 2 * SHAPE.kv_dim()
}

/// One sequence without a past, straight from the formula, in f64.
fn definition(qkv: &[f64], past: usize) -> Vec<f64> {
    let (q_dim, kv_dim, dim) = (SHAPE.q_dim(), SHAPE.kv_dim(), SHAPE.dim);
    let rows: Vec<&[f64]> = qkv.chunks_exact(width()).collect();
    let mut out = Vec::new();
    for (index, row) in rows.iter().enumerate().skip(past) {
        for head in 0..SHAPE.heads {
            let shared = head / (SHAPE.heads / SHAPE.kv_heads) * dim;
            let query = &row[head * dim..(head + 1) * dim];
            let weights: Vec<f64> = rows[..=index]
                .iter()
                .map(|row| {
                    let key = &row[q_dim + shared..][..dim];
                    let score: f64 = query.iter().zip(key).map(|(q, k)| q * k).sum();
                    (score / (dim as f64).sqrt()).exp()
                })
                .collect();
            let total: f64 = weights.iter().sum();
            for column in 0..dim {
                let values = rows[..=index].iter().map(|row| row[q_dim + kv_dim + shared + column]);
                out.push(weights.iter().zip(values).map(|(w, v)| w * v).sum::<f64>() / total);
            }
        }
    }
    out
}

/// The rows after `past` of fused rows, reading keys and values from all of them.
fn sequence(qkv: &[f32], past: usize) -> Sequence<'_> {
    Sequence {
        queries: &qkv[past * width()..],
        query_stride: width(),
        rows: qkv.len() / width() - past,
        keys: &qkv[SHAPE.q_dim()..],
        values: &qkv[SHAPE.q_dim() + SHAPE.kv_dim()..],
        key_stride: width(),
        past,
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

fn expected(qkv: &[f32], past: usize) -> Vec<f32> {
    definition(&wide(qkv), past).iter().map(|value| *value as f32).collect()
}

#[test]
fn ragged_sequences_with_and_without_a_past_agree_with_the_definition() {
    // (rows in all, rows already cached): prefill over several blocks, chunk, and single steps.
    let cases = [(150, 0), (1, 0), (90, 20), (9, 8), (7, 0), (70, 69)];
    let inputs: Vec<Vec<f32>> =
        cases.iter().zip(1..).map(|((rows, _), seed)| noise(rows * width(), seed)).collect();
    let sequences: Vec<Sequence<'_>> =
        cases.iter().zip(&inputs).map(|((_, past), qkv)| sequence(qkv, *past)).collect();
    let rows: usize = sequences.iter().map(|sequence| sequence.rows).sum();
    let (mut out, mut lse) = (vec![9.0; rows * SHAPE.q_dim()], vec![9.0; rows * SHAPE.heads]);
    attention(&sequences, SHAPE, &mut out, &mut lse);
    let mut at = 0;
    for ((_, past), qkv) in cases.iter().zip(&inputs) {
        let expected = expected(qkv, *past);
        assert_near(&out[at..at + expected.len()], &expected, 1e-5);
        at += expected.len();
    }
    assert_eq!(at, out.len());
}

/// The blocks that fused rows leave behind.
fn blocks_of(qkv: &[f32], shape: HeadShape) -> Blocks {
    let mut config = ModelConfig::tiny(Family::Llama);
    (config.layers, config.kv_heads, config.head_dim) = (1, shape.kv_heads, shape.dim);
    let width = shape.q_dim() + 2 * shape.kv_dim();
    let mut blocks = Blocks::new(&config, KvDtype::F32);
    blocks.reserve(0, qkv.len() / width);
    for (token, row) in qkv.chunks_exact(width).enumerate() {
        let (keys, values) = row[shape.q_dim()..].split_at(shape.kv_dim());
        blocks.write(0, token, keys, values);
    }
    blocks
}

#[test]
fn rows_over_blocks_agree_with_rows_over_rows_and_do_not_see_each_other() {
    // Groups of one to seven queries, widths with and without a rest, contexts around a block's end.
    for (heads, kv_heads, dim) in [(4, 2, 6), (9, 3, 64), (2, 2, 20), (5, 1, 16), (7, 1, 32)] {
        let shape = HeadShape { heads, kv_heads, dim };
        let width = shape.q_dim() + 2 * shape.kv_dim();
        for tokens in [1, 5, 16, 17, 40] {
            let qkv = noise(tokens * width, tokens as u64);
            let whole = Sequence {
                queries: &qkv,
                query_stride: width,
                rows: tokens,
                keys: &qkv[shape.q_dim()..],
                values: &qkv[shape.q_dim() + shape.kv_dim()..],
                key_stride: width,
                past: 0,
            };
            let (mut expected, mut sums) =
                (vec![0.0; tokens * shape.q_dim()], vec![0.0; tokens * heads]);
            attention(&[whole], shape, &mut expected, &mut sums);
            let blocks = blocks_of(&qkv, shape);
            let newest = |rows: std::ops::Range<usize>| Newest {
                queries: &qkv[rows.start * width..rows.end * width],
                query_stride: width,
                rows: rows.len(),
                blocks: blocks.layer(0),
                context: rows.end,
            };
            let attended = |parts: &[Newest<'_>]| {
                let (mut out, mut lse) = (vec![9.0; expected.len()], vec![9.0; sums.len()]);
                attention_over_blocks(parts, shape, &mut out, &mut lse);
                (out, lse)
            };
            let (out, lse) = attended(&[newest(0..tokens)]);
            assert_near(&out, &expected, 1e-5);
            assert_near(&lse, &sums, 1e-5);
            let single: Vec<Newest<'_>> = (0..tokens).map(|row| newest(row..row + 1)).collect();
            assert_eq!(attended(&single), (out.clone(), lse.clone()), "to the last bit");
            let cut = tokens / 3;
            let chunks: Vec<Newest<'_>> =
                [0..cut, cut..tokens].into_iter().filter(|r| !r.is_empty()).map(newest).collect();
            assert_eq!(attended(&chunks), (out, lse), "to the last bit");
        }
    }
}

#[test]
fn backward_agrees_with_finite_differences() {
    let inputs = [noise(5 * width(), 1), noise(width(), 2), noise(70 * width(), 3)];
    let sequences = [0, 1, 2].map(|index| sequence(&inputs[index], 0));
    let rows = 5 + 1 + 70;
    let (mut out, mut lse) = (vec![0.0; rows * SHAPE.q_dim()], vec![0.0; rows * SHAPE.heads]);
    attention(&sequences, SHAPE, &mut out, &mut lse);
    let d_out = noise(out.len(), 4);
    let mut first = 0;
    let given = sequences.map(|sequence| {
        let rows = first..first + sequence.rows;
        first = rows.end;
        let q = rows.start * SHAPE.q_dim()..rows.end * SHAPE.q_dim();
        let lse = &lse[rows.start * SHAPE.heads..rows.end * SHAPE.heads];
        Given { sequence, out: &out[q.clone()], lse, d_out: &d_out[q] }
    });
    let mut d_qkv = vec![9.0; rows * width()];
    attention_backward(&given, SHAPE, &mut d_qkv);
    let mut at = 0;
    for (input, given) in inputs.iter().zip(&given) {
        // Differences of every input of a long sequence take long; its gradient shares the code.
        let gradient = &d_qkv[at..at + input.len()];
        at += input.len();
        if given.sequence.rows < 10 {
            let measured = differences(input, given.d_out, |qkv| definition(qkv, 0));
            assert_near(gradient, &measured, 1e-4);
        } else {
            along_a_direction(input, given.d_out, gradient);
        }
    }
}

/// The derivative in one random direction, which touches every input at once.
fn along_a_direction(input: &[f32], d_out: &[f32], gradient: &[f32]) {
    let direction = noise(input.len(), 7);
    let objective = |step: f64| -> f64 {
        let moved: Vec<f64> =
            wide(input).iter().zip(&direction).map(|(x, d)| x + step * f64::from(*d)).collect();
        definition(&moved, 0).iter().zip(d_out).map(|(y, w)| y * f64::from(*w)).sum()
    };
    let measured = (objective(1e-5) - objective(-1e-5)) / 2e-5;
    let computed: f64 =
        gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
    assert!((measured - computed).abs() < 1e-4 * measured.abs().max(1.0), "{measured} {computed}");
}
