use super::*;

/// A tool that adds, one that fails, and no third.
#[derive(Default)]
struct Sums {
    calls: usize,
}

impl Tools for Sums {
    fn list(&self) -> Vec<Tool> {
        let input = json!({"type": "object", "properties": {"a": {"type": "number"}}});
        let tool =
            |name, description| Tool { name, description, input: input.clone(), reads_only: true };
        vec![tool("add", "Adds one."), tool("fail", "Fails.")]
    }

    fn call(&mut self, name: &str, arguments: &Value) -> Result<Value, CallError> {
        self.calls += 1;
        match name {
            "add" => Ok(json!({"sum": arguments["a"].as_i64().unwrap_or(0) + 1})),
            "fail" => Err(CallError::Failed("it always fails; add instead".to_owned())),
            _ => Err(CallError::UnknownTool),
        }
    }
}

fn talk(lines: &str) -> (Vec<Value>, usize) {
    let server = Server { name: "sums", version: "1.2.3", instructions: "Add." };
    let (mut output, mut tools) = (Vec::new(), Sums::default());
    server.serve(lines.as_bytes(), &mut output, &mut tools).unwrap();
    let text = String::from_utf8(output).unwrap();
    // In what order the keys come depends on how serde_json was built.
    (text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), tools.calls)
}

#[test]
fn a_whole_conversation_message_for_message() {
    let (answers, calls) = talk(concat!(
        r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-03-26","capabilities":{},"clientInfo":{"name":"c","version":"0"}}}"#,
        "\n",
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        "\n\n",
        r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#,
        "\r\n",
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#,
        "\n",
        r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"add","arguments":{"a":4}}}"#,
        "\n",
        r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"fail"}}"#,
    ));
    assert_eq!(
        answers,
        [
            r#"{"id":0,"jsonrpc":"2.0","result":{"capabilities":{"tools":{"listChanged":false}},"instructions":"Add.","protocolVersion":"2025-03-26","serverInfo":{"name":"sums","version":"1.2.3"}}}"#,
            r#"{"id":"p","jsonrpc":"2.0","result":{}}"#,
            r#"{"id":1,"jsonrpc":"2.0","result":{"tools":[{"annotations":{"openWorldHint":false,"readOnlyHint":true},"description":"Adds one.","inputSchema":{"properties":{"a":{"type":"number"}},"type":"object"},"name":"add"},{"annotations":{"openWorldHint":false,"readOnlyHint":true},"description":"Fails.","inputSchema":{"properties":{"a":{"type":"number"}},"type":"object"},"name":"fail"}]}}"#,
            r#"{"id":2,"jsonrpc":"2.0","result":{"content":[{"text":"{\"sum\":5}","type":"text"}],"isError":false,"structuredContent":{"sum":5}}}"#,
            r#"{"id":3,"jsonrpc":"2.0","result":{"content":[{"text":"it always fails; add instead","type":"text"}],"isError":true}}"#,
        ]
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
    );
    assert_eq!(calls, 2);
}

#[test]
fn what_is_no_request_is_refused_by_its_code_and_ends_nothing() {
    let ping = r#"{"jsonrpc":"2.0","id":9,"method":"ping"}"#;
    for (line, code, id) in [
        ("nonsense", -32_700, json!(null)),
        ("[]", -32_600, json!(null)),
        (r#"{"id":1,"method":"ping"}"#, -32_600, json!(1)),
        (r#"{"jsonrpc":"2.0","id":1}"#, -32_600, json!(1)),
        (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, -32_600, json!(1)),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, -32_600, json!(null)),
        (r#"{"jsonrpc":"2.0","id":1,"method":"resources/list"}"#, -32_601, json!(1)),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#, -32_602, json!(1)),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}"#,
            -32_602,
            json!(1),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","arguments":[]}}"#,
            -32_602,
            json!(1),
        ),
    ] {
        let (answers, _) = talk(&format!("{line}\n{ping}\n"));
        let answer = &answers[0];
        assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(code), &id), "{line}");
        assert_eq!(answers[1], json!({"id": 9, "jsonrpc": "2.0", "result": {}}));
    }
    for silent in [
        r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"add"}}"#,
        r#"{"jsonrpc":"2.0","id":4,"result":{}}"#,
    ] {
        assert_eq!(talk(&format!("{silent}\n")), (Vec::new(), 0), "{silent}");
    }
}

#[test]
fn an_unknown_version_is_answered_with_the_newest_and_a_long_line_with_a_refusal() {
    let hello = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"1999-01-01"}}"#;
    let answer = &talk(hello).0[0];
    assert_eq!(answer["result"]["protocolVersion"], VERSIONS[0]);
    let long = "x".repeat(LONGEST as usize + 10);
    let (answers, _) =
        talk(&format!("{long}\n{{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"ping\"}}\n"));
    assert_eq!(answers.len(), 2, "one for the line and one for what follows it");
    assert!(answers[0]["error"]["message"].as_str().unwrap().contains("too long"));
    assert_eq!(answers[1]["id"], 9);
}
