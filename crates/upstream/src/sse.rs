//! Server-sent events, as far as chat endpoints use them: the `data` of each event, from bytes as
//! they come.

/// No honest event of an answer is near this long.
const LONGEST_EVENT: usize = 1 << 20;

/// Bytes in, events out. An event whose closing blank line is missing is dropped, as the standard
/// says: it may be cut in half.
#[derive(Debug, Default)]
pub(crate) struct Events {
    bytes: Vec<u8>,
    /// How much of `bytes` is read.
    read: usize,
    data: Option<String>,
}

impl Events {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.read);
        self.read = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The data of the next event that is whole, lines joined.
    pub(crate) fn next(&mut self) -> Result<Option<String>, &'static str> {
        while let Some(line) = self.line()? {
            if line.is_empty() {
                if let Some(data) = self.data.take() {
                    return Ok(Some(data));
                }
            } else if let Some(value) = line.strip_prefix("data:") {
                let value = value.strip_prefix(' ').unwrap_or(value);
                match &mut self.data {
                    None => self.data = Some(value.to_owned()),
                    Some(data) => {
                        data.push('\n');
                        data.push_str(value);
                    }
                }
            }
            // Comments (keep-alives) and the fields `event`, `id` and `retry` carry no answer.
        }
        let waiting = self.bytes.len() - self.read + self.data.as_ref().map_or(0, String::len);
        if waiting > LONGEST_EVENT {
            return Err("sent an event longer than 1 MiB");
        }
        Ok(None)
    }

    fn line(&mut self) -> Result<Option<String>, &'static str> {
        let rest = &self.bytes[self.read..];
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        let line = std::str::from_utf8(line).map_err(|_| "sent an event that is not UTF-8")?;
        let line = line.to_owned();
        self.read += end + 1;
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: &[&[u8]]) -> Result<Vec<String>, &'static str> {
        let (mut events, mut found) = (Events::default(), Vec::new());
        for piece in pieces {
            events.push(piece);
            while let Some(event) = events.next()? {
                found.push(event);
            }
        }
        Ok(found)
    }

    #[test]
    fn line_ends_comments_and_other_fields_do_not_matter() {
        let stream: &[u8] =
            b": keep-alive\r\n\r\ndata: {\"a\":1}\r\n\r\nevent: x\ndata:two\ndata: lines\n\n";
        assert_eq!(all(&[stream]).unwrap(), ["{\"a\":1}", "two\nlines"]);
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(all(&bytes).unwrap(), all(&[stream]).unwrap());
    }

    #[test]
    fn an_event_cut_off_by_the_end_is_not_one() {
        assert_eq!(all(&[b"data: whole\n\ndata: {\"hal"]).unwrap(), ["whole"]);
        assert!(all(&[b""]).unwrap().is_empty());
    }

    #[test]
    fn what_is_not_text_or_has_no_end_is_an_error() {
        assert!(all(&[b"data: \xff\n\n"]).is_err());
        assert!(all(&[&vec![b'x'; LONGEST_EVENT + 5]]).is_err());
        let long = b"data: x\n".repeat(LONGEST_EVENT);
        assert!(all(&[&long]).is_err());
    }
}
