//! The words customers use. Two books that share nothing: one for production, one held out.

use crate::Intent;

/// Which book a message is written from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wording {
    Production,
    HeldOut,
}

/// Everything a message is made of.
#[derive(Debug)]
pub(crate) struct Phrasebook {
    wording: Wording,
    pub(crate) greetings: &'static [&'static str],
    pub(crate) asides: &'static [&'static str],
    pub(crate) closings: &'static [&'static str],
    pub(crate) order_letters: &'static [&'static str],
    pub(crate) products: &'static [&'static str],
    pub(crate) cities: &'static [&'static str],
    pub(crate) accounts: &'static [&'static str],
    pub(crate) months: &'static [&'static str],
}

impl Phrasebook {
    pub(crate) fn of(wording: Wording) -> Self {
        match wording {
            Wording::Production => Self::production(),
            Wording::HeldOut => Self::held_out(),
        }
    }

    fn production() -> Self {
        Self {
            wording: Wording::Production,
            greetings: &["Hello,", "Hi there,", "Good morning,", "Dear team,", "Hey,", ""],
            asides: &[
                "I have been a customer for years.",
                "My sister recommended your shop.",
                "It was meant as a birthday present.",
                "I am not very good with computers.",
                "Your website was slow today.",
            ],
            closings: &[
                "Thanks!",
                "Kind regards",
                "Please write to {email}.",
                "You can call me on {phone}.",
                "Thank you for your help.",
                "",
            ],
            order_letters: &["A", "B", "D", "F", "H"],
            products: &[
                "kettle",
                "desk lamp",
                "backpack",
                "coffee grinder",
                "office chair",
                "phone case",
                "water bottle",
                "keyboard",
                "toaster",
                "rain jacket",
                "board game",
                "bookshelf",
                "electric razor",
                "yoga mat",
            ],
            cities: &[
                "Leeds", "Lyon", "Porto", "Graz", "Bergen", "Turin", "Utrecht", "Malmo", "Cork",
                "Bilbao", "Gdansk", "Basel",
            ],
            accounts: &[
                "maria", "tomlee", "janek", "sofia", "petra", "omar", "lucas", "ingrid", "hugo",
                "carla",
            ],
            months: &["January", "March", "April", "June", "August", "October", "December"],
        }
    }

    fn held_out() -> Self {
        Self {
            wording: Wording::HeldOut,
            greetings: &["Good evening,", "To whom it may concern,", "Hi support,", "Greetings,"],
            asides: &[
                "I usually love shopping with you.",
                "This is the first time I write to you.",
                "I am travelling next week.",
                "My neighbour had the same experience.",
            ],
            closings: &[
                "Cheers",
                "Looking forward to your answer.",
                "My address for replies is {email}.",
                "Reach me under {phone}.",
                "Best wishes",
            ],
            order_letters: &["C", "E", "K", "T"],
            products: &[
                "hair dryer",
                "camping tent",
                "wall clock",
                "blender",
                "suitcase",
                "headphones",
                "garden hose",
                "picture frame",
                "sewing machine",
            ],
            cities: &["Ghent", "Sevilla", "Aarhus", "Nantes", "Brno", "Trieste", "Galway"],
            accounts: &["bruno", "elena", "kasper", "nadia", "victor", "yara"],
            months: &["February", "May", "July", "September", "November"],
        }
    }

    pub(crate) fn statements(&self, intent: Intent) -> &'static [&'static str] {
        match self.wording {
            Wording::Production => production_statements(intent),
            Wording::HeldOut => held_out_statements(intent),
        }
    }
}

/// Replaces every `{slot}` of a phrase by what `value` says.
pub(crate) fn fill(phrase: &'static str, mut value: impl FnMut(&'static str) -> String) -> String {
    pieces(phrase)
        .map(|piece| match piece {
            Piece::Words(words) => words.to_owned(),
            Piece::Slot(slot) => value(slot),
        })
        .collect()
}

/// A phrase, cut at its slots.
pub(crate) enum Piece {
    Words(&'static str),
    Slot(&'static str),
}

pub(crate) fn pieces(phrase: &'static str) -> impl Iterator<Item = Piece> {
    phrase.split('{').flat_map(|part| match part.split_once('}') {
        Some((slot, words)) => vec![Piece::Slot(slot), Piece::Words(words)],
        None => vec![Piece::Words(part)],
    })
}

#[expect(clippy::too_many_lines, reason = "a list of phrases, not logic")]
fn production_statements(intent: Intent) -> &'static [&'static str] {
    match intent {
        Intent::Refund => &[
            "I sent back the {product} from order {order} and still wait for my {amount} euros.",
            "please refund {amount} euros for the {product}, order {order}.",
            "I want my money back for order {order}, the {product} cost {amount} euros.",
            "when do I get the {amount} euros for the returned {product}? The order was {order}.",
            "the {product} of order {order} was not for me, kindly pay back the {amount} euros.",
            "you charged {amount} euros twice for the {product} in order {order}, return one payment.",
            "I returned order {order} ({product}) and expect {amount} euros back on my card.",
            "could you reimburse the {amount} euros I paid for the {product}? Order {order}.",
        ],
        Intent::Delivery => &[
            "where is my order {order}? It should have reached {city} already.",
            "order {order} has not arrived in {city} yet.",
            "my parcel {order} to {city} is late, can you track it?",
            "I am still waiting in {city} for order {order}.",
            "the tracking of order {order} has not moved since it left for {city}.",
            "how long does shipping to {city} take? My order {order} is not here.",
            "nothing was delivered to {city} so far, the order is {order}.",
            "any news on when order {order} gets to {city}?",
        ],
        Intent::Damaged => &[
            "the {product} from order {order} arrived broken.",
            "my {product} has a big crack, order {order}.",
            "I opened order {order} and the {product} was smashed.",
            "the {product} you sent in order {order} does not work at all.",
            "order {order}: the {product} came with a missing part and scratches.",
            "the {product} stopped working on the first day, it was order {order}.",
            "the box of order {order} was crushed and the {product} inside is bent.",
            "I got a faulty {product} with order {order}.",
        ],
        Intent::Cancel => &[
            "please cancel order {order}, I no longer need the {product}.",
            "I ordered the {product} by mistake, stop order {order}.",
            "do not send the {product}, I want to cancel {order}.",
            "can I still cancel my order {order} for the {product}?",
            "I changed my mind about the {product}, drop order {order}.",
            "kindly call off order {order} with the {product}.",
            "I would like order {order} cancelled, the {product} is too expensive.",
            "forget about the {product} in order {order}, cancel it.",
        ],
        Intent::Address => &[
            "I moved, please send order {order} to {city} instead.",
            "change the delivery address of order {order} to {city}.",
            "my new address is in {city}, update order {order}.",
            "order {order} has the wrong address, it must go to {city}.",
            "could you ship {order} to my office in {city}?",
            "I typed the old address in order {order}, I live in {city} now.",
            "redirect order {order} to {city} please.",
            "the address of order {order} needs a correction: {city}.",
        ],
        Intent::Login => &[
            "I cannot log in to my account {account}.",
            "my account {account} is locked.",
            "the password of {account} is not accepted any more.",
            "I forgot the password for {account} and the reset mail never comes.",
            "your site says that user {account} does not exist.",
            "the app keeps signing me out of {account}.",
            "I am locked out, my user name is {account}.",
            "signing in as {account} gives an error.",
        ],
        Intent::Invoice => &[
            "please send me the invoice for {month}.",
            "I need a bill for my {month} purchases for the tax office.",
            "I can't find my {month} invoice.",
            "my accountant asks for the invoice of {month}.",
            "could I have a receipt for {month}?",
            "the {month} invoice has the wrong company name, send a new one.",
            "where can I download the bill for {month}?",
            "I have not received an invoice for {month}.",
        ],
    }
}

fn held_out_statements(intent: Intent) -> &'static [&'static str] {
    match intent {
        Intent::Refund => &[
            "I gave the {product} back weeks ago (order {order}), so where are my {amount} euros?",
            "kindly transfer the {amount} euros for the {product} of order {order} back to me.",
            "the {product} went back to you, order {order}, and a refund of {amount} euros is due.",
            "I expect to be repaid {amount} euros for the {product}, my order was {order}.",
        ],
        Intent::Delivery => &[
            "my package {order} should be in {city} by now, but nobody came.",
            "has order {order} been shipped to {city}? I see no parcel.",
            "I keep looking out for the courier here in {city}, order {order} is overdue.",
            "can you tell me when the delivery of {order} in {city} will happen?",
        ],
        Intent::Damaged => &[
            "I unpacked the {product} and it is in pieces, order {order}.",
            "order {order} brought me a defective {product}.",
            "the {product} is dented and will not switch on, order {order}.",
            "sadly the {product} of order {order} was destroyed on the way.",
        ],
        Intent::Cancel => &[
            "I decided against the {product}, so cancel {order} before it ships.",
            "is it possible to cancel the purchase {order} of a {product}?",
            "please withdraw my order {order}, I found the {product} elsewhere.",
            "the {product} is not needed any longer, cancellation of order {order} please.",
        ],
        Intent::Address => &[
            "I will be living in {city} from now on, deliver order {order} there.",
            "please correct where order {order} goes, the right address is in {city}.",
            "can order {order} go to a different address, in {city}?",
            "the shipping address for {order} should read {city}, I moved house.",
        ],
        Intent::Login => &[
            "it is impossible to sign in, my account name is {account}.",
            "my login {account} stopped working last night.",
            "I do not get past the password page as {account}.",
            "the account {account} refuses my password.",
        ],
        Intent::Invoice => &[
            "for my records I need the {month} invoice.",
            "an invoice for {month} is missing from my mailbox.",
            "would you issue the bill of {month} again?",
            "I am after a copy of the invoice from {month}.",
        ],
    }
}
