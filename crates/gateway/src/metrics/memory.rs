//! What became of lessons, request by request.

use std::fmt::Write as _;

use crate::state::Gateway;

/// Nothing where there is no memory.
pub(super) fn write(text: &mut String, gateway: &Gateway) {
    let Some(memories) = gateway.memories() else { return };
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# TYPE understudy:memory_requests_total counter");
    for (what, count) in memories.counts() {
        let _ = writeln!(text, "understudy:memory_requests_total{{lessons=\"{what}\"}} {count}");
    }
}
