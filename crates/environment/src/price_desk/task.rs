//! Orders, drawn from a seed.

use std::collections::BTreeSet;

use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use understudy_message::Message;

use super::episode::ANSWER;
use crate::{Split, Task};

/// What is bought, and what a customer does not know: the prices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    pub(super) items: Vec<Item>,
    /// Percent off the whole order.
    pub(super) discount: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Item {
    pub(super) code: String,
    pub(super) quantity: u32,
    /// Of one piece.
    pub(super) price: u32,
}

impl Order {
    pub(super) fn read(record: &Value) -> Result<Self, String> {
        let order = Self::deserialize(record).map_err(|why| why.to_string())?;
        if order.items.is_empty() || order.discount > 100 {
            return Err("an order has at least one item and at most 100 percent off".to_owned());
        }
        Ok(order)
    }

    pub(super) fn price(&self, code: &str) -> Option<u32> {
        self.items.iter().find(|item| item.code == code).map(|item| item.price)
    }

    pub(super) fn total(&self) -> f64 {
        let full: f64 =
            self.items.iter().map(|item| f64::from(item.quantity) * f64::from(item.price)).sum();
        full * f64::from(100 - self.discount) / 100.0
    }

    /// The total as a calculator wants it: `(3 * 12 + 2 * 40) * 90 / 100`.
    pub(super) fn expression(&self) -> String {
        let term = |item: &Item| format!("{} * {}", item.quantity, item.price);
        let sum = self.items.iter().map(term).collect::<Vec<_>>().join(" + ");
        match self.discount {
            0 => sum,
            percent => format!("({sum}) * {} / 100", 100 - percent),
        }
    }

    fn question(&self, rng: &mut ChaCha8Rng) -> String {
        let named = |item: &Item| format!("{} of {}", item.quantity, item.code);
        let wanted = self.items.iter().map(named).collect::<Vec<_>>().join(" and ");
        let asked = QUESTIONS.choose(rng).expect("there are questions").replace("{}", &wanted);
        match self.discount {
            0 => asked,
            percent => format!("{asked} There is {percent} percent off."),
        }
    }
}

const QUESTIONS: [&str; 4] = [
    "What do I pay for {}?",
    "How much is {}?",
    "I need {}. What does that cost?",
    "Please tell me the price of {}.",
];

/// Train codes begin with a letter of the first half, held-out ones of the second. Letters that
/// look like digits are left out.
fn letters(split: Split) -> &'static [u8] {
    match split {
        Split::Train => b"ABCDEFGHJKM",
        Split::HeldOut => b"NPQRSTUVWXYZ",
    }
}

fn system_prompt() -> String {
    format!(
        "You work at a price desk. Call a tool by writing one line:\n\
         lookup(code) gives the price of one piece.\n\
         calculate(expression) gives the value of an expression.\n\
         When you know the total, write one line: {ANSWER} number"
    )
}

/// The first `count` orders of a seed, no two of which are equal.
pub(super) fn tasks(split: Split, seed: u64, count: usize) -> Vec<Task> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Otherwise one seed would give both splits the same quantities, prices and answers.
    rng.set_stream(split as u64);
    let mut seen = BTreeSet::new();
    let mut made = Vec::with_capacity(count);
    while made.len() < count {
        let order = draw(split, &mut rng);
        let question = order.question(&mut rng);
        let record = serde_json::to_value(&order).expect("an order is text and numbers");
        if seen.insert(record.to_string()) {
            let prefix = if split == Split::Train { "train" } else { "held-out" };
            made.push(Task {
                id: format!("{prefix}-{seed}-{}", made.len()),
                prompt: vec![Message::system(system_prompt()), Message::user(question)],
                record,
            });
        }
    }
    made
}

fn draw(split: Split, rng: &mut ChaCha8Rng) -> Order {
    let wanted = rng.random_range(1..=2);
    let mut items: Vec<Item> = Vec::with_capacity(wanted);
    while items.len() < wanted {
        let letter = *letters(split).choose(rng).expect("there are letters");
        let code = format!("{}{}", char::from(letter), rng.random_range(10..100));
        if items.iter().all(|item| item.code != code) {
            let (quantity, price) = (rng.random_range(2..=9), rng.random_range(3..=60));
            items.push(Item { code, quantity, price });
        }
    }
    let discount = if rng.random_bool(0.25) { 10 * rng.random_range(1..=5) } else { 0 };
    Order { items, discount }
}
