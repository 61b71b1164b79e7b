use super::*;

const REGISTRY: &str = r"
sums:
  id: sums.dev.v0
  metrics: [accuracy]
sums.dev.v0:
  class: evals.elsuite.basic.match:Match
  args:
    samples_jsonl: sums/samples.jsonl
names.dev.v0:
  class: evals.elsuite.basic.fuzzy_match:FuzzyMatch
  args:
    samples_jsonl: names/samples.jsonl
loose.dev.v0:
  class: evals.elsuite.basic.includes:Includes
  args: { samples_jsonl: a.jsonl, ignore_case: true }
shape.dev.v0:
  class: evals.elsuite.basic.json_validator:JsonValidator
  args: { samples_jsonl: a.jsonl }
manners.dev.v0:
  class: evals.elsuite.modelgraded.classify:ModelBasedClassify
  args: { samples_jsonl: a.jsonl, eval_type: cot_classify, modelgraded_spec: closedqa }
facts.dev.v0:
  class: evals.elsuite.modelgraded.classify:ModelBasedClassify
  args: { samples_jsonl: a.jsonl, modelgraded_spec: fact }
shots.dev.v0:
  class: evals.elsuite.basic.match:Match
  args: { samples_jsonl: a.jsonl, num_few_shot: 4 }
own.dev.v0:
  class: mine.evals:Translate
";

fn row(text: &str) -> Row {
    serde_json::from_str(text).unwrap()
}

fn case(eval: &str, text: &str) -> Result<Case, String> {
    class(REGISTRY, Some(eval)).unwrap().case(3, &row(text))
}

#[test]
fn each_class_compares_as_it_does_there() {
    assert_eq!(class(REGISTRY, Some("sums")).unwrap(), Class::Match);
    let sample = r#"{"input": "who?", "ideal": ["Ada L.", "ada"]}"#;
    assert_eq!(case("sums", sample).unwrap().expected, r"^(?:Ada L\.|ada)");
    let names = case("names.dev.v0", sample).unwrap();
    assert_eq!((names.id.as_str(), names.expected.as_str()), ("0003", r#"["Ada L.","ada"]"#));
    assert_eq!(case("loose.dev.v0", sample).unwrap().expected, r"(?is)(?:Ada L\.|ada)");
    let shape = r#"{"input": "give json"}"#;
    assert_eq!(case("shape.dev.v0", shape).unwrap().expected, "");
    let scorers = ["sums", "names.dev.v0", "loose.dev.v0", "shape.dev.v0", "manners.dev.v0"]
        .map(|eval| class(REGISTRY, Some(eval)).unwrap().scorers()[0].name());
    assert_eq!(scorers, ["regex", "fuzzy", "regex", "json_valid", "checks"]);
    let manners = r#"{"input": "greet me", "criteria": "It is polite."}"#;
    let check = &case("manners.dev.v0", manners).unwrap().checks[0];
    assert_eq!(check.scorer, Scorer::Judge(None));
    assert_eq!(check.value.as_deref(), Some("The answer meets this criterion: It is polite."));
    assert!(case("manners.dev.v0", shape).unwrap_err().contains("`criteria`"));
}

#[test]
fn what_has_no_counterpart_is_refused_by_its_name() {
    for (eval, why) in [
        (None, "name one with --eval"),
        (Some("nothing"), "no eval `nothing`"),
        (Some("facts.dev.v0"), "`modelgraded_spec: fact`"),
        (Some("shots.dev.v0"), "`num_few_shot`"),
        (Some("own.dev.v0"), "`mine.evals:Translate`"),
    ] {
        let found = class(REGISTRY, eval).unwrap_err().to_string();
        assert!(found.contains(why), "{why}: {found}");
    }
    assert!(class("a: [", None).is_err() && class("a: {id: b}", None).is_err());
    assert!(class("a: {id: b}", Some("a")).unwrap_err().to_string().contains("which it lacks"));
}
