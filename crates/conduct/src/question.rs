//! Whether a reply asks back instead of answering.

/// Closing politeness that asks for nothing.
const POLITE: [&str; 8] = [
    "anything else",
    "help with anything",
    "help you with anything",
    "further questions",
    "any other questions",
    "does that help",
    "does this help",
    "is there something else",
];

/// The last sentence is a question, and not only a polite one. A rule for texts with question marks
/// (`?`, `？`, `؟`), as every rule of this kind is blind to the rest.
pub(crate) fn asks_back(text: &str) -> bool {
    let text = text.trim_end().trim_end_matches(['"', '\'', ')', '*', '_', '”', '’']);
    let marks = ['?', '？', '؟'];
    if !text.ends_with(marks) {
        return false;
    }
    let body = text.trim_end_matches(marks);
    let begin = body.rfind(['.', '!', '\n', '?', '。', '！', '？']).map_or(0, |at| at + 1);
    let last = body.get(begin..).unwrap_or(body).to_lowercase();
    !POLITE.iter().any(|phrase| last.contains(phrase))
}
