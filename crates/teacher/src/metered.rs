//! A backend whose use costs money, kept within a budget.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use understudy_ident::{Clock, Timestamp};
use understudy_inference::{
    Backend, Event, Gauge, GenerateRequest, InferenceError, Prompt, Sink, Usage,
};
use understudy_message::Message;

use crate::{Accounts, Budget, Ledger, MicroUsd, Price, accounts::Held};

/// What a chat format adds around each message, generously.
const TOKENS_PER_MESSAGE: usize = 16;

/// Reserves what a request may cost at most, on the account of its payer and of everybody, refuses it
/// when that is not left, and settles what it did cost from the usage the backend reports.
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
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct State {
    accounts: Accounts,
    refused: u64,
    /// Where it is kept, if anywhere.
    ledger: Option<Ledger>,
}

impl State {
    fn note(&mut self, now: Timestamp) {
        if let Some(ledger) = &self.ledger {
            ledger.note(&mut self.accounts, now);
        }
    }
}

impl Metered {
    pub fn new(
        backend: Arc<dyn Backend>,
        price: Price,
        accounts: impl Into<Accounts>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let accounts = accounts.into();
        let state = Mutex::new(State { accounts, refused: 0, ledger: None });
        Self { backend, price, account: Arc::new(Account { state, clock }) }
    }

    /// The same, with what is spent kept in a file.
    #[must_use]
    pub fn kept_in(self, ledger: Ledger) -> Self {
        self.account.state().ledger = Some(ledger);
        self
    }

    pub fn price(&self) -> Price {
        self.price
    }

    pub fn spend(&self) -> Spend {
        let now = self.account.clock.now();
        let State { accounts, refused, .. } = &mut *self.account.state();
        spend(accounts.whole(), *refused, now)
    }

    /// Where a tenant's budget stands; `None` where it has none. What was refused is counted over
    /// everybody.
    pub fn spend_of(&self, tenant: &str) -> Option<Spend> {
        let now = self.account.clock.now();
        let State { accounts, refused, .. } = &mut *self.account.state();
        let refused = *refused;
        accounts.of_tenant(tenant).map(|budget| spend(budget, refused, now))
    }

    fn of_tenants(&self) -> Vec<Gauge> {
        let tenants = self.account.state().accounts.tenants();
        let gauges = |tenant: String| {
            let spend = self.spend_of(&tenant)?;
            let gauge = |name, value: MicroUsd| Gauge {
                name,
                labels: vec![("tenant", tenant.clone())],
                value: value.get() as f64,
                rises: false,
            };
            Some([
                gauge("budget_tenant_per_day_micro_usd", spend.per_day),
                gauge("budget_tenant_left_micro_usd", spend.left),
            ])
        };
        // Samples of one name together.
        let mut gauges: Vec<Gauge> = tenants.into_iter().filter_map(gauges).flatten().collect();
        gauges.sort_by_key(|gauge| gauge.name);
        gauges
    }
}

impl Backend for Metered {
    fn base(&self) -> &str {
        self.backend.base()
    }

    fn gauges(&self) -> Vec<Gauge> {
        let spend = self.spend();
        let gauge = |name, value: u64, rises| Gauge {
            name,
            labels: Vec::new(),
            value: value as f64,
            rises,
        };
        let mut gauges = vec![
            gauge("budget_per_day_micro_usd", spend.per_day.get(), false),
            gauge("budget_spent_today_micro_usd", spend.spent_today.get(), false),
            gauge("budget_reserved_micro_usd", spend.reserved.get(), false),
            gauge("budget_refused_total", spend.refused, true),
        ];
        gauges.extend(self.of_tenants());
        gauges.extend(self.backend.gauges());
        gauges
    }

    fn submit(&self, mut request: GenerateRequest, mut sink: Sink) -> Result<(), InferenceError> {
        let most = self.price.cost(most_usage(&request));
        // Whose money it is, is between us and them.
        let payer = request.admission.payer.take();
        let reservation = self.account.reserve(payer.as_deref(), most)?;
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
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reserve(&self, payer: Option<&str>, most: MicroUsd) -> Result<Held, InferenceError> {
        let now = self.clock.now();
        let mut state = self.state();
        let reserved = state.accounts.reserve(payer, most, now);
        state.refused += u64::from(reserved.is_err());
        state.note(now);
        Ok(reserved?)
    }
}

/// Follows one generation's events; dropping it settles what no last event has.
struct Meter {
    account: Arc<Account>,
    price: Price,
    reservation: Option<Held>,
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
        let reserved = self.reservation.as_ref().map_or(MicroUsd::ZERO, Held::amount);
        self.settle(if self.begun { reserved } else { MicroUsd::ZERO });
    }

    fn settle(&mut self, spent: MicroUsd) {
        if let Some(reservation) = self.reservation.take() {
            let now = self.account.clock.now();
            let mut state = self.account.state();
            state.accounts.settle(reservation, spent, now);
            state.note(now);
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.settle_unknown();
    }
}

fn spend(budget: &mut Budget, refused: u64, now: Timestamp) -> Spend {
    Spend {
        per_day: budget.per_day(),
        spent_today: budget.spent_today(now),
        left: budget.left(now),
        reserved: budget.reserved(),
        refused,
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
