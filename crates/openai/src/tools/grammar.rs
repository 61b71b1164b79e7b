//! The language of replies that call tools, in llguidance's dialect of Lark.

use serde_json::{Value, json};

use super::{
    CLOSE, OPEN,
    choice::{is_strict, name_of},
};

/// One call, or several, and nothing else. The arguments obey each tool's own schema.
pub(super) fn required(tools: &[Value], parallel: bool) -> String {
    let body = body(tools, |_| true);
    format!(
        "start: OPEN body {CLOSE_RULE}{}\n{}",
        more(parallel),
        rules(&body, &format!("OPEN: {}\n", literal(&format!("{OPEN}\n")))),
    )
}

/// Text without a call, or text and then calls. Only strict tools have their arguments constrained.
///
/// The lexeme that leads up to a call ends at the first marker; one that could go on past it would
/// have to be taken back, which a token mask cannot do.
pub(super) fn optional(tools: &[Value], parallel: bool) -> String {
    let body = body(tools, is_strict);
    let anything = "(?s:.*)";
    let open = OPEN;
    let terminals = format!(
        "TEXT: /{anything}/ & ~/{anything}{open}{anything}/\n\
         lead[lazy]: /{anything}{open}\\n/\n"
    );
    let more = if parallel {
        format!(" ({} body {CLOSE_RULE})*", literal(&format!("\n{OPEN}\n")))
    } else {
        String::new()
    };
    format!("start: lead body {CLOSE_RULE}{more} | TEXT\n{}", rules(&body, &terminals))
}

const CLOSE_RULE: &str = "close";

fn more(parallel: bool) -> String {
    if !parallel {
        return String::new();
    }
    format!(" ({} body {CLOSE_RULE})*", literal(&format!("\n{OPEN}\n")))
}

fn rules(body: &Value, terminals: &str) -> String {
    let close = literal(&format!("\n{CLOSE}"));
    format!("{terminals}{CLOSE_RULE}: {close}\nbody: %json {body}\n")
}

fn body(tools: &[Value], constrained: impl Fn(&Value) -> bool) -> Value {
    let call = |tool: &Value| {
        let own = tool.pointer("/function/parameters").filter(|schema| schema.is_object());
        let arguments = match own {
            Some(schema) if constrained(tool) => schema.clone(),
            _ => json!({"type": "object"}),
        };
        json!({
            "type": "object",
            "properties": {"name": {"const": name_of(tool)}, "arguments": arguments},
            "required": ["name", "arguments"],
            "additionalProperties": false,
        })
    };
    match tools {
        [one] => call(one),
        several => json!({"anyOf": several.iter().map(call).collect::<Vec<_>>()}),
    }
}

/// Lark's strings are JSON's.
fn literal(text: &str) -> String {
    Value::from(text).to_string()
}
