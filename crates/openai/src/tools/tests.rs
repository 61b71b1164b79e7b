use serde_json::{Value, json};

use super::{ToolGate, ToolPiece, ToolReading, grammar, read_calls};

const TWO: &str = "Look:\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"}</tool_call>\\\"\"}}\n\
    </tool_call>\n<tool_call>\n{\"name\": \"arguments\", \"arguments\": {\"b\": [1, {}]}}\n</tool_call>";

/// What comes out in all: text, and each call's name and arguments.
fn run(reading: ToolReading, pieces: &[&str]) -> (String, Vec<(String, String)>) {
    let mut gate = ToolGate::new(reading);
    let mut out: Vec<ToolPiece> = pieces.iter().flat_map(|piece| gate.push(piece)).collect();
    out.extend(gate.finish());
    let (mut text, mut calls) = (String::new(), Vec::new());
    for piece in out {
        match piece {
            ToolPiece::Text(part) => text += &part,
            ToolPiece::Call { index, name } => {
                assert_eq!(index, calls.len());
                calls.push((name, String::new()));
            }
            ToolPiece::Arguments { index, fragment } => calls[index].1 += &fragment,
        }
    }
    (text, calls)
}

#[test]
fn however_a_text_is_cut_the_same_calls_come_out() {
    let live = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"}</tool_call>\\\"\"}}\n</tool_call>";
    let texts = [
        (ToolReading::Live, TWO),
        (ToolReading::Live, live),
        (ToolReading::Whole, "no call < here <tool_cal"),
        (ToolReading::Whole, "<tool_call>{\"name\": \"f\"}</tool_call>  "),
        (ToolReading::Whole, "a <tool_call>broken</tool_call> b"),
        (ToolReading::Off, TWO),
    ];
    for (reading, text) in texts {
        let whole = run(reading, &[text]);
        for cut in (0..=text.len()).filter(|at| text.is_char_boundary(*at)) {
            assert_eq!(run(reading, &[&text[..cut], &text[cut..]]), whole, "cut at {cut}");
        }
        let singles: Vec<&str> = text.split_inclusive(|_| true).collect();
        assert_eq!(run(reading, &singles), whole);
    }
}

#[test]
fn arguments_are_valid_json_and_layout_is_not_text() {
    let (text, calls) = run(ToolReading::Live, &[TWO]);
    assert_eq!(text, "Look:\n");
    let names: Vec<&str> = calls.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["f", "arguments"]);
    let arguments: Vec<Value> =
        calls.iter().map(|(_, arguments)| serde_json::from_str(arguments).unwrap()).collect();
    assert_eq!(arguments, [json!({"a": "}</tool_call>\""}), json!({"b": [1, {}]})]);
}

#[test]
fn live_arguments_do_not_wait_for_their_end() {
    let mut gate = ToolGate::new(ToolReading::Live);
    assert!(gate.push("<tool_call>\n{\"name\":\"f\",\"arg").is_empty());
    let begun = gate.push("uments\":{\"a\":");
    let expected = [
        ToolPiece::Call { index: 0, name: "f".to_owned() },
        ToolPiece::Arguments { index: 0, fragment: "{\"a\":".to_owned() },
    ];
    assert_eq!(begun, expected);
    let rest = gate.push("1}}\n</tool_call>");
    assert_eq!(rest, [ToolPiece::Arguments { index: 0, fragment: "1}".to_owned() }]);
}

#[test]
fn what_is_no_call_is_text_and_other_spellings_of_calls_are_calls() {
    let read = |text: &str| {
        let (said, calls) = read_calls(ToolReading::Whole, text, "chatcmpl-base-7", 0);
        let calls: Vec<String> = calls
            .into_iter()
            .map(|call| format!("{} {}", call.id, call.function.arguments))
            .collect();
        (said, calls)
    };
    assert_eq!(read("<tool_call>[1]</tool_call>").0, "<tool_call>[1]</tool_call>");
    assert_eq!(read("<tool_call>{\"name\":\"f\",\"arguments\":3}</tool_call>").1.len(), 0);
    let calls = read("<tool_call>{\"name\":\"f\",\"parameters\":{\"a\":1}}</tool_call>").1;
    assert_eq!(calls, ["call_7_0_0 {\"a\":1}"]);
    let calls = read("<tool_call>{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}").1;
    assert_eq!(calls, ["call_7_0_0 {\"a\":1}"], "a string of JSON, and no closing marker");
    assert_eq!(read(" \n "), (" \n ".to_owned(), vec![]));
}

fn tool(name: &str, strict: bool) -> Value {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}},
        "required": ["n"], "additionalProperties": false});
    json!({"type": "function", "function": {"name": name, "parameters": schema, "strict": strict}})
}

/// Whether llguidance lets a model say exactly `text`.
fn accepts(source: &str, text: &str) -> bool {
    use llguidance::{
        Matcher, ParserFactory,
        api::TopLevelGrammar,
        toktrie::{ApproximateTokEnv, InferenceCapabilities},
    };
    let tokens = ApproximateTokEnv::single_byte_env();
    let factory = ParserFactory::new(&tokens, InferenceCapabilities::default(), &[]).unwrap();
    let grammar = TopLevelGrammar::from_lark(source.to_owned());
    let mut matcher = Matcher::new(factory.create_parser(grammar));
    let bytes: Vec<u32> = text.bytes().map(u32::from).collect();
    let taken = matcher.try_consume_tokens(&bytes).unwrap_or_else(|why| panic!("{why}: {source}"));
    taken == bytes.len() && matcher.is_accepting().unwrap()
}

const CALL: &str = "<tool_call>\n{\"name\":\"f\",\"arguments\":{\"n\":1}}\n</tool_call>";

#[test]
fn the_grammar_of_required_calls_admits_calls_and_nothing_else() {
    let several = grammar::required(&[tool("f", false), tool("g", false)], true);
    let single = grammar::required(&[tool("f", false)], false);
    let two = format!("{CALL}\n{CALL}");
    assert!(accepts(&several, CALL) && accepts(&single, CALL));
    assert!(accepts(&several, &two) && !accepts(&single, &two));
    assert!(accepts(&several, &CALL.replace("\"f\"", "\"g\"")));
    assert!(!accepts(&several, &CALL.replace("\"f\"", "\"h\"")), "an unknown tool");
    assert!(!accepts(&several, &CALL.replace("1}}", "\"x\"}}")), "a wrong argument");
    assert!(!accepts(&several, "hello"));
}

#[test]
fn the_grammar_of_strict_tools_leaves_text_free_and_arguments_not() {
    let source = grammar::optional(&[tool("f", true)], true);
    for fine in
        ["hello", "a < b and <tool_", CALL, &format!("Look.\n{CALL}"), &format!("{CALL}\n{CALL}")]
    {
        assert!(accepts(&source, fine), "{fine}");
    }
    let wrong = CALL.replace("1}}", "\"x\"}}");
    for wrong in [wrong.as_str(), &format!("Look.\n{wrong}"), "<tool_call>\nhello"] {
        assert!(!accepts(&source, wrong), "{wrong}");
    }
    let loose = grammar::optional(&[tool("f", false)], false);
    assert!(accepts(&loose, &CALL.replace("1}}", "\"x\"}}")));
    assert!(!accepts(&loose, &format!("{CALL}\n{CALL}")), "one at a time");
}
