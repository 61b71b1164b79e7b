//! Which tools were called: a set, a subset, an order, no repetition, a limit, a ban.

use std::collections::BTreeSet;

use serde::Deserialize;
use understudy_manifest::canonical_json;
use understudy_reward::calls::Call;

/// What a case demands of the calls, as the JSON of its expected text. Demands left out hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Demands {
    /// Exactly these tools, in any order and however often.
    pub set: Option<BTreeSet<String>>,
    /// At least these tools.
    pub subset: Option<BTreeSet<String>>,
    /// These tools in this order; others may come between.
    pub order: Option<Vec<String>>,
    /// No call repeats another: the same tool with the same arguments.
    pub no_duplicates: bool,
    /// At most so many calls.
    pub max_steps: Option<usize>,
    /// None of these tools.
    pub forbidden: BTreeSet<String>,
}

impl Demands {
    /// Reads the demands, and refuses a text that demands nothing.
    pub fn parse(text: &str) -> Result<Self, String> {
        let demands: Self = serde_json::from_str(text).map_err(|why| why.to_string())?;
        if demands == Self::default() {
            return Err("it demands nothing".to_owned());
        }
        Ok(demands)
    }

    /// The first demand that does not hold, in words.
    pub fn broken(&self, calls: &[Call]) -> Option<String> {
        let names: BTreeSet<String> = calls.iter().map(|call| call.name.clone()).collect();
        if let Some(name) = names.iter().find(|name| self.forbidden.contains(*name)) {
            return Some(format!("the forbidden tool `{name}` was called"));
        }
        if let Some(most) = self.max_steps.filter(|most| calls.len() > *most) {
            return Some(format!("{} calls are more than {most}", calls.len()));
        }
        if self.set.as_ref().is_some_and(|set| *set != names) {
            return Some("other tools were called than the set".to_owned());
        }
        if let Some(name) = self.subset.iter().flatten().find(|name| !names.contains(*name)) {
            return Some(format!("the tool `{name}` was not called"));
        }
        if let Some(name) = self.order.as_ref().and_then(|order| out_of_order(order, calls)) {
            return Some(format!("the tool `{name}` was not called in its place"));
        }
        let spelled = |call: &Call| (call.name.clone(), canonical_json(&call.arguments));
        let mut seen = BTreeSet::new();
        let repeated = calls.iter().find(|call| !seen.insert(spelled(call)));
        repeated
            .filter(|_| self.no_duplicates)
            .map(|call| format!("the call of `{}` was repeated", call.name))
    }
}

/// The first name that does not follow the ones before it.
fn out_of_order<'a>(order: &'a [String], calls: &[Call]) -> Option<&'a String> {
    let mut calls = calls.iter();
    order.iter().find(|name| !calls.any(|call| call.name == **name))
}
