//! How far apart two adapters are, as what they do to the base and not as how they are written.

use super::{Lora, Slot};

/// What two adapters add to one map: Frobenius norms of s·B·A, and of the difference.
#[derive(Debug, Clone, PartialEq)]
pub struct Moved {
    /// As `layers.3.self_attn.q_proj`.
    pub path: String,
    pub before: f64,
    pub after: f64,
    pub change: f64,
}

impl Lora {
    /// Every map that either adapts, in the order of the layers. Ranks, scales and targets may
    /// differ; the same update written with other factors is no change.
    pub fn moved_from(&self, before: &Self) -> Vec<Moved> {
        let mut places: Vec<(usize, String)> = Vec::new();
        for slot in before.layout().slots().iter().chain(self.layout().slots()) {
            let place = (slot.layer, slot.path());
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places.sort_by_key(|(layer, _)| *layer);
        places.into_iter().map(|(_, path)| moved(path, before, self)).collect()
    }

    fn at(&self, path: &str) -> Option<&Slot> {
        self.layout().slots().iter().find(|slot| slot.path() == path)
    }

    /// Rows of s·Bᵀ and of A, each as long as the map is wide on that side.
    fn factors(&self, slot: &Slot, sign: f64) -> Vec<(Vec<f64>, Vec<f64>)> {
        let rank = self.rank();
        let (a, b) = (&self.values()[slot.a.clone()], self.b(slot));
        let scale = sign * f64::from(self.scale_of(slot));
        (0..rank)
            .map(|nth| {
                let column = b.iter().skip(nth).step_by(rank);
                let row = &a[nth * slot.inputs..(nth + 1) * slot.inputs];
                (
                    column.map(|value| scale * f64::from(*value)).collect(),
                    row.iter().map(|value| f64::from(*value)).collect(),
                )
            })
            .collect()
    }
}

fn moved(path: String, before: &Lora, after: &Lora) -> Moved {
    let of = |lora: &Lora, sign| lora.at(&path).map(|slot| lora.factors(slot, sign));
    let (old, new) = (of(before, -1.0).unwrap_or_default(), of(after, 1.0).unwrap_or_default());
    let both: Vec<_> = old.iter().chain(&new).cloned().collect();
    Moved { before: norm(&old), after: norm(&new), change: norm(&both), path }
}

/// ‖Σ b aᵀ‖ without ever forming it: its square is Σᵢⱼ (bᵢ·bⱼ)(aᵢ·aⱼ).
fn norm(factors: &[(Vec<f64>, Vec<f64>)]) -> f64 {
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    let pairs = factors.iter().flat_map(|one| factors.iter().map(move |other| (one, other)));
    let square: f64 = pairs.map(|(one, other)| dot(&one.0, &other.0) * dot(&one.1, &other.1)).sum();
    // Rounding may leave less than nothing of a difference that is none.
    square.max(0.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Family, LoraSpec, ModelConfig, Targets};

    fn lora(seed: u64, targets: Targets) -> Lora {
        let config = ModelConfig::tiny(Family::Llama);
        let mut lora = Lora::init(&config, &LoraSpec::new(4, 8.0, targets), seed).unwrap();
        for (at, value) in lora.values_mut().iter_mut().enumerate() {
            *value += ((at as u64 * 31 + seed) % 17) as f32 / 100.0 - 0.08;
        }
        lora
    }

    /// The definition: every entry of s'B'A' − sBA.
    fn definition(slot: &Slot, before: &Lora, after: &Lora) -> f64 {
        let entry = |lora: &Lora, i: usize, j: usize| -> f64 {
            let slot = lora.at(&slot.path()).unwrap();
            let (a, b, rank) = (&lora.values()[slot.a.clone()], lora.b(slot), lora.rank());
            let sum: f64 = (0..rank)
                .map(|k| f64::from(b[i * rank + k]) * f64::from(a[k * slot.inputs + j]))
                .sum();
            f64::from(lora.scale_of(slot)) * sum
        };
        let places = (0..slot.outputs).flat_map(|i| (0..slot.inputs).map(move |j| (i, j)));
        places.map(|(i, j)| (entry(after, i, j) - entry(before, i, j)).powi(2)).sum::<f64>().sqrt()
    }

    #[test]
    fn the_change_is_the_norm_of_the_difference() {
        let (before, after) = (lora(1, Targets::AllLinear), lora(2, Targets::AllLinear));
        let moved = after.moved_from(&before);
        assert_eq!(moved.len(), before.layout().slots().len());
        for (moved, slot) in moved.iter().zip(before.layout().slots()).take(3) {
            let expected = definition(slot, &before, &after);
            assert!((moved.change - expected).abs() < 1e-9 * expected, "{moved:?} {expected}");
            assert!(moved.change > 0.0 && moved.before > 0.0 && moved.after > 0.0);
        }
    }

    #[test]
    fn the_same_update_with_other_factors_has_not_moved() {
        let before = lora(1, Targets::AllLinear);
        let mut other = before.clone();
        for slot in before.layout().slots() {
            other.values_mut()[slot.a.clone()].iter_mut().for_each(|value| *value *= 2.0);
            other.values_mut()[slot.b.clone()].iter_mut().for_each(|value| *value *= 0.5);
        }
        for moved in other.moved_from(&before) {
            assert!(moved.change < 1e-6 * moved.before, "{moved:?}");
        }
    }

    #[test]
    fn a_map_that_only_one_adapts_has_moved_by_all_of_it() {
        let (before, after) = (lora(1, Targets::Attention), lora(1, Targets::Mlp));
        for moved in after.moved_from(&before) {
            let whole = moved.before.max(moved.after);
            assert!(whole > 0.0 && moved.before.min(moved.after) == 0.0);
            assert!((moved.change - whole).abs() < 1e-12 * whole);
        }
    }
}
