//! Text as words, one way for comparison, search and fingerprints.

use unicode_normalization::UnicodeNormalization as _;

/// Compatibility-normalised, lower case, single spaces: what two texts share when only their
/// spelling differs.
pub(crate) fn normal(text: &str) -> String {
    let folded: String = text.nfkc().collect::<String>().to_lowercase();
    folded.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A request without what is only this user's: numbers, ids, and names of two words and more. What
/// kind of task it is does not depend on them.
pub(crate) fn without_names(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let capital = |word: &&str| word.starts_with(char::is_uppercase);
    let kept = words.iter().enumerate().filter(|(at, word)| {
        let before = at.checked_sub(1).and_then(|at| words.get(at));
        let ended = before.is_some_and(|word| word.ends_with(['.', '!', '?']));
        let beside = before.filter(|_| !ended).is_some_and(capital)
            || words.get(at + 1).filter(|_| !word.ends_with(['.', '!', '?'])).is_some_and(capital);
        let is_name = capital(word) && beside;
        !is_name && !word.contains(|c: char| c.is_ascii_digit())
    });
    kept.map(|(_, word)| *word).collect::<Vec<_>>().join(" ")
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

/// The numbers of a text, in order: two texts that differ in one do not say the same.
pub(crate) fn numbers(text: &str) -> Vec<&str> {
    let digits = text.split(|c: char| !c.is_ascii_digit());
    digits.filter(|number| !number.is_empty()).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_go_and_the_wish_stays() {
        let said = "Hello, this is Ada Lovelace: please refund order ORD-1207.";
        assert_eq!(without_names(said), "Hello, this is please refund order");
        let german = "Bitte die Adresse der Bestellung ändern. Danke";
        assert_eq!(without_names(german), german);
    }

    #[test]
    fn forms_of_a_word_are_one_term() {
        assert_eq!(terms("refunded"), terms("refunds"));
        assert_eq!(terms("orders.find")[0], "orders.find");
        assert!(terms("orders.find").contains(&"order".to_owned()));
        assert_ne!(terms("class"), terms("clas"));
    }
}
