//! Long texts in pieces that a small model's context holds.

/// The most characters that are asked about at once, in bytes of UTF-8.
pub const CHUNK: usize = 6000;
/// What two pieces have in common, so that a name is whole in one of them.
const OVERLAP: usize = 300;

/// Pieces that cover the text, cut between words where there are any.
pub(crate) fn of(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut start = 0;
    while text.len() - start > CHUNK {
        let end = cut(text, start, start + CHUNK);
        pieces.push(&text[start..end]);
        start = cut(text, start + 1, end - OVERLAP);
    }
    pieces.push(&text[start..]);
    pieces
}

/// The last place at or before `at` where a word begins, and after `from`; within a word where one
/// is longer than [`OVERLAP`].
fn cut(text: &str, from: usize, at: usize) -> usize {
    let at = floor(text, at);
    let near = floor(text, at.saturating_sub(OVERLAP).max(from));
    let space = text[near..at].rfind(char::is_whitespace).map(|space| near + space);
    space.filter(|space| *space > from).unwrap_or(at)
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
