//! Names that are known beforehand, from whoever keeps the accounts: who a subject is, in the words
//! of their account record. Nothing has to be recognised, so nothing is missed that is on record.

use std::collections::BTreeMap;

use serde::Deserialize;
use understudy_redact::{Kind, Masker, Named};

use crate::{DatasetError, key::Key};

/// Goes into manifests beside the policy's id: other forms of a name make a new version.
pub(crate) const ID: &str = "accounts@1";

/// A part of a name that is shorter is a particle or an initial, which many words are.
const SHORTEST_PART: usize = 3;

/// What is on record about subjects.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    of_subject: BTreeMap<Key, Vec<Form>>,
    /// Of records that name no subject: known in every trajectory.
    of_all: Vec<Form>,
}

/// One spelling of a name, and the name it stands for.
#[derive(Debug, Clone)]
struct Form {
    named: Named,
    whom: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    people: Vec<String>,
    #[serde(default)]
    locations: Vec<String>,
    #[serde(default)]
    organizations: Vec<String>,
}

impl Accounts {
    /// Reads one record a line. Errors name the line and nothing that is on it.
    pub fn parse(text: &str) -> Result<Self, DatasetError> {
        let mut accounts = Self::default();
        for (nth, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let wrong = |why: &str| DatasetError::Account { line: nth + 1, why: why.to_owned() };
            let record: Record = serde_json::from_str(line).map_err(|why| match why.classify() {
                serde_json::error::Category::Data => wrong(
                    "it needs no more than `subject`, and lists of texts as `people`, `locations` \
                     and `organizations`",
                ),
                _ => wrong("it is no JSON object"),
            })?;
            let forms = record.forms().ok_or_else(|| {
                wrong("it has a name of fewer than two letters, which would be masked everywhere")
            })?;
            match &record.subject {
                Some(subject) => {
                    let known = accounts.of_subject.entry(Key::of("subject", subject));
                    known.or_default().extend(forms);
                }
                None => accounts.of_all.extend(forms),
            }
        }
        Ok(accounts)
    }

    /// Tells a masker what is on record about these subjects; whether anything is.
    pub(crate) fn tell(&self, subjects: impl Iterator<Item = Key>, masker: &mut Masker) -> bool {
        let own = subjects.filter_map(|subject| self.of_subject.get(&subject));
        let mut any = false;
        for Form { named, whom } in own.flatten().chain(&self.of_all) {
            masker.know_as(named.clone(), whom);
            any = true;
        }
        any
    }
}

impl Record {
    fn forms(&self) -> Option<Vec<Form>> {
        let kinds = [
            (Kind::Person, &self.people),
            (Kind::Location, &self.locations),
            (Kind::Organization, &self.organizations),
        ];
        let mut forms = Vec::new();
        for (kind, name) in
            kinds.into_iter().flat_map(|(kind, all)| all.iter().map(move |n| (kind, n)))
        {
            let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
            if name.chars().filter(|c| c.is_alphanumeric()).count() < 2 {
                return None;
            }
            let form = |text: String| Form { named: Named { kind, text }, whom: name.clone() };
            forms.extend(spellings(kind, &name).into_iter().map(form));
        }
        Some(forms)
    }
}

/// A name as people write it: in capitals, all in small letters where it has several words (a single
/// one may be a word like any other), and a person by one of their names.
fn spellings(kind: Kind, name: &str) -> Vec<String> {
    let mut spellings = vec![name.to_owned(), name.to_uppercase()];
    let parts: Vec<&str> = name.split(' ').collect();
    if parts.len() > 1 {
        spellings.push(name.to_lowercase());
    }
    if kind == Kind::Person && parts.len() > 1 {
        let telling = |part: &&&str| {
            part.chars().count() >= SHORTEST_PART && !part.starts_with(char::is_lowercase)
        };
        for part in parts.iter().filter(telling) {
            spellings.extend([(*part).to_owned(), part.to_uppercase()]);
        }
    }
    spellings
}
