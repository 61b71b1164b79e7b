//! Rotary position embedding, half-split: (a, b) become (a cos − b sin, b cos + a sin).

use multiversion::multiversion;

use super::for_row_bands;

/// Which way to turn. Turning back is also the gradient of turning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Forward,
    Back,
}

/// Turns the first `heads` heads of every row in place; `cos` and `sin` are `[rows, dim / 2]`.
pub(crate) fn rotate(
    rows: &mut [f32],
    (width, heads, dim): (usize, usize, usize),
    cos: &[f32],
    sin: &[f32],
    turn: Turn,
) {
    let half = dim / 2;
    let sign = if turn == Turn::Forward { 1.0 } else { -1.0 };
    for_row_bands(rows, width, |first, rows| {
        let angles = first * half..first * half + rows.len() / width * half;
        band(rows, (width, heads, half), &cos[angles.clone()], &sin[angles], sign);
    });
}

#[multiversion(targets = "simd")]
fn band(
    rows: &mut [f32],
    (width, heads, half): (usize, usize, usize),
    cos: &[f32],
    sin: &[f32],
    sign: f32,
) {
    let angles = cos.chunks_exact(half).zip(sin.chunks_exact(half));
    for (row, (cos, sin)) in rows.chunks_exact_mut(width).zip(angles) {
        for head in row[..heads * half * 2].chunks_exact_mut(half * 2) {
            let (first, second) = head.split_at_mut(half);
            let pairs = first.iter_mut().zip(second).zip(cos.iter().zip(sin));
            for ((a, b), (cos, sin)) in pairs {
                let sin = sign * sin;
                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::{assert_near, noise};

    #[test]
    fn turning_rotates_pairs_half_a_head_apart_and_nothing_else() {
        let (rows, width, heads, dim) = (3, 20, 2, 8);
        let before = noise(rows * width, 1);
        let angles = noise(rows * 4, 2);
        let cos: Vec<f32> = angles.iter().map(|angle| angle.cos()).collect();
        let sin: Vec<f32> = angles.iter().map(|angle| angle.sin()).collect();
        let mut turned = before.clone();
        rotate(&mut turned, (width, heads, dim), &cos, &sin, Turn::Forward);
        for row in 0..rows {
            for head in 0..heads {
                for pair in 0..4 {
                    let (i, angle) = (row * width + head * dim + pair, row * 4 + pair);
                    let (a, b) = (before[i], before[i + 4]);
                    let (c, s) = (cos[angle], sin[angle]);
                    assert_near(&[turned[i], turned[i + 4]], &[a * c - b * s, b * c + a * s], 1e-6);
                }
            }
            let rest = row * width + heads * dim..(row + 1) * width;
            assert_eq!(turned[rest.clone()], before[rest]);
        }
        rotate(&mut turned, (width, heads, dim), &cos, &sin, Turn::Back);
        assert_near(&turned, &before, 1e-6);
    }
}
