//! Formats that record whole trajectories.

use super::*;

fn trial(problem: u64, trial: u64, reward: f64, answer: &str) -> serde_json::Value {
    let call = json!({"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{\"user\":\"ann\"}"}});
    json!({
        "task_id": problem, "trial": trial, "reward": reward,
        "info": {"task": {"user_id": "ann_1", "instruction": "You are Ann."}, "source": "user"},
        "traj": [
            {"role": "system", "content": "# Policy"}, {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": null, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "name": "look", "content": "{}"},
            {"role": "assistant", "content": answer}, {"role": "user", "content": "###STOP###"},
        ],
    })
}

#[test]
fn tau_bench_trials_become_trajectories_in_groups() {
    let rows = json!([
        trial(7, 0, 1.0, "Done."),
        trial(7, 1, 0.0, "I cannot."),
        trial(7, 2, 0.0, "I will not."),
        trial(8, 0, 1.0, "Done."),
        trial(8, 1, 1.0, "Done!"),
        trial(9, 0, 1.0, "Alone."),
        trial(9, 1, 2.0, "Too good."),
    ]);
    let imported = import(Format::Auto, &rows.to_string()).unwrap();
    assert_eq!((imported.steps.len(), imported.outcomes.len()), (12, 6));
    assert_eq!(imported.rejected.len(), 1);
    assert_eq!(imported.rejected[0].line, 7);
    let [seven, eight] = &imported.groups[..] else { panic!("{:?}", imported.groups) };
    assert_eq!((seven.name.as_str(), seven.attempts.len(), seven.pairs()), ("0007", 3, 2));
    assert!(seven.is_mixed() && !eight.is_mixed());
    let [asks, answers] = &imported.steps[..2] else { panic!() };
    assert_eq!((asks.prompt.len(), answers.prompt.len()), (2, 4));
    assert_eq!(asks.finish_reason, FinishReason::ToolCalls);
    assert_eq!(answers.reply, Message::assistant("Done."));
    assert_eq!(answers.subject.as_deref(), Some("ann_1"));
    assert!(asks.at < answers.at, "steps are put in order by their times");
    let outcome = &imported.outcomes[0];
    assert_eq!(outcome.target, Target::Trajectory(answers.trajectory.to_string()));
    assert_eq!(outcome.signal, Signal::Verifier { name: "tau-bench".to_owned(), score: 1.0 });
    assert_eq!(outcome.at, answers.at);
    // The same file at another time is the same file.
    let later = "2026-02-03T04:05:06Z".parse().unwrap();
    let again = read(Format::TauBench, &task(), &rows.to_string(), None, None, later).unwrap();
    let ids = |imported: &Imported| -> Vec<_> {
        let steps = imported.steps.iter().map(|step| step.id.to_string());
        steps.chain(imported.outcomes.iter().map(|outcome| outcome.id.to_string())).collect()
    };
    assert_eq!(ids(&again), ids(&imported));
}

fn trajectory() -> serde_json::Value {
    json!({
        "schema_version": "ATIF-v1.4", "session_id": "s1",
        "agent": {"name": "a", "version": "1", "model_name": "m1"},
        "steps": [
            {"step_id": 1, "source": "system", "message": "Be brief."},
            {"step_id": 2, "source": "user", "message": "Weather?", "timestamp": "2026-01-02T03:04:05Z"},
            {"step_id": 3, "source": "agent", "message": "", "timestamp": "2026-01-02T03:04:06Z",
             "tool_calls": [{"tool_call_id": "c1", "function_name": "look", "arguments": {"city": "Paris"}}],
             "observation": {"results": [{"source_call_id": "c1", "content": "rain"}]},
             "metrics": {"prompt_tokens": 5, "completion_tokens": 6}},
            {"step_id": 4, "source": "agent", "message": "Rain.", "model_name": "m2"},
        ],
    })
}

#[test]
fn atif_steps_of_the_agent_become_steps() {
    // Written over several lines, as files for people are.
    let text = serde_json::to_string_pretty(&trajectory()).unwrap();
    for format in [Format::Auto, Format::Atif] {
        let imported = import(format, &text).unwrap();
        assert_eq!(imported.rejected, []);
        let [asks, answers] = &imported.steps[..] else { panic!("{imported:?}") };
        assert_eq!(asks.reply.tool_calls[0].function.arguments, r#"{"city":"Paris"}"#);
        assert_eq!(asks.at, "2026-01-02T03:04:06Z".parse::<Timestamp>().unwrap());
        assert_eq!((asks.usage.prompt_tokens, asks.usage.completion_tokens), (5, 6));
        assert_eq!((asks.served.base.as_str(), answers.served.base.as_str()), ("m1", "m2"));
        let prompt = &answers.prompt;
        assert_eq!(prompt[0], Message::system("Be brief."));
        assert_eq!(prompt[3].tool_call_id.as_deref(), Some("c1"));
        assert_eq!((prompt.len(), prompt[3].text().as_str()), (4, "rain"));
        assert_eq!(answers.session.as_deref(), Some("s1"));
    }
}

#[test]
fn atif_tells_what_the_agent_could_call() {
    let mut told = trajectory();
    let tools = json!([{"type": "function", "function": {"name": "look"}}]);
    told["schema_version"] = json!("ATIF-v1.5");
    told["agent"]["tool_definitions"] = tools.clone();
    let imported = import(Format::Atif, &told.to_string()).unwrap();
    assert!(imported.steps.iter().all(|step| json!(step.tools) == tools));
    let before = import(Format::Atif, &trajectory().to_string()).unwrap();
    assert_ne!(imported.steps[0].id, before.steps[0].id, "it is not the step that had none");
}

#[test]
fn atif_that_cannot_be_read_says_why() {
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut value = trajectory();
        change(&mut value);
        refusal(Format::Atif, &value.to_string())
    };
    assert!(with(&|t| t["schema_version"] = json!("ATIF-v2.0")).contains("ATIF-v2.0"));
    assert!(with(&|t| t["steps"] = json!(null)).contains("`steps`"));
    assert!(with(&|t| t["steps"][1]["source"] = json!("robot")).contains("`robot`"));
    assert!(with(&|t| t["steps"] = json!([])).contains("says nothing"));
    let copied = |t: &mut serde_json::Value| {
        t["steps"][2]["is_copied_context"] = json!(true);
        t["steps"][3]["is_copied_context"] = json!(true);
    };
    assert!(with(&copied).contains("says nothing"), "copies of context are nobody's steps");
}

#[test]
fn a_langsmith_export_becomes_steps_with_the_feedback_inside_it() {
    let run = json!({
        "id": "r1", "trace_id": "t1", "run_type": "llm", "name": "m", "start_time": "2026-01-02T03:04:05",
        "end_time": "2026-01-02T03:04:06", "inputs": {"messages": [{"role": "user", "content": "hi"}]},
        "outputs": {"choices": [{"message": {"role": "assistant", "content": "hello"}}]},
        "extra": {"metadata": {"thread_id": "s1"}},
        "feedback": [{"id": "f1", "run_id": "r1", "key": "thumbs", "score": 1}, {"id": "f2", "run_id": "gone", "key": "k", "score": 1}],
    });
    let empty = json!({"id": "r2", "trace_id": "t2", "run_type": "llm", "name": "m"});
    let imported = import(Format::Auto, &format!("{run}\n{empty}\n")).unwrap();
    let [step] = &imported.steps[..] else { panic!("{imported:?}") };
    assert_eq!(step.session.as_deref(), Some("s1"));
    let [outcome] = &imported.outcomes[..] else { panic!("{imported:?}") };
    assert_eq!(outcome.target, Target::Step(step.id.to_string()));
    let why: Vec<(usize, &str)> =
        imported.rejected.iter().map(|r| (r.line, r.why.as_str())).collect();
    assert_eq!(
        why,
        [
            (1, "feedback on a run that is not in this file"),
            (2, "a model call was left out: the source sent no content"),
        ]
    );
}

#[test]
fn otlp_files_are_put_together_over_all_their_lines() {
    let attribute = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let said = json!([{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]);
    let reply = json!([{"role": "assistant", "parts": [{"type": "text", "content": "hello"}]}]);
    let ids = |mut record: serde_json::Value| {
        record["traceId"] = json!(format!("{:032x}", 1));
        record["spanId"] = json!(format!("{:016x}", 1));
        record
    };
    let span =
        ids(json!({"name": "chat", "attributes": [attribute("gen_ai.operation.name", "chat")]}));
    let log = ids(json!({
        "eventName": "gen_ai.client.inference.operation.details",
        "attributes": [attribute("gen_ai.input.messages", &said.to_string()), attribute("gen_ai.output.messages", &reply.to_string())],
    }));
    let text = [
        json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [log]}]}]}),
        json!({"resourceSpans": [{"scopeSpans": [{"spans": [span, {"name": "no ids"}]}]}]}),
    ];
    let text = text.map(|line| line.to_string()).join("\n");
    let imported = import(Format::Auto, &text).unwrap();
    let [step] = &imported.steps[..] else { panic!("{imported:?}") };
    assert_eq!(step.reply, Message::assistant("hello"));
    assert_eq!(imported.rejected.len(), 1);
    assert_eq!(imported.rejected[0].line, 2);
}

#[test]
fn the_bytes_of_media_come_with_the_steps_that_refer_to_them() {
    let attribute = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let image = json!({"type": "blob", "mime_type": "image/png", "content": "AQID"});
    let said = json!([{"role": "user", "parts": [{"type": "text", "content": "look"}, image]}]);
    let reply = json!([{"role": "assistant", "parts": [{"type": "text", "content": "a cat"}]}]);
    let span = json!({
        "traceId": format!("{:032x}", 1), "spanId": format!("{:016x}", 1), "name": "chat",
        "attributes": [
            attribute("gen_ai.operation.name", "chat"),
            attribute("gen_ai.input.messages", &said.to_string()),
            attribute("gen_ai.output.messages", &reply.to_string()),
        ],
    });
    let line = json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).to_string();
    let imported = import(Format::Otlp, &line).unwrap();
    let digest = Digest::of(&[1, 2, 3]);
    assert_eq!(crate::telemetry::media(&imported.steps[0]), [digest]);
    assert_eq!(imported.media, [(digest, vec![1, 2, 3])].into());

    // As `understudy dataset records` writes it: the bytes beside the digest.
    let mut step = serde_json::to_value(&imported.steps[0]).unwrap();
    let part = &mut step["prompt"][0]["content"][1];
    assert_eq!(part["digest"], json!(digest.to_string()));
    part["data"] = json!("AQID");
    let again = import(Format::Understudy, &json!({"step": step}).to_string()).unwrap();
    assert_eq!((&again.steps, &again.media), (&imported.steps, &imported.media));
    for (data, why) in [("AQIE", "are those of"), ("?", "no base64")] {
        step["prompt"][0]["content"][1]["data"] = json!(data);
        let refused = refusal(Format::Understudy, &json!({"step": step}).to_string());
        assert!(refused.contains(why), "{refused}");
    }
}
