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

/// A vocabulary with merges and, as SmolLM2 has it, turn markers listed beside them; `<think>` is
/// added without being special, and a run of blanks is a token too.
pub(crate) fn merging() -> Tokenizer {
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let mut words: Vec<String> =
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"].map(str::to_owned).into();
    words.extend(alphabet.iter().map(char::to_string));
    let pairs = [
        ("i", "m"),
        ("e", "n"),
        ("en", "d"),
        ("s", "t"),
        ("u", "s"),
        ("Ġ", "t"),
        ("<", "|"),
        ("|", ">"),
        ("|>", "Ċ"),
        ("Ċ", "Ċ"),
        ("a", "s"),
        ("e", "r"),
        ("us", "er"),
        ("h", "i"),
        ("Ġ", "<"),
        ("Ġ", "Ġ"),
    ];
    words.extend(pairs.iter().map(|(a, b)| format!("{a}{b}")));
    let vocab: bpe::Vocab = words.into_iter().zip(0..).collect();
    let merges = pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    let model = bpe::BPE::builder().vocab_and_merges(vocab, merges).build().unwrap();
    let mut inner = tokenizers::Tokenizer::new(model);
    inner.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    inner.with_decoder(Some(ByteLevel::default()));
    let special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
    inner.add_special_tokens(special.map(|text| AddedToken::from(text, true))).unwrap();
    let added = ["<think>", "</think>", "    "].map(|text| AddedToken::from(text, false));
    inner.add_tokens(added).unwrap();
    Tokenizer::new(inner, vec![2], None).unwrap()
}

#[test]
fn token_bytes_joined_are_the_text() {
    for tokenizer in [Tokenizer::byte_level().unwrap(), merging()] {
        for text in TRICKY {
            let ids = tokenizer.encode(text).unwrap();
            let bytes: Vec<u8> =
                ids.iter().flat_map(|id| tokenizer.token_bytes(*id).unwrap().to_vec()).collect();
            assert_eq!(bytes, text.as_bytes());
        }
        assert_eq!(tokenizer.token_bytes(tokenizer.vocab_size() as u32), None);
    }
}

#[test]
fn nothing_in_plain_text_is_a_marker() {
    for tokenizer in [Tokenizer::byte_level().unwrap(), merging()] {
        for text in TRICKY.iter().chain(&["<think>a</think>", "x<|im_end|>"]) {
            let ids = tokenizer.encode_plain(text).unwrap();
            assert!(ids.iter().all(|id| !tokenizer.is_special(*id)), "{text}");
            assert_eq!(tokenizer.decode(&ids).unwrap(), *text);
        }
    }
}
