//! Rows into a suite of held-out cases.

use understudy_ident::TaskName;
use understudy_manifest::{Case, Scorer, Suite, Tier};
use understudy_trajectory::Signal;

use crate::{
    Format, IngestError, Row, RowMapping,
    example::{Example, Reader},
    rows::Document,
};

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
    let suite = Suite { name: name.clone(), tier, scorers: scorers.to_vec(), cases };
    // What a suite must be is known only to its own reader.
    Ok(Suite::parse(&suite.to_text())?)
}

fn is_header(row: &Row) -> bool {
    row.contains_key("schema") && row.contains_key("suite")
}

fn case(number: usize, example: Example) -> Result<Case, String> {
    let Example { prompt, reply, signal } = example;
    let expected = match signal {
        Signal::Edit { text } => text,
        Signal::Accept if reply.tool_calls.is_empty() && reply.content.is_text_only() => {
            reply.text()
        }
        Signal::Accept => return Err("the expected reply is not text".to_owned()),
        _ => return Err("the reply is labelled as unwanted".to_owned()),
    };
    Ok(Case { id: format!("{number:04}"), prompt, expected, ..Case::default() })
}
