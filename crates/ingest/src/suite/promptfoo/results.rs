//! Results as `promptfoo eval -o results.json` writes them: what was asked, what was asserted, and
//! what one provider said.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;
use understudy_manifest::Case;

use super::{Test, asked};
use crate::{IngestError, rows::Document};

/// Cases, and the answers that came with them.
type Results = (Vec<Case>, Vec<(String, String)>);

#[derive(Debug, Deserialize)]
struct File {
    results: Whole,
}

#[derive(Debug, Deserialize)]
struct Whole {
    results: Vec<Outcome>,
}

/// One test, as it was asked of one provider.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    #[serde(default)]
    test_idx: Option<usize>,
    #[serde(default)]
    prompt_idx: usize,
    #[serde(default)]
    test_case: Option<Test>,
    prompt: Prompt,
    #[serde(default)]
    provider: Option<Provider>,
    #[serde(default)]
    response: Option<Response>,
}

#[derive(Debug, Deserialize)]
struct Prompt {
    /// With its variables filled in.
    raw: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Provider {
    Named(String),
    Described { id: String },
}

#[derive(Debug, Deserialize)]
struct Response {
    #[serde(default)]
    output: Option<Value>,
}

pub(in crate::suite) fn results(document: &Document<'_>) -> Result<Results, IngestError> {
    let wrong = |why: String| IngestError::Case { line: 1, why };
    let (_, row) = document.rows().next().ok_or(IngestError::Empty)?;
    let file: File = row
        .and_then(|row| serde_json::from_value(Value::Object(row)).map_err(|why| why.to_string()))
        .map_err(|why| wrong(format!("it is no file of results: {why}")))?;
    let outcomes = &file.results.results;
    let who: BTreeSet<String> = outcomes.iter().map(Outcome::who).collect();
    if who.len() > 1 {
        let all = who.into_iter().collect::<Vec<_>>().join("; ");
        let why = "a suite asks one prompt, and answers are one subject's: run promptfoo with one";
        return Err(wrong(format!("it holds answers of {all}; {why}")));
    }
    let (mut cases, mut answers) = (Vec::new(), Vec::new());
    for (number, outcome) in (1..).zip(outcomes) {
        let case = outcome.case(number).map_err(|why| {
            let test = outcome.test_idx.map_or(number, |at| at + 1);
            IngestError::Case { line: number, why: format!("test {test}: {why}") }
        })?;
        answers.extend(outcome.answer().map(|answer| (case.id.clone(), answer)));
        cases.push(case);
    }
    Ok((cases, answers))
}

impl Outcome {
    fn who(&self) -> String {
        let provider = match &self.provider {
            Some(Provider::Named(id) | Provider::Described { id }) => id.as_str(),
            None => "somebody",
        };
        format!("{provider} to prompt {}", self.prompt_idx + 1)
    }

    fn case(&self, number: usize) -> Result<Case, String> {
        let test = self.test_case.as_ref().ok_or(
            "it has no `testCase`, as files of older versions; export the evaluation again",
        )?;
        test.refuse_the_rest()?;
        if test.assert.is_empty() {
            return Err("`assert` is empty, so every answer would pass".to_owned());
        }
        Ok(Case {
            id: format!("{:04}", self.test_idx.map_or(number, |at| at + 1)),
            prompt: asked(self.prompt.raw.clone())?,
            checks: test.checks()?,
            provenance: test.description.clone(),
            ..Case::default()
        })
    }

    /// None where the provider failed.
    fn answer(&self) -> Option<String> {
        match self.response.as_ref()?.output.as_ref()? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }
}
