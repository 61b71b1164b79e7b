//! A configuration of promptfoo, converted to JSON: one prompt, and tests with variables and asserts.

use serde::Deserialize;
use serde_json::{Map, Value};
use understudy_manifest::{Case, Check, Scorer, Share};
use understudy_message::Message;

use crate::{IngestError, rows::Document};

#[derive(Debug, Deserialize)]
struct Config {
    prompts: Vec<String>,
    tests: Vec<Test>,
}

#[derive(Debug, Deserialize)]
struct Test {
    #[serde(default)]
    vars: Map<String, Value>,
    #[serde(default)]
    assert: Vec<Assert>,
    description: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Assert {
    #[serde(rename = "type")]
    kind: String,
    value: Option<Value>,
    threshold: Option<f64>,
    weight: Option<f64>,
}

pub(super) fn cases(document: &Document<'_>) -> Result<Vec<Case>, IngestError> {
    let wrong = |why: String| IngestError::Case { line: 1, why };
    let (_, row) = document.rows().next().ok_or(IngestError::Empty)?;
    let config: Config = row
        .and_then(|row| serde_json::from_value(Value::Object(row)).map_err(|why| why.to_string()))
        .map_err(wrong)?;
    let [prompt] = config.prompts.as_slice() else {
        let count = config.prompts.len();
        return Err(wrong(format!("it has {count} prompts, and a suite asks one")));
    };
    let case = |(number, test): (usize, &Test)| {
        test.case(number, prompt).map_err(|why| IngestError::Case { line: number, why })
    };
    (1..).zip(&config.tests).map(case).collect()
}

impl Test {
    fn case(&self, number: usize, prompt: &str) -> Result<Case, String> {
        if self.assert.is_empty() {
            return Err("the test asserts nothing, so every answer would pass".to_owned());
        }
        Ok(Case {
            id: format!("{number:04}"),
            prompt: vec![Message::user(filled(prompt, &self.vars)?)],
            checks: self.assert.iter().map(Assert::check).collect::<Result<_, _>>()?,
            provenance: self.description.clone(),
            ..Case::default()
        })
    }
}

/// The prompt with its `{{variables}}`. Filters and blocks of the template language are refused.
fn filled(prompt: &str, vars: &Map<String, Value>) -> Result<String, String> {
    if prompt.contains("{%") {
        return Err("the prompt has blocks, and only {{variables}} are filled in".to_owned());
    }
    let mut text = String::new();
    let mut rest = prompt;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").ok_or("a {{ of the prompt is never closed")?;
        let value = vars.get(name.trim());
        text.push_str(before);
        match value {
            Some(Value::String(value)) => text.push_str(value),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => text.push_str(&value.to_string()),
            Some(_) => return Err(format!("the variable `{}` is no single value", name.trim())),
            None => return Err(format!("the prompt wants `{}`, which is not set", name.trim())),
        }
        rest = after;
    }
    Ok(text + rest)
}

impl Assert {
    fn check(&self) -> Result<Check, String> {
        let (kind, negate) = match self.kind.strip_prefix("not-") {
            Some(kind) => (kind, true),
            None => (self.kind.as_str(), false),
        };
        let scorer = self.scorer(kind)?;
        let value = match &self.value {
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => Some(other.to_string()),
            None => None,
        };
        let needs_value = !matches!(
            scorer,
            Scorer::JsonValid | Scorer::Refusal | Scorer::Latency(_) | Scorer::Cost(_)
        );
        if needs_value && value.is_none() {
            return Err(format!("the assert `{}` has no value", self.kind));
        }
        let weight = self.weight.unwrap_or(1.0);
        if weight <= 0.0 {
            return Err(format!("the assert `{}` weighs {weight}, so it says nothing", self.kind));
        }
        Ok(Check { weight, negate, ..Check::new(scorer, value) })
    }

    fn scorer(&self, kind: &str) -> Result<Scorer, String> {
        let is_text = self.value.as_ref().is_none_or(Value::is_string);
        Ok(match kind {
            "equals" if is_text => Scorer::Exact,
            "equals" => Scorer::JsonEqual,
            "contains" => Scorer::Contains,
            "icontains" => Scorer::ContainsAnyCase,
            "contains-any" => Scorer::ContainsAny,
            "contains-all" => Scorer::ContainsAll,
            "starts-with" => Scorer::StartsWith,
            "regex" => Scorer::Regex(None),
            "is-json" if self.value.is_some() => Scorer::JsonSchema,
            "is-json" => Scorer::JsonValid,
            "is-refusal" => Scorer::Refusal,
            "similar" => {
                let least = Share::new(self.threshold.unwrap_or(0.75));
                Scorer::Similarity(Some(least.ok_or("a threshold lies between 0 and 1")?))
            }
            "latency" => Scorer::Latency(self.limit(1.0)?),
            // In dollars there, in millionths of them here.
            "cost" => Scorer::Cost(self.limit(1e6)?),
            other => {
                return Err(format!("the assert `{other}` has no counterpart here; take it out"));
            }
        })
    }

    fn limit(&self, unit: f64) -> Result<u64, String> {
        let limit = self.threshold.filter(|limit| limit.is_finite() && *limit >= 0.0);
        let limit = limit.ok_or_else(|| format!("the assert `{}` has no threshold", self.kind))?;
        Ok((limit * unit).round() as u64)
    }
}
