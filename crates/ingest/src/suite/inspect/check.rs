//! A scorer of Inspect as a check that holds for the same answers.

use serde::Deserialize;
use serde_json::{Map, Value};
use understudy_manifest::{Check, Scorer};

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Named {
    pub name: String,
    #[serde(default)]
    pub options: Option<Map<String, Value>>,
}

impl Named {
    /// As scores call it: without the package.
    pub(super) fn plain(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or_default()
    }

    pub(super) fn check(&self, targets: &[String]) -> Result<Check, String> {
        let name = self.plain();
        let option = |key: &str| self.options.as_ref().and_then(|options| options.get(key));
        let ignores_case = option("ignore_case").and_then(Value::as_bool).unwrap_or(true);
        let case = if ignores_case { "(?is)" } else { "(?s)" };
        let pattern = |text: String| Ok(Check::new(Scorer::Regex(None), Some(text)));
        if targets.is_empty() {
            return Err(format!("the scorer `{}` has no target to compare with", self.name));
        }
        let any = any_of(targets);
        match name {
            "match" if option("numeric").and_then(Value::as_bool).unwrap_or(false) => match targets
            {
                [target] => Ok(Check::new(Scorer::Number, Some(target.clone()))),
                _ => Err("a numeric `match` with several targets has no counterpart".to_owned()),
            },
            "match" => match option("location").and_then(Value::as_str).unwrap_or("end") {
                "begin" => pattern(format!("{case}^[\\s\\p{{P}}]*{any}")),
                "end" => pattern(format!("{case}{any}[\\s\\p{{P}}]*$")),
                "exact" => pattern(format!("{case}^[\\s\\p{{P}}]*{any}[\\s\\p{{P}}]*$")),
                "any" => pattern(format!("{case}{any}")),
                other => Err(format!("`match` at `{other}` has no counterpart")),
            },
            "includes" => pattern(format!("{case}{any}")),
            "exact" => match targets {
                [target] => Ok(Check::new(Scorer::Normalized, Some(target.clone()))),
                _ => pattern(format!("(?is)^[\\s\\p{{P}}]*{any}[\\s\\p{{P}}]*$")),
            },
            "model_graded_fact" | "model_graded_qa" => {
                let own = ["template", "instructions", "grade_pattern", "partial_credit"];
                let changes = |key: &&&str| option(key).is_some_and(|value| !is_unset(value));
                if let Some(key) = own.iter().find(changes) {
                    return Err(format!(
                        "the scorer `{}` has its own `{key}`, which has no counterpart here",
                        self.name
                    ));
                }
                let what = match name {
                    "model_graded_fact" => "The answer contains the content of this one",
                    _ => "The answer meets this criterion",
                };
                let holds = format!("{what}: {}", targets.join(" / "));
                Ok(Check::new(Scorer::Judge(None), Some(holds)))
            }
            "choice" | "answer" => {
                pattern(format!("(?i)answer\\s*:\\s*{any}(?:[^\\p{{L}}\\p{{N}}]|$)"))
            }
            _ => Err(format!(
                "the scorer `{}` has no counterpart here; take its scores with --recorded-scores, or \
                 import rows and name scorers of ours",
                self.name
            )),
        }
    }
}

/// Logs name options that nobody set.
fn is_unset(value: &Value) -> bool {
    matches!(value, Value::Null | Value::Bool(false))
}

/// One of the texts, taken literally.
fn any_of(texts: &[String]) -> String {
    let escaped: Vec<String> = texts.iter().map(|text| literal(text.trim())).collect();
    format!("(?:{})", escaped.join("|"))
}

fn literal(text: &str) -> String {
    let mut literal = String::new();
    for letter in text.chars() {
        if letter.is_ascii_punctuation() {
            literal.push('\\');
        }
        literal.push(letter);
    }
    literal
}
