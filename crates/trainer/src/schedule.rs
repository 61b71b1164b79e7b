//! How the learning rate moves over a stage: a short rise, then as the recipe says.

use std::f64::consts::PI;

use understudy_manifest::Schedule as Shape;

/// What is left of the peak at the end. A cosine to zero wastes the last steps of a short run.
const FLOOR: f64 = 0.1;

/// The learning rate of every step of one stage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Schedule {
    shape: Shape,
    peak: f64,
    warmup: u64,
    total: u64,
}

impl Schedule {
    /// `warmup` is the share of `total` steps over which the rate rises; a share above zero is at
    /// least one step.
    pub(crate) fn new(shape: Shape, peak: f64, warmup: f64, total: u64) -> Self {
        let warmup = (warmup * total as f64).ceil() as u64;
        Self { shape, peak, warmup: warmup.min(total), total }
    }

    /// The rate of the step counted from 0. The first step of the rise is not zero but one share
    /// of it, so that no step of a short run is wasted.
    pub(crate) fn learning_rate(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * rising(step + 1, self.warmup);
        }
        let (warmup, total) = (self.warmup, self.total);
        self.peak
            * match self.shape {
                Shape::Cosine => FLOOR + (1.0 - FLOOR) * falling(step, warmup, total),
                Shape::Linear => line(step, warmup, total),
                Shape::Constant => 1.0,
            }
    }
}

/// `(total − step) / (total − warmup)`: from 1 to 0.
fn line(step: u64, warmup: u64, total: u64) -> f64 {
    total.saturating_sub(step) as f64 / total.saturating_sub(warmup).max(1) as f64
}

/// `step / warmup`: the rise as the transformers library has it.
fn rising(step: u64, warmup: u64) -> f64 {
    step as f64 / warmup.max(1) as f64
}

/// `½ (1 + cos(π (step − warmup) / (total − warmup)))`: from 1 to 0, and 0 from then on.
fn falling(step: u64, warmup: u64, total: u64) -> f64 {
    let share = step.saturating_sub(warmup) as f64 / total.saturating_sub(warmup).max(1) as f64;
    0.5 * (1.0 + (PI * share.min(1.0)).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
    }

    #[test]
    fn rise_and_fall_are_those_of_transformers() {
        let factor = |step| if step < 3 { rising(step, 3) } else { falling(step, 3, 10) };
        let golden = [
            0.0, 0.333_333, 0.666_667, 1.0, 0.950_484, 0.811_745, 0.611_26, 0.388_74, 0.188_255,
            0.049_516, 0.0,
        ];
        for (step, expected) in golden.into_iter().enumerate() {
            assert_close(factor(step as u64), expected);
        }
        let linear = [
            0.0, 0.333_333, 0.666_667, 1.0, 0.857_143, 0.714_286, 0.571_429, 0.428_571, 0.285_714,
            0.142_857, 0.0,
        ];
        let factor = |step| if step < 3 { rising(step, 3) } else { line(step, 3, 10) };
        for (step, expected) in linear.into_iter().enumerate() {
            assert_close(factor(step as u64), expected);
        }
    }

    #[test]
    fn a_constant_rate_rises_and_stays() {
        let schedule = Schedule::new(Shape::Constant, 2.0, 0.2, 10);
        let rates: Vec<f64> = (0..10).map(|step| schedule.learning_rate(step)).collect();
        assert_eq!(rates[..3], [1.0, 2.0, 2.0]);
        assert_eq!(rates[9], 2.0);
    }

    #[test]
    fn rises_to_the_peak_and_falls_to_a_tenth() {
        let schedule = Schedule::new(Shape::Cosine, 2e-3, 0.03, 64);
        assert_close(schedule.learning_rate(0), 1e-3);
        assert_close(schedule.learning_rate(1), 2e-3);
        assert_close(schedule.learning_rate(2), 2e-3);
        assert_close(schedule.learning_rate(64), 2e-4);
        let rates: Vec<f64> = (2..64).map(|step| schedule.learning_rate(step)).collect();
        assert!(rates.is_sorted_by(|a, b| a >= b));
        assert!(*rates.last().unwrap() > 2e-4);
    }

    #[test]
    fn every_step_of_a_one_step_run_learns() {
        assert_close(Schedule::new(Shape::Cosine, 1.0, 0.03, 1).learning_rate(0), 1.0);
        assert_close(Schedule::new(Shape::Cosine, 1.0, 0.0, 1).learning_rate(0), 1.0);
    }

    #[test]
    fn a_rise_over_the_whole_run_never_falls() {
        let schedule = Schedule::new(Shape::Cosine, 1.0, 1.0, 4);
        let rates: Vec<f64> = (0..4).map(|step| schedule.learning_rate(step)).collect();
        assert_eq!(rates, [0.25, 0.5, 0.75, 1.0]);
    }
}
