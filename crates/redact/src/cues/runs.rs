//! Runs of capitalised words, which names are written as, and what stands before and after each.

use super::words;

/// More words than this are a heading.
const LONGEST: usize = 5;

/// Capitalised words in a row, without common words at either end: those are context.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run<'a> {
    all: &'a str,
    start: usize,
    end: usize,
}

impl<'a> Run<'a> {
    pub(super) fn text(&self) -> &'a str {
        &self.all[self.start..self.end]
    }

    /// With this much of what stands before and after it, in bytes.
    pub(super) fn wider(&self, before: usize, after: usize) -> &'a str {
        &self.all[self.start - before..self.end + after]
    }

    pub(super) fn words(&self) -> impl DoubleEndedIterator<Item = &'a str> {
        self.text().split(' ')
    }

    pub(super) fn len(&self) -> usize {
        self.words().count()
    }

    pub(super) fn before(&self) -> &'a str {
        &self.all[..self.start]
    }

    pub(super) fn after(&self) -> &'a str {
        &self.all[self.end..]
    }

    /// Whether it is all there is on its line, marks of quotation aside.
    pub(super) fn is_line(&self) -> bool {
        let line = self.before().rsplit('\n').next().unwrap_or_default();
        let rest = self.after().split('\n').next().unwrap_or_default();
        line.trim_matches([' ', '\t', '>', '?', '-', '*']).is_empty() && rest.trim().is_empty()
    }

    /// Whether one of these phrases ends where it starts, however it is spelt.
    pub(super) fn follows(&self, phrases: &[&str]) -> bool {
        ends_in(self.before(), phrases)
    }

    /// What it is the answer to on a form: the words before `:` or `=`, or the key of a JSON value,
    /// which stands on the line above it.
    pub(super) fn label(&self) -> Option<String> {
        let before = self.before().trim_end_matches([' ', '\t', '*', '"', '\'']);
        let (line, whole) = if let Some(line) = before.strip_suffix([':', '=']) {
            (line.rsplit('\n').next().unwrap_or_default(), false)
        } else {
            let above = before.strip_suffix('\n').filter(|_| self.is_line())?;
            (above.rsplit('\n').next().unwrap_or_default(), true)
        };
        // A line of its own is a key only if it looks like one: titles stand alone as well.
        if whole && (line.contains(' ') || !line.starts_with(char::is_lowercase)) {
            return None;
        }
        let label = line.trim_matches([' ', '\t', '*', '"', '\'', '-', '>', '?']);
        (!label.is_empty()).then(|| label.to_lowercase().replace(['_', '-'], " "))
    }
}

/// Whether a text ends in one of these phrases as words of their own, spaces and commas aside.
pub(super) fn ends_in(text: &str, phrases: &[&str]) -> bool {
    let text = text.trim_end_matches([' ', ',', '"', '“', '”']);
    phrases.iter().any(|phrase| {
        let Some(start) = text.len().checked_sub(phrase.len()) else { return false };
        let Some(end) = text.get(start..) else { return false };
        let joined = !phrase.starts_with(['\'', '’'])
            && text[..start].chars().next_back().is_some_and(char::is_alphanumeric);
        end.eq_ignore_ascii_case(phrase) && !joined
    })
}

/// The runs of a text, in order.
pub(super) fn of(text: &str) -> Vec<Run<'_>> {
    let mut runs = Vec::new();
    let mut open: Vec<(usize, usize)> = Vec::new();
    let mut close = |open: &mut Vec<(usize, usize)>| {
        runs.extend(trimmed(text, open));
        open.clear();
    };
    for (start, end) in spans(text) {
        let word = &text[start..end];
        let continues = open.last().is_some_and(|(_, last)| text[*last..start] == *" ");
        if !continues {
            close(&mut open);
        }
        let fits = word.starts_with(char::is_uppercase)
            || (!open.is_empty() && words::PARTICLES.contains(&word));
        if fits {
            open.push((start, end));
        } else {
            close(&mut open);
        }
    }
    close(&mut open);
    runs
}

/// Without common words at its ends; nothing where none is left, or too many.
fn trimmed<'a>(all: &'a str, words: &[(usize, usize)]) -> Option<Run<'a>> {
    let is_context = |(start, end): &(usize, usize)| {
        let word = &all[*start..*end];
        words::is_common(word) || word.starts_with(char::is_lowercase)
    };
    let first = words.iter().position(|word| !is_context(word))?;
    let last = words.iter().rposition(|word| !is_context(word))?;
    let run = Run { all, start: words[first].0, end: words[last].1 };
    let letters = run.text().chars().filter(|c| c.is_alphabetic()).count();
    (last - first < LONGEST && letters > 1).then_some(run)
}

/// Every word: letters, with hyphens and apostrophes before a capital, and the point of an initial.
fn spans(text: &str) -> impl Iterator<Item = (usize, usize)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + text[at..].find(char::is_alphanumeric)?;
        let mut end = start;
        let mut rest = text[start..].chars().peekable();
        while let Some(c) = rest.next() {
            let joins = matches!(c, '-' | '\'' | '’')
                && rest.peek().is_some_and(|next| next.is_uppercase());
            if !c.is_alphanumeric() && !is_mark(c) && !joins {
                break;
            }
            end += c.len_utf8();
        }
        let is_initial = text[start..end].chars().count() == 1
            && text[start..end].starts_with(char::is_uppercase)
            && text[end..].starts_with('.');
        end += usize::from(is_initial);
        at = end;
        Some((start, end))
    })
}

/// An accent that is written as a character of its own.
fn is_mark(c: char) -> bool {
    ('\u{300}'..='\u{36f}').contains(&c)
}
