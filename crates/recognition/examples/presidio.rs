//! What patterns find of labelled personal data, and what they find with a model beside them:
//! `cargo run --release -p understudy-recognition --example presidio -- FILE [URL MODEL]`.
//!
//! FILE is presidio-research's `synth_dataset_v2.json`; URL an OpenAI-compatible endpoint up to
//! `/v1`. A label counts as found where anything that would be masked overlaps with it, whatever it
//! is called; a finding that overlaps with no label is a false one. Sentences whose names the model
//! cannot tell are counted: a dataset leaves them out.
#![expect(clippy::print_stdout, reason = "it is what the example is for")]

use std::{collections::BTreeMap, env, error::Error, fs, time::Duration};

use serde_json::Value;
use understudy_recognition::{Endpoint, ModelRecogniser};
use understudy_redact::{Policy, Recogniser, RecogniserError, Redactor, Span};

#[derive(Default)]
struct Score {
    labelled: usize,
    found: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let file = arguments.next().ok_or("name the file with the labelled sentences")?;
    let recogniser = match (arguments.next(), arguments.next()) {
        (Some(url), Some(model)) => {
            let timeout = Duration::from_mins(2);
            Some(ModelRecogniser::new(&Endpoint { url, model, api_key_env: None, timeout })?)
        }
        (None, _) => None,
        (Some(_), None) => return Err("name the model behind the URL as well".into()),
    };
    let sentences: Vec<Value> = serde_json::from_str(&fs::read_to_string(file)?)?;
    let mut scores: BTreeMap<String, Score> = BTreeMap::new();
    let (mut findings, mut right, mut untold) = (0, 0, 0);
    for sentence in &sentences {
        let text = sentence["full_text"].as_str().ok_or("a sentence has no text")?;
        let mut found = Redactor::new(Policy::Standard).find(text);
        if let Some(recogniser) = &recogniser {
            let mut masker = Redactor::new(Policy::Standard).masker();
            match recogniser.names(text) {
                Ok(names) => names.into_iter().for_each(|named| masker.know(named)),
                Err(RecogniserError::Unusable { .. }) => {
                    untold += 1;
                    continue;
                }
                Err(why) => return Err(why.into()),
            }
            found = masker.find(text);
        }
        let labels = labels(sentence, text);
        for (kind, label) in &labels {
            let score = scores.entry(kind.clone()).or_default();
            score.labelled += 1;
            score.found += usize::from(found.iter().any(|one| overlap(one, label)));
        }
        findings += found.len();
        let is_right = |one: &&Span| labels.iter().any(|(_, label)| overlap(one, label));
        right += found.iter().filter(is_right).count();
    }
    let (labelled, found) = scores
        .values()
        .fold((0, 0), |(labelled, found), one| (labelled + one.labelled, found + one.found));
    for (kind, Score { labelled, found }) in &scores {
        println!("{kind:<16} {found:>5} of {labelled:>5}");
    }
    println!(
        "recall {:.3}, precision {:.3}; {untold} of {} sentences could not be told",
        found as f64 / labelled.max(1) as f64,
        right as f64 / findings.max(1) as f64,
        sentences.len()
    );
    Ok(())
}

/// The labels count characters; spans count bytes.
fn labels(sentence: &Value, text: &str) -> Vec<(String, (usize, usize))> {
    let spans = sentence["spans"].as_array().into_iter().flatten();
    let place = |span: &Value, key: &str| {
        let position = span[key].as_u64()? as usize;
        Some(text.char_indices().nth(position).map_or(text.len(), |(at, _)| at))
    };
    let label = |span: &Value| {
        let kind = span["entity_type"].as_str()?.to_owned();
        Some((kind, (place(span, "start_position")?, place(span, "end_position")?)))
    };
    spans.filter_map(label).collect()
}

fn overlap(one: &Span, (start, end): &(usize, usize)) -> bool {
    one.start < *end && *start < one.end
}
