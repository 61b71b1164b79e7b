//! Names that what stands around them gives away, and capitals that are no names.

use crate::{Cues, Kind, Named, Policy, Recogniser, Redactor};

fn named(text: &str) -> Vec<(Kind, String)> {
    Cues.names(text).unwrap().into_iter().map(|Named { kind, text }| (kind, text)).collect()
}

#[track_caller]
fn is_named(kind: Kind, text: &str, name: &str) {
    let found = named(text);
    assert!(found.contains(&(kind, name.to_owned())), "in {text:?}: {found:?}");
}

#[track_caller]
fn nobody_in(text: &str) {
    assert_eq!(named(text), [], "in {text:?}");
}

#[test]
fn who_is_introduced_greeted_or_signs_is_a_person() {
    for (text, name) in [
        ("Good day, my name is Rubija and I lost a card", "Rubija"),
        ("I'm Naomi Ryan, and I moved", "Naomi Ryan"),
        ("please ask Mrs. Labrie about it", "Labrie"),
        ("please ask Dr Cettina Fanucci", "Cettina Fanucci"),
        ("Dear Yngvild, it is late", "Yngvild"),
        ("Thank you, Mia. Could you", "Mia"),
        ("It is late.\n\nKind regards,\nŠárka Ottová\nSales", "Šárka Ottová"),
        ("Name: Toshimi Arata\nPhone: 1", "Toshimi Arata"),
        ("- **Last Name:** Muller", "Muller"),
        ("my brother Jožef has the card", "Jožef"),
        ("please copy my boss Jožef on it", "Jožef"),
        ("his sisters Rubija came", "Rubija"),
        ("\"It is late\", says Hartvigsson.", "Hartvigsson"),
        ("heard of Faina D. Yefremova's tales", "Faina D. Yefremova"),
        ("Ludwig van Beethoven's daughter", "Ludwig van Beethoven"),
        ("What's the name on the account? User: Rubija", "Rubija"),
        ("written by Liis O'Brien-Smith today", "Liis O'Brien-Smith"),
        ("then Margaret Atwood came", "Margaret Atwood"),
        ("first_name\nAmelia\nlast_name\nLi", "Amelia"),
    ] {
        is_named(Kind::Person, text, name);
    }
}

#[test]
fn what_has_a_number_or_a_cue_of_a_place_is_one() {
    for (text, name) in [
        ("at 975 Sunset Drive, please", "975 Sunset Drive"),
        ("send it to Brucker Bundesstrasse 31", "Brucker Bundesstrasse 31"),
        ("in Rua do Arenque 1634", "Rua do Arenque 1634"),
        ("it is Suite 217, left", "Suite 217"),
        ("box: PSC 0413, Box 8144\nAPO AA 42323", "PSC 0413, Box 8144\nAPO AA 42323"),
        ("in St. Paul, MN 55101 now", "St. Paul, MN 55101"),
        ("I live in Kenosha with a dog", "Kenosha"),
        ("my zip code is 35350", "35350"),
        ("by train to New Zealand", "New Zealand"),
        ("city\nAustin\ncountry", "Austin"),
    ] {
        is_named(Kind::Location, text, name);
    }
}

#[test]
fn what_ends_in_its_legal_form_is_a_company() {
    is_named(Kind::Organization, "I called Aunt Bertha Inc today", "Aunt Bertha Inc");
    is_named(Kind::Organization, "she works for Exversion now", "Exversion");
    is_named(Kind::Organization, "Company: Persint", "Persint");
}

#[test]
fn capitals_alone_are_no_name() {
    for text in [
        "CAN I SPEAK TO A REAL PERSON?!",
        "Dear Customer, hello World! Thanks, Support",
        "Since Monday the Order Status is Open. I'm Sorry. This is Important.",
        "Yours sincerely,\nSupport",
        "on 20 May 2024 in Room 5 of Grade 7 there were 80 Apples",
        "a one-way trip from DEN to LAX",
        "name\nTravel Insurance\nkey\nvalue",
        "fn main() { let Some(value) = Option::None else { return Err(Error::New) }; }",
        "my friend told me; his brother said no",
        "",
    ] {
        nobody_in(text);
    }
}

#[test]
fn somebody_introduced_in_full_is_one_person_by_each_name() {
    let name = Named { kind: Kind::Person, text: "Ann van der Yefremova".to_owned() };
    assert_eq!(Cues.spellings(&name), ["Yefremova"], "and no particle, nor what is too short");
    let mut masker = Redactor::new(Policy::Standard).masker();
    for spelling in Cues.spellings(&name) {
        masker.know_as(Named { kind: Kind::Person, text: spelling.to_owned() }, &name.text);
    }
    masker.know(name);
    assert_eq!(
        masker.mask("Ann van der Yefremova, early Yefremova"),
        "<PERSON_1>, early <PERSON_1>"
    );
}
