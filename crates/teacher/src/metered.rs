//! A backend whose use costs money, kept within a budget.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use understudy_ident::Clock;
use understudy_inference::{Backend, Event, GenerateRequest, InferenceError, Prompt, Sink, Usage};
use understudy_message::Message;

use crate::{Budget, MicroUsd, Price, Reservation};

/// What a chat format adds around each message, generously.
const TOKENS_PER_MESSAGE: usize = 16;

/// Reserves what a request may cost at most, refuses it when that is not left, and settles what
/// it did cost from the usage the backend reports.
///
/// A generation that ends without saying what it used (cancelled, broken off, timed out) is
/// charged its whole reservation: the provider may well charge for it. One that failed before it
/// began costs nothing.
#[derive(Debug)]
pub struct Metered {
    backend: Arc<dyn Backend>,
    price: Price,
    account: Arc<Account>,
}

/// Where a budget stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spend {
    pub per_day: MicroUsd,
    pub spent_today: MicroUsd,
    pub reserved: MicroUsd,
    pub left: MicroUsd,
    /// Requests turned away since the start.
    pub refused: u64,
}

#[derive(Debug)]
struct Account {
    ledger: Mutex<Ledger>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct Ledger {
    budget: Budget,
    refused: u64,
}

impl Metered {
    pub fn new(
        backend: Arc<dyn Backend>,
        price: Price,
        budget: Budget,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let ledger = Mutex::new(Ledger { budget, refused: 0 });
        Self { backend, price, account: Arc::new(Account { ledger, clock }) }
    }

    pub fn price(&self) -> Price {
        self.price
    }

    pub fn spend(&self) -> Spend {
        let now = self.account.clock.now();
        let Ledger { budget, refused } = &mut *self.account.ledger();
        Spend {
            per_day: budget.per_day(),
            spent_today: budget.spent_today(now),
            left: budget.left(now),
            reserved: budget.reserved(),
            refused: *refused,
        }
    }
}

impl Backend for Metered {
    fn base(&self) -> &str {
        self.backend.base()
    }

    fn submit(&self, request: GenerateRequest, mut sink: Sink) -> Result<(), InferenceError> {
        let most = self.price.cost(most_usage(&request));
        let reservation = self.account.reserve(most)?;
        let mut meter = Meter {
            account: Arc::clone(&self.account),
            price: self.price,
            reservation: Some(reservation),
            begun: false,
        };
        self.backend.submit(
            request,
            Box::new(move |event| {
                meter.watch(&event);
                sink(event)
            }),
        )
    }
}

impl Account {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reserve(&self, most: MicroUsd) -> Result<Reservation, InferenceError> {
        let now = self.clock.now();
        let mut ledger = self.ledger();
        let reserved = ledger.budget.reserve(most, now);
        ledger.refused += u64::from(reserved.is_err());
        Ok(reserved?)
    }
}

/// Follows one generation's events; dropping it settles what no last event has.
struct Meter {
    account: Arc<Account>,
    price: Price,
    reservation: Option<Reservation>,
    begun: bool,
}

impl Meter {
    fn watch(&mut self, event: &Event) {
        match event {
            Event::Started(_) => self.begun = true,
            Event::Delta(_) => {}
            Event::Finished(completion) if completion.usage == Usage::default() => {
                self.begun = true;
                self.settle_unknown();
            }
            Event::Finished(completion) => self.settle(self.price.cost(completion.usage)),
            Event::Failed(error) => {
                // Nobody knows whether a provider that did not answer in time has worked.
                self.begun |= matches!(error, InferenceError::TimedOut(_));
                self.settle_unknown();
            }
        }
    }

    fn settle_unknown(&mut self) {
        let reserved = self.reservation.as_ref().map_or(MicroUsd::ZERO, Reservation::amount);
        self.settle(if self.begun { reserved } else { MicroUsd::ZERO });
    }

    fn settle(&mut self, spent: MicroUsd) {
        if let Some(reservation) = self.reservation.take() {
            let now = self.account.clock.now();
            self.account.ledger().budget.settle(reservation, spent, now);
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.settle_unknown();
    }
}

/// The most a request may use. Every token stands for at least one byte of text, so bytes bound
/// tokens without knowing the provider's tokenizer.
fn most_usage(request: &GenerateRequest) -> Usage {
    let prompt_tokens = match &request.prompt {
        Prompt::Tokens(ids) => ids.len(),
        Prompt::Text(text) => text.len(),
        Prompt::Chat(chat) => {
            let calls = |message: &Message| {
                let calls = message.tool_calls.iter().map(|call| &call.function);
                calls.map(|call| call.name.len() + call.arguments.len() + TOKENS_PER_MESSAGE).sum()
            };
            let said = chat.messages.iter().map(|message| {
                let calls: usize = calls(message);
                message.text().len() + calls + TOKENS_PER_MESSAGE
            });
            // Definitions are shown to the model in a form of its own, at most about as long.
            let tools = chat.tools.iter().map(|tool| tool.to_string().len() + TOKENS_PER_MESSAGE);
            said.chain(tools).sum()
        }
    };
    Usage {
        prompt_tokens: prompt_tokens as u32,
        completion_tokens: request.sampling.max_tokens,
        cached_tokens: 0,
    }
}
