//! Lessons in a share of the prompts, so that a model that is served with lessons has learnt to read
//! them: one that never saw a block in training takes it for noise.

use std::{error::Error, fmt, sync::Arc};

use serde_json::Value;
use understudy_ident::{Digest, TaskName};
use understudy_manifest::{MemorySlot, canonical_json};
use understudy_message::Message;

use crate::{
    DatasetError,
    ledger::{Ledger, Tally},
    row::RowKind,
    spill::Spill,
    written::Written,
};

/// Finds lessons as a server would for the same request.
pub trait Lessons: fmt::Debug {
    /// What they are looked up in, by the digest of its content.
    fn release(&self) -> Digest;

    fn place(
        &self,
        task: &TaskName,
        prompt: &[Message],
    ) -> Result<Placed, Box<dyn Error + Send + Sync>>;
}

/// A prompt and its lessons.
#[derive(Debug, Clone, PartialEq)]
pub enum Placed {
    /// The prompt with them.
    Shown(Vec<Message>),
    NothingFits,
    /// It was asked with lessons already.
    ShownBefore,
}

/// Gives a share of the prompts their lessons. Which ones follows from seed and prompt, so that rows
/// of one prompt stay alike, and whatever else is in the dataset changes nothing about them.
pub(crate) fn remember(
    rows: &mut [Written],
    (task, seed): (&TaskName, u64),
    share: f64,
    lessons: &dyn Lessons,
    spill: &Arc<Spill>,
    ledger: &mut Ledger,
) -> Result<MemorySlot, DatasetError> {
    let mut tally = std::collections::BTreeMap::new();
    for row in rows.iter_mut() {
        let what = if row.kind == RowKind::Groups {
            // Groups are token ids of what was sampled, and those are facts.
            Some("recorded_as_tokens")
        } else {
            give(row, (task, seed), share, lessons, spill)?
        };
        if let Some(what) = what {
            *tally.entry(what).or_insert(0) += 1;
        }
    }
    let mut reasons = Tally::default();
    for (what, count) in &tally {
        reasons.add_many(what, *count);
    }
    ledger.close("remember", rows.len(), rows.len(), reasons);
    let rows = tally.into_iter().map(|(what, count)| (what.to_owned(), count)).collect();
    Ok(MemorySlot { share, release: lessons.release(), rows })
}

fn give(
    row: &mut Written,
    (task, seed): (&TaskName, u64),
    share: f64,
    lessons: &dyn Lessons,
    spill: &Arc<Spill>,
) -> Result<Option<&'static str>, DatasetError> {
    let broken = |why: serde_json::Error| DatasetError::Lessons(Box::new(why));
    let mut line: Value = serde_json::from_slice(&spill.read(row.place)?).map_err(broken)?;
    let prompt = line.get("prompt").cloned().unwrap_or_default();
    let prompt: Vec<Message> = serde_json::from_value(prompt).map_err(broken)?;
    if draw(seed, &prompt) >= share {
        return Ok(None);
    }
    Ok(Some(match lessons.place(task, &prompt).map_err(DatasetError::Lessons)? {
        Placed::NothingFits => "nothing_fits",
        Placed::ShownBefore => "shown_before",
        Placed::Shown(prompt) => {
            line["prompt"] = serde_json::to_value(prompt).map_err(broken)?;
            row.place = spill.push(canonical_json(&line).as_bytes())?;
            "shown"
        }
    }))
}

fn draw(seed: u64, prompt: &[Message]) -> f64 {
    let text = canonical_json(prompt);
    let parts = [b"understudy memory slot".as_slice(), &seed.to_le_bytes(), text.as_bytes()];
    let digest = Digest::of_parts(parts);
    let [a, b, c, d, e, f, g, h, ..] = *digest.as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h]) as f64 / 2f64.powi(64)
}
