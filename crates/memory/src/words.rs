//! Text as words, one way for comparison, search and fingerprints.

use unicode_normalization::UnicodeNormalization as _;

/// Compatibility-normalised, lower case, single spaces: what two texts share when only their
/// spelling differs.
pub(crate) fn normal(text: &str) -> String {
    let folded: String = text.nfkc().collect::<String>().to_lowercase();
    folded.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Words in lower case. Names with dots, dashes and underscores are themselves and their parts.
pub(crate) fn terms(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let joined = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
    for token in normal(text).split(|c: char| !joined(c)) {
        let token = token.trim_matches(|c: char| !c.is_alphanumeric());
        if token.is_empty() {
            continue;
        }
        let parts: Vec<&str> =
            token.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty()).collect();
        if parts.len() > 1 {
            found.push(token.to_owned());
        }
        found.extend(parts.into_iter().map(stem));
    }
    found
}

/// A crude stem, the same for query and document: plural, past and progressive endings go.
pub(crate) fn stem(word: &str) -> String {
    for ending in ["ings", "ing", "ies", "ied", "es", "ed", "s"] {
        if let Some(rest) = word.strip_suffix(ending) {
            let vowels = rest.chars().any(|c| "aeiouy".contains(c));
            if rest.chars().count() >= 3 && vowels && !(ending == "s" && rest.ends_with('s')) {
                let rest =
                    if ending.starts_with("ie") { format!("{rest}y") } else { rest.to_owned() };
                return rest.trim_end_matches('e').to_owned();
            }
        }
    }
    word.trim_end_matches('e').to_owned()
}

/// Whether a word says too little to match on.
pub(crate) fn is_stop(term: &str) -> bool {
    const STOP: &str = " a an and are as at b be by do does for from have how i in is it its m me \
                        my of on or our pleas prefer s so t than that th their then there thes thi \
                        to was we were what when which who will with you your becaus runs run \
                        succeed more often call ";
    STOP.contains(&format!(" {term} "))
}
