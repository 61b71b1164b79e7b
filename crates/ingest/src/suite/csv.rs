//! Comma-separated values as spreadsheets write them (RFC 4180).

/// Every record, as texts. Quotes may hold commas, line ends and doubled quotes.
pub(super) fn records(text: &str) -> Result<Vec<Vec<String>>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut records, mut record, mut field) = (Vec::new(), Vec::new(), String::new());
    let (mut quoted, mut was_quoted) = (false, false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() && !was_quoted => (quoted, was_quoted) = (true, true),
            _ if quoted => field.push(letter),
            ',' => {
                record.push(std::mem::take(&mut field));
                was_quoted = false;
            }
            '\r' if letters.peek() == Some(&'\n') => {}
            '\n' => {
                record.push(std::mem::take(&mut field));
                records.push(std::mem::take(&mut record));
                was_quoted = false;
            }
            _ => field.push(letter),
        }
    }
    if quoted {
        return Err("a quote is opened and never closed".to_owned());
    }
    if !field.is_empty() || !record.is_empty() || was_quoted {
        record.push(field);
        records.push(record);
    }
    // A line with nothing on it is no record.
    records.retain(|record| record.iter().any(|field| !field.trim().is_empty()));
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::records;

    #[test]
    fn quotes_hold_what_would_end_a_field() {
        let text = "\u{feff}a,\"b, \"\"c\"\"\",d\r\n\r\n1,\"two\nlines\",\n\"\",x,y";
        let found = records(text).unwrap();
        assert_eq!(
            found,
            [vec!["a", "b, \"c\"", "d"], vec!["1", "two\nlines", ""], vec!["", "x", "y"]]
        );
        assert!(records("a,\"b\n").unwrap_err().contains("never closed"));
        assert_eq!(records("").unwrap(), Vec::<Vec<String>>::new());
    }
}
