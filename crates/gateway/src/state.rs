//! What every handler shares.

use std::sync::Arc;

use understudy_ident::Clock;
use understudy_inference::{Backend, Student};
use understudy_journal::Journal;
use understudy_registry::Registry;
use understudy_router::RouteTable;

/// The parts a gateway is put together from.
#[derive(Debug)]
pub struct GatewayParts {
    /// Our engine: answers for the base and for every adapter.
    pub student: Arc<dyn Student>,
    /// The frontier model; without one, routes to the teacher answer 503.
    pub teacher: Option<Arc<dyn Backend>>,
    pub routes: Arc<RouteTable>,
    pub journal: Journal,
    pub registry: Arc<Registry>,
    pub clock: Arc<dyn Clock>,
    /// Whether `/v1/load_lora_adapter` and its opposite may be used.
    pub adapter_updates: bool,
}

/// A cheap handle: one per connection.
#[derive(Debug, Clone)]
pub struct Gateway {
    parts: Arc<GatewayParts>,
}

impl Gateway {
    pub fn new(parts: GatewayParts) -> Self {
        Self { parts: Arc::new(parts) }
    }
}

impl std::ops::Deref for Gateway {
    type Target = GatewayParts;

    fn deref(&self) -> &GatewayParts {
        &self.parts
    }
}
