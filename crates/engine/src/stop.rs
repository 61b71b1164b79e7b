//! Text on its way out, held back as long as it may be the beginning of a stop string.

/// Collects a completion's text and releases what is certain.
#[derive(Debug)]
pub(crate) struct StopGate {
    stops: Vec<String>,
    /// Everything that belongs to the completion, held text included.
    text: String,
    /// How much of `text` has been released.
    released: usize,
}

impl StopGate {
    pub(crate) fn new(stops: &[String]) -> Self {
        Self { stops: stops.to_vec(), text: String::new(), released: 0 }
    }

    /// Takes the next piece. Returns what may be shown now, and whether a stop string is complete,
    /// in which case it and what follows it are gone.
    ///
    /// Of several stop strings the one that is complete first counts, so that the answer does not
    /// depend on how the text was cut into pieces.
    pub(crate) fn push(&mut self, piece: &str) -> (String, bool) {
        self.text.push_str(piece);
        let held = &self.text[self.released..];
        // What has been released is no part of a stop string, so each begins in the held text.
        let complete = self.stops.iter().filter_map(|stop| {
            let start = held.find(stop.as_str())?;
            Some((start + stop.len(), start))
        });
        if let Some((_, start)) = complete.min() {
            self.text.truncate(self.released + start);
            return (self.finish(), true);
        }
        let longest = self.stops.iter().map(|stop| overlap(held, stop)).max().unwrap_or(0);
        let certain = held[..held.len() - longest].to_owned();
        self.released += certain.len();
        (certain, false)
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
        let mut gate = StopGate::new(stops);
        let mut shown = String::new();
        for piece in pieces {
            let (delta, stopped) = gate.push(piece);
            shown += &delta;
            if stopped {
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
        let mut gate = StopGate::new(&["</end>".to_owned()]);
        assert_eq!(gate.push("one <"), ("one ".to_owned(), false));
        assert_eq!(gate.push("/e"), (String::new(), false));
        assert_eq!(gate.push("ar"), ("</ear".to_owned(), false));
        assert_eq!(gate.push("</end>rest"), (String::new(), true));
    }
}
