//! In which language a text is, where that can be told: by its script, and among languages of one
//! script by its trigrams.

use understudy_manifest::LANGUAGES;
use whatlang::{Lang, detect};

/// With fewer letters than this the trigrams of one language are those of its neighbours.
const LETTERS: usize = 32;
/// A script that one language alone is written in needs only a word.
const LETTERS_OF_ITS_OWN: usize = 2;

/// The two letters of a text's language. Of a short text, one of several languages, JSON (whose keys
/// are a program's) and numbers it cannot be told.
pub(crate) fn language(text: &str) -> Option<&'static str> {
    let text = text.trim();
    if text.starts_with(['{', '[']) && serde_json::from_str::<serde_json::Value>(text).is_ok() {
        return None;
    }
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    let found = detect(text)?;
    let is_alone = found.script().langs().len() == 1;
    let least = if is_alone { LETTERS_OF_ITS_OWN } else { LETTERS };
    (letters >= least && found.is_reliable()).then(|| two_letters(found.lang())).flatten()
}

/// Whether both can be told, and are not the same.
pub(crate) fn changes(before: &str, after: &str) -> bool {
    language(before).zip(language(after)).is_some_and(|(before, after)| before != after)
}

fn two_letters(language: Lang) -> Option<&'static str> {
    let known = LANGUAGES.iter().find(|(_, three)| *three == language.code());
    known.map(|(two, _)| *two)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_that_is_detected_has_its_two_letters() {
        let without: Vec<&Lang> =
            Lang::all().iter().filter(|l| two_letters(**l).is_none()).collect();
        assert!(without.is_empty(), "{without:?}");
        assert_eq!(
            Lang::all().len(),
            LANGUAGES.len(),
            "a recipe could ask for what is never found"
        );
    }

    #[test]
    fn languages_are_told_by_sentences_and_scripts_by_words() {
        let english = "Your parcel left our warehouse yesterday and should be with you on Friday.";
        let german = "Ihr Paket hat gestern unser Lager verlassen und sollte am Freitag ankommen.";
        let french = "Bonjour, votre colis a quitté notre entrepôt hier soir et il devrait vous \
                      être livré vendredi matin, au plus tard.";
        let told = [english, german, french, "ありがとうございます", "Спасибо"].map(language);
        assert_eq!(told[..4], [Some("en"), Some("de"), Some("fr"), Some("ja")]);
        assert_eq!(told[4], None, "one word of a script that many are written in");
        assert!(changes(english, german) && !changes(english, english));
    }

    #[test]
    fn what_cannot_be_told_is_no_language_and_no_change() {
        let english = "Your parcel left our warehouse yesterday and should be with you on Friday.";
        let untold =
            ["", "OK", "42", "{\"category\": \"delivery\", \"urgent\": true, \"team\": \"x\"}"];
        for text in untold {
            assert_eq!(language(text), None, "{text}");
            assert!(!changes(english, text) && !changes(text, english));
        }
    }
}
