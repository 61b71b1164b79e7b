//! What is drawn.

/// A named line: points of (step, value) in the order of their steps. A value that is not finite
/// is a gap.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// One pair of axes and the series over them. A series keeps its colour in all panels of a drawing
/// by its name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Panel {
    pub title: String,
    pub series: Vec<Series>,
}

impl Series {
    /// The first value that is finite.
    pub fn first(&self) -> Option<f64> {
        self.values().next()
    }

    /// The last value that is finite.
    pub fn last(&self) -> Option<f64> {
        self.values().next_back()
    }

    /// The smallest and the largest finite value.
    pub fn range(&self) -> Option<(f64, f64)> {
        range(self.values())
    }

    fn values(&self) -> impl DoubleEndedIterator<Item = f64> {
        self.points.iter().map(|(_, value)| *value).filter(|value| value.is_finite())
    }
}

pub(crate) fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |range, value| match range {
        None => Some((value, value)),
        Some((low, high)) => Some((f64::min(low, value), f64::max(high, value))),
    })
}
