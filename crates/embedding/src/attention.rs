//! Attention of every token to every token of its sentence, and to no other.

use multiversion::multiversion;
use understudy_team as team;

/// Tokens whose attention one task computes.
const BAND: usize = 4;

/// Keys of one sentence, turned, and its values as they lie.
struct Sentence<'a> {
    /// `[hidden, length]`: what a token's score is summed over lies apart, the scores side by side.
    keys: Vec<f32>,
    /// `[length, 3·hidden]`: queries, keys and values of a token behind one another.
    qkv: &'a [f32],
    length: usize,
    hidden: usize,
    heads: usize,
}

/// out ← softmax(QKᵀ/√d)·V head by head within each sentence, for `qkv` `[tokens, 3·hidden]` and
/// `out` `[tokens, hidden]`. Source: Vaswani et al., "Attention Is All You Need" (2017).
pub(crate) fn attend(qkv: &[f32], lengths: &[usize], heads: usize, out: &mut [f32]) {
    let hidden = out.len() / lengths.iter().sum::<usize>().max(1);
    let (mut qkv, mut out) = (qkv, out);
    for &length in lengths {
        let (mine, later) = qkv.split_at(length * 3 * hidden);
        let (to, later_out) = out.split_at_mut(length * hidden);
        let sentence = Sentence::new(mine, (length, hidden), heads);
        team::each_chunk(to, BAND * hidden, |band, to| {
            let mut scores = vec![0.0; length];
            for (at, to) in to.chunks_mut(hidden).enumerate() {
                sentence.of_token(band * BAND + at, &mut scores, to);
            }
        });
        (qkv, out) = (later, later_out);
    }
}

impl<'a> Sentence<'a> {
    fn new(qkv: &'a [f32], (length, hidden): (usize, usize), heads: usize) -> Self {
        let mut keys = vec![0.0; hidden * length];
        for (at, token) in qkv.chunks(3 * hidden).enumerate() {
            let places = keys.iter_mut().skip(at).step_by(length);
            places.zip(&token[hidden..]).for_each(|(place, key)| *place = *key);
        }
        Self { keys, qkv, length, hidden, heads }
    }

    fn of_token(&self, token: usize, scores: &mut [f32], out: &mut [f32]) {
        let width = self.hidden / self.heads;
        let query = &self.qkv[token * 3 * self.hidden..][..self.hidden];
        for (head, out) in out.chunks_mut(width).enumerate() {
            let first = head * width;
            scores.fill(0.0);
            score(&query[first..first + width], &self.keys[first * self.length..], scores);
            softmax(scores, 1.0 / (width as f32).sqrt());
            out.fill(0.0);
            mix(scores, &self.qkv[2 * self.hidden + first..], 3 * self.hidden, out);
        }
    }
}

/// scores ← scores + query · keys, for keys `[query, scores]`.
#[multiversion(targets = "simd")]
fn score(query: &[f32], keys: &[f32], scores: &mut [f32]) {
    for (q, keys) in query.iter().zip(keys.chunks(scores.len())) {
        for (score, key) in scores.iter_mut().zip(keys) {
            *score += q * key;
        }
    }
}

/// out ← out + shares · values, for rows of values that begin `stride` apart.
#[multiversion(targets = "simd")]
fn mix(shares: &[f32], values: &[f32], stride: usize, out: &mut [f32]) {
    for (share, values) in shares.iter().zip(values.chunks(stride)) {
        for (out, value) in out.iter_mut().zip(values) {
            *out += share * value;
        }
    }
}

fn softmax(row: &mut [f32], scale: f32) {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0;
    for y in row.iter_mut() {
        *y = ((*y - most) * scale).exp();
        total += *y;
    }
    for y in row {
        *y /= total;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_add_up() {
        let mut row = [1e4, 1e4 - 8.0, -1e4];
        softmax(&mut row, 0.125);
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!((row[0] / row[1] - 1.0_f32.exp()).abs() < 1e-4 && row[2] == 0.0);
    }

    #[test]
    fn every_token_sees_its_own_sentence() {
        let (heads, hidden, lengths) = (2, 6, [5, 1, 3]);
        let tokens: usize = lengths.iter().sum();
        let qkv: Vec<f32> = (0..tokens * 3 * hidden).map(|n| (n as f32 * 0.7).sin()).collect();
        let mut found = vec![9.0; tokens * hidden];
        attend(&qkv, &lengths, heads, &mut found);

        let at = |token: usize, part: usize, n: usize| qkv[(token * 3 + part) * hidden + n];
        let width = hidden / heads;
        let mut first = 0;
        for length in lengths {
            for (token, n) in (first..first + length).flat_map(|t| (0..hidden).map(move |n| (t, n)))
            {
                let of_head = n / width * width..n / width * width + width;
                let score = |other: usize| -> f32 {
                    let sum: f32 = of_head.clone().map(|n| at(token, 0, n) * at(other, 1, n)).sum();
                    (sum / (width as f32).sqrt()).exp()
                };
                let total: f32 = (first..first + length).map(score).sum();
                let wanted: f32 = (first..first + length)
                    .map(|other| score(other) / total * at(other, 2, n))
                    .sum();
                let found = found[token * hidden + n];
                assert!((found - wanted).abs() < 1e-5, "{token} {n}: {found} {wanted}");
            }
            first += length;
        }
    }
}
