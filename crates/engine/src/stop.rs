//! Text on its way out, held back as long as it may be the beginning of a stop string.

/// Collects a completion's text and releases what is certain.
#[derive(Debug)]
pub(crate) struct StopGate {
    stops: Vec<String>,
    /// Everything that belongs to the completion, held text included.
    text: String,
    /// How much of `text` has been released.
    released: usize,
    /// Whether a stop string stays at the end of the text it ends.
    include: bool,
}

/// What one piece brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Gated {
    /// May be shown now.
    pub(crate) text: String,
    /// The stop string that is complete.
    pub(crate) stop: Option<String>,
}

impl StopGate {
    pub(crate) fn new(stops: &[String], include: bool) -> Self {
        Self { stops: stops.to_vec(), text: String::new(), released: 0, include }
    }

    /// Takes a piece that no stop string may begin in.
    pub(crate) fn pass(&mut self, piece: &str) -> Gated {
        self.text.push_str(piece);
        Gated { text: self.finish(), stop: None }
    }

    /// Takes the next piece. When a stop string is complete with it, what follows that is gone, and
    /// the string as well unless it is to be included.
    ///
    /// Of several stop strings the one that is complete first counts, so that the answer does not
    /// depend on how the text was cut into pieces.
    pub(crate) fn push(&mut self, piece: &str) -> Gated {
        self.text.push_str(piece);
        let held = &self.text[self.released..];
        // What has been released is no part of a stop string, so each begins in the held text.
        let complete = self.stops.iter().filter_map(|stop| {
            let start = held.find(stop.as_str())?;
            Some((start + stop.len(), start, stop))
        });
        if let Some((end, start, stop)) = complete.min() {
            let (kept, stop) = (if self.include { end } else { start }, stop.clone());
            self.text.truncate(self.released + kept);
            return Gated { text: self.finish(), stop: Some(stop) };
        }
        let longest = self.stops.iter().map(|stop| overlap(held, stop)).max().unwrap_or(0);
        let certain = held[..held.len() - longest].to_owned();
        self.released += certain.len();
        Gated { text: certain, stop: None }
    }

    /// Releases everything: nothing more will come.
    pub(crate) fn finish(&mut self) -> String {
        let rest = self.text[self.released..].to_owned();
        self.released = self.text.len();
        rest
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

/// Bytes of the longest end of `text` with which `stop` begins.
fn overlap(text: &str, stop: &str) -> usize {
    let ends = stop.char_indices().map(|(at, _)| at);
    ends.filter(|len| text.ends_with(&stop[..*len])).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, one character at a time over the whole text.
    fn expected(text: &str, stops: &[String]) -> String {
        for end in text.char_indices().map(|(at, c)| at + c.len_utf8()) {
            let starts = stops.iter().filter(|stop| text[..end].ends_with(stop.as_str()));
            if let Some(stop) = starts.max_by_key(|stop| stop.len()) {
                return text[..end - stop.len()].to_owned();
            }
        }
        text.to_owned()
    }

    fn run(pieces: &[&str], stops: &[String]) -> String {
        let mut gate = StopGate::new(stops, false);
        let mut shown = String::new();
        for piece in pieces {
            let Gated { text, stop } = gate.push(piece);
            shown += &text;
            if stop.is_some() {
                assert_eq!(shown, gate.into_text());
                return shown;
            }
        }
        shown += &gate.finish();
        assert_eq!(shown, gate.into_text());
        shown
    }

    #[test]
    fn any_text_cut_anywhere_stops_at_the_same_place() {
        let letters = ['a', 'b', 'ü'];
        let stops: Vec<Vec<String>> =
            [&["ab"][..], &["aab", "b"], &["aü", "üa", "bbb"], &["abab"], &[]]
                .iter()
                .map(|stops| stops.iter().map(|stop| (*stop).to_owned()).collect())
                .collect();
        for code in 0..3_usize.pow(7) {
            let text: String = (0..7).map(|place| letters[code / 3_usize.pow(place) % 3]).collect();
            let bounds: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
            let cut = bounds[code % bounds.len()];
            let singles: Vec<&str> = text.split_inclusive(|_| true).collect();
            for stops in &stops {
                let expected = expected(&text, stops);
                assert_eq!(run(&[&text], stops), expected, "{text} {stops:?}");
                assert_eq!(run(&[&text[..cut], &text[cut..]], stops), expected);
                assert_eq!(run(&singles, stops), expected);
            }
        }
    }

    #[test]
    fn text_is_shown_as_soon_as_it_is_certain() {
        let mut gate = StopGate::new(&["</end>".to_owned()], false);
        let shown = |text: &str| Gated { text: text.to_owned(), stop: None };
        assert_eq!(gate.push("one <"), shown("one "));
        assert_eq!(gate.push("/e"), shown(""));
        assert_eq!(gate.push("ar"), shown("</ear"));
        assert_eq!(gate.push("</end>rest").stop.as_deref(), Some("</end>"));
        assert_eq!(gate.into_text(), "one </ear");
    }

    #[test]
    fn a_stop_string_is_kept_where_asked_and_not_looked_for_where_passed() {
        let mut gate = StopGate::new(&["b".to_owned(), "ab".to_owned()], true);
        assert_eq!(gate.pass("xab").text, "xab");
        let Gated { text, stop } = gate.push("bcd");
        assert_eq!((text.as_str(), stop.as_deref()), ("b", Some("b")));
        assert_eq!(gate.into_text(), "xabb");
    }
}
