//! Server-sent events, as far as chat endpoints use them: the `data` of each event.

use std::io::{self, BufRead, Read};

/// No honest chunk of a chat answer is near this long.
const LONGEST_LINE: u64 = 1 << 20;

/// Reads events one by one. An event whose closing blank line is missing is dropped, as the
/// standard says: it may be cut in half.
pub(crate) struct Events<R> {
    lines: R,
}

impl<R: BufRead> Events<R> {
    pub(crate) fn new(lines: R) -> Self {
        Self { lines }
    }

    /// The data of the next event, lines joined; `None` at the end of the stream.
    pub(crate) fn next(&mut self) -> io::Result<Option<String>> {
        let mut data: Option<String> = None;
        while let Some(line) = self.line()? {
            if line.is_empty() {
                if data.is_some() {
                    return Ok(data);
                }
            } else if let Some(value) = line.strip_prefix("data:") {
                let value = value.strip_prefix(' ').unwrap_or(value);
                match &mut data {
                    None => data = Some(value.to_owned()),
                    Some(data) => {
                        data.push('\n');
                        data.push_str(value);
                    }
                }
            }
            // Comments (keep-alives) and the fields `event`, `id` and `retry` carry no answer.
        }
        Ok(None)
    }

    fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        let read = (&mut self.lines).take(LONGEST_LINE).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(None);
        }
        if read as u64 == LONGEST_LINE && line.last() != Some(&b'\n') {
            return Err(io::Error::other("a line of the event stream is longer than 1 MiB"));
        }
        while matches!(line.last(), Some(b'\n' | b'\r')) {
            line.pop();
        }
        String::from_utf8(line)
            .map(Some)
            .map_err(|_| io::Error::other("the event stream is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(stream: &[u8]) -> io::Result<Vec<String>> {
        let mut events = Events::new(stream);
        let mut found = Vec::new();
        while let Some(event) = events.next()? {
            found.push(event);
        }
        Ok(found)
    }

    #[test]
    fn line_ends_comments_and_other_fields_do_not_matter() {
        let stream =
            b": keep-alive\r\n\r\ndata: {\"a\":1}\r\n\r\nevent: x\ndata:two\ndata: lines\n\n";
        assert_eq!(all(stream).unwrap(), ["{\"a\":1}", "two\nlines"]);
    }

    #[test]
    fn an_event_cut_off_by_the_end_is_dropped() {
        assert_eq!(all(b"data: whole\n\ndata: {\"hal").unwrap(), ["whole"]);
        assert!(all(b"").unwrap().is_empty());
    }

    #[test]
    fn what_is_not_text_or_has_no_end_is_an_error() {
        assert!(all(b"data: \xff\n\n").is_err());
        assert!(all(&vec![b'x'; (LONGEST_LINE + 5) as usize]).is_err());
    }
}
