//! Which words an answer has that the expected text has not, and the other way round.

/// Longer texts are shown as they are: the table of a diff grows with their product.
const WORDS_MAX: usize = 400;

/// A run of words, spaces kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Same(&'a str),
    /// Only in the expected text.
    Missing(&'a str),
    /// Only in the answer.
    Extra(&'a str),
}

/// The longest common subsequence of words; none for texts too long to compare.
pub(super) fn words<'a>(expected: &'a str, answer: &'a str) -> Option<Vec<Part<'a>>> {
    let (a, b) = (split(expected), split(answer));
    if a.len() > WORDS_MAX || b.len() > WORDS_MAX {
        return None;
    }
    // `common[i][j]` is the length for the texts from word i and word j on.
    let mut common = vec![vec![0_u32; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = if a[i] == b[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut parts) = (0, 0, Vec::new());
    while i < a.len() && j < b.len() {
        if a[i] == b[j] {
            parts.push(Part::Same(a[i]));
            (i, j) = (i + 1, j + 1);
        } else if common[i + 1][j] >= common[i][j + 1] {
            parts.push(Part::Missing(a[i]));
            i += 1;
        } else {
            parts.push(Part::Extra(b[j]));
            j += 1;
        }
    }
    parts.extend(a[i..].iter().copied().map(Part::Missing));
    parts.extend(b[j..].iter().copied().map(Part::Extra));
    Some(parts)
}

/// Runs of letters and digits, runs of spaces, and every other character by itself.
fn split(text: &str) -> Vec<&str> {
    let class = |c: char| (c.is_alphanumeric(), c.is_whitespace());
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_run = first.is_alphanumeric() || first.is_whitespace();
        let end = match rest.char_indices().skip(1).find(|(_, c)| class(*c) != class(first)) {
            _ if !is_run => first.len_utf8(),
            Some((at, _)) => at,
            None => rest.len(),
        };
        let (word, others) = rest.split_at(end);
        words.push(word);
        rest = others;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_texts_can_be_read_off_a_diff() {
        for (expected, answer) in [
            (r#"{"intent":"billing","n":3}"#, r#"{"intent":"access","n":3,"x":1}"#),
            ("", "new"),
            ("gone", ""),
            ("the same", "the same"),
            ("naïve – é", "naive – é"),
        ] {
            let parts = words(expected, answer).unwrap();
            let side = |keep: fn(&Part<'_>) -> bool| -> String {
                let text = |part: &Part<'_>| match part {
                    Part::Same(text) | Part::Missing(text) | Part::Extra(text) => {
                        (*text).to_owned()
                    }
                };
                parts.iter().filter(|part| keep(part)).map(text).collect()
            };
            assert_eq!(side(|part| !matches!(part, Part::Extra(_))), expected);
            assert_eq!(side(|part| !matches!(part, Part::Missing(_))), answer);
        }
        let parts = words("a b c", "a x c").unwrap();
        assert_eq!(parts.iter().filter(|part| matches!(part, Part::Same(_))).count(), 4);
        assert_eq!(words(&"w ".repeat(300), "w"), None);
    }
}
