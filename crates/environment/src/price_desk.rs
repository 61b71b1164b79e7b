//! The price desk: what does an order cost?
//!
//! A customer names products by code and quantities. The prices are behind `lookup(code)`, sums go
//! through `calculate(expression)`, and the reply ends with `ANSWER: <number>`. Prices are drawn
//! anew for every task, so they cannot be learnt by heart; products for training and held-out tasks
//! come from different halves of the alphabet, so no code of one occurs in the other.
//!
//! The answer earns 1 if it is right and every price it needs was looked up. Without that it is a
//! guess and earns nothing, so no constant reply earns anything.

mod episode;
mod task;

use serde_json::Value;
use understudy_message::Message;
use understudy_reward::calls::Call;

use crate::{
    CallStyle, Environment, EnvironmentError, Episode, Signature, Split, Task, write_call,
};
use episode::{Desk, observation, written};
use task::Order;

/// A shop's till with two tools.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PriceDesk {
    /// How its demonstrations call tools; every style is understood.
    pub calls: CallStyle,
    /// After how many replies an episode ends without an answer.
    pub turns: u32,
    /// What looking up every needed price earns if the answer is then wrong or missing, from 0 to
    /// 0.99 (more counts as that), and in proportion for some of them. 0 rewards nothing but the
    /// right answer.
    pub shaping: f64,
}

impl Default for PriceDesk {
    /// Lines for calls, eight replies, and nothing for a wrong answer.
    fn default() -> Self {
        Self { calls: CallStyle::default(), turns: 8, shaping: 0.0 }
    }
}

const LOOKUP: Signature = Signature {
    tool: "lookup",
    argument: "code",
    description: "The price of one piece of the product with this code.",
};

const CALCULATE: Signature = Signature {
    tool: "calculate",
    argument: "expression",
    description: "The value of an expression of numbers, + - * / % and brackets.",
};

const TOOLS: [Signature; 2] = [LOOKUP, CALCULATE];

impl PriceDesk {
    pub const NAME: &'static str = "price_desk";

    fn order(task: &Task) -> Result<Order, EnvironmentError> {
        Order::read(&task.record).map_err(|why| EnvironmentError::Task {
            environment: Self::NAME,
            task: task.id.clone(),
            why,
        })
    }
}

impl Environment for PriceDesk {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn tools(&self) -> Vec<Value> {
        TOOLS.iter().map(Signature::schema).collect()
    }

    fn tasks(&self, split: Split, seed: u64, count: usize) -> Vec<Task> {
        task::tasks(split, seed, count)
    }

    fn start(&self, task: &Task) -> Result<Box<dyn Episode>, EnvironmentError> {
        Ok(Box::new(Desk::open(*self, task.prompt.clone(), Self::order(task)?)))
    }

    fn demonstration(&self, task: &Task) -> Result<Vec<Message>, EnvironmentError> {
        let order = Self::order(task)?;
        let mut said = Vec::new();
        let mut ask = |call: Call, result: String| {
            let id = format!("call_{}", said.len() / 2 + 1);
            let message = write_call(&call, self.calls, &id);
            let seen = observation(&message, 0, &call.name, &result);
            said.extend([message, seen]);
        };
        for item in &order.items {
            let call = Call::new(LOOKUP.tool, [(LOOKUP.argument, item.code.as_str().into())]);
            ask(call, item.price.to_string());
        }
        let expression = order.expression();
        let total = written(order.total());
        let call = Call::new(CALCULATE.tool, [(CALCULATE.argument, expression.into())]);
        ask(call, total.clone());
        said.push(Message::assistant(format!("{} {total}", episode::ANSWER)));
        Ok(said)
    }
}

#[cfg(test)]
mod tests;
