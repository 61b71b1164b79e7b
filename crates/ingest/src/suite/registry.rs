//! The registry of OpenAI evals: which class judges samples, and with which arguments.
//!
//! Of the model-graded ones `closedqa` is read, whose question is the one a judge is asked here:
//! does the answer meet a criterion? The others grade by several choices and are refused by their
//! name.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use understudy_manifest::{Case, Check, Scorer};

use super::{
    Foreign,
    evals::{self, ideals, literal},
    prompt,
};
use crate::{IngestError, Row};

/// How samples are judged.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Class {
    Match,
    Includes {
        ignores_case: bool,
    },
    Fuzzy,
    JsonMatch,
    JsonValidator,
    /// With a criterion for all samples, or one in each.
    ClosedQa(Option<String>),
}

/// Arguments that change neither what is asked nor how it is judged.
const HARMLESS: [&str; 4] = ["samples_jsonl", "max_tokens", "eval_type", "modelgraded_spec"];

/// The class of an eval, which may stay unnamed where there is only one.
pub(super) fn class(registry: &str, eval: Option<&str>) -> Result<Class, IngestError> {
    let wrong = |why: String| IngestError::Registry(why);
    let all: BTreeMap<String, Map<String, Value>> =
        serde_saphyr::from_str(registry).map_err(|why| wrong(why.to_string()))?;
    let judged: Vec<&String> =
        all.iter().filter(|(_, entry)| entry.contains_key("class")).map(|(name, _)| name).collect();
    let name = match (eval, judged.as_slice()) {
        (Some(eval), _) => eval.to_owned(),
        (None, [only]) => (*only).clone(),
        (None, []) => return Err(wrong("no entry has a `class`".to_owned())),
        (None, several) => {
            let names: Vec<&str> = several.iter().map(|name| name.as_str()).collect();
            let names = names.join(", ");
            return Err(wrong(format!("it has several evals, {names}: name one with --eval")));
        }
    };
    let entry = all.get(&name).ok_or_else(|| wrong(format!("it has no eval `{name}`")))?;
    // A name without a class stands for one of its versions.
    let version = entry.get("id").and_then(Value::as_str).filter(|_| !entry.contains_key("class"));
    let entry = match version {
        Some(id) => {
            all.get(id).ok_or_else(|| wrong(format!("`{name}` is `{id}`, which it lacks")))?
        }
        None => entry,
    };
    of_entry(entry).map_err(|why| wrong(format!("the eval `{name}`: {why}")))
}

fn of_entry(entry: &Map<String, Value>) -> Result<Class, String> {
    let class = entry.get("class").and_then(Value::as_str).ok_or("it has no `class`")?;
    let name = class.rsplit(':').next().unwrap_or(class);
    let none = Map::new();
    let args = entry.get("args").and_then(Value::as_object).unwrap_or(&none);
    let mut known: Vec<&str> = HARMLESS.to_vec();
    let class = match name {
        "Match" => Class::Match,
        "Includes" => {
            known.push("ignore_case");
            let ignores_case = args.get("ignore_case").and_then(Value::as_bool).unwrap_or(false);
            Class::Includes { ignores_case }
        }
        "FuzzyMatch" => Class::Fuzzy,
        "JsonMatch" => Class::JsonMatch,
        "JsonValidator" => Class::JsonValidator,
        "ModelBasedClassify" => {
            known.push("modelgraded_spec_args");
            closed_qa(args)?
        }
        _ => {
            return Err(format!(
                "the class `{class}` has no counterpart here; import rows and name scorers of ours"
            ));
        }
    };
    match args.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("the argument `{key}` has no counterpart here; take it out")),
        None => Ok(class),
    }
}

fn closed_qa(args: &Map<String, Value>) -> Result<Class, String> {
    let spec = args.get("modelgraded_spec").and_then(Value::as_str).unwrap_or_default();
    if spec != "closedqa" {
        return Err(format!(
            "`modelgraded_spec: {spec}` grades by choices of its own and has no counterpart here; \
             write what should hold as a rubric and use the scorer judge:NAME"
        ));
    }
    let criteria = args.get("modelgraded_spec_args").and_then(|args| args.get("criteria"));
    match criteria {
        None => Ok(Class::ClosedQa(None)),
        Some(Value::String(text)) => Ok(Class::ClosedQa(Some(criterion(text).to_owned()))),
        Some(_) => Err("`criteria` in `modelgraded_spec_args` is no text".to_owned()),
    }
}

/// The three criteria that have names there.
fn criterion(text: &str) -> &str {
    match text {
        "relevance" => "The answer refers to a real quote from the text.",
        "conciseness" => "The answer is concise and to the point.",
        "correct" => "The answer is correct.",
        own => own,
    }
}

impl Class {
    pub(super) fn scorers(&self) -> Vec<Scorer> {
        vec![match self {
            Self::Match | Self::Includes { ignores_case: true } => Scorer::Regex(None),
            Self::Includes { ignores_case: false } => Scorer::ContainsAny,
            Self::Fuzzy => Scorer::Fuzzy,
            Self::JsonMatch => Scorer::JsonEqual,
            Self::JsonValidator => Scorer::JsonValid,
            Self::ClosedQa(_) => Scorer::Checks,
        }]
    }

    pub(super) fn case(&self, number: usize, row: &Row) -> Result<Case, String> {
        match self {
            Self::Match => evals::case(Foreign::EvalsMatch, number, row),
            Self::Includes { ignores_case: false } => {
                evals::case(Foreign::EvalsIncludes, number, row)
            }
            Self::JsonMatch => evals::case(Foreign::EvalsJson, number, row),
            Self::Includes { ignores_case: true } => {
                let ideals: Vec<String> = ideals(row)?.iter().map(|text| literal(text)).collect();
                plain(number, row, format!("(?is)(?:{})", ideals.join("|")))
            }
            Self::Fuzzy => plain(number, row, Value::from(ideals(row)?).to_string()),
            Self::JsonValidator => plain(number, row, String::new()),
            Self::ClosedQa(criteria) => {
                let own = row.get("criteria").and_then(Value::as_str).map(criterion);
                let holds = own.or(criteria.as_deref()).ok_or(
                    "there is no `criteria`, neither in the sample nor in the registry, that a \
                     judge could be asked about",
                )?;
                let holds = format!("The answer meets this criterion: {holds}");
                let checks = vec![Check::new(Scorer::Judge(None), Some(holds))];
                Ok(Case { checks, ..plain(number, row, String::new())? })
            }
        }
    }
}

fn plain(number: usize, row: &Row, expected: String) -> Result<Case, String> {
    let prompt = prompt("input", row)?;
    Ok(Case { id: format!("{number:04}"), prompt, expected, ..Case::default() })
}

#[cfg(test)]
mod tests;
