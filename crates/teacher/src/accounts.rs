//! Who pays for what: one budget over everybody, and one for each tenant that has a limit. Pure, as
//! [`Budget`] is.

use std::collections::BTreeMap;

use understudy_ident::Timestamp;

use crate::{Budget, MicroUsd, TeacherError, budget::Reservation};

/// What may be spent in a UTC day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// By everybody together.
    pub per_day: MicroUsd,
    /// By each tenant that is not named below; without it those have no limit but the one of all.
    pub per_tenant: Option<MicroUsd>,
    pub tenants: BTreeMap<String, MicroUsd>,
}

impl Limits {
    /// One limit over everybody.
    pub fn of(per_day: MicroUsd) -> Self {
        Self { per_day, per_tenant: None, tenants: BTreeMap::new() }
    }

    fn of_tenant(&self, tenant: &str) -> Option<MicroUsd> {
        self.tenants.get(tenant).copied().or(self.per_tenant)
    }
}

/// The budgets of a teacher. A request is reserved against its tenant's and against the whole, or
/// against neither.
#[derive(Debug, Clone)]
pub struct Accounts {
    limits: Limits,
    whole: Budget,
    tenants: BTreeMap<String, Budget>,
}

/// What one request has set aside.
#[derive(Debug)]
#[must_use = "what is not settled stays reserved until the day ends"]
pub(crate) struct Held {
    whole: Reservation,
    tenant: Option<(String, Reservation)>,
}

impl Held {
    pub(crate) fn amount(&self) -> MicroUsd {
        self.whole.amount()
    }
}

impl Accounts {
    pub fn new(limits: Limits) -> Self {
        let whole = Budget::new(limits.per_day);
        Self { limits, whole, tenants: BTreeMap::new() }
    }

    /// As they stand after so much was spent today.
    pub(crate) fn resume(limits: Limits, spent: &Spent, now: Timestamp) -> Self {
        let whole = Budget::resume(limits.per_day, spent.whole, now);
        // A tenant whose limit was taken away since has no budget any more.
        let budget = |(name, spent): (&String, &MicroUsd)| {
            let limit = limits.of_tenant(name)?;
            Some((name.clone(), Budget::resume(limit, *spent, now)))
        };
        let tenants = spent.tenants.iter().filter_map(budget).collect();
        Self { limits, whole, tenants }
    }

    /// Sets `amount` aside for a tenant, or for whoever runs the server.
    pub(crate) fn reserve(
        &mut self,
        tenant: Option<&str>,
        amount: MicroUsd,
        now: Timestamp,
    ) -> Result<Held, TeacherError> {
        // The tenant's first: what another tenant has spent is not for this one to read.
        let theirs = match tenant {
            Some(name) => self.of_tenant(name).map(|budget| (name, budget.reserve(amount, now))),
            None => None,
        };
        let tenant = match theirs {
            Some((name, Ok(reservation))) => Some((name.to_owned(), reservation)),
            Some((name, Err(TeacherError::BudgetExhausted { asked, left, limit }))) => {
                let tenant = name.to_owned();
                return Err(TeacherError::TenantExhausted { tenant, asked, left, limit });
            }
            Some((_, Err(other))) => return Err(other),
            None => None,
        };
        match self.whole.reserve(amount, now) {
            Ok(whole) => Ok(Held { whole, tenant }),
            Err(refused) => {
                if let Some((name, reservation)) = tenant {
                    self.settle_tenant(&name, reservation, MicroUsd::ZERO, now);
                }
                Err(refused)
            }
        }
    }

    /// Replaces what was set aside by what was spent, on both accounts.
    pub(crate) fn settle(&mut self, held: Held, spent: MicroUsd, now: Timestamp) {
        let Held { whole, tenant } = held;
        self.whole.settle(whole, spent, now);
        if let Some((name, reservation)) = tenant {
            self.settle_tenant(&name, reservation, spent, now);
        }
    }

    pub(crate) fn whole(&mut self) -> &mut Budget {
        &mut self.whole
    }

    /// A tenant's budget, where it has one.
    pub(crate) fn of_tenant(&mut self, name: &str) -> Option<&mut Budget> {
        let limit = self.limits.of_tenant(name)?;
        Some(self.tenants.entry(name.to_owned()).or_insert_with(|| Budget::new(limit)))
    }

    /// Tenants that have asked, or are named.
    pub(crate) fn tenants(&self) -> Vec<String> {
        let mut names: Vec<String> = self.tenants.keys().cloned().collect();
        names.extend(self.limits.tenants.keys().cloned());
        names.sort();
        names.dedup();
        names
    }

    /// What counts as spent today: what is only reserved as well, because after a crash nobody knows
    /// what became of the requests it was for.
    pub(crate) fn spent(&mut self, now: Timestamp) -> Spent {
        let counted = |budget: &mut Budget| budget.spent_today(now).plus(budget.reserved());
        let whole = counted(&mut self.whole);
        let tenants = self.tenants.iter_mut().map(|(name, budget)| (name.clone(), counted(budget)));
        Spent { whole, tenants: tenants.filter(|(_, spent)| *spent > MicroUsd::ZERO).collect() }
    }

    fn settle_tenant(
        &mut self,
        name: &str,
        reservation: Reservation,
        spent: MicroUsd,
        now: Timestamp,
    ) {
        if let Some(budget) = self.tenants.get_mut(name) {
            budget.settle(reservation, spent, now);
        }
    }
}

impl From<Budget> for Accounts {
    /// One budget over everybody, as it stands.
    fn from(whole: Budget) -> Self {
        Self { limits: Limits::of(whole.per_day()), whole, tenants: BTreeMap::new() }
    }
}

/// What was spent on a day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) whole: MicroUsd,
    pub(crate) tenants: BTreeMap<String, MicroUsd>,
}
