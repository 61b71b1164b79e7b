//! The model's tokens as llguidance sees them.

use std::sync::Arc;

use llguidance::toktrie::{TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};
use understudy_inference::InferenceError;
use understudy_model::Tokenizer;

pub(super) struct Vocabulary {
    trie: TokTrie,
    tokenizer: Tokenizer,
}

impl Vocabulary {
    /// Special tokens are marked as such: text never matches them, only a grammar that names them.
    pub(super) fn new(tokenizer: Tokenizer) -> Result<Self, InferenceError> {
        let [first_end, ..] = tokenizer.eos() else {
            let why = "constraints for a model without an end of turn";
            return Err(InferenceError::Unsupported(why));
        };
        let word = |id: u32| {
            let bytes = tokenizer.token_bytes(id).unwrap_or_default();
            let marker = [TokTrie::SPECIAL_TOKEN_MARKER];
            let mark: &[u8] = if tokenizer.is_special(id) { &marker } else { &[] };
            [mark, bytes].concat()
        };
        let words: Vec<Vec<u8>> = (0..tokenizer.vocab_size() as u32).map(word).collect();
        let info = TokRxInfo::new(words.len() as u32, *first_end);
        let trie = TokTrie::from(&info, &words).with_eos_tokens(tokenizer.eos());
        Ok(Self { trie, tokenizer })
    }

    pub(super) fn into_env(self) -> TokEnv {
        Arc::new(self)
    }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    /// What the model would have said: tokens such as `<tool_call>` whole, but never a special one.
    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            let ids = self.tokenizer.encode(text).unwrap_or_default();
            if !ids.iter().any(|id| self.tokenizer.is_special(*id)) {
                return ids;
            }
            let plain = self.tokenizer.encode_plain(text);
            plain.unwrap_or_else(|_| self.trie.greedy_tokenize(text.as_bytes()))
        })
    }
}
