//! Rows, and the suites of other programs, into a suite of held-out cases.

mod bfcl;
mod csv;
mod evals;
mod failure;
mod inspect;
mod lm_eval;
mod promptfoo;
mod registry;

use serde_json::Value;
use understudy_ident::TaskName;
use understudy_manifest::{Case, RecordedAnswer, Scorer, Suite, Tier};
use understudy_message::Message;
use understudy_trajectory::Signal;

pub use failure::{CaseRequest, FailedCase, FailureError, case_of_failure};
pub use inspect::inspect_log;

use crate::{
    Format, IngestError, Row, RowMapping,
    example::{Example, Reader, messages},
    rows::Document,
};

/// The suite of another program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// Samples of OpenAI evals under the class that a YAML of their registry names.
    Evals,
    /// Samples of OpenAI evals, `{"input", "ideal"}`, under the class `Match`: the answer begins
    /// with one of the ideals.
    EvalsMatch,
    /// The same under `Includes`: one of the ideals occurs.
    EvalsIncludes,
    /// The same under `JsonMatch`: the same JSON value as the only ideal.
    EvalsJson,
    /// Single-turn questions of the Berkeley Function-Calling Leaderboard.
    Bfcl,
    /// A configuration of promptfoo as YAML or JSON, with one prompt.
    Promptfoo,
    /// What `promptfoo eval -o results.json` writes, of one prompt and one provider.
    PromptfooResults,
    /// A log of Inspect as [`inspect_log`] gives it; of samples in several turns, [`Take`] says what
    /// is wanted.
    Inspect,
    /// What `lm_eval --log_samples` writes for a generative task.
    LmEval,
}

/// A suite of another program, and the answers that came with it.
#[derive(Debug, Clone, PartialEq)]
pub struct ForeignSuite {
    pub suite: Suite,
    /// Empty unless the file records a run.
    pub answers: Vec<RecordedAnswer>,
    /// What is different here from there.
    pub notes: Vec<String>,
}

/// What is taken of a sample of Inspect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Take {
    /// Its only reply, under scorers of ours that hold for the same answers.
    #[default]
    Reply,
    /// Its last reply, asked after everything that was said before it, under the same.
    LastReply,
    /// All that was said, under the scores that the log has: of answers given elsewhere only.
    Scores,
}

impl Foreign {
    /// As people name them.
    pub const WORDS: &'static str = "evals, evals-match, evals-includes, evals-json, bfcl, \
        promptfoo, promptfoo-results, inspect or lm-eval";

    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "evals" => Self::Evals,
            "evals-match" => Self::EvalsMatch,
            "evals-includes" => Self::EvalsIncludes,
            "evals-json" => Self::EvalsJson,
            "bfcl" => Self::Bfcl,
            "promptfoo" => Self::Promptfoo,
            "promptfoo-results" => Self::PromptfooResults,
            "inspect" => Self::Inspect,
            "lm-eval" => Self::LmEval,
            _ => return None,
        })
    }

    /// The scorers that judge as the other program does.
    fn scorers(self) -> Vec<Scorer> {
        match self {
            Self::EvalsMatch => vec![Scorer::Regex(None)],
            Self::EvalsIncludes => vec![Scorer::ContainsAny],
            Self::EvalsJson => vec![Scorer::JsonEqual],
            Self::Bfcl => vec![Scorer::ToolCallBfcl, Scorer::ToolCallAst],
            Self::Promptfoo | Self::PromptfooResults | Self::Inspect | Self::Evals => {
                vec![Scorer::Checks]
            }
            Self::LmEval => vec![Scorer::Exact, Scorer::Normalized],
        }
    }
}

/// What lies in files beside the one that is read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Beside<'a> {
    /// BFCL keeps the possible answers apart.
    pub truths: Option<&'a str>,
    /// OpenAI evals say in YAML which class judges samples; `eval` is the one that is meant.
    pub registry: Option<&'a str>,
    pub eval: Option<&'a str>,
    /// A configuration of promptfoo may name a file of tests.
    pub tests: Option<&'a str>,
    /// Inspect records whole conversations, and scores.
    pub take: Take,
}

impl Beside<'_> {
    /// A file that a format has no use for was meant for something.
    fn refuse_unused(&self, format: Foreign) -> Result<(), IngestError> {
        if self.truths.is_some() && format != Foreign::Bfcl {
            return Err(IngestError::Truths { expected: false });
        }
        let taken = match self.take {
            Take::Reply => None,
            Take::LastReply => Some("last-reply"),
            Take::Scores => Some("recorded-scores"),
        };
        if let Some(what) = taken.filter(|_| format != Foreign::Inspect) {
            return Err(IngestError::Beside { what });
        }
        let unused = match format {
            Foreign::Evals => self.tests.map(|_| "tests"),
            Foreign::Promptfoo => self.registry.map(|_| "registry"),
            _ => self.tests.map(|_| "tests").or(self.registry.map(|_| "registry")),
        };
        unused.map_or(Ok(()), |what| Err(IngestError::Beside { what }))
    }
}

/// Reads another program's suite. A case that cannot mean the same here is an error: nothing is
/// dropped.
pub fn foreign_suite(
    format: Foreign,
    (text, beside): (&str, Beside<'_>),
    name: &TaskName,
    tier: Tier,
    limit: Option<usize>,
) -> Result<ForeignSuite, IngestError> {
    beside.refuse_unused(format)?;
    let converted = (format == Foreign::Promptfoo).then(|| promptfoo::as_json(text)).transpose()?;
    let document = Document::open(converted.as_deref().unwrap_or(text))?;
    let mut scorers = format.scorers();
    let (mut answers, mut notes) = (Vec::new(), Vec::new());
    let mut cases = match format {
        Foreign::Evals => {
            let registry = beside.registry.ok_or(IngestError::NoRegistry)?;
            let class = registry::class(registry, beside.eval)?;
            scorers = class.scorers();
            each(&document, |number, row| class.case(number, row))?
        }
        Foreign::EvalsMatch | Foreign::EvalsIncludes | Foreign::EvalsJson => {
            each(&document, |number, row| evals::case(format, number, row))?
        }
        Foreign::Bfcl => {
            let truths = beside.truths.ok_or(IngestError::Truths { expected: true })?;
            let truths = bfcl::Truths::read(&Document::open(truths)?)?;
            each(&document, |_, row| truths.case(row))?
        }
        Foreign::Promptfoo => promptfoo::cases(&document, beside.tests)?,
        Foreign::PromptfooResults => {
            let (cases, found) = promptfoo::results(&document)?;
            answers = replies(found);
            cases
        }
        Foreign::Inspect => {
            let found = inspect::samples(&document, beside.take)?;
            (scorers, answers, notes) = (found.scorers, found.answers, found.notes);
            found.cases
        }
        Foreign::LmEval => {
            let read = each(&document, |_, row| lm_eval::sample(row))?;
            let samples = lm_eval::of_one_filter(read);
            let (cases, found): (Vec<Case>, Vec<_>) = samples.into_iter().unzip();
            let replied = cases.iter().zip(found);
            answers = replies(replied.filter_map(|(case, reply)| Some((case.id.clone(), reply?))));
            cases
        }
    };
    cases.truncate(limit.unwrap_or(usize::MAX));
    answers.retain(|answer| cases.iter().any(|case| case.id == answer.id));
    let suite = Suite { name: name.clone(), tier, scorers, rubrics: Vec::new(), cases };
    Ok(ForeignSuite { suite: Suite::parse(&suite.to_text())?, answers, notes })
}

fn replies(texts: impl IntoIterator<Item = (String, String)>) -> Vec<RecordedAnswer> {
    texts.into_iter().map(|(id, text)| RecordedAnswer::new(id, text)).collect()
}

/// Reads every row, with its number counted from 1.
fn each<T>(
    document: &Document<'_>,
    read: impl Fn(usize, &Row) -> Result<T, String>,
) -> Result<Vec<T>, IngestError> {
    let one = |(number, (line, row)): (usize, (usize, Result<Row, String>))| {
        row.and_then(|row| read(number, &row)).map_err(|why| IngestError::Case { line, why })
    };
    (1..).zip(document.rows()).map(one).collect()
}

/// A text, or a list of messages in the OpenAI form.
fn prompt(field: &str, row: &Row) -> Result<Vec<Message>, String> {
    match row.get(field) {
        Some(Value::String(text)) if !text.trim().is_empty() => {
            Ok(vec![Message::user(text.as_str())])
        }
        Some(value @ Value::Array(items)) if !items.is_empty() => messages(field, value),
        _ => Err(format!("`{field}` is neither a text nor a list of messages")),
    }
}

/// A suite whose cases are the first `limit` rows, numbered from `0001`. Rows are read as
/// [`crate::read`] reads them; of a preference pair, the chosen reply is the expected one.
///
/// A text that is a suite file already keeps its own name, tier and scorers, and the arguments
/// for these do not apply. Any row that cannot become a case is an error.
pub fn suite(
    text: &str,
    mapping: Option<&RowMapping>,
    name: &TaskName,
    tier: Tier,
    scorers: &[Scorer],
    limit: Option<usize>,
) -> Result<Suite, IngestError> {
    let document = Document::open(text)?;
    let limit = limit.unwrap_or(usize::MAX);
    if document.rows().next().is_some_and(|(_, row)| row.is_ok_and(|row| is_header(&row))) {
        if mapping.is_some() {
            return Err(IngestError::MappingUnused { format: "suite" });
        }
        let mut suite = Suite::parse(text)?;
        suite.cases.truncate(limit);
        return Ok(suite);
    }
    let Reader::Examples(examples) = Reader::choose(Format::Auto, &document, mapping)? else {
        return Err(IngestError::RecordedSuite);
    };
    let numbered = (1..).zip(document.rows().take(limit));
    let cases = numbered.map(|(number, (line, row))| {
        let case = row.and_then(|row| examples.read(&row)).and_then(|read| case(number, read));
        case.map_err(|why| IngestError::Case { line, why })
    });
    let cases = cases.collect::<Result<_, _>>()?;
    let suite =
        Suite { name: name.clone(), tier, scorers: scorers.to_vec(), rubrics: Vec::new(), cases };
    // What a suite must be is known only to its own reader.
    Ok(Suite::parse(&suite.to_text())?)
}

fn is_header(row: &Row) -> bool {
    row.contains_key("schema") && row.contains_key("suite")
}

fn case(number: usize, example: Example) -> Result<Case, String> {
    let Example { prompt, reply, tools, signal } = example;
    let expected = match signal {
        Signal::Edit { text } => text,
        Signal::Accept if reply.tool_calls.is_empty() && reply.content.is_text_only() => {
            reply.text()
        }
        Signal::Accept => return Err("the expected reply is not text".to_owned()),
        _ => return Err("the reply is labelled as unwanted".to_owned()),
    };
    Ok(Case { id: format!("{number:04}"), prompt, expected, tools, ..Case::default() })
}

#[cfg(test)]
mod tests;
