//! What is a company or an institution, by what its name ends in or by what is said before it.

use super::Run;

/// What ends the name of one, and is followed by no more of it.
const FORMS: &[&str] = &[
    "Inc",
    "Ltd",
    "LLC",
    "LLP",
    "PLC",
    "GmbH",
    "AG",
    "Corp",
    "Corporation",
    "Company",
    "Co",
    "Group",
    "Holdings",
    "Partners",
    "Bank",
    "University",
    "Institute",
    "Foundation",
    "Association",
    "Technologies",
    "Investments",
    "Industries",
    "Solutions",
    "Airlines",
    "Airways",
    "Hospital",
    "Ventures",
    "Consulting",
    "Laboratories",
    "Pharmaceuticals",
    "Enterprises",
];

const CUES: &[&str] = &[
    "work for",
    "work at",
    "works for",
    "works at",
    "worked for",
    "worked at",
    "working for",
    "working at",
    "employed by",
    "employed at",
    "employee of",
    "job at",
    "intern at",
    "engineer at",
    "manager at",
    "founder of",
    "ceo of",
    "offices of",
];

const LABELS: &[&str] =
    &["company", "company name", "employer", "organization", "organisation", "institution"];

pub(super) fn is_one(run: &Run<'_>) -> bool {
    let ends_in_form = run.len() > 1 && run.words().next_back().is_some_and(|w| FORMS.contains(&w));
    let is_labelled = run.label().is_some_and(|label| LABELS.contains(&label.as_str()));
    ends_in_form || is_labelled || run.follows(CUES)
}
