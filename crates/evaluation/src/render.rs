//! A report in the formats that other programs and people read.
//!
//! JSON is the evidence; the others are projections of it. All of them are functions of the report
//! and its cases alone, so equal evidence gives equal bytes.

mod diff;
mod html;
mod junit;
mod markdown;

use std::str::FromStr;

use serde::Serialize;
use understudy_manifest::{EvalReport, canonical_json};

use crate::CaseDiff;

/// A report with its cases, which are none for a sealed suite.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Document<'a> {
    pub report: &'a EvalReport,
    pub cases: &'a [CaseDiff],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Canonical: sorted keys, no spaces.
    Json,
    /// JUnit XML, as build servers show it: a lost case is a failure, an answer that never came an
    /// error, an undecided case skipped; each condition of the gate is a test as well.
    Junit,
    /// A summary for a pull request.
    Markdown,
    /// One page without any external part: tables, and every case with a word diff.
    Html,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            "junit" => Ok(Self::Junit),
            "markdown" => Ok(Self::Markdown),
            "html" => Ok(Self::Html),
            _ => Err(format!("unknown format `{text}`: use json, junit, markdown or html")),
        }
    }
}

/// Writes a document; the text ends with a line break.
pub fn render(format: Format, document: Document<'_>) -> String {
    match format {
        Format::Json => canonical_json(&document) + "\n",
        Format::Junit => junit::junit(document),
        Format::Markdown => markdown::markdown(document),
        Format::Html => html::html(document),
    }
}

/// Text between tags or in a quoted attribute, of HTML and of XML 1.0, which has no way at all to
/// write most control characters: they become U+FFFD.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\t' | '\n' | '\r' => escaped.push(c),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
