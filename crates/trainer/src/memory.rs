//! How much memory this process has needed at most.

/// The peak resident size in bytes as the kernel accounts it; 0 where it does not say.
pub(crate) fn peak_bytes() -> u64 {
    // Only Linux has the file, and only the file has the peak.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    parse(&status).unwrap_or(0)
}

fn parse(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_peak_and_not_the_current_size() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(parse(status), Some(2 * 1024 * 1024));
        assert_eq!(parse("Name:\tx\n"), None);
    }
}
