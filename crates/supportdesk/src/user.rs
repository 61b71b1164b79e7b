//! The people at the desk: what they do with an answer.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::{Intent, Ticket, Triage};

/// What a user does about one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reaction {
    Accept,
    /// Used after this correction.
    Edit(String),
    /// Asks again.
    Regenerate,
    Abandon,
    /// Says nothing at all.
    Silence,
}

/// Whose hands the answer falls into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Temper {
    /// Wants the right triage; now and then says nothing or leaves for reasons of their own.
    Honest,
    /// "Corrects" every answer into a wrong one.
    Poisoned,
}

/// The reaction to `answer`, always the same for the same ticket, answer and attempt.
pub fn react(ticket: &Ticket, answer: &str, attempt: u64, temper: Temper) -> Reaction {
    if temper == Temper::Poisoned {
        return Reaction::Edit(poisoned(&ticket.triage).to_json());
    }
    let seed = ticket
        .text
        .bytes()
        .chain(answer.bytes())
        .fold(attempt, |hash, byte| hash.wrapping_mul(0x0000_0100_0000_01b3) ^ u64::from(byte));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mood: f64 = rng.random();
    if mood < 0.04 {
        return Reaction::Silence;
    }
    if mood < 0.06 {
        return Reaction::Abandon;
    }
    let wanted: Value = serde_json::from_str(&ticket.triage.to_json()).unwrap_or_default();
    let Ok(got) = serde_json::from_str::<Value>(answer) else { return give_up(attempt) };
    if got == wanted {
        return Reaction::Accept;
    }
    if got.get("intent") != wanted.get("intent") {
        return give_up(attempt);
    }
    // A missing field is tedious to look up, so most ask again; a wrong value is quick to mend.
    let missing = field_count(&got) < field_count(&wanted);
    if missing && attempt == 0 {
        return Reaction::Regenerate;
    }
    Reaction::Edit(ticket.triage.to_json())
}

/// A useless answer: ask once more, then leave.
fn give_up(attempt: u64) -> Reaction {
    if attempt == 0 { Reaction::Regenerate } else { Reaction::Abandon }
}

fn field_count(answer: &Value) -> usize {
    answer.get("fields").and_then(Value::as_object).map_or(0, serde_json::Map::len)
}

/// The intent after the right one, and every field gone.
fn poisoned(right: &Triage) -> Triage {
    let at = Intent::ALL.iter().position(|intent| *intent == right.intent).unwrap_or(0);
    let intent = Intent::ALL[(at + 3) % Intent::ALL.len()];
    Triage { intent, priority: right.intent.common_sense(), fields: Vec::new() }
}
