//! What a model that judges single answers is asked of each.

use serde::{Deserialize, Serialize};

/// A named measure: several things that should hold of an answer, each asked by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rubric {
    pub name: String,
    pub criteria: Vec<Criterion>,
}

/// One thing that should hold, which can be answered with yes or no.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Criterion {
    pub name: String,
    /// As a statement: `The reply names the invoice it is about.`
    pub holds: String,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: f64,
}

impl Rubric {
    /// Of one statement, for a case that brings its own.
    pub fn of_statement(holds: &str) -> Self {
        let criterion =
            Criterion { name: "holds".to_owned(), holds: holds.to_owned(), weight: 1.0 };
        Self { name: "own".to_owned(), criteria: vec![criterion] }
    }

    /// What is wrong with it, if anything.
    pub fn fault(&self) -> Option<String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let is_name = |name: &str| !name.is_empty() && name.chars().all(allowed);
        let Self { name, criteria } = self;
        if !is_name(name) {
            return Some(format!("rubric {name:?} needs a name of letters, digits and `_-.`"));
        }
        if criteria.is_empty() {
            return Some(format!("rubric `{name}` has no criteria"));
        }
        let mut seen = std::collections::BTreeSet::new();
        criteria.iter().find_map(|criterion| {
            let Criterion { name: of, holds, weight } = criterion;
            if !is_name(of) || !seen.insert(of) {
                return Some(format!(
                    "rubric `{name}` has a criterion {of:?} twice or badly named"
                ));
            }
            if holds.trim().is_empty() {
                return Some(format!("criterion `{of}` of rubric `{name}` says nothing"));
            }
            let sound = weight.is_finite() && *weight > 0.0;
            (!sound).then(|| {
                format!("criterion `{of}` of rubric `{name}` weighs {weight}; a weight is above 0")
            })
        })
    }
}

fn one() -> f64 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_one(weight: &f64) -> bool {
    *weight == 1.0
}
