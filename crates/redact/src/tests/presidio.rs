//! Recall and precision on Presidio's synthetic benchmark, where it is present: 1,500 sentences
//! with labelled personal data. Its sentences were read while choosing the words that mark a
//! telephone number, so expect less on text of another kind.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{Cues, Kind, Measured, Named, Policy, Recogniser, Redactor, Span};

#[derive(Default)]
struct Score {
    labelled: usize,
    recalled: usize,
    predicted: usize,
    correct: usize,
}

/// The file, which a fresh clone does not have; `UNDERSTUDY_TEST_DATA` says where such files are, or
/// `required`, and then they have to be there.
fn benchmark() -> Option<String> {
    let asked = env::var_os("UNDERSTUDY_TEST_DATA");
    let given = asked.as_ref().filter(|value| *value != "required").map(PathBuf::from);
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let path = given.unwrap_or_else(usual).join("presidio/synth_dataset_v2.json");
    let text = fs::read_to_string(&path).ok();
    assert!(text.is_some() || asked.is_none(), "UNDERSTUDY_TEST_DATA: no {}", path.display());
    if text.is_none() {
        eprintln!("SKIPPED: no benchmark at {}", path.display());
    }
    text
}

#[test]
fn presidio_benchmark() {
    let Some(text) = benchmark() else { return };
    let sentences: Vec<Value> = serde_json::from_str(&text).unwrap();
    let mut scores: BTreeMap<Kind, Score> = BTreeMap::new();
    for sentence in &sentences {
        judge(sentence, &mut scores);
    }
    println!(
        "{:<13}{:>9}{:>8}{:>10}{:>10}",
        "kind", "labelled", "recall", "predicted", "precision"
    );
    for (kind, score) in &scores {
        println!(
            "{:<13}{:>9}{:>8.3}{:>10}{:>10.3}",
            kind.as_str(),
            score.labelled,
            recall(score),
            score.predicted,
            precision(score)
        );
    }
    for (kind, least) in [
        (Kind::Email, 0.99),
        (Kind::Card, 0.98),
        (Kind::Phone, 0.85),
        (Kind::Iban, 0.95),
        (Kind::Ssn, 0.95),
        (Kind::Ip, 0.95),
        (Kind::Url, 0.95),
        (Kind::Person, 0.5),
        (Kind::Location, 0.7),
        (Kind::Organization, 0.2),
    ] {
        assert!(recall(&scores[&kind]) >= least, "recall of {}", kind.as_str());
        assert!(precision(&scores[&kind]) >= 0.95, "precision of {}", kind.as_str());
    }
    let stated = Policy::Standard.measured().iter().chain(Cues::measured());
    stated.for_each(|stated| is_as_stated(stated, &scores[&stated.kind]));
}

/// Of every label, whatever it is called, with and without the layer that needs no model.
#[test]
fn presidio_overall() {
    let Some(text) = benchmark() else { return };
    let sentences: Vec<Value> = serde_json::from_str(&text).unwrap();
    for (layer, stated, find) in [
        ("patterns", Policy::Standard.overall().unwrap(), by_pattern as fn(&str) -> Vec<Span>),
        ("patterns and cues", Cues::overall(), by_all),
    ] {
        let mut score = Score::default();
        for sentence in &sentences {
            overall(sentence, find, &mut score);
        }
        let (recall, precision) = (recall(&score), precision(&score));
        println!("{layer}: recall {recall:.3}, precision {precision:.3} of {}", score.labelled);
        assert_eq!(stated.labelled, score.labelled);
        assert!((stated.recall - recall).abs() < 5e-4, "{layer}: recall is {recall:.4}");
        assert!(
            (stated.precision - precision).abs() < 5e-4,
            "{layer}: precision is {precision:.4}"
        );
        assert!(precision >= 0.95, "{layer}");
    }
}

fn overall(sentence: &Value, find: fn(&str) -> Vec<Span>, score: &mut Score) {
    let text = sentence["full_text"].as_str().unwrap();
    let spans = sentence["spans"].as_array().unwrap();
    let labels: Vec<(usize, usize)> = spans.iter().map(|span| place(text, span)).collect();
    let found = find(text);
    let overlap = |(start, end): &(usize, usize), one: &Span| one.start < *end && *start < one.end;
    score.labelled += labels.len();
    let is_found = |label: &&(usize, usize)| found.iter().any(|one| overlap(label, one));
    score.recalled += labels.iter().filter(is_found).count();
    score.predicted += found.len();
    let is_right = |one: &&Span| labels.iter().any(|label| overlap(label, one));
    score.correct += found.iter().filter(is_right).count();
}

/// Cards of datasets state these figures.
fn is_as_stated(stated: &Measured, score: &Score) {
    assert_eq!(stated.labelled, score.labelled, "{:?}", stated.kind);
    for (told, found) in [(stated.recall, recall(score)), (stated.precision, precision(score))] {
        let kind = stated.kind;
        assert!((told - found).abs() < 5e-4, "{kind:?}: {told} is stated, {found} found");
    }
}

fn by_pattern(text: &str) -> Vec<Span> {
    Redactor::new(Policy::Standard).find(text)
}

/// As a dataset is masked, a sentence for a trajectory.
fn by_all(text: &str) -> Vec<Span> {
    let mut masker = Redactor::new(Policy::Standard).masker();
    for named in Cues.names(text).unwrap() {
        for spelling in Cues.spellings(&named) {
            masker.know(Named { kind: named.kind, text: spelling.to_owned() });
        }
        masker.know(named);
    }
    masker.find(text)
}

fn judge(sentence: &Value, scores: &mut BTreeMap<Kind, Score>) {
    let text = sentence["full_text"].as_str().unwrap();
    let labels: Vec<Span> =
        sentence["spans"].as_array().unwrap().iter().filter_map(|span| label(text, span)).collect();
    let found = by_all(text);
    let overlap = |a: &Span, b: &Span| a.kind == b.kind && a.start < b.end && b.start < a.end;
    for one in &labels {
        let score = scores.entry(one.kind).or_default();
        score.labelled += 1;
        if found.iter().any(|other| overlap(one, other)) {
            score.recalled += 1;
        } else {
            println!("missed {}: {:?}", one.kind.as_str(), around(text, *one));
        }
    }
    for one in &found {
        let score = scores.entry(one.kind).or_default();
        score.predicted += 1;
        if labels.iter().any(|other| overlap(one, other)) {
            score.correct += 1;
        } else {
            println!("wrong {}: {:?}", one.kind.as_str(), around(text, *one));
        }
    }
}

/// The labels count characters; spans count bytes.
fn label(text: &str, span: &Value) -> Option<Span> {
    let kind = match span["entity_type"].as_str()? {
        "EMAIL_ADDRESS" => Kind::Email,
        "PHONE_NUMBER" => Kind::Phone,
        "CREDIT_CARD" => Kind::Card,
        "IBAN_CODE" => Kind::Iban,
        "US_SSN" => Kind::Ssn,
        "IP_ADDRESS" => Kind::Ip,
        "DOMAIN_NAME" => Kind::Url,
        "PERSON" => Kind::Person,
        "STREET_ADDRESS" | "GPE" | "ZIP_CODE" => Kind::Location,
        "ORGANIZATION" => Kind::Organization,
        _ => return None,
    };
    let (start, end) = place(text, span);
    Some(Span { kind, start, end })
}

/// In bytes.
fn place(text: &str, span: &Value) -> (usize, usize) {
    let byte = |key: &str| {
        let position = span[key].as_u64().unwrap() as usize;
        text.char_indices().nth(position).map_or(text.len(), |(at, _)| at)
    };
    (byte("start_position"), byte("end_position"))
}

fn around(text: &str, span: Span) -> String {
    let before = text[..span.start].chars().rev().take(30).collect::<Vec<_>>();
    before.into_iter().rev().chain(text[span.start..span.end].chars()).collect()
}

fn recall(score: &Score) -> f64 {
    score.recalled as f64 / score.labelled.max(1) as f64
}

fn precision(score: &Score) -> f64 {
    score.correct as f64 / score.predicted.max(1) as f64
}
