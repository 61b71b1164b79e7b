//! One order being worked out.

use std::collections::BTreeSet;

use serde_json::Value;
use understudy_message::{Message, Role};
use understudy_reward::{
    RewardError,
    calls::{Call, MalformedCall},
    number,
};

use super::{CALCULATE, PriceDesk, TOOLS, task::Order};
use crate::{Episode, Signature, Turn, evaluate, read_calls};

/// How the line begins that ends an episode.
pub(super) const ANSWER: &str = "ANSWER:";

/// How many calls of one reply are carried out.
const CALLS: usize = 8;

/// Totals are whole tenths, so this forgives a rounding to cents and nothing else.
const TOLERANCE: f64 = 0.005;

#[derive(Debug)]
pub(super) struct Desk {
    rules: PriceDesk,
    prompt: Vec<Message>,
    order: Order,
    looked_up: BTreeSet<String>,
    replies: u32,
    /// Set when it is over.
    reward: Option<f64>,
}

impl Desk {
    pub(super) fn open(rules: PriceDesk, prompt: Vec<Message>, order: Order) -> Self {
        Self { rules, prompt, order, looked_up: BTreeSet::new(), replies: 0, reward: None }
    }

    fn carry_out(&mut self, call: Result<Call, MalformedCall>) -> (String, String) {
        match call {
            Ok(call) => {
                let result = self.result(&call).unwrap_or_else(|why| format!("error: {why}"));
                (call.name, result)
            }
            Err(why) => (String::new(), format!("error: {why}")),
        }
    }

    fn result(&mut self, call: &Call) -> Result<String, String> {
        let tool = TOOLS.iter().find(|tool| tool.tool == call.name).ok_or_else(|| {
            format!("there is no tool `{}`; there are lookup and calculate", call.name)
        })?;
        let argument = argument(tool, call)?;
        if tool.tool == CALCULATE.tool {
            return evaluate(&argument).map(written).map_err(|why| why.to_string());
        }
        let code = argument.trim();
        let price = self.order.price(code).ok_or_else(|| format!("no product `{code}`"))?;
        self.looked_up.insert(code.to_owned());
        Ok(price.to_string())
    }

    /// The share of the needed prices that were looked up.
    fn informed(&self) -> f64 {
        self.looked_up.len() as f64 / self.order.items.len() as f64
    }

    fn close(&mut self, answer: Option<f64>) -> Turn {
        let informed = self.informed();
        let right = answer
            .is_some_and(|answer| number::close(answer, self.order.total(), TOLERANCE))
            && informed == 1.0;
        self.reward =
            Some(if right { 1.0 } else { self.rules.shaping.clamp(0.0, 0.99) * informed });
        Turn::Done
    }
}

impl Episode for Desk {
    fn prompt(&self) -> Vec<Message> {
        self.prompt.clone()
    }

    fn act(&mut self, reply: &Message) -> Turn {
        if self.reward.is_some() {
            return Turn::Done;
        }
        self.replies += 1;
        let calls = read_calls(reply, &TOOLS);
        // A reply that answers in the same breath as it asks has not seen what it asked for.
        if calls.is_empty()
            && let Some(answer) = answer(&reply.text())
        {
            return self.close(number::last_number(&answer));
        }
        if self.replies >= self.rules.turns {
            return self.close(None);
        }
        if calls.is_empty() {
            let hint = format!("error: call a tool, or finish with {ANSWER} and a number");
            return Turn::Observe(vec![observation(reply, 0, "", &hint)]);
        }
        let observe = |(at, call)| {
            let (name, result) = self.carry_out(call);
            observation(reply, at, &name, &result)
        };
        Turn::Observe(calls.into_iter().take(CALLS).enumerate().map(observe).collect())
    }

    fn reward(&self) -> Result<Option<f64>, RewardError> {
        Ok(self.reward)
    }
}

/// A result with at most six decimals: a sum of tenths is not to end in a 4 at the seventeenth.
pub(super) fn written(value: f64) -> String {
    // Adding zero turns a negative zero into zero.
    ((value * 1e6).round() / 1e6 + 0.0).to_string()
}

/// What a tool gave, as the answer to the reply's call at this place.
pub(super) fn observation(reply: &Message, at: usize, tool: &str, result: &str) -> Message {
    Message {
        name: (!tool.is_empty()).then(|| tool.to_owned()),
        tool_call_id: reply.tool_calls.get(at).map(|call| call.id.clone()),
        ..Message::new(Role::Tool, result)
    }
}

/// The one argument of a tool as text; a bare number will do.
fn argument(tool: &Signature, call: &Call) -> Result<String, String> {
    let Signature { tool, argument, .. } = tool;
    if let Some(other) = call.arguments.keys().find(|key| key.as_str() != *argument) {
        return Err(format!("`{tool}` has no argument `{other}`; it takes `{argument}`"));
    }
    match call.arguments.get(*argument) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        _ => Err(format!("`{tool}` needs `{argument}`, a text")),
    }
}

/// What follows the mark on the last line that has it at its start.
fn answer(text: &str) -> Option<String> {
    let marked = |line: &str| line.trim().strip_prefix(ANSWER).map(str::to_owned);
    text.lines().filter_map(marked).next_back()
}
