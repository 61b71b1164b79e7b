//! Names without a model: what stands around a word often says what it is. `my name is`, `Dear …,`,
//! a signature, a form's label, a house number or `Ltd` are such cues.
//!
//! A name that nothing around it gives away is missed, as is one in small letters, so what is found
//! is far from everything: [`Cues::measured`](crate::Cues::measured) says how far.

mod organizations;
mod people;
mod places;
mod runs;
mod words;

use runs::Run;

use crate::{Kind, Measured, Named, Overall, Recogniser, RecogniserError, measured};

/// Goes into manifests beside the policy's id: other cues make a new version.
pub const CUES: &str = "cues@2";

/// A part of a name that is shorter may be any word.
const SHORTEST_PART: usize = 4;

/// Finds names by what stands around them: the fallback where no model is there to be asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cues;

impl Cues {
    /// How much of each kind is found, [`MEASURED_ON`](crate::MEASURED_ON).
    pub fn measured() -> &'static [Measured] {
        &measured::CUES
    }

    /// The same of everything that is labelled there, together with what patterns find.
    pub fn overall() -> Overall {
        measured::CUES_OVERALL
    }
}

impl Recogniser for Cues {
    fn id(&self) -> &str {
        CUES
    }

    fn names(&self, text: &str) -> Result<Vec<Named>, RecogniserError> {
        let mut names = places::by_pattern(text);
        for run in runs::of(text) {
            let (kind, text) = if organizations::is_one(&run) {
                (Kind::Organization, run.text())
            } else if places::is_street(&run) {
                (Kind::Location, places::with_numbers(&run))
            } else if people::is_one(&run) {
                (Kind::Person, run.text())
            } else if places::is_one(&run) {
                (Kind::Location, run.text())
            } else {
                continue;
            };
            names.push(Named { kind, text: text.to_owned() });
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Somebody who was introduced in full is later called by one name.
    fn spellings<'a>(&self, named: &'a Named) -> Vec<&'a str> {
        let parts: Vec<&str> = named.text.split(' ').collect();
        if named.kind != Kind::Person || parts.len() < 2 {
            return Vec::new();
        }
        let telling = |part: &&str| {
            part.chars().count() >= SHORTEST_PART
                && part.starts_with(char::is_uppercase)
                && !words::is_common(part)
        };
        parts.into_iter().filter(telling).collect()
    }
}
