//! How far the reader of telemetry has come, and what it could make no step of.

use std::fmt::Write as _;

use understudy_journal::Unread;

use crate::state::Gateway;

/// A journal that cannot be read says nothing here; everything else shows that.
pub(super) fn write(text: &mut String, gateway: &Gateway) {
    if let Ok(Unread { bodies, oldest }) = gateway.journal.unread() {
        let waited = oldest.map_or(0, |at| {
            gateway.clock.now().as_millisecond().saturating_sub(at.as_millisecond()).max(0)
        });
        one(text, "telemetry_unread_bodies", "gauge");
        let _ = writeln!(text, "understudy:telemetry_unread_bodies {bodies}");
        one(text, "telemetry_lag_seconds", "gauge");
        let _ = writeln!(text, "understudy:telemetry_lag_seconds {}", waited as f64 / 1e3);
    }
    one(text, "telemetry_calls_left_out_total", "counter");
    for (why, count) in gateway.intake().left_out() {
        let why = why.as_str();
        let _ =
            writeln!(text, "understudy:telemetry_calls_left_out_total{{reason=\"{why}\"}} {count}");
    }
}

fn one(text: &mut String, name: &str, kind: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# TYPE understudy:{name} {kind}");
}
