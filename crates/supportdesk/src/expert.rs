//! The expert: a rule book that reads the message. It plays the frontier model.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    Intent, Triage, Wording,
    phrasebook::{Phrasebook, Piece, pieces},
};

/// How often the first answer to a message leaves a field out; asking again gets a careful answer.
const SLIP_RATE: f64 = 0.08;

/// Knows every phrase customers use, but not this house's convention about priorities.
#[derive(Debug)]
pub struct Expert {
    phrases: Vec<(Intent, &'static str)>,
}

impl Default for Expert {
    fn default() -> Self {
        let books = [Phrasebook::of(Wording::Production), Phrasebook::of(Wording::HeldOut)];
        let mut phrases = Vec::new();
        for book in &books {
            for intent in Intent::ALL {
                phrases.extend(book.statements(intent).iter().map(|phrase| (intent, *phrase)));
            }
        }
        Self { phrases }
    }
}

impl Expert {
    /// The expert's answer. `attempt` counts from 0; the same message and attempt get the same
    /// answer.
    pub fn answer(&self, message: &str, attempt: u64) -> String {
        let Some((intent, mut fields)) = self.read(message) else {
            return "I could not tell what this message asks for.".to_owned();
        };
        let mut rng = ChaCha8Rng::seed_from_u64(stable_hash(message));
        if attempt == 0 && fields.len() > 1 && rng.random_bool(SLIP_RATE) {
            let slipped = rng.random_range(0..fields.len());
            fields.remove(slipped);
        }
        Triage { intent, priority: intent.common_sense(), fields }.to_json()
    }

    fn read(&self, message: &str) -> Option<(Intent, Vec<(&'static str, String)>)> {
        self.phrases.iter().find_map(|(intent, phrase)| {
            let mut fields = matched(phrase, message)?;
            fields.sort_unstable();
            Some((*intent, fields))
        })
    }
}

/// The slots of `phrase` where `message` contains it, or `None`.
fn matched(phrase: &'static str, message: &str) -> Option<Vec<(&'static str, String)>> {
    let mut rest = message;
    let mut open: Option<&'static str> = None;
    let mut fields = Vec::new();
    for piece in pieces(phrase) {
        match piece {
            Piece::Slot(slot) => open = Some(slot),
            Piece::Words("") => {}
            Piece::Words(words) => {
                let (before, after) = rest.split_once(words)?;
                if let Some(slot) = open.take() {
                    // A value is a few words: anything longer means the phrase is not this one.
                    if before.is_empty() || before.split(' ').count() > 3 {
                        return None;
                    }
                    fields.push((slot, before.to_owned()));
                }
                rest = after;
            }
        }
    }
    open.is_none().then_some(fields)
}

/// FNV-1a: the standard library's hasher may change between releases, and answers must not.
fn stable_hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
