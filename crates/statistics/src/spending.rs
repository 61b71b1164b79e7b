//! Planned looks: how high a z-score must be at each so that all together spend α.
//!
//! Source: Lan and DeMets, "Discrete sequential boundaries" (1983), with the power family
//! `α(t) = α tᵠ` of Kim and DeMets (1987); densities are carried from look to look as in Armitage,
//! McPherson and Rowe, "Repeated significance tests" (1969).

use crate::normal;

/// Points of the grid that carries the density; Simpson's rule needs an odd number.
const POINTS: usize = 801;
/// The density is followed this many standard deviations down.
const DEPTH: f64 = 8.0;

/// Upper one-sided bounds on the z-score at each look. `times` are shares of the final
/// information, rising to at most 1; `alpha` is spent as `α tᵠ` with `power` `ᵠ`.
pub fn spending_bounds(times: &[f64], alpha: f64, power: f64) -> Vec<f64> {
    let mut bounds: Vec<f64> = Vec::with_capacity(times.len());
    let mut carried: Option<Grid> = None;
    let (mut spent, mut before) = (0.0, 0.0);
    for &time in times {
        let allowed = alpha * time.powf(power) - spent;
        spent += allowed;
        let step = time - before;
        before = time;
        let bound = match &carried {
            None => time.sqrt() * normal::upper_quantile(allowed),
            Some(grid) => bisect((-DEPTH, DEPTH), |b| grid.above(b, step) - allowed),
        };
        bounds.push(bound / time.sqrt());
        carried = Some(Grid::new(bound, time, |x| match &carried {
            None => normal::density(x / step.sqrt()) / step.sqrt(),
            Some(grid) => grid.density_after(x, step),
        }));
    }
    bounds
}

/// The density of the score process among paths that have not crossed, on an even grid.
struct Grid {
    low: f64,
    width: f64,
    weighted: Vec<f64>,
}

impl Grid {
    fn new(high: f64, time: f64, density: impl Fn(f64) -> f64) -> Self {
        let low = -DEPTH * time.sqrt();
        let width = (high - low) / (POINTS - 1) as f64;
        let weighted = (0..POINTS)
            .map(|nth| {
                let simpson = match nth {
                    0 => 1.0,
                    last if last == POINTS - 1 => 1.0,
                    odd if odd % 2 == 1 => 4.0,
                    _ => 2.0,
                };
                density(low + width * nth as f64) * simpson * width / 3.0
            })
            .collect();
        Self { low, width, weighted }
    }

    fn sum(&self, kernel: impl Fn(f64) -> f64) -> f64 {
        let at = |nth: usize| self.low + self.width * nth as f64;
        self.weighted.iter().enumerate().map(|(nth, weight)| weight * kernel(at(nth))).sum()
    }

    /// The chance to be above `bound` one step of information later.
    fn above(&self, bound: f64, step: f64) -> f64 {
        self.sum(|x| normal::cdf((x - bound) / step.sqrt()))
    }

    fn density_after(&self, x: f64, step: f64) -> f64 {
        self.sum(|from| normal::density((x - from) / step.sqrt()) / step.sqrt())
    }
}

/// Where a falling function crosses zero.
fn bisect((mut low, mut high): (f64, f64), falling: impl Fn(f64) -> f64) -> f64 {
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if falling(middle) > 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}
