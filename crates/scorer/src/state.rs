//! What the world holds in the end, whatever way led there.

use std::collections::BTreeMap;

use serde_json::Value;
use understudy_reward::json;

/// JSON pointers (RFC 6901) into a final state and the values that must be there; null demands
/// that there is nothing, or null. `{"/tickets/7/status": "closed", "/tickets/8": null}`.
#[derive(Debug, Clone, PartialEq)]
pub struct FinalState(BTreeMap<String, Value>);

impl FinalState {
    /// Reads the demands, and refuses a text that demands nothing.
    pub fn parse(text: &str) -> Result<Self, String> {
        let demands: BTreeMap<String, Value> =
            serde_json::from_str(text).map_err(|why| why.to_string())?;
        if demands.is_empty() {
            return Err("it demands nothing".to_owned());
        }
        match demands.keys().find(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
            Some(wrong) => Err(format!("`{wrong}` is no JSON pointer; begin it with a slash")),
            None => Ok(Self(demands)),
        }
    }

    /// The first pointer at which the state holds something else.
    pub fn broken(&self, state: &Value) -> Option<&str> {
        let holds = |(pointer, wanted): &(&String, &Value)| match state.pointer(pointer) {
            Some(found) => json::equal(wanted, found),
            None => wanted.is_null(),
        };
        self.0.iter().find(|demand| !holds(demand)).map(|(pointer, _)| pointer.as_str())
    }
}
