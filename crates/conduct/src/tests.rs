use serde_json::json;
use understudy_inference::{Sampling, TokenRecord};
use understudy_message::{FunctionCall, ToolCall};

use super::*;

fn tools() -> Vec<Value> {
    let parameters = json!({
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "maximum": 7}},
        "required": ["city"],
        "additionalProperties": false,
    });
    vec![
        json!({"type": "function", "function": {"name": "weather", "parameters": parameters}}),
        json!({"type": "function", "function": {"name": "now"}}),
    ]
}

fn calling(name: &str, arguments: &str) -> Message {
    let function = FunctionCall { name: name.to_owned(), arguments: arguments.to_owned() };
    let call = ToolCall { id: "c".to_owned(), kind: "function".to_owned(), function };
    Message { tool_calls: vec![call], ..Message::assistant("") }
}

fn of(reply: &Message) -> Marks {
    marks(Asked { tools: &tools(), format: None }, reply, FinishReason::Stop)
}

#[test]
fn a_call_is_valid_when_its_tool_takes_it() {
    for (name, arguments) in
        [("weather", r#"{"city": "Bern", "days": 3}"#), ("now", "{}"), ("now", "")]
    {
        assert!(of(&calling(name, arguments)).is_clean(), "{name} {arguments}");
    }
    for (name, arguments) in [
        ("weather", "{}"),
        ("weather", r#"{"city": 7}"#),
        ("weather", r#"{"city": "Bern", "days": 30}"#),
        ("weather", r#"{"city": "Bern", "unit": "K"}"#),
        ("weather", r#"{"city": "Bern""#),
        ("weather", r#"["Bern"]"#),
        ("wether", r#"{"city": "Bern"}"#),
    ] {
        assert!(of(&calling(name, arguments)).invalid_tools, "{name} {arguments}");
    }
}

#[test]
fn a_call_that_could_not_be_read_is_invalid_where_tools_were_offered() {
    let broken = Message::assistant("<tool_call>{\"name\": </tool_call>");
    assert!(of(&broken).invalid_tools);
    let none = Asked { tools: &[], format: None };
    assert!(!marks(none, &broken, FinishReason::Stop).invalid_tools);
}

#[test]
fn a_format_is_kept_or_not_and_what_is_cut_off_is_neither() {
    let schema = json!({"type": "object", "required": ["label"]});
    let format = Constraint::JsonSchema(schema);
    let asked = Asked { tools: &[], format: Some(&format) };
    let mark = |text: &str, finish| marks(asked, &Message::assistant(text), finish);
    assert!(!mark(r#" {"label": 1} "#, FinishReason::Stop).invalid_format);
    assert!(mark(r#"{"lable": 1}"#, FinishReason::Stop).invalid_format);
    assert!(mark("label: 1", FinishReason::Stop).invalid_format);
    let cut = mark(r#"{"lab"#, FinishReason::Length);
    assert!(cut.cut_off && !cut.invalid_format);
    let object = Asked { tools: &[], format: Some(&Constraint::JsonObject) };
    assert!(marks(object, &Message::assistant("[]"), FinishReason::Stop).invalid_format);
}

#[test]
fn asking_back_is_a_question_at_the_end_that_is_not_only_polite() {
    let asks = |text: &str| of(&Message::assistant(text)).question;
    assert!(asks("I can do that. Which account do you mean?"));
    assert!(asks("どの口座ですか？"));
    assert!(asks("Do you mean \"checking\"?\n"));
    assert!(!asks("Why not? Because it is closed."));
    assert!(!asks("Done. Is there anything else I can help you with?"));
    assert!(asks("Is there anything else? Which date was it?"), "only the last sentence counts");
    assert!(!asks(""));
    assert!(!of(&Message { content: "Which?".into(), ..calling("now", "{}") }).question);
}

#[test]
fn silence_and_refusals_are_marked() {
    assert!(of(&Message::assistant(" \n")).empty);
    assert!(of(&Message::assistant("I'm sorry, but I can't help with that.")).refusal);
    assert!(!of(&Message::assistant("Here you are.")).refusal);
}

fn tokens(log_probs: &[f32]) -> TokenRecord {
    TokenRecord {
        prompt_ids: vec![1],
        completion_ids: vec![2; log_probs.len()],
        sampling_logprobs: log_probs.to_vec(),
        forced: Vec::new(),
        sampling: Sampling::greedy(8),
        logprobs_exact: false,
        base_digest: String::new(),
        tokenizer_digest: String::new(),
        template_digest: String::new(),
    }
}

#[test]
fn confidence_is_mean_and_least() {
    let sure = confidence(&tokens(&[-0.5, -1.5, f32::NEG_INFINITY])).unwrap();
    assert_eq!((sure.mean_log_prob, sure.min_log_prob), (-1.0, -1.5));
    assert!(confidence(&tokens(&[])).is_none());
}

#[test]
fn only_cues_that_were_named_speak() {
    let all = Escalate {
        on: [Cue::Refusal, Cue::LowConfidence, Cue::Asked, Cue::Empty].into(),
        min_log_prob: Some(-3.0),
        mean_log_prob: Some(-1.0),
        ..Escalate::default()
    };
    let marks = Marks { refusal: true, invalid_tools: true, ..Marks::default() };
    let unsure = |mean_log_prob, min_log_prob| Some(Confidence { mean_log_prob, min_log_prob });
    let low = [Cue::LowConfidence];
    assert_eq!(cues(&all, marks, None, true), [Cue::Refusal, Cue::Asked]);
    assert_eq!(cues(&all, Marks::default(), unsure(-0.5, -3.5), false), low);
    assert_eq!(cues(&all, Marks::default(), unsure(-1.5, -2.0), false), low);
    assert!(cues(&all, Marks::default(), unsure(-0.9, -2.9), false).is_empty());
    let default = cues(&Escalate::default(), marks, unsure(-9.0, -9.0), false);
    assert_eq!(default, [Cue::InvalidTools]);
}

#[test]
fn replies_agree_in_what_they_do_or_say() {
    let says = Message::assistant;
    assert!(agrees(&says("The answer: 42."), &says(" the ANSWER 42")));
    assert!(!agrees(&says("42"), &says("43")));
    let one = calling("weather", r#"{"city": "Bern", "days": 3}"#);
    assert!(agrees(&one, &calling("weather", r#"{"days":3,"city":"Bern"}"#)));
    assert!(agrees(&calling("now", ""), &calling("now", "{}")));
    assert!(!agrees(&one, &calling("weather", r#"{"city": "Biel", "days": 3}"#)));
    assert!(!agrees(&one, &says("It rains.")));
    assert!(
        !agrees(&calling("now", "{"), &calling("now", "{}")),
        "what cannot be read is not empty"
    );
}
