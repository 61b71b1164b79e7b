//! How much of a message is made of words that were never seen before.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
};

use understudy_message::{Message, Role};

/// More words than people use; beyond, new ones are not learnt and count as unseen.
const MOST: usize = 1 << 20;

/// Words by their hashes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Vocabulary(HashSet<u64>);

impl Vocabulary {
    pub(crate) fn learn(&mut self, prompt: &[Message]) {
        for word in words(&asked(prompt)) {
            if self.0.len() < MOST {
                self.0.insert(word);
            }
        }
    }

    /// The share of words that are not in here, from 0 to 1; nothing said is nothing new.
    pub(crate) fn novelty(&self, prompt: &[Message]) -> f64 {
        let (mut new, mut all) = (0.0, 0.0);
        for word in words(&asked(prompt)) {
            all += 1.0;
            new += f64::from(u8::from(!self.0.contains(&word)));
        }
        if all == 0.0 { 0.0 } else { new / all }
    }
}

/// What the user said last.
fn asked(prompt: &[Message]) -> String {
    let last = prompt.iter().rev().find(|message| message.role == Role::User);
    last.map(Message::text).unwrap_or_default()
}

/// Digits are all one: an order number is never new.
fn words(text: &str) -> impl Iterator<Item = u64> + '_ {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(|word| {
        let mut hasher = DefaultHasher::new();
        for c in word.chars().flat_map(char::to_lowercase) {
            let shape = if c.is_numeric() { '0' } else { c };
            shape.hash(&mut hasher);
        }
        hasher.finish()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn novelty_is_the_share_of_unseen_words_whatever_their_case_and_numbers() {
        let mut known = Vocabulary::default();
        known.learn(&[Message::system("Reply with JSON."), Message::user("Where is order 4711?")]);
        let novelty = |text: &str| known.novelty(&[Message::user(text)]);
        assert_eq!(novelty("WHERE is order 9923"), 0.0);
        assert_eq!(novelty("where is json"), 1.0 / 3.0, "the directive is not what users say");
        assert_eq!(novelty("un vélo perdu"), 1.0);
        assert_eq!((novelty("?!"), known.novelty(&[])), (0.0, 0.0));
    }
}
