//! What each id adds to a text, as bytes.

use std::collections::BTreeMap;

use tokenizers::pre_tokenizers::byte_level::ByteLevel;

/// One entry per id, `None` for ids nothing is listed under.
pub(super) fn table(tokenizer: &tokenizers::Tokenizer) -> Vec<Option<Vec<u8>>> {
    let added = tokenizer.get_added_tokens_decoder();
    let spelling = Spelling::of(tokenizer);
    let vocabulary = tokenizer.get_vocab(true);
    let len = vocabulary.values().max().map_or(0, |last| *last as usize + 1);
    let bytes = |id: u32| match added.get(&id) {
        Some(token) => Some(token.content.clone().into_bytes()),
        None => tokenizer.id_to_token(id).map(|text| spelling.bytes(&text)),
    };
    (0..len).map(|id| bytes(id as u32)).collect()
}

/// How a vocabulary writes bytes down.
enum Spelling {
    /// Every byte is a printable character, after GPT-2.
    ByteLevel(BTreeMap<char, u8>),
    /// As SentencePiece does: `▁` is a blank and `<0x0A>` a byte.
    Pieces,
}

impl Spelling {
    fn of(tokenizer: &tokenizers::Tokenizer) -> Self {
        let decoder = serde_json::to_string(&tokenizer.get_decoder()).unwrap_or_default();
        if decoder.contains("ByteLevel") { Self::ByteLevel(alphabet()) } else { Self::Pieces }
    }

    fn bytes(&self, text: &str) -> Vec<u8> {
        match self {
            Self::ByteLevel(alphabet) => {
                let byte = |letter: char| match alphabet.get(&letter) {
                    Some(byte) => vec![*byte],
                    None => letter.to_string().into_bytes(),
                };
                text.chars().flat_map(byte).collect()
            }
            Self::Pieces => {
                let hex = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
                match hex.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                    Some(byte) => vec![byte],
                    None => text.replace('▁', " ").into_bytes(),
                }
            }
        }
    }
}

/// GPT-2's characters for bytes: printable ones stand for themselves, and the others, in order, for
/// the characters from U+0100 on.
fn alphabet() -> BTreeMap<char, u8> {
    let known = ByteLevel::alphabet();
    let mut shifted = 0x100;
    let mut letters = BTreeMap::new();
    for byte in 0..=u8::MAX {
        let own = char::from(byte);
        let letter = if known.contains(&own) {
            own
        } else {
            shifted += 1;
            char::from_u32(shifted - 1).unwrap_or(own)
        };
        letters.insert(letter, byte);
    }
    letters
}
