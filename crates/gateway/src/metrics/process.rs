//! What the whole process takes, under the name that every Prometheus client has for it.

use std::{fmt::Write as _, fs};

/// Nothing where the system does not say.
pub(super) fn write(text: &mut String) {
    let Some(bytes) = resident_bytes() else { return };
    let name = "process_resident_memory_bytes";
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# TYPE {name} gauge\n{name} {bytes}");
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}
