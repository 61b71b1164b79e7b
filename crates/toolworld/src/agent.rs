//! An agent with habits: it knows which tools a request needs, tries things, and obeys what it reads.

use serde_json::{Map, Value, json};
use understudy_ident::{Digest, Timestamp, TrajectoryId};
use understudy_memory::{Called, Failure, Part, Run, Transcript};

use crate::{Desk, Draw, Job, Lesson, Request, lessons};

/// How often the agent does the right thing by itself, for no reason it knows of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Habits {
    pub quote_first: f64,
    pub validate_first: f64,
    pub live_count: f64,
    pub history_after_timeout: f64,
    /// Cancels an order before refunding it, which spoils the refund.
    pub cancel_first: f64,
    /// How often it does what a lesson says.
    pub obey: f64,
}

impl Habits {
    /// Of a small model: a coin a little worse than fair.
    pub fn student() -> Self {
        Self {
            quote_first: 0.4,
            validate_first: 0.4,
            live_count: 0.35,
            history_after_timeout: 0.3,
            cancel_first: 0.15,
            obey: 0.95,
        }
    }

    /// Of a large model that reads the manuals.
    pub fn teacher() -> Self {
        Self {
            quote_first: 0.97,
            validate_first: 0.97,
            live_count: 0.97,
            history_after_timeout: 0.97,
            cancel_first: 0.0,
            obey: 0.95,
        }
    }
}

/// An agent that plays requests.
#[derive(Debug, Clone, Copy)]
pub struct Agent {
    pub habits: Habits,
    pub part: Part,
}

/// A run that is over.
#[derive(Debug, Clone)]
pub struct Played {
    pub transcript: Transcript,
    pub success: bool,
}

struct Playing<'a> {
    tools: &'a mut dyn FnMut(&str, &Value) -> Result<Value, Failure>,
    lessons: Vec<Lesson>,
    calls: Vec<Called>,
    draw: Draw,
}

impl Agent {
    pub fn student() -> Self {
        Self { habits: Habits::student(), part: Part::Production }
    }

    pub fn teacher() -> Self {
        Self { habits: Habits::teacher(), part: Part::Teacher }
    }

    /// Plays a request at a desk, with what it is shown.
    pub fn play(&self, request: &Request, block: Option<&str>, seed: u64, at: Timestamp) -> Played {
        let mut desk = Desk::new(request);
        let transcript = self.play_with(request, (block, seed, at), &mut |tool, arguments| {
            desk.call(tool, arguments)
        });
        let success = desk.succeeded();
        let reward = Some(f64::from(u8::from(success)));
        Played { transcript: Transcript { reward, ..transcript }, success }
    }

    /// Plays a request with whatever answers its calls: a replay, say.
    pub fn play_with(
        &self,
        request: &Request,
        (block, seed, at): (Option<&str>, u64, Timestamp),
        tools: &mut dyn FnMut(&str, &Value) -> Result<Value, Failure>,
    ) -> Transcript {
        let mut draw = Draw::new(seed, &format!("run {} {:?}", request.session, self.part));
        let mut obeyed = lessons(block.unwrap_or_default());
        obeyed.retain(|_| draw.chance(self.habits.obey));
        let mut playing = Playing { tools, lessons: obeyed, calls: Vec::new(), draw };
        let answer = self.act(request, &mut playing);
        let system = "You are the desk agent of Greyhaven Goods. Confidential: price list 2031.";
        let heard = vec![format!("{system}\n{}", block.unwrap_or_default())];
        let config = match self.part {
            Part::Teacher => "teacher",
            Part::Production | Part::Student => "student",
        };
        Transcript {
            source: TrajectoryId::derived(&format!("{} {seed} {config}", request.session)),
            attempt_of: None,
            agent: Some("desk".to_owned()),
            subject: Some(request.user.clone()),
            at,
            goal: request.goal.clone(),
            calls: playing.calls,
            answer: answer.to_string(),
            heard,
            reward: None,
            harmful: false,
            run: Run { part: self.part, config: Digest::of(config.as_bytes()), seed },
        }
    }

    fn act(&self, request: &Request, playing: &mut Playing<'_>) -> Value {
        let id = json!({"order_id": request.order});
        let found = playing.call("orders.find", &json!({"number": request.order}));
        let paid = number(&found, "paid");
        match request.job {
            Job::Refund => self.refund(request, paid, playing),
            Job::Track => {
                let tracked = playing.call("shipments.track", &id);
                let told = playing.instead_of("shipments.track");
                let seen = match (tracked, told) {
                    (Ok(seen), _) => Ok(seen),
                    (Err(_), Some(tool)) => playing.call(&tool, &id),
                    (Err(_), None) if playing.draw.chance(self.habits.history_after_timeout) => {
                        playing.call("shipments.history", &id)
                    }
                    (Err(_), None) => playing.call("shipments.track", &id),
                };
                json!({"order": request.order, "found": seen.is_ok()})
            }
            Job::Address => {
                playing.sometimes("customers.get", &json!({"customer_id": request.customer}));
                let address = json!({"address": request.address});
                if playing.draw.chance(self.habits.validate_first) {
                    playing.prepare("addresses.validate", &address);
                }
                playing.before("addresses.update", &address);
                let update = json!({"order_id": request.order, "address": request.address});
                let updated = playing.call("addresses.update", &update);
                json!({"order": request.order, "updated": updated.is_ok()})
            }
            Job::Stock => {
                let mut check = id.clone();
                if playing.draw.chance(self.habits.live_count) {
                    check["count_source"] = json!("live");
                } else if playing.draw.chance(0.5) {
                    check["count_source"] = json!("nightly");
                }
                let counted = playing.call("stock.check", &check);
                let count = number(&counted, "count");
                let reserve = json!({"order_id": request.order, "count": count});
                let reserved = playing.call("stock.reserve", &reserve);
                json!({"order": request.order, "reserved": reserved.is_ok()})
            }
        }
    }

    fn refund(&self, request: &Request, paid: u64, playing: &mut Playing<'_>) -> Value {
        let id = json!({"order_id": request.order});
        playing.sometimes("customers.get", &json!({"customer_id": request.customer}));
        if playing.draw.chance(self.habits.cancel_first) {
            playing.prepare("orders.cancel", &id);
        }
        if playing.draw.chance(self.habits.quote_first) {
            playing.prepare("refunds.quote", &id);
        }
        playing.before("refunds.create", &id);
        let create = json!({"order_id": request.order, "amount": paid});
        let mut refunded = playing.call("refunds.create", &create);
        if refunded.is_err() && playing.draw.chance(0.3) {
            // Tries once more, and mostly the same.
            if playing.draw.chance(self.habits.quote_first) {
                playing.prepare("refunds.quote", &id);
            }
            refunded = playing.call("refunds.create", &create);
        }
        json!({"order": request.order, "refunded": refunded.is_ok()})
    }
}

impl Playing<'_> {
    fn call(&mut self, tool: &str, arguments: &Value) -> Result<Value, Failure> {
        let arguments = self.with_lessons(tool, arguments);
        let result = (self.tools)(tool, &arguments);
        self.calls.push(Called {
            tool: tool.to_owned(),
            arguments,
            result: result.clone().map(|value| value.to_string()),
            batch: self.calls.len() as u32,
            latency_ms: 40 + self.draw.below(20) as u32,
            tokens: 30 + self.draw.below(10) as u32,
        });
        result
    }

    /// A step that is not what the request is about, unless a lesson warns of it.
    fn prepare(&mut self, tool: &str, arguments: &Value) {
        let avoided = self
            .lessons
            .iter()
            .any(|lesson| matches!(lesson, Lesson::Avoid { tool: t } if t == tool));
        if !avoided && !self.calls.iter().any(|call| call.tool == tool) {
            // Whatever it answers, the plan goes on.
            let _: Result<Value, Failure> = self.call(tool, arguments);
        }
    }

    fn sometimes(&mut self, tool: &str, arguments: &Value) {
        if self.draw.chance(0.5) {
            self.prepare(tool, arguments);
        }
    }

    /// What lessons say to call before a tool.
    fn before(&mut self, tool: &str, arguments: &Value) {
        let first: Vec<String> = self
            .lessons
            .iter()
            .filter_map(|lesson| match lesson {
                Lesson::First { call, before } if before == tool => Some(call.clone()),
                _ => None,
            })
            .collect();
        for call in first {
            self.prepare(&call, arguments);
        }
    }

    fn instead_of(&self, failed_tool: &str) -> Option<String> {
        self.lessons.iter().find_map(|lesson| match lesson {
            Lesson::Instead { failed, call } if failed == failed_tool => Some(call.clone()),
            _ => None,
        })
    }

    fn with_lessons(&self, tool: &str, arguments: &Value) -> Value {
        let mut fields: Map<String, Value> = arguments.as_object().cloned().unwrap_or_default();
        for lesson in &self.lessons {
            if let Lesson::Pass { tool: of, key, value: Some(value) } = lesson
                && of == tool
            {
                fields.insert(key.clone(), json!(value));
            }
        }
        Value::Object(fields)
    }
}

fn number(found: &Result<Value, Failure>, key: &str) -> u64 {
    found.as_ref().ok().and_then(|value| value.get(key)).and_then(Value::as_u64).unwrap_or(0)
}
