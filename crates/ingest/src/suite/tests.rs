use serde_json::json;
use understudy_message::Role;

use super::*;

fn read(format: &str, text: &str, truths: Option<&str>) -> Result<ForeignSuite, IngestError> {
    beside(format, text, Beside { truths, ..Beside::default() })
}

fn beside(format: &str, text: &str, beside: Beside<'_>) -> Result<ForeignSuite, IngestError> {
    let name = "imported".parse().unwrap();
    foreign_suite(Foreign::parse(format).unwrap(), (text, beside), &name, Tier::Gate, None)
}

fn refusal(format: &str, text: &str) -> String {
    read(format, text, None).unwrap_err().to_string()
}

#[test]
fn samples_of_openai_evals_become_what_their_class_compares() {
    let text = json!({"input": [{"role": "system", "content": "Be brief."},
        {"role": "user", "content": "2+2?"}], "ideal": ["4", "four (4)"]})
    .to_string();
    let suite = read("evals-match", &text, None).unwrap().suite;
    assert_eq!(suite.scorers, [Scorer::Regex(None)]);
    assert_eq!(suite.cases[0].expected, r"^(?:4|four \(4\))");
    assert_eq!(suite.cases[0].prompt[0].role, Role::System);
    let suite = read("evals-includes", &text, None).unwrap().suite;
    assert_eq!(suite.cases[0].expected, r#"["4","four (4)"]"#);
    assert!(refusal("evals-json", &text).contains("2 ideals"));
    let one = r#"{"input": "give json", "ideal": "{\"a\":1}"}"#;
    assert_eq!(read("evals-json", one, None).unwrap().suite.cases[0].expected, r#"{"a":1}"#);
    assert!(refusal("evals-match", r#"{"input": "x"}"#).contains("`ideal`"));
    assert!(refusal("evals-match", r#"{"ideal": "x"}"#).contains("`input`"));
}

const QUESTION: &str = r#"{"id":"simple_0","question":[[{"role":"user","content":"area?"}]],
    "function":[{"name":"area","parameters":{"type":"dict","properties":{"side":{"type":"float"},
    "type":{"type":"array","items":{"type":"tuple"}}},"required":["side"]}}]}"#;

#[test]
fn questions_of_the_leaderboard_meet_their_possible_answers() {
    let truth = r#"{"id":"simple_0","ground_truth":[{"area":{"side":[2.0]}}]}"#;
    let suite = read("bfcl", QUESTION, Some(truth)).unwrap().suite;
    assert_eq!(suite.scorers, [Scorer::ToolCallBfcl, Scorer::ToolCallAst]);
    let case = &suite.cases[0];
    assert_eq!(
        (case.id.as_str(), case.expected.as_str()),
        ("simple_0", r#"[{"area":{"side":[2.0]}}]"#)
    );
    let parameters = &case.tools[0]["function"]["parameters"];
    assert_eq!(parameters["type"], "object");
    assert_eq!(parameters["properties"]["side"]["type"], "number");
    // A parameter that is called `type` keeps its own declaration.
    assert_eq!(parameters["properties"]["type"]["items"]["type"], "array");

    let other = r#"{"id":"simple_1","ground_truth":[]}"#;
    let missing = read("bfcl", QUESTION, Some(other)).unwrap_err().to_string();
    assert!(missing.contains("no possible answer"), "{missing}");
    let irrelevant = QUESTION.replace("simple_0", "irrelevance_0");
    assert_eq!(read("bfcl", &irrelevant, Some(other)).unwrap().suite.cases[0].expected, "[]");
    assert!(refusal("bfcl", QUESTION).contains("name that file"));
    let unasked = read("lm-eval", QUESTION, Some(truth)).unwrap_err();
    assert_eq!(unasked, IngestError::Truths { expected: false });
    let turns = QUESTION.replace("]],", "],[]],");
    let turns = read("bfcl", &turns, Some(truth)).unwrap_err().to_string();
    assert!(turns.contains("2 turns"), "{turns}");
}

#[test]
fn a_configuration_of_promptfoo_becomes_checks() {
    let config = json!({"prompts": ["Translate {{ text }} to {{lang}}."], "tests": [{
    "description": "greeting", "vars": {"text": "hello", "lang": "French"},
    "assert": [
        {"type": "icontains", "value": "bonjour", "weight": 2},
        {"type": "not-contains", "value": "hello"},
        {"type": "contains-any", "value": ["a", "b"]},
        {"type": "equals", "value": {"a": 1}},
        {"type": "is-json"},
        {"type": "similar", "value": "salut", "threshold": 0.8},
        {"type": "cost", "threshold": 0.002},
    ]}]});
    let suite = read("promptfoo", &config.to_string(), None).unwrap().suite;
    let case = &suite.cases[0];
    assert_eq!(case.prompt, [Message::user("Translate hello to French.")]);
    let names: Vec<String> = case.checks.iter().map(|check| check.scorer.name()).collect();
    assert_eq!(
        names,
        [
            "icontains",
            "contains",
            "contains_any",
            "json_equal",
            "json_valid",
            "similarity:0.8",
            "cost:2000"
        ]
    );
    assert_eq!((case.checks[0].weight, case.checks[1].negate), (2.0, true));
    assert_eq!(case.checks[2].value.as_deref(), Some(r#"["a","b"]"#));
    assert_eq!(case.provenance.as_deref(), Some("greeting"));

    let with = |key: &str, value: Value| {
        let mut changed = config.clone();
        changed["tests"][0][key] = value;
        refusal("promptfoo", &changed.to_string())
    };
    assert!(with("assert", json!([{"type": "javascript", "value": "x"}])).contains("javascript"));
    assert!(with("assert", json!([])).contains("asserts nothing"));
    assert!(with("assert", json!([{"type": "contains"}])).contains("no value"));
    assert!(with("assert", json!([{"type": "latency"}])).contains("no threshold"));
    assert!(with("vars", json!({"text": "a"})).contains("`lang`"));
    let two = json!({"prompts": ["a", "b"], "tests": []}).to_string();
    assert!(refusal("promptfoo", &two).contains("2 prompts"));
}

#[test]
fn samples_of_lm_eval_bring_their_answers() {
    let row = |id: u32, filter: &str, arguments: Value| {
        json!({"doc_id": id, "doc": {}, "target": "#### 18", "arguments": arguments,
            "resps": [["so 18"]], "filtered_resps": ["18"], "filter": filter, "exact_match": 1.0})
        .to_string()
    };
    let listed = json!([["Q: 9*2?", {"until": ["\n"]}]]);
    let named = json!({"gen_args_0": {"arg_0": "Q: 3*6?", "arg_1": {"until": []}}});
    let text = [row(0, "strict", listed.clone()), row(0, "loose", listed), row(1, "strict", named)];
    let found = read("lm-eval", &text.join("\n"), None).unwrap();
    let prompts: Vec<String> = found.suite.cases.iter().map(|c| c.prompt[0].text()).collect();
    assert_eq!(prompts, ["Q: 9*2?", "Q: 3*6?"]);
    let answers = [("0", "18"), ("1", "18")].map(|(id, text)| RecordedAnswer::new(id, text));
    assert_eq!(found.answers, answers);
    let choice = json!([["Q: sky?", " blue"], ["Q: sky?", " red"]]);
    assert!(refusal("lm-eval", &row(0, "none", choice)).contains("generating"));
}

const YAML: &str = r#"
description: translations
providers: [openai:gpt-4o-mini]
prompts:
  - "Translate {{ text }} to {{lang}}."
defaultTest:
  vars: { lang: French, text: nothing }
  assert:
    - type: not-contains
      value: sorry
tests:
  - vars: &hello
      text: hello
    assert:
      - { type: icontains, value: bonjour, weight: 2 }
  - vars: { <<: *hello, lang: German }
    assert:
      - type: regex
        value: (?i)hallo|guten tag
"#;

#[test]
fn a_configuration_may_be_yaml_with_a_default_test() {
    let suite = read("promptfoo", YAML, None).unwrap().suite;
    let prompts: Vec<String> = suite.cases.iter().map(|case| case.prompt[0].text()).collect();
    assert_eq!(prompts, ["Translate hello to French.", "Translate hello to German."]);
    let names =
        |case: &Case| case.checks.iter().map(|c| (c.scorer.name(), c.negate)).collect::<Vec<_>>();
    let owned = |pairs: [(&str, bool); 2]| pairs.map(|(name, negate)| (name.to_owned(), negate));
    assert_eq!(names(&suite.cases[0]), owned([("contains", true), ("icontains", false)]));
    assert_eq!(names(&suite.cases[1]), owned([("contains", true), ("regex", false)]));
    assert_eq!(suite.cases[1].checks[1].value.as_deref(), Some("(?i)hallo|guten tag"));
}

#[test]
fn what_a_configuration_has_elsewhere_or_of_its_own_is_refused() {
    let with = |from: &str, to: &str| {
        assert!(YAML.contains(from), "{from}");
        refusal("promptfoo", &YAML.replace(from, to))
    };
    let prompt = "\"Translate {{ text }} to {{lang}}.\"";
    assert!(with(prompt, "file://prompt.txt").contains("another file"));
    let elsewhere = "prompts: [a]\ntests: file://tests.csv\n";
    assert!(refusal("promptfoo", elsewhere).contains("`file://tests.csv` is another file"));
    assert!(with("defaultTest:", "scenarios: []\ndefaultTest:").contains("scenarios"));
    assert!(with("  vars: { lang", "  threshold: 0.5\n  vars: { lang").contains("threshold"));
    assert!(
        with("  vars: { lang", "  options: { transform: x }\n  vars: { lang")
            .contains("`transform`")
    );
    assert!(with("weight: 2", "transform: x").contains("transforms the output"));
    assert!(refusal("promptfoo", "a: [").contains("neither JSON nor YAML"));
    assert!(refusal("promptfoo", "just words").contains("no mapping"));
}

#[test]
fn a_prompt_that_is_a_conversation_stays_one() {
    let config = json!({
        "prompts": r#"[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "{{q}}"}]"#,
        "tests": [{"vars": {"q": "hi"}, "assert": [{"type": "contains", "value": "x"}]}],
    });
    let suite = read("promptfoo", &config.to_string(), None).unwrap().suite;
    assert_eq!(suite.cases[0].prompt, [Message::system("Be brief."), Message::user("hi")]);
}

/// Nested aliases that would unfold to billions of values.
#[test]
fn a_configuration_that_unfolds_without_end_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let last = format!("*a{}", n - 1);
        let line = format!("a{n}: &a{n} [{}]\n", [last.as_str(); 9].join(", "));
        text += &line;
    }
    assert!(refusal("promptfoo", &text).contains("neither JSON nor YAML"));
}

#[test]
fn questions_of_java_and_javascript_say_that_arguments_are_source_text() {
    let question = r#"{"id":"simple_java_0","question":[[{"role":"user","content":"sum?"}]],
        "function":[{"name":"sum","description":"Sums.","parameters":{"type":"dict","properties":{
        "ids":{"type":"ArrayList","description":"Which.","items":{"type":"long"}},
        "map":{"type":"any"}},"required":["ids"]}}]}"#;
    let truth = r#"{"id":"simple_java_0","ground_truth":[{"sum":{"ids":[[1,2]],"map":[""]}}]}"#;
    let suite = read("bfcl", question, Some(truth)).unwrap().suite;
    let function = &suite.cases[0].tools[0]["function"];
    assert_eq!(function["x-language"], "java");
    assert!(function["description"].as_str().unwrap().ends_with("in Java 8 SDK syntax."));
    assert_eq!(function["parameters"]["type"], "object");
    let ids = &function["parameters"]["properties"]["ids"];
    assert_eq!(
        (&ids["type"], &ids["x-type"], &ids["x-items"]),
        (&json!("string"), &json!("ArrayList"), &json!("long"))
    );
    let says = ids["description"].as_str().unwrap();
    assert!(says.starts_with("Which. This is Java ArrayList type"), "{says}");
    assert!(ids.get("items").is_none());
    let map = &function["parameters"]["properties"]["map"];
    assert_eq!((&map["type"], &map["x-type"]), (&json!("string"), &json!("any")));
    let script = question.replace("simple_java_0", "simple_javascript_0");
    let truth = truth.replace("simple_java_0", "simple_javascript_0");
    let suite = read("bfcl", &script, Some(&truth)).unwrap().suite;
    assert_eq!(suite.cases[0].tools[0]["function"]["x-language"], "javascript");
}
