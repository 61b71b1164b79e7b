//! Tickets: a message and the triage it deserves.

use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};
use understudy_ident::TaskName;
use understudy_manifest::{Case, Scorer, Suite, Tier};
use understudy_message::Message;

use crate::phrasebook::{Phrasebook, Wording, fill};

/// What the application puts before every message.
pub const SYSTEM_PROMPT: &str =
    "Triage the customer message. Reply with one JSON object: intent, priority, fields.";

/// A message to the desk and the answer its owners want.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    pub text: String,
    pub triage: Triage,
}

/// The answer, as the desk's software wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Triage {
    pub intent: Intent,
    pub priority: Priority,
    /// In the order the intent lists them.
    pub fields: Vec<(&'static str, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Intent {
    Refund,
    Delivery,
    Damaged,
    Cancel,
    Address,
    Login,
    Invoice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    Normal,
    High,
    Urgent,
}

impl Intent {
    pub const ALL: [Self; 7] = [
        Self::Refund,
        Self::Delivery,
        Self::Damaged,
        Self::Cancel,
        Self::Address,
        Self::Login,
        Self::Invoice,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refund => "refund",
            Self::Delivery => "delivery",
            Self::Damaged => "damaged",
            Self::Cancel => "cancel",
            Self::Address => "address",
            Self::Login => "login",
            Self::Invoice => "invoice",
        }
    }

    /// What anyone sensible would say, without knowing this house.
    pub(crate) fn common_sense(self) -> Priority {
        match self {
            Self::Damaged | Self::Login | Self::Delivery => Priority::High,
            Self::Refund | Self::Cancel | Self::Address | Self::Invoice => Priority::Normal,
        }
    }

    /// The house's own convention: whatever stops a customer from using what they paid for is
    /// urgent. Nobody told the expert.
    pub(crate) fn house_rule(self) -> Priority {
        match self {
            Self::Damaged | Self::Login => Priority::Urgent,
            Self::Delivery => Priority::High,
            Self::Refund | Self::Cancel | Self::Address | Self::Invoice => Priority::Normal,
        }
    }
}

impl Priority {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::High => "high",
            Self::Urgent => "urgent",
        }
    }
}

impl Triage {
    pub fn to_json(&self) -> String {
        let fields: Map<String, Value> =
            self.fields.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        json!({
            "intent": self.intent.as_str(),
            "priority": self.priority.as_str(),
            "fields": fields,
        })
        .to_string()
    }
}

/// The first `count` tickets of a seed: every intent about equally often, no text twice.
pub fn tickets(seed: u64, wording: Wording, count: usize) -> Vec<Ticket> {
    let book = Phrasebook::of(wording);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut seen = std::collections::BTreeSet::new();
    let mut made = Vec::with_capacity(count);
    while made.len() < count {
        let intent = Intent::ALL[made.len() % Intent::ALL.len()];
        let ticket = ticket(&book, intent, &mut rng);
        if seen.insert(ticket.text.clone()) {
            made.push(ticket);
        }
    }
    made
}

fn ticket(book: &Phrasebook, intent: Intent, rng: &mut ChaCha8Rng) -> Ticket {
    let pick = |list: &'static [&'static str], rng: &mut ChaCha8Rng| {
        *list.choose(rng).expect("every list of the phrasebook has entries")
    };
    let statement = pick(book.statements(intent), rng);
    let mut fields = Vec::new();
    let body = fill(statement, |slot| {
        let value = match slot {
            "order" => {
                format!("{}-{}", pick(book.order_letters, rng), rng.random_range(1000..9999))
            }
            "amount" => format!("{}.{:02}", rng.random_range(8..190), rng.random_range(0..100)),
            "product" => pick(book.products, rng).to_owned(),
            "city" => pick(book.cities, rng).to_owned(),
            "account" => format!("{}{}", pick(book.accounts, rng), rng.random_range(10..99)),
            _ => pick(book.months, rng).to_owned(),
        };
        fields.push((slot, value.clone()));
        value
    });
    let greeting = pick(book.greetings, rng);
    let aside = if rng.random_bool(0.4) { pick(book.asides, rng) } else { "" };
    let closing = contact(pick(book.closings, rng), book, rng);
    let parts = [greeting, body.as_str(), aside, closing.as_str()];
    let text = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    // The desk's software lists fields by name, whatever order the customer used.
    fields.sort_unstable();
    Ticket { text, triage: Triage { intent, priority: intent.house_rule(), fields } }
}

/// Some customers sign with an e-mail address or a phone number, which training must never see.
fn contact(closing: &'static str, book: &Phrasebook, rng: &mut ChaCha8Rng) -> String {
    let account = book.accounts[rng.random_range(0..book.accounts.len())];
    fill(closing, |slot| match slot {
        "email" => format!("{account}{}@mail.example.com", rng.random_range(10..99)),
        _ => format!("+44 20 7946 {:04}", rng.random_range(0..10_000)),
    })
}

/// Held-out tickets as a suite, tier and seed apart from anything production sends.
pub fn suite(name: TaskName, tier: Tier, seed: u64, count: usize) -> Suite {
    let cases =
        tickets(seed, Wording::HeldOut, count).into_iter().enumerate().map(|(n, ticket)| Case {
            id: format!("{}-{n:03}", ticket.triage.intent.as_str()),
            prompt: vec![Message::system(SYSTEM_PROMPT), Message::user(ticket.text.as_str())],
            expected: ticket.triage.to_json(),
            tags: vec![ticket.triage.intent.as_str().to_owned()],
            ..Case::default()
        });
    Suite {
        name,
        tier,
        scorers: vec![
            Scorer::FieldF1,
            Scorer::Field("intent".to_owned()),
            Scorer::JsonEqual,
            Scorer::JsonValid,
            Scorer::Exact,
        ],
        rubrics: Vec::new(),
        cases: cases.collect(),
    }
}
