//! Numbers as people read them.

/// Four significant digits: `0.4127`, `1234`, `12.35k`, `3.1e-5`.
pub fn short(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e15).contains(&size) {
        return scientific(value, 3);
    }
    let (scale, suffix) = if size < 9999.5 { (1.0, "") } else { magnitude(size) };
    let digits = power((size / scale).max(1e-3));
    let decimals = (3 - digits).clamp(0, 6) as usize;
    plain(value / scale, decimals) + suffix
}

/// The labels of ticks that are `step` apart: all in one unit, with as many decimals as tell them
/// apart.
pub(crate) fn labels(ticks: &[f64], step: f64) -> Vec<String> {
    let size = ticks.iter().fold(step, |size, tick| size.max(tick.abs()));
    if !(1e-3..1e15).contains(&size) {
        let digits = (power(size) - power(step)).clamp(0, 15) as usize;
        return ticks.iter().map(|tick| scientific(*tick, digits)).collect();
    }
    let (scale, suffix) = if size < 1e4 { (1.0, "") } else { magnitude(size) };
    let decimals = (-power(step / scale)).clamp(0, 15) as usize;
    let label = |tick: &f64| match *tick / scale {
        0.0 => "0".to_owned(),
        scaled => format!("{}{suffix}", plain_fixed(scaled, decimals)),
    };
    ticks.iter().map(label).collect()
}

/// The power of ten at or below a positive number, which rounding in the logarithm must not miss.
pub(crate) fn power(size: f64) -> i32 {
    (size.log10() + 1e-9).floor() as i32
}

/// The unit that leaves one to three digits before the point.
fn magnitude(size: f64) -> (f64, &'static str) {
    match size {
        size if size < 999_950.0 => (1e3, "k"),
        size if size < 999_950_000.0 => (1e6, "M"),
        size if size < 999_950_000_000.0 => (1e9, "G"),
        _ => (1e12, "T"),
    }
}

fn plain_fixed(value: f64, decimals: usize) -> String {
    format!("{value:.decimals$}")
}

fn plain(value: f64, decimals: usize) -> String {
    trimmed(&plain_fixed(value, decimals)).to_owned()
}

fn scientific(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let text = format!("{value:.digits$e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => format!("{}e{exponent}", trimmed(mantissa)),
        None => text,
    }
}

/// Without zeros that say nothing.
fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}
