//! Social security numbers, machine addresses and page addresses: what they are and are not.

use crate::{Kind, Named, Policy, Redactor};

fn found(text: &str) -> Vec<(Kind, &str)> {
    let spans = Redactor::new(Policy::Standard).find(text);
    spans.into_iter().map(|span| (span.kind, &text[span.start..span.end])).collect()
}

#[test]
fn social_security_numbers() {
    assert_eq!(found("Here's my SSN: 460-89-9847."), [(Kind::Ssn, "460-89-9847")]);
    assert_eq!(found("social security 123 45 6789"), [(Kind::Ssn, "123 45 6789")]);
    assert_eq!(found("ssn=123456789"), [(Kind::Ssn, "123456789")]);
    for other in [
        "000-12-3456",
        "666-12-3456",
        "901-12-3456",
        "123-00-3456",
        "123-45-0000",
        "order 123456789",
        "part 1123-45-67890",
        "123-45-6789-1",
        "123-45 6789",
    ] {
        assert!(found(other).iter().all(|(kind, _)| *kind != Kind::Ssn), "{other}");
    }
}

#[test]
fn machine_addresses() {
    assert_eq!(found("from 41.173.96.26 blocked"), [(Kind::Ip, "41.173.96.26")]);
    assert_eq!(found(r"\|106.31.73.20|%20"), [(Kind::Ip, "106.31.73.20")]);
    assert_eq!(found("it was 10.1.2.3."), [(Kind::Ip, "10.1.2.3")]);
    assert_eq!(found("10.1.2.3:8080"), [(Kind::Ip, "10.1.2.3")]);
    let six = "6e40:4041:c617:e898:c11:40d2:c669:2eb4";
    assert_eq!(found(&format!("address {six} blocked")), [(Kind::Ip, six)]);
    assert_eq!(found("at fe80::1ff:fe23:4567:890a"), [(Kind::Ip, "fe80::1ff:fe23:4567:890a")]);
    for other in [
        "127.0.0.1",
        "0.0.0.0",
        "999.1.1.1",
        "version 1.2.3.4",
        "1.2.3.4.5",
        "v1.2.3.4",
        "12:34:56",
        "std::fs::read",
        "dead::beef",
        "::1",
        "a::b",
        "1.2.3",
    ] {
        assert!(found(other).iter().all(|(kind, _)| *kind != Kind::Ip), "{other}");
    }
}

#[test]
fn page_addresses() {
    let page = "http://www.ScrapbookInsider.com.pt/";
    assert_eq!(found(&format!("My website is {page}")), [(Kind::Url, page)]);
    assert_eq!(
        found("(see https://a.example/b_(c)?d=e#f)."),
        [(Kind::Url, "https://a.example/b_(c)?d=e#f")]
    );
    assert_eq!(found("www.example.org, please"), [(Kind::Url, "www.example.org")]);
    assert_eq!(found("https://пример.рф/x"), [(Kind::Url, "https://пример.рф/x")]);
    for other in ["http://localhost:8080/x", "http://127.0.0.1/", "www.", "https://", "main.rs"] {
        assert_eq!(found(other), [], "{other}");
    }
    // What is found within stands by itself, and nothing of it is left.
    let mut masker = Redactor::new(Policy::Standard).masker();
    let masked = masker.mask("https://a.example/?u=jo@b.example&x=1 and https://a.example/?u=");
    assert_eq!(masked, "<URL_1><EMAIL_1>&x=1 and <URL_1>");
    assert_eq!(masker.mask("http://10.1.2.3/x"), "http://<IP_1>/x");
}

#[test]
fn what_a_recogniser_named_is_masked_wherever_it_is_a_word() {
    let mut masker = Redactor::new(Policy::Standard).masker();
    let named = |kind, text: &str| Named { kind, text: text.to_owned() };
    masker.know(named(Kind::Person, "Ann"));
    masker.know(named(Kind::Person, "Ann Lee"));
    masker.know(named(Kind::Location, "Bern"));
    masker.know(named(Kind::Organization, "Acme (UK)"));
    masker.know(named(Kind::Person, " "));
    assert_eq!(
        masker.mask("Ann Lee of Acme (UK) met ann.lee@example.org and Ann in Bern; Annual, Berner"),
        "<PERSON_1> of <ORGANIZATION_1> met <EMAIL_1> and <PERSON_2> in <LOCATION_1>; Annual, Berner"
    );
    // In JSON values and keys; the same pseudonym, and nothing more the second time.
    let masked = masker.mask(r#"{"Bern": "Ann", "n": 7, "to": ["Bern, PERSON"]}"#);
    assert_eq!(masked, r#"{"<LOCATION_1>": "<PERSON_2>", "n": 7, "to": ["<LOCATION_1>, PERSON"]}"#);
    assert_eq!(masker.mask(&masked), masked);
    masker.know(named(Kind::Person, "PERSON"));
    assert_eq!(masker.mask("<PERSON_2>"), "<PERSON_2>", "no name is within a pseudonym");
    assert_eq!(masker.counts()[&Kind::Person], 3);
}

/// Found by fuzzing: the name of a pseudonym was taken for a word about the number beside it.
#[test]
fn a_pseudonym_says_nothing_of_what_stands_beside_it() {
    let text = r#"{"a +49 30 901820": "id 430%2013000", "b": "<PHONE_7> 2013000"}"#;
    let mut masker = Redactor::new(Policy::Standard).masker();
    let masked = masker.mask(text);
    assert!(masked.contains("%2013000") && masked.contains("> 2013000"), "{masked}");
    assert_eq!(masker.mask(&masked), masked);
}
