//! Tool calls against a ground truth, as the Berkeley Function-Calling Leaderboard matches them.
//!
//! A ground truth is a list with one object per expected call: `{"tool": {"parameter": [allowed,
//! …]}}`, where `""` among the allowed values means that the parameter may be left out. Texts are
//! compared without case, spaces and `,./-_*^`. Source: `ast_checker.py` of `bfcl-eval`
//! (Apache-2.0), whose verdicts [`Rules::Bfcl`] reproduces. Where a tool is one of Java or JavaScript
//! (`"x-language"`), arguments are source text, and are read into values before they are compared.
//!
//! [`Rules::Strict`] mends what there is to mend in it: calls are assigned to each other as well as
//! possible instead of first come first served; nested values are compared all the way down; `true`
//! is not 1; and an allowed omission does not also allow an empty list.

mod bfcl;
mod source;
mod strict;
mod tool;

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use understudy_reward::calls::Call;

use crate::ScorerError;
use tool::Tool;

/// How calls are matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// Ours.
    Strict,
    /// Every quirk of the leaderboard's checker.
    Bfcl,
}

/// The calls that a case expects, each with what its tool declares.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected(Vec<Truth>);

/// One expected call.
#[derive(Debug, Clone, PartialEq)]
struct Truth {
    tool: Tool,
    allowed: Map<String, Value>,
}

impl Expected {
    /// Reads a ground truth, whose tools must be among those given: OpenAI's form or the bare
    /// function.
    pub fn parse(text: &str, tools: &[Value]) -> Result<Self, ScorerError> {
        let truths: Vec<Map<String, Value>> = serde_json::from_str(text).map_err(|why| {
            ScorerError::Calls(format!("not a list of {{\"tool\": {{…}}}} ({why})"))
        })?;
        let tools: Vec<Tool> =
            tools.iter().map(Tool::parse).collect::<Result<_, _>>().map_err(ScorerError::Calls)?;
        truths
            .into_iter()
            .map(|truth| Truth::read(truth, &tools))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Says of calls why they are not the expected ones.
    pub fn check(&self, made: &[Call], rules: Rules) -> Result<(), String> {
        if self.0.len() != made.len() {
            return Err(format!("{} calls were made instead of {}", made.len(), self.0.len()));
        }
        let fits = match rules {
            Rules::Bfcl => bfcl::check,
            Rules::Strict => strict::check,
        };
        let fits = |truth: &Truth, call: &Call| match truth.tool.language {
            None => fits(truth, call),
            Some(_) => truth.tool.values(call).and_then(|call| fits(truth, &call)),
        };
        match rules {
            Rules::Bfcl => first_come(&self.0, made, fits),
            Rules::Strict => assign(&self.0, made, fits),
        }
    }

    /// The names of the tools, each once.
    pub fn names(&self) -> BTreeSet<String> {
        self.0.iter().map(|truth| truth.tool.name.clone()).collect()
    }
}

impl Truth {
    fn read(truth: Map<String, Value>, tools: &[Tool]) -> Result<Self, ScorerError> {
        let one = <[_; 1]>::try_from(truth.into_iter().collect::<Vec<_>>());
        let Ok([(name, Value::Object(allowed))]) = one else {
            let why = "each entry names one tool and its parameters";
            return Err(ScorerError::Calls(why.to_owned()));
        };
        if let Some((parameter, _)) = allowed.iter().find(|(_, allowed)| !allowed.is_array()) {
            return Err(ScorerError::Calls(format!(
                "`{parameter}` of `{name}` needs a list of allowed values"
            )));
        }
        // The leaderboard takes an only tool for the one that is meant, whatever the truth calls it.
        let tool = match tools {
            [only] => only.clone(),
            _ => tools.iter().find(|tool| tool.name == name).cloned().ok_or_else(|| {
                ScorerError::Calls(format!("`{name}` is not among the tools of the case"))
            })?,
        };
        Ok(Self { tool, allowed })
    }

    /// The allowed values of a parameter.
    fn allowed(&self, parameter: &str) -> Option<&[Value]> {
        self.allowed.get(parameter).and_then(Value::as_array).map(Vec::as_slice)
    }

    /// What both sets of rules ask before they look at values: the name, the required parameters,
    /// no parameter that is not declared and expected, and none missing that may not be left out.
    fn check_shape(&self, call: &Call) -> Result<(), String> {
        let name = &self.tool.name;
        if call.name != *name {
            return Err(format!("`{}` was called instead of `{name}`", call.name));
        }
        let given = |parameter: &str| call.arguments.contains_key(parameter);
        if let Some(missing) = self.tool.required.iter().find(|parameter| !given(parameter)) {
            return Err(format!("`{missing}` of `{name}` is missing"));
        }
        let known = |parameter: &str| {
            self.tool.parameters.contains_key(parameter) && self.allowed.contains_key(parameter)
        };
        if let Some(unknown) = call.arguments.keys().find(|parameter| !known(parameter)) {
            return Err(format!("`{unknown}` of `{name}` was not expected"));
        }
        let omissible = |parameter: &str| self.allowed(parameter).is_some_and(may_be_omitted);
        match self.allowed.keys().find(|parameter| !given(parameter) && !omissible(parameter)) {
            Some(missing) => Err(format!("`{missing}` of `{name}` may not be left out")),
            None => Ok(()),
        }
    }
}

fn may_be_omitted(allowed: &[Value]) -> bool {
    allowed.iter().any(|value| value == "")
}

/// The text as the leaderboard compares it.
fn standardised(text: &str) -> String {
    let kept: String = text
        .chars()
        .filter(|c| !matches!(c, ' ' | ',' | '.' | '/' | '-' | '_' | '*' | '^'))
        .collect();
    kept.to_lowercase().replace('\'', "\"")
}

/// Each expected call takes the first that fits it, even if a later one needed it more.
fn first_come(
    truths: &[Truth],
    made: &[Call],
    fits: impl Fn(&Truth, &Call) -> Result<(), String>,
) -> Result<(), String> {
    let mut open: Vec<&Call> = made.iter().collect();
    for truth in truths {
        let mut why = String::new();
        let is_it = |call: &&Call| fits(truth, call).map_err(|w| why = w).is_ok();
        match open.iter().position(is_it) {
            Some(at) => drop(open.remove(at)),
            None => return Err(why),
        }
    }
    Ok(())
}

/// Kuhn's augmenting paths: an expected call may take another's, if that one finds another.
fn assign(
    truths: &[Truth],
    made: &[Call],
    fits: impl Fn(&Truth, &Call) -> Result<(), String>,
) -> Result<(), String> {
    let fits: Vec<Vec<Result<(), String>>> =
        truths.iter().map(|truth| made.iter().map(|call| fits(truth, call)).collect()).collect();
    let mut taken: Vec<Option<usize>> = vec![None; made.len()];
    for truth in 0..truths.len() {
        if !augment(truth, &fits, &mut taken, &mut vec![false; made.len()]) {
            let why = fits[truth].iter().find_map(|fit| fit.clone().err());
            return Err(
                why.unwrap_or_else(|| "another expected call needs the same one".to_owned())
            );
        }
    }
    Ok(())
}

fn augment(
    truth: usize,
    fits: &[Vec<Result<(), String>>],
    taken: &mut [Option<usize>],
    seen: &mut [bool],
) -> bool {
    for call in 0..taken.len() {
        if fits[truth][call].is_err() || std::mem::replace(&mut seen[call], true) {
            continue;
        }
        let free = match taken[call] {
            None => true,
            Some(holder) => augment(holder, fits, taken, seen),
        };
        if free {
            taken[call] = Some(truth);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests;
