//! Where an axis begins and ends, and which round numbers it shows.

use crate::number;

/// Beyond this a value is drawn as if it were this, so that a distance is always a number.
const FARTHEST: f64 = 1e300;

/// A range of values and the round numbers shown along it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    /// Ascending.
    pub(crate) ticks: Vec<f64>,
    step: f64,
    low: f64,
    high: f64,
}

impl Axis {
    /// The axis of values from `low` to `high`, both finite, with roughly `wanted` ticks at
    /// multiples of 1, 2 or 5 times a power of ten, the outermost at or outside the values.
    pub(crate) fn over(low: f64, high: f64, wanted: usize) -> Self {
        let (low, high) = widen(clamp(low), clamp(high));
        let step = nice((high - low) / wanted.max(1) as f64);
        let (mut first, mut last) = ((low / step).floor(), (high / step).ceil());
        // Rounding in the divisions must not push a value off the axis.
        while first * step > low {
            first -= 1.0;
        }
        while last * step < high {
            last += 1.0;
        }
        let ticks = (0..=(last - first) as usize).map(|nth| (first + nth as f64) * step);
        Self { ticks: ticks.collect(), step, low: first * step, high: last * step }
    }

    /// The axis of steps: it ends where they end, and its ticks lie inside. Between whole steps
    /// there is no tick.
    pub(crate) fn of_steps(low: f64, high: f64, wanted: usize) -> Self {
        let is_whole = low.fract() == 0.0 && high.fract() == 0.0;
        // Half a step on both sides of a lonely one.
        let room = if low == high && low.abs() < 1e9 { 0.5 } else { 0.0 };
        let (low, high) = widen(clamp(low) - room, clamp(high) + room);
        let mut axis = Self::over(low, high, wanted);
        axis.ticks.retain(|tick| (low..=high).contains(tick));
        if is_whole {
            axis.ticks.retain(|tick| tick.fract() == 0.0);
            axis.step = axis.step.max(1.0);
        }
        Self { low, high, ..axis }
    }

    /// Where a value lies between the axis's ends, in [0, 1] for the values it was made for.
    pub(crate) fn share(&self, value: f64) -> f64 {
        (clamp(value) - self.low) / (self.high - self.low)
    }

    pub(crate) fn labels(&self) -> Vec<String> {
        number::labels(&self.ticks, self.step)
    }
}

pub(crate) fn clamp(value: f64) -> f64 {
    value.clamp(-FARTHEST, FARTHEST)
}

/// A range that is a point, or too narrow for floats to count along it, gets room on both sides.
fn widen(low: f64, high: f64) -> (f64, f64) {
    let size = low.abs().max(high.abs());
    if high - low > size * 1e-9 && high - low > 1e-290 {
        return (low, high);
    }
    let room = if size < 1e-280 { 1.0 } else { size * 0.1 };
    (low - room, high + room)
}

/// The least of 1, 2, 5 times a power of ten that is not below `step`.
fn nice(step: f64) -> f64 {
    let power = 10_f64.powi(number::power(step));
    let factors = [1.0, 2.0, 5.0, 10.0];
    let fitting = factors.iter().find(|factor| *factor * power >= step * (1.0 - 1e-9));
    fitting.unwrap_or(&10.0) * power
}
