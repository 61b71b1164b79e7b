//! A configuration of promptfoo, as YAML or JSON: one prompt, and tests with variables and asserts,
//! which may lie in a file of their own; and the results that it writes.
//!
//! An assert that asks a model becomes a `judge`, with its text as the statement. What would change
//! the meaning of a test and has no counterpart here is refused by name: other files, scripts,
//! several prompts, transforms of the output, sets of asserts.

mod results;
mod sheet;

use serde::Deserialize;
use serde_json::{Map, Value};
use understudy_manifest::{Case, Check, Scorer, Share};
use understudy_message::Message;

use crate::{IngestError, rows::Document};

pub(super) use results::results;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    prompts: Prompts,
    #[serde(default)]
    tests: Tests,
    #[serde(default)]
    default_test: Option<Test>,
    #[serde(default)]
    scenarios: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Prompts {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Tests {
    Here(Vec<Test>),
    Elsewhere(String),
    Files(Vec<String>),
}

impl Default for Tests {
    fn default() -> Self {
        Self::Here(Vec::new())
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Test {
    #[serde(default)]
    vars: Map<String, Value>,
    #[serde(default)]
    assert: Vec<Assert>,
    description: Option<String>,
    /// Of all asserts together, the share that is enough.
    threshold: Option<f64>,
    #[serde(default)]
    options: Map<String, Value>,
    assert_scoring_function: Option<Value>,
}

#[derive(Debug, Clone, Deserialize)]
struct Assert {
    #[serde(rename = "type")]
    kind: String,
    value: Option<Value>,
    threshold: Option<f64>,
    weight: Option<f64>,
    transform: Option<Value>,
}

/// The configuration as JSON, whichever of the two it was.
pub(super) fn as_json(text: &str) -> Result<String, IngestError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        return Ok(value.to_string());
    }
    let value: Value =
        serde_saphyr::from_str(text).map_err(|why| IngestError::Yaml(why.to_string()))?;
    if !value.is_object() {
        return Err(IngestError::Yaml("it is no mapping".to_owned()));
    }
    Ok(value.to_string())
}

pub(super) fn cases(
    document: &Document<'_>,
    beside: Option<&str>,
) -> Result<Vec<Case>, IngestError> {
    let wrong = |why: String| IngestError::Case { line: 1, why };
    let (_, row) = document.rows().next().ok_or(IngestError::Empty)?;
    let config: Config = row
        .and_then(|row| serde_json::from_value(Value::Object(row)).map_err(|why| why.to_string()))
        .map_err(wrong)?;
    if config.scenarios.is_some() {
        return Err(wrong("it has scenarios; write them out as tests".to_owned()));
    }
    let prompt = match &config.prompts {
        Prompts::One(prompt) => prompt,
        Prompts::Many(prompts) => {
            if let [prompt] = prompts.as_slice() {
                prompt
            } else {
                let count = prompts.len();
                return Err(wrong(format!("it has {count} prompts, and a suite asks one")));
            }
        }
    };
    let elsewhere = |file: &str| wrong(format!("`{file}` is another file: put its content here"));
    if prompt.trim_start().starts_with("file://") {
        return Err(elsewhere(prompt));
    }
    let tests_elsewhere =
        |file: &str| wrong(format!("`{file}` is another file: name it with --tests"));
    let read = beside.map(sheet::tests).transpose()?;
    let tests = match (&config.tests, &read) {
        (Tests::Here(here), Some(_)) if !here.is_empty() => {
            return Err(wrong("it has tests of its own and was given a file of them".to_owned()));
        }
        (Tests::Files(files), _) if files.len() > 1 => {
            return Err(wrong("its tests lie in several files: put them into one".to_owned()));
        }
        (_, Some(read)) => read,
        (Tests::Here(tests), None) => tests,
        (Tests::Elsewhere(file), None) => return Err(tests_elsewhere(file)),
        (Tests::Files(files), None) => {
            return Err(tests_elsewhere(files.first().map_or("", String::as_str)));
        }
    };
    let default = config.default_test.unwrap_or_default();
    let case = |(number, test): (usize, &Test)| {
        let test = test.over(&default);
        test.case(number, prompt).map_err(|why| IngestError::Case { line: number, why })
    };
    (1..).zip(tests).map(case).collect()
}

impl Test {
    /// With what every test has: its variables unless they are set here, and its asserts as well.
    fn over(&self, default: &Self) -> Self {
        let mut vars = default.vars.clone();
        vars.extend(self.vars.clone());
        let mut options = default.options.clone();
        options.extend(self.options.clone());
        let scoring = self.assert_scoring_function.clone();
        Self {
            vars,
            assert: default.assert.iter().chain(&self.assert).cloned().collect(),
            description: self.description.clone().or_else(|| default.description.clone()),
            threshold: self.threshold.or(default.threshold),
            options,
            assert_scoring_function: scoring.or_else(|| default.assert_scoring_function.clone()),
        }
    }

    /// What would change a test's meaning and is not read.
    fn refuse_the_rest(&self) -> Result<(), String> {
        if self.threshold.is_some() {
            return Err("the test has a threshold over all asserts; put one on each".to_owned());
        }
        if self.assert_scoring_function.is_some() {
            return Err("the test is scored by a function of its own; take it out".to_owned());
        }
        let changing = ["transform", "transformVars", "postprocess", "prefix", "suffix"];
        match changing.into_iter().find(|key| self.options.contains_key(*key)) {
            Some(key) => Err(format!("the test's option `{key}` has no counterpart; take it out")),
            None => Ok(()),
        }
    }

    fn case(&self, number: usize, prompt: &str) -> Result<Case, String> {
        self.refuse_the_rest()?;
        if self.assert.is_empty() {
            return Err("the test asserts nothing, so every answer would pass".to_owned());
        }
        Ok(Case {
            id: format!("{number:04}"),
            prompt: asked(filled(prompt, &self.vars)?)?,
            checks: self.checks()?,
            provenance: self.description.clone(),
            ..Case::default()
        })
    }
}

impl Test {
    /// Its asserts, with the variables that their values name.
    fn checks(&self) -> Result<Vec<Check>, String> {
        let fill = |value: &Value| match value {
            Value::String(text) if text.contains("{{") => {
                filled(text, &self.vars).map(Value::String)
            }
            other => Ok(other.clone()),
        };
        let check = |assert: &Assert| {
            let value = match &assert.value {
                Some(Value::Array(items)) => {
                    Some(items.iter().map(fill).collect::<Result<Value, _>>()?)
                }
                Some(value) => Some(fill(value)?),
                None => None,
            };
            Assert { value, ..assert.clone() }.check()
        };
        self.assert.iter().map(check).collect()
    }
}

/// A prompt that is a JSON list is a conversation there as well.
fn asked(text: String) -> Result<Vec<Message>, String> {
    if !text.trim_start().starts_with('[') {
        return Ok(vec![Message::user(text)]);
    }
    match serde_json::from_str::<Value>(&text) {
        Ok(value) => crate::example::messages("prompts", &value),
        // A text that only begins with a bracket.
        Err(_) => Ok(vec![Message::user(text)]),
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
        if self.transform.is_some() {
            return Err(format!("the assert `{}` transforms the output; take that out", self.kind));
        }
        let (kind, negate) = match self.kind.strip_prefix("not-") {
            Some(kind) => (kind, true),
            None => (self.kind.as_str(), false),
        };
        let scorer = self.scorer(kind)?;
        let value = match &self.value {
            Some(Value::String(text)) if kind == "factuality" => {
                Some(format!("The answer is consistent with this, in all facts: {text}"))
            }
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
            "llm-rubric" | "model-graded-closedqa" | "factuality" if !is_text => {
                return Err(format!("the assert `{kind}` has a value that is no text"));
            }
            "llm-rubric" | "model-graded-closedqa" | "factuality" => Scorer::Judge(None),
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

#[cfg(test)]
mod tests;
