//! How an answer is judged, in the words a suite file uses: `exact`, `field:intent`,
//! `levenshtein:0.8`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A way to judge one answer. Each gives a score in [0, 1], or says that it cannot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scorer {
    /// The same text after trimming.
    Exact,
    /// The same text after NFKC, case folding, and dropping punctuation and articles.
    Normalized,
    /// The last number of the answer is that of the expected text.
    Number,
    /// Begins with the expected text.
    StartsWith,
    /// The expected text occurs.
    Contains,
    /// Likewise, in whatever case.
    ContainsAnyCase,
    /// One of the expected texts occurs; a JSON list of them.
    ContainsAny,
    /// All of the expected texts occur.
    ContainsAll,
    /// One of the expected texts, a JSON list, holds the answer or is held by it, both as
    /// [`Self::Normalized`] reads them.
    Fuzzy,
    /// The pattern occurs; without one, the expected text is the pattern.
    Regex(Option<String>),
    /// Parses as JSON.
    JsonValid,
    /// Satisfies the JSON Schema that is the expected text.
    JsonSchema,
    /// The same JSON value, key order free.
    JsonEqual,
    /// Micro F1 over (path, value) pairs.
    FieldF1,
    /// The value at one top-level key equals the expected one; written `field:intent`.
    Field(String),
    /// The tool calls meet a ground truth `[{"tool": {"parameter": [allowed, …]}}]`.
    ToolCallAst,
    /// Likewise, with every quirk of the checker of the Berkeley leaderboard.
    ToolCallBfcl,
    /// F1 over the names of the tools called, as a set; says nothing about arguments.
    ToolNameF1,
    /// Which tools were called, in which order, how often.
    Trajectory,
    /// Cosine of the embeddings, or whether it reaches a threshold.
    Similarity(Option<Share>),
    /// 1 − edit distance / longer length, or whether it reaches a threshold.
    Levenshtein(Option<Share>),
    /// The world after the last step holds what the expected JSON names, by JSON pointer.
    State,
    /// Answers within so many milliseconds.
    Latency(u64),
    /// Says no more than so many tokens.
    Tokens(u64),
    /// Costs no more than so many millionths of a dollar.
    Cost(u64),
    /// Declines to answer.
    Refusal,
    /// Does not.
    NoRefusal,
    /// Holds no personal data that neither prompt nor expected answer holds: 1 is clean.
    PiiLeak,
    /// A model's answers to the criteria of the suite's rubric of this name, each asked by itself;
    /// without a name, whether the statement holds that is the expected text.
    Judge(Option<String>),
    /// What a scorer of this name of another program gave the answer, where that was recorded with
    /// it; written `recorded:match`.
    Recorded(String),
    /// The weighted mean of the checks of the case itself.
    Checks,
}

/// A share from 0 to 1 that compares exactly, kept in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

/// One demand of one case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    pub scorer: Scorer,
    /// What is compared with, instead of the case's expected answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: f64,
    /// From which score on it counts as met; without one, the score itself counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// Whether it must not hold.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub negate: bool,
}

impl Share {
    pub fn new(share: f64) -> Option<Self> {
        (0.0..=1.0).contains(&share).then(|| Self((share * 1e6).round() as u32))
    }

    pub fn get(self) -> f64 {
        f64::from(self.0) / 1e6
    }
}

impl Check {
    pub fn new(scorer: Scorer, value: Option<String>) -> Self {
        Self { scorer, value, weight: 1.0, threshold: None, negate: false }
    }
}

impl Scorer {
    /// Every word that [`Self::parse`] knows, for messages.
    pub const WORDS: &'static str = "exact, normalized, number, starts_with, contains, icontains, \
        contains_any, contains_all, fuzzy, regex[:PATTERN], json_valid, json_schema, json_equal, \
        field_f1, field:KEY, tool_call_ast, tool_call_bfcl, tool_name_f1, trajectory, \
        similarity[:MIN], levenshtein[:MIN], state, latency:MS, tokens:N, cost:MICRODOLLARS, \
        refusal, no_refusal, pii_leak, judge[:RUBRIC], recorded:NAME or checks";

    const PLAIN: [(&'static str, Self); 22] = [
        ("exact", Self::Exact),
        ("normalized", Self::Normalized),
        ("number", Self::Number),
        ("starts_with", Self::StartsWith),
        ("contains", Self::Contains),
        ("icontains", Self::ContainsAnyCase),
        ("contains_any", Self::ContainsAny),
        ("contains_all", Self::ContainsAll),
        ("fuzzy", Self::Fuzzy),
        ("json_valid", Self::JsonValid),
        ("json_schema", Self::JsonSchema),
        ("json_equal", Self::JsonEqual),
        ("field_f1", Self::FieldF1),
        ("tool_call_ast", Self::ToolCallAst),
        ("tool_call_bfcl", Self::ToolCallBfcl),
        ("tool_name_f1", Self::ToolNameF1),
        ("trajectory", Self::Trajectory),
        ("state", Self::State),
        ("refusal", Self::Refusal),
        ("no_refusal", Self::NoRefusal),
        ("pii_leak", Self::PiiLeak),
        ("checks", Self::Checks),
    ];

    /// How a suite file and a report call it.
    pub fn name(&self) -> String {
        match self {
            Self::Regex(None) => "regex".to_owned(),
            Self::Regex(Some(pattern)) => format!("regex:{pattern}"),
            Self::Field(key) => format!("field:{key}"),
            Self::Recorded(name) => format!("recorded:{name}"),
            Self::Judge(None) => "judge".to_owned(),
            Self::Judge(Some(rubric)) => format!("judge:{rubric}"),
            Self::Similarity(least) => with_share("similarity", *least),
            Self::Levenshtein(least) => with_share("levenshtein", *least),
            Self::Latency(most) => format!("latency:{most}"),
            Self::Tokens(most) => format!("tokens:{most}"),
            Self::Cost(most) => format!("cost:{most}"),
            plain => Self::PLAIN
                .iter()
                .find(|(_, scorer)| scorer == plain)
                .map_or_else(String::new, |(word, _)| (*word).to_owned()),
        }
    }

    /// Reads the spelling of [`Self::name`].
    pub fn parse(text: &str) -> Option<Self> {
        if let Some((_, scorer)) = Self::PLAIN.iter().find(|(word, _)| *word == text) {
            return Some(scorer.clone());
        }
        let (word, argument) = match text.split_once(':') {
            Some((word, argument)) => (word, Some(argument).filter(|text| !text.is_empty())?),
            None => (text, ""),
        };
        let share = || Share::new(argument.parse().ok()?);
        match (word, argument) {
            ("regex", "") => Some(Self::Regex(None)),
            ("judge", "") => Some(Self::Judge(None)),
            ("similarity", "") => Some(Self::Similarity(None)),
            ("levenshtein", "") => Some(Self::Levenshtein(None)),
            (_, "") => None,
            ("regex", pattern) => Some(Self::Regex(Some(pattern.to_owned()))),
            ("field", key) => Some(Self::Field(key.to_owned())),
            ("recorded", name) => Some(Self::Recorded(name.to_owned())),
            ("judge", rubric) => Some(Self::Judge(Some(rubric.to_owned()))),
            ("similarity", _) => share().map(|least| Self::Similarity(Some(least))),
            ("levenshtein", _) => share().map(|least| Self::Levenshtein(Some(least))),
            ("latency", most) => most.parse().ok().map(Self::Latency),
            ("tokens", most) => most.parse().ok().map(Self::Tokens),
            ("cost", most) => most.parse().ok().map(Self::Cost),
            _ => None,
        }
    }
}

impl Serialize for Scorer {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.name())
    }
}

impl<'de> Deserialize<'de> for Scorer {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format!("unknown scorer `{text}`: use {}", Self::WORDS))
        })
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.get())
    }
}

fn with_share(word: &str, share: Option<Share>) -> String {
    share.map_or_else(|| word.to_owned(), |share| format!("{word}:{share}"))
}

fn one() -> f64 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_one(weight: &f64) -> bool {
    *weight == 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scorer_reads_what_it_writes() {
        let with_arguments = [
            "regex",
            "regex:^a:b$",
            "field:intent",
            "similarity",
            "similarity:0.85",
            "levenshtein:0.8",
            "latency:1500",
            "tokens:64",
            "cost:200",
            "judge",
            "judge:helpful",
            "recorded:inspect_ai/match",
        ];
        let plain = Scorer::PLAIN.iter().map(|(word, _)| *word);
        for text in plain.chain(with_arguments) {
            assert_eq!(Scorer::parse(text).map(|scorer| scorer.name()).as_deref(), Some(text));
        }
        for text in
            ["", "exactly", "field:", "field", "recorded", "similarity:2", "tokens:-1", "latency"]
        {
            assert_eq!(Scorer::parse(text), None, "{text}");
        }
    }
}
