//! What the card of a dataset version says that no counting can tell.

use serde::{Deserialize, Serialize};

/// Stated by whoever answers for the data. What is not stated here the card says is not stated.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CardSettings {
    /// As the Hugging Face hub spells it: `cc-by-4.0`, `apache-2.0`, `other`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// ISO 639 codes: `en`, `de`, `pt-BR`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub language: Vec<String>,
    /// On what basis people's words may be learnt from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consent: Option<String>,
    /// What is known to be one-sided, beside what is counted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub biases: Vec<String>,
}

/// The longest statement: a card is read, not kept on file.
const LONGEST: usize = 1000;

impl CardSettings {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The key at fault and what is wrong with it.
    pub(super) fn check(&self) -> Result<(), (&'static str, &'static str)> {
        if self.license.as_deref().is_some_and(|name| !is_license(name)) {
            let what = "is no licence as the hub spells them: lower-case letters, digits, dots and \
                        dashes, such as \"cc-by-4.0\"";
            return Err(("license", what));
        }
        if !self.language.iter().all(|code| is_language(code)) {
            return Err((
                "language",
                "holds what is no language code, such as \"en\" or \"pt-BR\"",
            ));
        }
        let is_said = |text: &String| is_statement(text);
        if !self.consent.iter().all(is_said) {
            return Err(("consent", STATEMENT));
        }
        if !self.biases.iter().all(is_said) {
            return Err(("biases", STATEMENT));
        }
        Ok(())
    }
}

const STATEMENT: &str = "must be one line of text, of at most 1000 bytes";

fn is_license(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.+".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(fits)
}

fn is_language(code: &str) -> bool {
    let mut parts = code.split('-');
    let language = parts.next().unwrap_or_default();
    let is_language =
        (2..=3).contains(&language.len()) && language.bytes().all(|b| b.is_ascii_lowercase());
    let is_subtag =
        |tag: &str| (1..=8).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_alphanumeric());
    is_language && parts.all(is_subtag)
}

fn is_statement(text: &str) -> bool {
    !text.trim().is_empty() && text.len() <= LONGEST && !text.chars().any(char::is_control)
}
