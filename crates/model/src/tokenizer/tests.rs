use super::*;

pub(crate) const TRICKY: &[&str] = &[
    "",
    " leading and  double  spaces ",
    "digits 1234567890 and 3.14",
    "naïve café — “quotes”",
    "日本語と한국어 🙂👩‍👩‍👧",
    "tabs\tand\nnewlines\r\n\n\n",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "fn main() { println!(\"{}\", 0x1F); }",
    "{\"a\": [1, 2, {\"b\": null}]}",
];

#[test]
fn every_byte_has_a_token_and_text_survives() {
    let tokenizer = Tokenizer::byte_level().unwrap();
    for text in TRICKY {
        assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(), *text);
    }
    assert_eq!(tokenizer.vocab_size(), 258);
    assert_eq!(tokenizer.eos(), [tokenizer.token_id("<|im_end|>").unwrap()]);
}

#[test]
fn streaming_never_shows_half_a_character() {
    let tokenizer = Tokenizer::byte_level().unwrap();
    for text in TRICKY.iter().filter(|text| !text.contains("<|")) {
        let mut stream = tokenizer.stream();
        let mut shown = String::new();
        for id in tokenizer.encode(text).unwrap() {
            let piece = stream.push(id).unwrap();
            assert!(!piece.contains('\u{FFFD}'), "{piece:?} of {text:?}");
            shown += &piece;
        }
        assert_eq!(shown + &stream.finish().unwrap(), *text);
    }
}

#[test]
fn an_unfinished_character_shows_only_at_the_end() {
    let tokenizer = Tokenizer::byte_level().unwrap();
    let ids = tokenizer.encode("é").unwrap();
    let mut stream = tokenizer.stream();
    assert_eq!(stream.push(ids[0]).unwrap(), "");
    assert_eq!(stream.finish().unwrap(), "\u{FFFD}");
}
