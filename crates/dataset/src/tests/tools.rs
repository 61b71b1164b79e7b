use serde_json::{Value, json};
use understudy_manifest::Redact;

use super::*;

fn lookup(description: &str) -> Value {
    let parameters = json!({"type": "object", "properties": {"id": {"type": "string"}}});
    let function = json!({"name": "lookup", "description": description, "parameters": parameters});
    json!({"type": "function", "function": function})
}

fn asked_with(mut judged: JudgedStep, tools: &[Value]) -> JudgedStep {
    judged.step.tools = tools.to_vec();
    judged
}

#[test]
fn every_kind_of_row_has_the_tools_its_step_was_asked_with() {
    let tools = [lookup("Finds an order.")];
    let steps = [
        asked_with(
            with(step("a", "a", "order 7", "it left on monday"), edit("it left on tuesday")),
            &tools,
        ),
        asked_with(with(step("b", "b", "order 8", "no"), Signal::Abandon), &tools),
        with(step("c", "c", "order 9", "yes"), Signal::Accept),
    ];
    let (_root, frozen) = freeze(&try_build(&all_train(), &[], steps).unwrap());
    let sft = frozen.sft(Split::Train).unwrap();
    let of = |trajectory: &str| {
        let id = TrajectoryId::derived(trajectory).to_string();
        sft.iter().find(|row| row.origin.trajectory == id).unwrap()
    };
    assert_eq!((&of("a").tools[..], &of("c").tools[..]), (&tools[..], &[][..]));
    assert_eq!(frozen.pairs(Split::Train).unwrap()[0].tools, tools);
    let labels = frozen.labels(Split::Train).unwrap();
    let label = labels.iter().find(|row| !row.label).unwrap();
    assert_eq!(label.tools, tools);
    // What has no tools is written as it was before there were any.
    let line = understudy_manifest::canonical_json(of("c"));
    assert!(!line.contains("tools"), "{line}");
}

#[test]
fn the_same_words_with_other_tools_are_another_example() {
    let accepted = |name: &str, tools: &[Value]| {
        asked_with(with(step(name, name, "order 7", "done"), Signal::Accept), tools)
    };
    let count = |steps: Vec<JudgedStep>| {
        let (_root, frozen) = freeze(&try_build(&all_train(), &[], steps).unwrap());
        frozen.sft(Split::Train).unwrap().len()
    };
    let (one, other) = ([lookup("Finds an order.")], [lookup("Finds a parcel.")]);
    assert_eq!(count(vec![accepted("a", &one), accepted("b", &one)]), 1);
    assert_eq!(count(vec![accepted("a", &one), accepted("b", &other), accepted("c", &[])]), 3);
    // Nor is a reply to them used in place of one to the others.
    let asked_again = with(step("s", "first", "order 7", "no"), Signal::Regenerate { kept: None });
    let kept = later(with(step("s", "second", "order 7", "yes"), Signal::Accept), 1);
    let pairs = |kept: JudgedStep| {
        let steps = [asked_with(asked_again.clone(), &one), kept];
        let (_root, frozen) = freeze(&try_build(&all_train(), &[], steps).unwrap());
        frozen.pairs(Split::Train).unwrap().len()
    };
    assert_eq!(pairs(asked_with(kept.clone(), &one)), 1);
    assert_eq!(pairs(asked_with(kept, &other)), 0);
}

#[test]
fn what_may_be_chosen_from_is_masked_like_what_is_said() {
    let tools = [lookup("Writes to anna@example.com or to nobody.")];
    let data = Data { redact: Redact::Standard, ..all_train() };
    let steps =
        [asked_with(with(step("a", "a", "to anna@example.com", "ok"), Signal::Accept), &tools)];
    let (_root, frozen) = freeze(&try_build(&data, &[], steps).unwrap());
    let row = &frozen.sft(Split::Train).unwrap()[0];
    let told = row.tools[0].pointer("/function/description").and_then(Value::as_str).unwrap();
    let said = row.prompt[1].text();
    let pseudonym = said.strip_prefix("to ").unwrap();
    assert_eq!(told, format!("Writes to {pseudonym} or to nobody."));
    assert_eq!(row.tools[0]["function"]["parameters"], tools[0]["function"]["parameters"]);
}
