//! The desk: tools over one customer's order, and what must have happened in the end.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use understudy_memory::{Claim, Failure, MemoryError, Reader, Verifier};

use crate::{Job, Request};

/// The state one request acts on.
#[derive(Debug, Clone)]
pub struct Desk {
    request: Request,
    quoted: bool,
    validated: bool,
    cancelled: bool,
    refunded: Option<u64>,
    address: Option<(String, bool)>,
    reserved: Option<u64>,
    /// Whether the parcel was found, by whichever tool.
    located: bool,
    /// Calls that changed something.
    pub writes: usize,
}

impl Desk {
    pub fn new(request: &Request) -> Self {
        Self {
            request: request.clone(),
            quoted: false,
            validated: false,
            cancelled: false,
            refunded: None,
            address: None,
            reserved: None,
            located: false,
            writes: 0,
        }
    }

    /// Runs a tool. Every error is worded as such systems word them: around the values.
    pub fn call(&mut self, tool: &str, arguments: &Value) -> Result<Value, Failure> {
        let order = &self.request.order;
        let fail = |code: u16, message: String| Err(Failure { message, code: Some(code) });
        match tool {
            "orders.find" => Ok(json!({"order_id": order, "paid": self.request.paid,
                "customer_id": self.request.customer, "title": format!("Order of {}", self.request.customer)})),
            "orders.cancel" => {
                (self.cancelled, self.writes) = (true, self.writes + 1);
                Ok(json!({"order_id": order, "state": "cancelled"}))
            }
            "customers.get" => {
                Ok(json!({"customer_id": self.request.customer, "email": self.request.user}))
            }
            "refunds.quote" => {
                self.quoted = true;
                Ok(json!({"order_id": order, "amount": self.request.paid}))
            }
            "refunds.create" if self.cancelled => {
                fail(409, format!("order \"{order}\" is closed and cannot be refunded"))
            }
            "refunds.create" if !self.quoted => {
                fail(412, format!("refund for \"{order}\" has no current quotation"))
            }
            "refunds.create" => {
                self.writes += 1;
                self.refunded = arguments.get("amount").and_then(Value::as_u64);
                Ok(json!({"order_id": order, "refunded": self.refunded}))
            }
            "shipments.track" if self.request.slow_carrier => {
                fail(504, format!("carrier did not answer for \"{order}\" within 30000 ms"))
            }
            "shipments.track" | "shipments.history" => {
                self.located = true;
                Ok(json!({"order_id": order, "last_seen": "Greyhaven depot"}))
            }
            "addresses.validate" => {
                self.validated = true;
                Ok(json!({"valid": true}))
            }
            "addresses.update" => {
                self.writes += 1;
                let address = arguments.get("address").and_then(Value::as_str).unwrap_or_default();
                self.address = Some((address.to_owned(), self.validated));
                Ok(json!({"order_id": order, "state": "updated"}))
            }
            "stock.check" => {
                let live = arguments.get("count_source").and_then(Value::as_str) == Some("live");
                // Last night's count: more than there is.
                let count = if live { self.request.stock } else { self.request.stock + 3 };
                Ok(json!({"order_id": order, "count": count}))
            }
            "stock.reserve" => {
                self.writes += 1;
                self.reserved = arguments.get("count").and_then(Value::as_u64);
                Ok(json!({"order_id": order, "state": "reserved"}))
            }
            "notes.add" => {
                self.writes += 1;
                Ok(json!({"state": "added"}))
            }
            other => fail(404, format!("no such tool \"{other}\"")),
        }
    }

    /// Whether what was asked for has come about, and nothing else.
    pub fn succeeded(&self) -> bool {
        let right = match self.request.job {
            Job::Refund => self.refunded == Some(self.request.paid),
            Job::Track => self.located,
            Job::Address => self.address == Some((self.request.address.clone(), true)),
            Job::Stock => self.reserved == Some(self.request.stock),
        };
        right && !self.cancelled
    }
}

impl Reader for Desk {
    fn read(&mut self, tool: &str, arguments: &Value) -> Result<Value, Failure> {
        self.call(tool, arguments)
    }
}

/// Somebody who looks up in the books what runs disagree on.
#[derive(Debug)]
pub struct DeskVerifier {
    requests: BTreeMap<String, Request>,
}

impl DeskVerifier {
    /// Knows the first requests of a seed.
    pub fn new(seed: u64, count: u64) -> Self {
        let requests = (0..count).map(|n| Request::draw(seed, n));
        Self { requests: requests.map(|request| (request.goal.clone(), request)).collect() }
    }
}

impl Verifier for DeskVerifier {
    fn look(&mut self, claim: Claim<'_>, _: u32) -> Result<Option<String>, MemoryError> {
        let Some(request) = self.requests.get(claim.goal) else { return Ok(None) };
        Ok(match (claim.subject, claim.predicate) {
            ("answer", "order") | (_, "order_id") => Some(request.order.clone()),
            // Everything that is asked for can be done.
            ("answer", _) => Some("true".to_owned()),
            ("refunds.create", "amount") => Some(request.paid.to_string()),
            ("addresses.update", "address") => Some(request.address.clone()),
            ("stock.reserve", "count") => Some(request.stock.to_string()),
            _ => None,
        })
    }
}
