use super::*;

#[test]
fn openai_takes_the_last_assistant_message_as_the_reply() {
    let row = json!({"messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "hi"},
        {"role": "user", "content": "and now?"},
        {"role": "assistant", "content": "bye"},
    ]});
    for format in [Format::OpenAi, Format::Auto] {
        let imported = import(format, &row.to_string()).unwrap();
        let step = &imported.steps[0];
        assert_eq!(step.prompt.len(), 4);
        assert_eq!(step.reply, Message::assistant("bye"));
        assert_eq!(imported.outcomes[0].signal, Signal::Accept);
    }
}

#[test]
fn openai_refuses_what_a_step_cannot_keep() {
    let user = json!({"role": "user", "content": "hello"});
    let reply = json!({"role": "assistant", "content": "hi"});
    let why = |row: serde_json::Value| refusal(Format::OpenAi, &row.to_string());
    assert!(why(json!({"messages": [reply, user]})).contains("ends with a user message"));
    assert_eq!(why(json!({"messages": [reply]})), "the prompt is empty");
    let with = |tools: serde_json::Value| why(json!({"messages": [user, reply], "tools": tools}));
    assert!(with(json!("[look_up")).contains("`tools` is text that is no JSON"));
    assert!(with(json!({"name": "look_up"})).contains("`tools` is not a list"));
    assert!(with(json!([{"type": "function"}])).contains("`tools`: definition 1 has no"));
    let skipped = json!({"role": "assistant", "content": "hi", "weight": 0});
    assert!(why(json!({"messages": [user, skipped]})).contains("weight 0"));
    let empty = json!({"role": "assistant", "content": null});
    assert_eq!(why(json!({"messages": [user, empty]})), "the reply is empty");
    assert!(why(json!({"text": "hello"})).contains("`messages`"));
}

#[test]
fn the_tools_of_a_row_are_kept_in_the_openai_form() {
    let function = json!({"name": "look_up", "parameters": {"type": "object"}});
    let tools = json!([{"type": "function", "function": function}]);
    let user = json!({"role": "user", "content": "hello"});
    let reply = json!({"role": "assistant", "content": "hi"});
    let row =
        |field: &str, tools: serde_json::Value| json!({"messages": [user, reply], field: tools});
    let rows = [
        row("tools", tools.clone()),
        row("tools", json!(tools.to_string())),
        row("functions", json!([function])),
        json!({"prompt": [user], "completion": [reply], "tools": tools}),
        json!({"prompt": [user], "chosen": [reply], "rejected": "no", "tools": tools}),
    ];
    let mut ids = std::collections::BTreeSet::new();
    for row in &rows {
        let imported = import(Format::Auto, &row.to_string()).unwrap();
        assert_eq!(imported.rejected, [], "{row}");
        assert_eq!(json!(imported.steps[0].tools), tools, "{row}");
        ids.insert(imported.steps[0].id.clone());
    }
    // Another reply is another step, and so are the same words without the tools.
    assert_eq!(ids.len(), 2);
    let without = import(Format::OpenAi, &row("tools", json!([])).to_string()).unwrap();
    assert!(!ids.contains(&without.steps[0].id) && without.steps[0].tools.is_empty());
    let text = rows[0].to_string();
    let suite = suite(&text, None, &task(), Tier::Dev, &[Scorer::Exact], None).unwrap();
    assert_eq!(json!(suite.cases[0].tools), tools);
}

#[test]
fn trl_completions_are_accepted_unless_labelled_unwanted() {
    let text = concat!(
        r#"{"prompt": "2+2?", "completion": "4"}"#,
        "\n",
        r#"{"prompt": [{"role": "user", "content": "2+2?"}], "completion": [{"role": "assistant", "content": "5"}], "label": false}"#,
        "\n",
        r#"{"prompt": "2+2?", "completion": "6", "label": "maybe"}"#,
    );
    let imported = import(Format::Auto, text).unwrap();
    assert_eq!(imported.steps[0].prompt, imported.steps[1].prompt);
    assert_eq!(imported.steps[1].reply, Message::assistant("5"));
    assert_eq!(imported.outcomes[0].signal, Signal::Accept);
    assert_eq!(imported.outcomes[1].signal, Signal::Rating { value: 0.0 });
    assert_eq!(imported.rejected[0].line, 3);
}

#[test]
fn a_trl_pair_is_a_rejected_reply_and_its_edit() {
    let user = json!({"role": "user", "content": "2+2?"});
    let said = |text: &str| json!({"role": "assistant", "content": text});
    let spellings = [
        json!({"prompt": "2+2?", "chosen": "4", "rejected": "5"}),
        json!({"prompt": [user], "chosen": [said("4")], "rejected": [said("5")]}),
        json!({"chosen": [user, said("4")], "rejected": [user, said("5")]}),
        json!({"prompt": "2+2?", "chosen": [user, said("4")], "rejected": [user, said("5")]}),
    ];
    let expected = import(Format::Trl, &spellings[0].to_string()).unwrap();
    assert_eq!(expected.steps[0].prompt, [Message::user("2+2?")]);
    assert_eq!(expected.steps[0].reply, Message::assistant("5"));
    assert_eq!(expected.outcomes[0].signal, Signal::Edit { text: "4".to_owned() });
    assert_eq!(expected.outcomes[0].source, Source::Automated);
    for spelling in &spellings[1..] {
        assert_eq!(import(Format::Auto, &spelling.to_string()).unwrap(), expected, "{spelling}");
    }
}

#[test]
fn a_trl_pair_that_is_none_is_refused() {
    let why = |row: serde_json::Value| refusal(Format::Trl, &row.to_string());
    assert!(why(json!({"prompt": "a", "chosen": "b", "rejected": "b"})).contains("the same"));
    assert!(why(json!({"prompt": "a", "chosen": "b"})).contains("expected either"));
    let turns = |question: &str, answer: &str| json!([{"role": "user", "content": question}, {"role": "assistant", "content": answer}]);
    let parted = json!({"chosen": turns("a", "b"), "rejected": turns("c", "d")});
    assert!(why(parted).contains("part before"));
}

#[test]
fn two_edits_of_one_reply_are_one_step_with_two_outcomes() {
    let text = "{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"x\"}\n\
                {\"prompt\": \"a\", \"chosen\": \"c\", \"rejected\": \"x\"}";
    let imported = import(Format::Trl, text).unwrap();
    assert_eq!(imported.steps[0], imported.steps[1]);
    assert_ne!(imported.outcomes[0].id, imported.outcomes[1].id);
    assert_eq!(imported.outcomes[0].target, imported.outcomes[1].target);
}

#[test]
fn rows_become_the_named_fields_in_the_named_order() {
    let imported = import_rows(SNIPS, &mapping(&["slots", "intent"])).unwrap();
    assert_eq!(imported.steps.len(), 5);
    assert_eq!(
        imported.steps[1].reply.text(),
        r#"{"slots":{"party_size_number":["two"],"city":["Bristol"]},"intent":"BookRestaurant"}"#
    );
    let prompt =
        [Message::system("Answer in JSON."), Message::user("book a table for two in Bristol")];
    assert_eq!(imported.steps[1].prompt, prompt);
}

#[test]
fn one_text_field_is_the_reply_and_any_other_becomes_an_object() {
    let text = import_rows(SNIPS, &mapping(&["intent"])).unwrap();
    assert_eq!(text.steps[3].reply.text(), "PlayMusic");
    let object = import_rows(SNIPS, &mapping(&["slots"])).unwrap();
    assert_eq!(object.steps[3].reply.text(), r#"{"slots":{"genre":["jazz"]}}"#);
}

#[test]
fn a_mapping_no_row_satisfies_names_the_fields_there_are() {
    let error = import_rows(SNIPS, &mapping(&["intend"])).unwrap_err().to_string();
    assert_eq!(error, "no row has the field `intend`: name one of `intent`, `slots`, `text`");
    assert_eq!(import_rows(SNIPS, &mapping(&[])), Err(IngestError::NoOutput));
    let error = import(Format::Auto, SNIPS).unwrap_err().to_string();
    assert!(error.contains("`text`, `intent`, `slots`"), "{error}");
}

#[test]
fn a_mapping_is_used_or_refused() {
    let text = r#"{"prompt": "a", "completion": "b"}"#;
    let wanted =
        RowMapping { input: "completion".into(), output: vec!["prompt".into()], system: None };
    let at = Timestamp::UNIX_EPOCH;
    let rows = read(Format::Auto, &task(), text, Some(&wanted), None, at).unwrap();
    assert_eq!(rows.steps[0].reply.text(), "a");
    let refused = read(Format::Trl, &task(), text, Some(&wanted), None, at);
    assert_eq!(refused, Err(IngestError::MappingUnused { format: "trl" }));
}

#[test]
fn our_own_lines_come_back_as_they_were() {
    let imported = import_rows(SNIPS, &mapping(&["intent"])).unwrap();
    let steps = imported.steps.iter().map(|step| json!({"step": step}));
    let outcomes = imported.outcomes.iter().map(|outcome| json!({"outcome": outcome}));
    let lines: Vec<String> = steps.chain(outcomes).map(|line| line.to_string()).collect();
    let later = "2026-02-03T04:05:06Z".parse().unwrap();
    let text = lines.join("\r\n");
    let again = read(Format::Auto, &task(), &text, None, None, later).unwrap();
    assert_eq!(again, imported);
}

#[test]
fn our_own_lines_are_checked() {
    let imported = import_rows(SNIPS, &mapping(&["intent"])).unwrap();
    let mut step = imported.steps[0].clone();
    step.task = "elsewhere".parse().unwrap();
    let why = refusal(Format::Understudy, &json!({"step": step}).to_string());
    assert!(why.contains("`elsewhere`"), "{why}");
    assert!(refusal(Format::Understudy, r#"{"step": {}}"#).contains("not a step"));
    let both = json!({"step": imported.steps[0], "outcome": imported.outcomes[0]});
    assert!(refusal(Format::Understudy, &both.to_string()).contains("one field"));
}

#[test]
fn a_byte_order_mark_is_no_content() {
    let text = format!("\u{feff}{SNIPS}");
    assert_eq!(import_rows(&text, &mapping(&["intent"])).unwrap().rejected, []);
}
