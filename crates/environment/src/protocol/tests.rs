use serde_json::json;

use super::*;

const TOOLS: [Signature; 2] = [
    Signature { tool: "lookup", argument: "code", description: "A price." },
    Signature { tool: "calculate", argument: "expression", description: "A value." },
];

fn read(text: &str) -> Vec<Result<Call, MalformedCall>> {
    read_calls(&Message::assistant(text), &TOOLS)
}

fn lookup(code: &str) -> Call {
    Call::new("lookup", [("code", code.into())])
}

#[test]
fn every_style_reads_back_as_the_call_it_was_written_from() {
    for call in [lookup("A17"), Call::new("calculate", [("expression", "(3 * 2) - 1".into())])] {
        for style in [CallStyle::Line, CallStyle::Json, CallStyle::Native] {
            let message = write_call(&call, style, "call_1");
            assert_eq!(read_calls(&message, &TOOLS), [Ok(call.clone())], "{style:?}");
        }
    }
}

#[test]
fn lines_are_calls_only_if_they_are_nothing_else() {
    assert_eq!(read("First the price.\n  lookup(A17)\n"), [Ok(lookup("A17"))]);
    assert_eq!(read("lookup(\"A17\")\nlookup( 'B2' )"), [Ok(lookup("A17")), Ok(lookup("B2"))]);
    assert_eq!(read("lookup()"), [Ok(lookup(""))]);
    assert_eq!(read("I use lookup(A17) now"), []);
    assert_eq!(read("remove(A17)"), []);
    assert_eq!(read("A total of 5 (five)"), []);
}

#[test]
fn calls_that_go_wrong_are_malformed_and_not_overlooked() {
    for text in [
        "lookup(A17",
        "lookup(A17) gives",
        "<tool_call>lookup(A17)</tool_call>",
        "<tool_call>{\"name\": \"lookup\"}</tool_call>",
        "<tool_call>{\"arguments\": {}}</tool_call>",
        "<tool_call>[]</tool_call>",
        "<tool_call>{\"name\": \"lookup\", \"arguments\": \"A17\"}</tool_call>",
        "<tool_call>",
    ] {
        let calls = read(text);
        assert!(matches!(calls.as_slice(), [Err(_)]), "{text}: {calls:?}");
    }
}

#[test]
fn json_goes_before_lines_and_keeps_its_types() {
    let text = "lookup(A17)\n{\"name\": \"calculate\", \"arguments\": {\"expression\": 5}}";
    assert_eq!(read(text), [Ok(Call::new("calculate", [("expression", 5.into())]))]);
}

#[test]
fn a_schema_names_the_tool_and_its_argument() {
    let schema = TOOLS[0].schema();
    assert_eq!(schema["function"]["name"], "lookup");
    assert_eq!(schema["function"]["parameters"]["required"], json!(["code"]));
}
