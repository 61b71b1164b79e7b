//! Tickets to be routed: seventy-seven kinds, each said in many ways, for measuring retrieval.
//!
//! A kind is a thing (a broadband line, a hotel booking) and what is the matter with it (broken,
//! unwanted, charged twice). So kinds share words: the nearest wrong ones are about the same thing,
//! or have the same trouble. Some names and some ways of saying it are kept for queries alone: no
//! store holds them, and only meaning leads to their kind.

use crate::Draw;

/// A user's message and the kind it is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Below [`Ticket::KINDS`].
    pub kind: usize,
    pub text: String,
}

/// Which ways of saying it may occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// What a store has heard before.
    Heard,
    /// All of that, and what no store holds.
    Any,
}

/// How many of the last names of a thing, and ways to say a trouble, are for queries alone.
const UNHEARD: [usize; 2] = [1, 2];

const THINGS: [(&str, [&str; 5]); 11] = [
    (
        "broadband",
        ["broadband", "internet connection", "home wifi", "fibre line", "router service"],
    ),
    (
        "mobile",
        [
            "phone contract",
            "mobile plan",
            "sim card deal",
            "cell phone tariff",
            "handset agreement",
        ],
    ),
    ("laptop", ["laptop", "notebook computer", "macbook", "work computer", "portable pc"]),
    (
        "gym",
        [
            "gym membership",
            "fitness club pass",
            "training centre subscription",
            "health club card",
            "workout studio plan",
        ],
    ),
    (
        "hotel",
        [
            "hotel booking",
            "room reservation",
            "overnight stay",
            "holiday accommodation",
            "suite for the weekend",
        ],
    ),
    (
        "insurance",
        ["insurance policy", "car cover", "home insurance", "accident cover", "policy with you"],
    ),
    (
        "train",
        ["season ticket", "rail pass", "train card", "commuter ticket", "railway travelcard"],
    ),
    (
        "voucher",
        ["gift voucher", "gift card", "store credit", "present coupon", "prepaid shopping card"],
    ),
    (
        "streaming",
        [
            "streaming plan",
            "video subscription",
            "film channel",
            "tv series package",
            "movie service",
        ],
    ),
    (
        "parking",
        [
            "parking permit",
            "car park space",
            "residents parking",
            "garage spot",
            "place for my car",
        ],
    ),
    ("credit", ["credit card", "bank card", "debit card", "visa card", "payment card"]),
];

const TROUBLES: [(&str, [&str; 8]); 7] = [
    (
        "broken",
        [
            "my {thing} is not working",
            "the {thing} stopped working yesterday",
            "there is an error every time I use the {thing}",
            "{thing} is broken, can someone look at it",
            "I cannot use my {thing} any more, it fails",
            "the {thing} keeps failing",
            "something is wrong with the {thing}, nothing happens",
            "the {thing} is dead again",
        ],
    ),
    (
        "cancel",
        [
            "I want to cancel my {thing}",
            "please cancel the {thing}",
            "how do I end my {thing}",
            "I would like to terminate the {thing} as soon as possible",
            "cancellation of my {thing}",
            "stop my {thing} from next month on",
            "I no longer need the {thing}, please close it",
            "get me out of this {thing}",
        ],
    ),
    (
        "price",
        [
            "how much does the {thing} cost",
            "what is the price of a {thing}",
            "could you tell me the fees for the {thing}",
            "is there a cheaper {thing}, and what would I pay",
            "price list for the {thing} please",
            "what do you charge for a {thing}",
            "I am thinking about a {thing}, what would that set me back",
            "are there any discounts for students on the {thing}",
        ],
    ),
    (
        "charged",
        [
            "I was charged twice for my {thing}",
            "the amount on the bill for the {thing} is wrong",
            "you took too much money for the {thing}",
            "double payment for my {thing}, I want a refund",
            "my statement shows two charges for the {thing}",
            "the invoice of the {thing} is higher than agreed",
            "I paid for the {thing} once but the money left my account two times",
            "please return the extra money taken for my {thing}",
        ],
    ),
    (
        "change",
        [
            "I have to change the name on my {thing}",
            "please update my address for the {thing}",
            "the details of my {thing} are wrong, please correct them",
            "how can I modify my {thing}",
            "I moved house, change the data of my {thing}",
            "can you edit the date of my {thing}",
            "there is a spelling mistake in my name on the {thing}",
            "I got married, so the {thing} needs my new surname",
        ],
    ),
    (
        "waiting",
        [
            "my {thing} has not arrived",
            "I am still waiting for the {thing}",
            "when will I get my {thing}",
            "I ordered a {thing} and have not received anything",
            "where is the {thing} I ordered",
            "the {thing} should have been here last week",
            "how long until the {thing} turns up",
            "two weeks and no sign of my {thing}",
        ],
    ),
    (
        "transfer",
        [
            "can I transfer my {thing} to someone else",
            "I want my wife to take over the {thing}",
            "please put the {thing} in the name of my son",
            "is it possible to pass the {thing} on to a friend",
            "can two people share one {thing}",
            "how do I hand over my {thing} to another person",
            "my flatmate would like to have my {thing} instead of me",
            "may my daughter use the {thing} too",
        ],
    ),
];

const OPENERS: [&str; 8] = [
    "",
    "",
    "Hi, ",
    "Hello team, ",
    "Good morning. ",
    "Sorry to bother you again, ",
    "Urgent: ",
    "Hey there, ",
];
const CLOSERS: [&str; 8] = [
    "",
    "",
    ". Thanks",
    "!!",
    ". Please reply by {day}",
    ". My reference is {reference}",
    ". I live in {city}",
    ", {name}",
];
const DAYS: [&str; 4] = ["Monday", "Wednesday", "Friday", "the end of the week"];
const CITIES: [&str; 6] = ["Leeds", "Porto", "Graz", "Ghent", "Tampere", "Bologna"];
const NAMES: [&str; 6] = ["Ada", "Grace", "Niklaus", "Frances", "Radia", "Ken"];

impl Ticket {
    pub const KINDS: usize = THINGS.len() * TROUBLES.len();

    /// The `n`-th ticket of a seed and a purpose. Tickets of one purpose go through the kinds in
    /// turn, so that each has as many as any other.
    pub fn draw(seed: u64, purpose: &str, n: usize, voice: Voice) -> Self {
        let mut draw = Draw::new(seed, &format!("{purpose} ticket {n}"));
        let kind = n % Self::KINDS;
        let (_, names) = &THINGS[kind / TROUBLES.len()];
        let (_, ways) = &TROUBLES[kind % TROUBLES.len()];
        let heard = |all: usize, unheard: usize| match voice {
            Voice::Heard => all - unheard,
            Voice::Any => all,
        };
        let thing = names[draw.below(heard(names.len(), UNHEARD[0]))];
        let said = ways[draw.below(heard(ways.len(), UNHEARD[1]))].replace("{thing}", thing);
        let closer = one(&mut draw, &CLOSERS)
            .replace("{day}", one(&mut draw, &DAYS))
            .replace("{city}", one(&mut draw, &CITIES))
            .replace("{name}", one(&mut draw, &NAMES))
            .replace("{reference}", &format!("{:06}", draw.below(1_000_000)));
        let mut text = format!("{}{said}{closer}", one(&mut draw, &OPENERS));
        if draw.chance(0.1) {
            slip(&mut text, &mut draw);
        }
        if draw.chance(0.3) {
            text = text.to_lowercase();
        }
        Self { kind, text }
    }

    /// What people call a kind.
    pub fn kind_name(kind: usize) -> String {
        let (thing, _) = THINGS[kind / TROUBLES.len()];
        let (trouble, _) = TROUBLES[kind % TROUBLES.len()];
        format!("{thing}-{trouble}")
    }
}

fn one(draw: &mut Draw, from: &[&'static str]) -> &'static str {
    from[draw.below(from.len())]
}

/// Two neighbouring letters change places.
fn slip(text: &mut String, draw: &mut Draw) {
    let mut letters: Vec<char> = text.chars().collect();
    if letters.len() > 2 {
        let at = draw.below(letters.len() - 1);
        letters.swap(at, at + 1);
        *text = letters.into_iter().collect();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn tickets_repeat_by_seed_and_go_through_all_kinds() {
        let all = |seed| -> Vec<Ticket> {
            (0..Ticket::KINDS * 3).map(|n| Ticket::draw(seed, "store", n, Voice::Heard)).collect()
        };
        assert_eq!(all(1), all(1));
        assert_ne!(all(1), all(2));
        assert_ne!(all(1)[0], Ticket::draw(1, "query", 0, Voice::Heard));
        let kinds: BTreeSet<usize> = all(1).iter().map(|ticket| ticket.kind).collect();
        let names: BTreeSet<String> = kinds.iter().map(|kind| Ticket::kind_name(*kind)).collect();
        assert_eq!((kinds.len(), names.len(), Ticket::KINDS), (77, 77, 77));
    }

    #[test]
    fn what_is_kept_for_queries_is_in_no_store() {
        let text = |purpose, n, voice| Ticket::draw(3, purpose, n, voice).text.to_lowercase();
        let store: Vec<String> = (0..4000).map(|n| text("store", n, Voice::Heard)).collect();
        let queries: Vec<String> = (0..4000).map(|n| text("query", n, Voice::Any)).collect();
        for only in ["router service", "get me out of this", "movie service", "set me back"] {
            assert!(store.iter().all(|text| !text.contains(only)), "{only}");
            assert!(queries.iter().any(|text| text.contains(only)), "{only}");
        }
        let unfilled = |text: &String| text.contains(['{', '}']);
        assert!(!store.iter().chain(&queries).any(unfilled));
    }
}
