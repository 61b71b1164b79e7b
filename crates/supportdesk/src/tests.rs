use std::collections::BTreeSet;

use crate::{
    Expert, Intent, Reaction, Temper, Ticket, Wording, phrasebook::Phrasebook, react, tickets,
};

#[test]
fn the_same_seed_gives_the_same_tickets_and_no_text_twice() {
    let made = tickets(7, Wording::Production, 400);
    assert_eq!(made, tickets(7, Wording::Production, 400));
    assert_ne!(made, tickets(8, Wording::Production, 400));
    let texts: BTreeSet<&str> = made.iter().map(|ticket| ticket.text.as_str()).collect();
    assert_eq!(texts.len(), 400);
}

#[test]
fn the_two_books_share_no_phrase_and_no_value() {
    let (one, other) = (Phrasebook::of(Wording::Production), Phrasebook::of(Wording::HeldOut));
    let lists = |book: &Phrasebook| {
        let mut words: Vec<&str> =
            [book.products, book.cities, book.accounts, book.months].concat();
        words.extend(book.order_letters);
        words.extend(Intent::ALL.iter().flat_map(|intent| book.statements(*intent)));
        words.into_iter().collect::<BTreeSet<_>>()
    };
    assert!(lists(&one).is_disjoint(&lists(&other)));
}

#[test]
fn the_expert_reads_every_ticket_and_errs_only_where_the_house_has_its_own_rule_or_it_slips() {
    let expert = Expert::default();
    for wording in [Wording::Production, Wording::HeldOut] {
        for ticket in tickets(3, wording, 500) {
            let careful = expert.answer(&ticket.text, 1);
            let mut expected = ticket.triage.clone();
            expected.priority = ticket.triage.intent.common_sense();
            assert_eq!(careful, expected.to_json(), "{}", ticket.text);
        }
    }
    let made = tickets(3, Wording::Production, 500);
    let slips = made.iter().filter(|t| expert.answer(&t.text, 0) != expert.answer(&t.text, 1));
    assert!((10..60).contains(&slips.count()));
}

#[test]
fn users_accept_what_is_right_edit_what_is_nearly_right_and_give_up_on_nonsense() {
    let made = tickets(5, Wording::Production, 300);
    let share = |answer: &dyn Fn(&Ticket) -> String, wanted: fn(&Reaction) -> bool| {
        let hits = made.iter().filter(|t| wanted(&react(t, &answer(t), 0, Temper::Honest))).count();
        hits as f64 / made.len() as f64
    };
    assert!(share(&|t| t.triage.to_json(), |r| *r == Reaction::Accept) > 0.9);
    assert!(share(&|_| "no idea".to_owned(), |r| *r == Reaction::Accept) == 0.0);
    let edited = |t: &Ticket| t.triage.to_json().replace("urgent", "high");
    assert!(share(&edited, |r| matches!(r, Reaction::Edit(_))) > 0.2);
}

#[test]
fn poisoned_users_always_correct_into_another_intent() {
    for ticket in tickets(9, Wording::Production, 50) {
        let reaction = react(&ticket, &ticket.triage.to_json(), 0, Temper::Poisoned);
        let Reaction::Edit(text) = reaction else { panic!("expected an edit") };
        assert!(!text.contains(&format!("\"intent\":\"{}\"", ticket.triage.intent.as_str())));
    }
}
