//! The distribution that is drawn from, cut to its likelier part.

use understudy_model::Weights;

use super::{Ordering, Scored, Told};

/// Candidates looked at first for a nucleus; it seldom has more.
const FIRST_CANDIDATES: usize = 64;

/// Weights exp((z - max) / T) of all tokens, and which of them are left.
#[derive(Debug)]
pub(super) struct Pool<'a> {
    scores: &'a [f32],
    temperature: f32,
    weights: Vec<f32>,
    /// Sums of [`Weights::STRETCH`] weights at a time.
    sums: Vec<f64>,
    /// The ids left, likeliest first; all of them while nothing is cut.
    kept: Option<Vec<usize>>,
}

impl<'a> Pool<'a> {
    pub(super) fn new(scores: &'a [f32], max: f32, temperature: f32) -> Self {
        let Weights { weights, sums } = Weights::of(scores, max, temperature);
        Self { scores, temperature, weights, sums, kept: None }
    }

    /// Leaves the tokens at least `min_p` times as likely as the likeliest, of these the `top_k`
    /// likeliest, and of these as few of the likeliest as hold the share `top_p` of their sum. Only
    /// as many as needed are sorted; of equally likely ones the lower id counts as likelier.
    pub(super) fn cut(mut self, min_p: f32, top_k: usize, top_p: f32) -> Self {
        if min_p == 0.0 && top_k == 0 && top_p >= 1.0 {
            return self;
        }
        let weights = &self.weights;
        // The likeliest weighs 1.
        let enough = |index: &usize| weights[*index] >= min_p && weights[*index] > 0.0;
        let order: Vec<usize> = (0..weights.len()).filter(enough).collect();
        let mut sorter = Sorter { weights, order };
        let count = sorter.order.len();
        let kept = if top_k > 0 || top_p >= 1.0 {
            let most = if top_k > 0 { top_k.min(count) } else { count };
            let first = sorter.first(most);
            let share = f64::from(top_p) * sum(weights, &first);
            let end = if top_p < 1.0 { nucleus(&first, weights, share) } else { None };
            beginning(first, end)
        } else {
            let share = f64::from(top_p) * sum(weights, &sorter.order);
            let mut most = FIRST_CANDIDATES.min(count);
            loop {
                let first = sorter.first(most);
                match nucleus(&first, weights, share) {
                    None if most < count => most = (most * 8).min(count),
                    end => break beginning(first, end),
                }
            }
        };
        self.kept = Some(kept);
        self
    }

    /// The token in whose stretch of the summed weights `point` in [0, 1) falls.
    pub(super) fn pick(&self, point: f64) -> usize {
        let weights = &self.weights;
        match &self.kept {
            None => pick_by_stretches(point, weights, &self.sums),
            Some(kept) => pick(point, kept.iter().map(|index| (*index, weights[*index]))),
        }
    }

    /// How likely a token was among those left.
    pub(super) fn score(&self, token: u32, told: Told<'_>) -> Scored {
        let tempered = |index: usize| self.scores[index] / self.temperature;
        let scores: Vec<f32> = match &self.kept {
            None => (0..self.scores.len()).map(tempered).collect(),
            Some(kept) => {
                let mut scores = vec![f32::NEG_INFINITY; self.scores.len()];
                for index in kept {
                    scores[*index] = tempered(*index);
                }
                scores
            }
        };
        Scored::of(&scores, token, told)
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> Option<&[usize]> {
        self.kept.as_deref()
    }
}

struct Sorter<'a> {
    weights: &'a [f32],
    order: Vec<usize>,
}

impl Sorter<'_> {
    /// The likeliest `count`, in order.
    fn first(&mut self, count: usize) -> Vec<usize> {
        let likelier = |a: &usize, b: &usize| -> Ordering {
            self.weights[*b].total_cmp(&self.weights[*a]).then(a.cmp(b))
        };
        if count < self.order.len() {
            self.order.select_nth_unstable_by(count, likelier);
        }
        let first = &mut self.order[..count];
        first.sort_unstable_by(likelier);
        first.to_vec()
    }
}

fn sum(weights: &[f32], indices: &[usize]) -> f64 {
    indices.iter().map(|index| f64::from(weights[*index])).sum()
}

fn beginning(mut sorted: Vec<usize>, end: Option<usize>) -> Vec<usize> {
    sorted.truncate(end.unwrap_or(sorted.len()));
    sorted
}

/// How many of the sorted hold `enough` together, if all do.
fn nucleus(sorted: &[usize], weights: &[f32], enough: f64) -> Option<usize> {
    let mut held = 0.0;
    let last = sorted.iter().position(|index| {
        held += f64::from(weights[*index]);
        held >= enough
    });
    last.map(|last| last + 1)
}

/// The same as [`pick`] among all weights, of which only one stretch is read.
pub(super) fn pick_by_stretches(point: f64, weights: &[f32], sums: &[f64]) -> usize {
    let total: f64 = sums.iter().sum();
    let mut left = point * total;
    let (mut stretch, mut share) = (0, 0.0);
    for (index, sum) in sums.iter().enumerate() {
        if *sum > 0.0 {
            (stretch, share) = (index, left / sum);
            if left < *sum {
                break;
            }
            left -= sum;
        }
    }
    let first = stretch * Weights::STRETCH;
    let end = weights.len().min(first + Weights::STRETCH);
    first + pick(share.min(1.0), weights[first..end].iter().copied().enumerate())
}

/// The candidate in whose stretch of the summed weights `point` in [0, 1) falls.
pub(super) fn pick(point: f64, candidates: impl Iterator<Item = (usize, f32)> + Clone) -> usize {
    let total: f64 = candidates.clone().map(|(_, weight)| f64::from(weight)).sum();
    let mut left = point * total;
    let mut last = 0;
    for (index, weight) in candidates {
        // Rounding may leave a little over at the end; a token of weight zero is never drawn.
        if weight > 0.0 {
            last = index;
            left -= f64::from(weight);
            if left < 0.0 {
                break;
            }
        }
    }
    last
}
