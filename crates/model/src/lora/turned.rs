//! An adapter as products read it.

use std::mem;

use half::f16;
use understudy_team as team;

use super::{Lora, Slot};
use crate::kernels::{panels, steady::Weight};

/// Transposes in panels, in the order of the values: of the stacked A of every group, and of every B
/// with the scale in it. One after another, as a step reads them, so that whoever calls for what
/// comes next calls for the next of them.
#[derive(Debug)]
pub(super) enum Turned {
    Plain(Vec<f32>),
    Half(Vec<f16>),
}

impl Turned {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Plain(values) => size_of_val(&values[..]),
            Self::Half(values) => size_of_val(&values[..]),
        }
    }
}

impl Drop for Turned {
    fn drop(&mut self) {
        match self {
            Self::Plain(values) => f32::spare().give(mem::take(values)),
            Self::Half(values) => f16::spare().give(mem::take(values)),
        }
    }
}

/// In all bits.
pub(super) fn plain(lora: &Lora) -> Vec<f32> {
    turn(lora).0
}

/// In sixteen bits, unless a value is beyond what they hold.
pub(super) fn half(lora: &Lora) -> Option<Vec<f16>> {
    let (values, fit) = turn(lora);
    fit.then_some(values)
}

/// Also whether all values could be held.
fn turn<T: Weight>(lora: &Lora) -> (Vec<T>, bool) {
    let mut turned = T::spare().take(lora.values().len());
    let (mut rest, mut groups) = (&mut turned[..], Vec::new());
    for group in lora.layout().groups().filter(|group| !group.is_empty()) {
        let len = group.iter().map(|slot| slot.a.len() + slot.b.len()).sum();
        groups.push((group, rest.split_off_mut(..len).unwrap_or_default()));
    }
    let fit = team::map_items(groups, |(group, place)| turn_group(lora, group, place));
    (turned, fit.into_iter().all(|fits| fits))
}

fn turn_group<T: Weight>(lora: &Lora, group: &[Slot], place: &mut [T]) -> bool {
    let a = lora.a_stack(group);
    let (a_place, mut place) = place.split_at_mut(a.len());
    let mut fits = turn_one(a, group[0].inputs, 1.0, a_place);
    for slot in group {
        let (b_place, rest) = place.split_at_mut(slot.b.len());
        fits &= turn_one(lora.b(slot), lora.rank(), lora.scale_of(slot), b_place);
        place = rest;
    }
    fits
}

/// Columns that are turned together.
const BLOCK: usize = 16;

/// Writes scale times the transpose of row-major values of this width, in panels.
fn turn_one<T: Weight>(values: &[f32], width: usize, scale: f32, to: &mut [T]) -> bool {
    let (panel, mut fits) = (panels::width() * width, true);
    for (panel, to) in values.chunks(panel).zip(to.chunks_mut(panel)) {
        let height = panel.len() / width;
        let mut lines = vec![0.0; BLOCK * height];
        for (first, to) in (0..width).step_by(BLOCK).zip(to.chunks_mut(BLOCK * height)) {
            let columns = first..(first + BLOCK).min(width);
            for (at, row) in panel.chunks_exact(width).enumerate() {
                for (line, value) in lines.chunks_exact_mut(height).zip(&row[columns.clone()]) {
                    line[at] = scale * value;
                }
            }
            fits &= T::round(&lines[..to.len()], to);
        }
    }
    fits
}
