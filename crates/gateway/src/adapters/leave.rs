//! How adapters leave: when their time is over, and with those who still hold them waited for.

use std::time::{Duration, Instant};

use understudy_openai::ErrorReply;

use super::is_routed;
use crate::{error::ApiError, state::Gateway};

/// How often it is looked whether the time of an adapter is over.
const ROUND: Duration = Duration::from_secs(1);
/// How soon it is noticed that the last request is over.
const LOOK: Duration = Duration::from_millis(10);

/// Unloads adapters whose time is over, as long as the server runs. One that a route names stays
/// until none does.
pub(crate) async fn expire_for_ever(gateway: Gateway) {
    let mut rounds = tokio::time::interval(ROUND);
    loop {
        rounds.tick().await;
        let of = gateway.clone();
        let expired = tokio::task::spawn_blocking(move || {
            of.student.expire_adapters(of.clock.now(), &|alias| is_routed(&of, alias))
        });
        match expired.await {
            Ok(Ok(gone)) => {
                for alias in gone {
                    tracing::info!("the time of {alias} is over");
                }
            }
            Ok(Err(why)) => tracing::warn!("adapters whose time is over stay: {why}"),
            Err(why) => tracing::error!("unloading adapters ended badly: {why}"),
        }
    }
}

/// Waits until no request is in flight under an alias, at most so long.
pub(super) async fn drained(
    gateway: &Gateway,
    alias: &str,
    name: &str,
    patience: Duration,
) -> Result<(), ApiError> {
    let begun = Instant::now();
    loop {
        let left = gateway.student.in_flight(alias);
        if left == 0 {
            return Ok(());
        }
        let over = patience.saturating_sub(begun.elapsed());
        if over.is_zero() {
            let why = format!(
                "`{name}` is unloaded, but {left} of the requests that began with it are not over \
                 after {} s; they finish on it",
                patience.as_secs()
            );
            let reply = ErrorReply::new(504, why).because("lora_drain_timeout");
            return Err(ApiError(ErrorReply { should_retry: Some(false), ..reply }));
        }
        tokio::time::sleep(LOOK.min(over)).await;
    }
}
