//! Whose words are kept, and how much of them.

use std::collections::BTreeMap;

use understudy_ident::TenantName;
use understudy_trajectory::{Outcome, Step};

use crate::Capture;

/// The level of every tenant, and that of everybody else.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Levels {
    usual: Capture,
    tenants: BTreeMap<TenantName, Capture>,
}

impl Levels {
    /// Everything of everybody.
    pub const FULL: Self = Self { usual: Capture::Full, tenants: BTreeMap::new() };

    /// `usual` is also the level of whoever runs the server.
    pub fn new(usual: Capture, tenants: BTreeMap<TenantName, Capture>) -> Self {
        Self { usual, tenants }
    }

    pub fn of(&self, tenant: Option<&TenantName>) -> Capture {
        tenant.and_then(|tenant| self.tenants.get(tenant)).copied().unwrap_or(self.usual)
    }

    /// What is kept of a step, whose task says whose it is.
    pub fn step(&self, step: Step) -> Option<Step> {
        self.of(step.task.tenant().as_ref()).step(step)
    }

    /// What is kept of an outcome, whose id says whose it is.
    pub fn outcome(&self, outcome: Outcome) -> Option<Outcome> {
        let tenant = outcome.id.tenant().and_then(|tenant| tenant.parse().ok());
        self.of(tenant.as_ref()).outcome(outcome)
    }
}

impl From<Capture> for Levels {
    fn from(usual: Capture) -> Self {
        Self::new(usual, BTreeMap::new())
    }
}
