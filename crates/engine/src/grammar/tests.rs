use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::*;

fn tokenizer() -> Tokenizer {
    Tokenizer::byte_level().unwrap()
}

fn grammars() -> Grammars {
    Grammars::new(&tokenizer()).unwrap()
}

/// Whether a text is all of what the constraint allows.
fn accepts(grammars: &Grammars, constraint: &Constraint, text: &str) -> bool {
    let (mut guide, tokenizer) = (grammars.guide(constraint).unwrap(), tokenizer());
    for id in tokenizer.encode(text).unwrap() {
        if guide.is_over() || !guide.mask().unwrap().is_allowed(id) {
            return false;
        }
        guide.take(id).unwrap();
        guide.look_ahead();
    }
    let end = tokenizer.eos()[0];
    guide.is_over() || guide.mask().unwrap().is_allowed(end)
}

fn refused(constraint: &Constraint) -> String {
    match grammars().guide(constraint) {
        Err(InferenceError::Invalid { field: "constraint", why }) => why,
        Err(other) => panic!("refused as {other:?}"),
        Ok(_) => panic!("{constraint:?} is not refused"),
    }
}

fn lark(text: &str) -> Constraint {
    Constraint::Grammar(text.to_owned())
}

#[test]
fn each_kind_accepts_its_language_and_nothing_else() {
    let grammars = grammars();
    let point = json!({"type": "object", "properties": {"x": {"type": "integer"}},
        "required": ["x"], "additionalProperties": false});
    let choice = Constraint::Choice(["red", "redder", "a \"b\"\n"].map(str::to_owned).into());
    let tool = "start: \"<tool_call>\" call \"</tool_call>\"\ncall: %json {\"const\": 7}\n";
    for (constraint, yes, no) in [
        (Constraint::JsonObject, vec!["{}", r#"{"a": [1, "é"]}"#], vec!["[]", "{", "{} "]),
        (Constraint::JsonSchema(point), vec![r#"{"x": 12}"#], vec!["{}", r#"{"x": "1"}"#]),
        (Constraint::JsonSchema(json!(true)), vec!["3", "null"], vec!["nul"]),
        (Constraint::Regex("[ab]{2,3}c?".into()), vec!["ab", "aabc"], vec!["a", "abcc"]),
        (choice, vec!["red", "redder", "a \"b\"\n"], vec!["redd", "a"]),
        (lark("start: \"x\" start? \"y\""), vec!["xy", "xxyy"], vec!["xyy", "x"]),
        (lark(tool), vec!["<tool_call>7</tool_call>"], vec!["<tool_call>8</tool_call>"]),
        // A special token that is named, which no text can stand for.
        (lark("start: <|im_start|> \"a\""), vec!["<|im_start|>a"], vec!["a"]),
    ] {
        for text in yes {
            assert!(accepts(&grammars, &constraint, text), "{constraint:?} should allow {text}");
        }
        for text in no {
            assert!(
                !accepts(&grammars, &constraint, text),
                "{constraint:?} should not allow {text}"
            );
        }
    }
}

#[test]
fn what_is_certain_is_forced_and_nothing_more() {
    let tokenizer = tokenizer();
    let schema = json!({"type": "object", "properties": {"name": {"enum": ["Ann"]}},
        "required": ["name"], "additionalProperties": false});
    let mut guide = grammars().guide(&Constraint::JsonSchema(schema)).unwrap();
    let forced = guide.force(100, |_| true).unwrap();
    assert_eq!(tokenizer.decode(&forced).unwrap(), r#"{"name": "Ann"}"#);
    assert!(guide.is_over());
    let mut guide = grammars().guide(&Constraint::Regex("abc[de]".into())).unwrap();
    assert_eq!(tokenizer.decode(&guide.force(2, |_| true).unwrap()).unwrap(), "ab");
    let c = tokenizer.encode("c").unwrap()[0];
    assert!(guide.force(2, |token| token != c).unwrap().is_empty());
    assert_eq!(guide.force(2, |_| true).unwrap(), [c]);
    assert!(guide.force(2, |_| true).unwrap().is_empty());
}

#[test]
fn any_walk_through_a_schema_ends_in_json_of_that_shape() {
    let schema = json!({"type": "object", "additionalProperties": false,
    "required": ["ok", "list", "text"],
    "properties": {
        "ok": {"type": "boolean"},
        "list": {"type": "array", "items": {"type": "integer", "maximum": 99, "minimum": 0},
            "maxItems": 3},
        "text": {"type": "string", "maxLength": 6},
    }});
    let (grammars, tokenizer) = (grammars(), tokenizer());
    for seed in 0..60 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut guide = grammars.guide(&Constraint::JsonSchema(schema.clone())).unwrap();
        let mut ids = Vec::new();
        while !guide.is_over() {
            ids.extend(guide.force(100, |_| true).unwrap());
            guide.look_ahead();
            if guide.is_over() {
                break;
            }
            let allowed = guide.mask().unwrap().to_list();
            let id = allowed[random.random_range(0..allowed.len())];
            guide.take(id).unwrap();
            ids.push(id);
        }
        let text = tokenizer.decode_text(&ids).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert!(value["ok"].is_boolean() && value["text"].is_string(), "{text}");
        assert!(value["list"].as_array().unwrap().len() <= 3, "{text}");
    }
}

#[test]
fn what_cannot_be_followed_is_refused_with_the_compilers_word() {
    for (constraint, word) in [
        (Constraint::Regex("(".into()), "regex"),
        (Constraint::JsonSchema(json!({"type": "elephant"})), "elephant"),
        (Constraint::JsonSchema(json!([1])), "not a JSON schema"),
        (Constraint::JsonSchema(json!(false)), ""),
        (Constraint::JsonSchema(json!({"$ref": "#/$defs/none"})), "none"),
        (Constraint::JsonSchema(json!({"type": "string", "minLength": 5, "maxLength": 2})), ""),
        (lark("start: missing"), "missing"),
        (lark(""), ""),
        (lark("start: <|no_such_token|>"), "no_such_token"),
        (Constraint::Choice(Vec::new()), "at least one"),
    ] {
        let why = refused(&constraint);
        assert!(why.contains(word), "{constraint:?}: {why}");
        assert!(why.len() < 700, "{why}");
    }
}

/// Each is big, deep, circular or explosive in another way.
fn hostile() -> Vec<Constraint> {
    let nested = |depth: usize, open: &str, close: &str, inner: &str| {
        format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
    };
    let deep = (0..40).fold(
        json!({"type": "string"}),
        |inner, _| json!({"type": "array", "items": inner, "minItems": 50, "maxItems": 5000}),
    );
    let property = json!({"type": "string", "pattern": "^(a|b)*c$"});
    let wide: serde_json::Map<String, Value> =
        (0..1_200).map(|n| (format!("p{n}"), property.clone())).collect();
    let either = json!({"anyOf": [{"required": ["a"]}, {"required": ["b"]}, {"minProperties": 2}]});
    let circle = json!({"$ref": "#/$defs/a",
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}});
    let defined = |next: &dyn Fn(Value) -> Value| {
        let reference = |n: usize| json!({"$ref": format!("#/$defs/d{n}")});
        let mut defs: serde_json::Map<String, Value> =
            (0..800).map(|n| (format!("d{n}"), next(reference(n + 1)))).collect();
        defs.insert("d800".to_owned(), json!({"type": "null"}));
        Constraint::JsonSchema(json!({"$ref": "#/$defs/d0", "$defs": defs}))
    };
    let chain: Vec<String> = (0..3_000).map(|n| format!("r{n}: r{} \"x\"", n + 1)).collect();
    let terminals: Vec<String> = (0..3_000).map(|n| format!("T{n}: T{} \"x\"", n + 1)).collect();
    vec![
        Constraint::Regex(nested(20_000, "(", ")", "a")),
        Constraint::Regex("(a{1,999}){1,999}".repeat(40)),
        Constraint::Regex("x".repeat(300_000)),
        Constraint::Regex(format!("{}a{{500}}", "(a|b)*".repeat(20))),
        Constraint::Regex("(?:.*a.{400}){3}".to_owned()),
        lark(&format!("start: {}", nested(5_000, "(", ")", "\"a\""))),
        lark("start: start start start | start start"),
        lark("start: start"),
        lark("start: \"a\"{100000} (\"b\"{1000}){1000}"),
        lark(&format!("start: r0\n{}\nr3000: \"y\"", chain.join("\n"))),
        lark(&format!("start: T0\n{}\nT3000: \"y\"", terminals.join("\n"))),
        lark(&format!("start: /{}/", "~(a|b)&".repeat(2_000) + "c")),
        Constraint::JsonSchema(json!({"type": "object", "properties": wide})),
        Constraint::JsonSchema(deep),
        Constraint::JsonSchema(circle),
        defined(&|next| next),
        defined(&|next| json!({"items": next})),
        defined(&|next| json!({"allOf": [next]})),
        defined(&|next| json!({"anyOf": [next, {"type": "string"}]})),
        Constraint::JsonSchema(json!({"$ref": "#"})),
        Constraint::JsonSchema(json!({"allOf": [{"$ref": "#"}, {"$ref": "#"}]})),
        Constraint::JsonSchema(json!({"allOf": vec![either; 16]})),
        Constraint::JsonSchema(json!({"type": "string", "minLength": 900_000})),
        Constraint::JsonSchema(json!({"type": "number", "multipleOf": 1e-9, "maximum": 1e300})),
        Constraint::Choice((0..3_000).map(|n| format!("{n:->15}")).collect()),
    ]
}

/// A few steps, which may turn out to be too much.
fn walk(guide: &mut Guide) -> Result<(), InferenceError> {
    for _ in 0..5 {
        let mask = guide.mask()?;
        guide.take(mask.to_list()[0])?;
        guide.force(10, |_| true)?;
        guide.look_ahead();
    }
    Ok(())
}

#[test]
fn hostile_constraints_cost_their_sender_an_error_and_little_time() {
    for constraint in hostile() {
        let text = format!("{:.80}", format!("{constraint:?}"));
        let begun = Instant::now();
        // Some are only big, and may be followed; none may hang or take the process down, also not
        // on the small stack of a server's thread.
        let small = thread::Builder::new().stack_size(2 << 20);
        let run = small.spawn(move || match grammars().guide(&constraint) {
            Err(InferenceError::Invalid { field: "constraint", .. }) => {}
            Err(other) => panic!("refused as {other:?}"),
            Ok(mut guide) => drop(walk(&mut guide)),
        });
        run.unwrap().join().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10), "{text} took {:?}", begun.elapsed());
    }
}

#[test]
fn nesting_just_within_the_limit_fits_a_small_stack() {
    let regex = format!("{}a{}", "(".repeat(99), ")".repeat(99));
    let schema = (0..48).fold(json!({"type": "null"}), |inner, _| json!({"items": inner}));
    for constraint in [Constraint::Regex(regex), Constraint::JsonSchema(schema)] {
        let small = thread::Builder::new().stack_size(2 << 20);
        let run = small.spawn(move || grammars().guide(&constraint).map(drop)).unwrap();
        run.join().unwrap().unwrap();
    }
}

#[test]
fn what_is_asked_for_again_begins_anew() {
    let (grammars, tokenizer) = (grammars(), tokenizer());
    let nth = |n: usize| Constraint::Regex(format!("{}[ab]", "x".repeat(n)));
    let a = tokenizer.encode("a").unwrap()[0];
    for round in 0..3 {
        for n in 1..2 * MOST_KEPT {
            let mut guide = grammars.guide(&nth(n)).unwrap();
            assert_eq!(guide.force(100, |_| true).unwrap().len(), n, "round {round}");
            guide.take(a).unwrap();
            assert!(guide.is_over());
            let kept = grammars.kept.lock().unwrap();
            assert!(kept.len() <= MOST_KEPT && kept[0].0 == nth(n));
        }
        let again = grammars.guide(&nth(2 * MOST_KEPT - 1)).unwrap().force(100, |_| true).unwrap();
        assert_eq!(again.len(), 2 * MOST_KEPT - 1);
    }
}
