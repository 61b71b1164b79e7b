//! A series as one line of text.

use crate::series::{Series, range};

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The series in at most `width` characters, from its smallest value `▁` to its largest `█`.
///
/// Up to `width` points have a character each; of more, neighbours are averaged. A gap is a space,
/// and a series that never moves is a line at mid-height.
pub fn sparkline(series: &Series, width: usize) -> String {
    let count = series.points.len();
    let cells = count.min(width);
    let means: Vec<Option<f64>> = (0..cells)
        .map(|cell| mean(&series.points[cell * count / cells..(cell + 1) * count / cells]))
        .collect();
    let Some((low, high)) = range(means.iter().copied().flatten()) else {
        return " ".repeat(cells);
    };
    means.iter().map(|mean| mean.map_or(' ', |mean| block(mean, low, high))).collect()
}

/// Of the finite values; each is divided before they are added, so that none can overflow.
fn mean(points: &[(f64, f64)]) -> Option<f64> {
    let finite = || points.iter().map(|(_, value)| *value).filter(|value| value.is_finite());
    let count = finite().count();
    let sum: f64 = finite().map(|value| value / count as f64).sum();
    (count > 0).then(|| sum.clamp(f64::MIN, f64::MAX))
}

fn block(value: f64, low: f64, high: f64) -> char {
    // Halves, because the whole distance of two floats may not be one.
    let height = high / 2.0 - low / 2.0;
    if height == 0.0 {
        return BLOCKS[3];
    }
    let share = (value / 2.0 - low / 2.0) / height;
    let level = (share * 7.0).round() as usize;
    BLOCKS[level.min(7)]
}
