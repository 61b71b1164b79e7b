//! Samples of lm-evaluation-harness: what was asked, what was expected, what was said.

use serde_json::Value;
use understudy_manifest::Case;
use understudy_message::Message;

use crate::Row;

/// A case with the model's filtered answer, and the filter that made it.
pub(super) struct Sample {
    case: Case,
    reply: Option<String>,
    filter: Option<String>,
}

pub(super) fn sample(row: &Row) -> Result<Sample, String> {
    let id = match row.get("doc_id") {
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::String(text)) => text.clone(),
        _ => return Err("there is no `doc_id`".to_owned()),
    };
    let expected = match row.get("target") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => return Err("`target` is no single text".to_owned()),
    };
    let prompt = vec![Message::user(asked(row)?)];
    let reply = row.get("filtered_resps").and_then(|resps| resps.get(0)).and_then(Value::as_str);
    let filter = row.get("filter").and_then(Value::as_str).map(str::to_owned);
    let case = Case { id, prompt, expected, ..Case::default() };
    Ok(Sample { case, reply: reply.map(str::to_owned), filter })
}

/// With several filters each document occurs once for each; those of the first are kept.
pub(super) fn of_one_filter(samples: Vec<Sample>) -> Vec<(Case, Option<String>)> {
    let first = samples.first().and_then(|sample| sample.filter.clone());
    let kept = samples.into_iter().filter(|sample| sample.filter == first);
    kept.map(|sample| (sample.case, sample.reply)).collect()
}

/// The only request of a generative task: its context, beside settings. Newer versions name the
/// arguments, older ones list them.
fn asked(row: &Row) -> Result<String, String> {
    let arguments = row.get("arguments");
    let listed = arguments.and_then(Value::as_array).filter(|all| all.len() == 1);
    let named = arguments.and_then(Value::as_object).filter(|all| all.len() == 1);
    let pair = match (listed, named) {
        (Some(all), _) => all.first().map(|one| (one.get(0), one.get(1))),
        (_, Some(all)) => all.values().next().map(|one| (one.get("arg_0"), one.get("arg_1"))),
        _ => None,
    };
    match pair {
        Some((Some(Value::String(context)), Some(Value::Object(_)))) => Ok(context.clone()),
        _ => Err("it was not answered by generating: only such tasks can be asked here".to_owned()),
    }
}
