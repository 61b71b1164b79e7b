//! Where in a TOML text a key stands, for errors a person can act on.

/// The 1-based line of byte `offset`.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    let upto = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    upto.split(|byte| *byte == b'\n').count()
}

/// The 1-based line where `key` is set inside `table` (`""` is the top, `"train"` with `nth`
/// counting `[[train]]` tables from 0); falls back to the table's header, then to line 1.
pub(super) fn line_of_key(text: &str, table: &str, nth: usize, key: &str) -> usize {
    let mut current = "";
    let mut seen = 0usize;
    let mut header = 1;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            current = line.trim_matches(|c| c == '[' || c == ']' || c == ' ');
            if current == table {
                seen += 1;
                if seen == nth + 1 {
                    header = index + 1;
                }
            }
            continue;
        }
        let in_table = current == table && (table.is_empty() || seen == nth + 1);
        let name = line.split('=').next().unwrap_or_default().trim();
        if in_table && name == key && line.contains('=') {
            return index + 1;
        }
    }
    header
}

/// The line at or after `from`, within its table, where `word` is set or is the value; `from` when
/// there is none.
pub(super) fn line_of_setting(text: &str, from: usize, word: &str) -> usize {
    let later = text.lines().enumerate().skip(from.saturating_sub(1));
    let within = later.take_while(|(at, line)| *at < from || !line.trim().starts_with('['));
    let named = |line: &str| {
        let bare =
            |part: &str| part.trim_matches(|c: char| !(c.is_alphanumeric() || c == '_')) == word;
        line.split(|c: char| c == '=' || c == ',' || c.is_whitespace()).any(bare)
    };
    let mut found = within.filter(|(_, line)| line.contains('=') && named(line));
    found.next().map_or(from, |(at, _)| at + 1)
}
