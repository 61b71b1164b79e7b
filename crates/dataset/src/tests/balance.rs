//! Caps on what one prompt, answer, tool, model or label may make.

use understudy_inference::ServedAdapter;
use understudy_manifest::Balanced;
use understudy_message::{FunctionCall, ToolCall};

use super::*;

fn accepted(nth: i64, prompt: &str, reply: &str) -> JudgedStep {
    let name = format!("step {nth}");
    later(with(step(&name, &name, prompt, reply), Signal::Accept), nth)
}

fn built(data: &Data, steps: impl IntoIterator<Item = JudgedStep>) -> Draft {
    try_build(data, &[], steps).unwrap()
}

fn balanced(draft: &Draft, setting: &str) -> Balanced {
    draft.manifest().balance[setting].clone()
}

/// The steps whose replies are to be imitated.
fn imitated(draft: &Draft) -> Vec<String> {
    let (_root, frozen) = freeze(draft);
    let rows = frozen.sft(Split::Train).unwrap();
    rows.into_iter().flat_map(|row| row.origin.steps).collect()
}

fn ids(numbers: impl IntoIterator<Item = i64>) -> Vec<String> {
    numbers.into_iter().map(|nth| StepId::derived(&format!("step {nth}")).to_string()).collect()
}

#[test]
fn the_newest_of_much_the_same_prompt_stay() {
    let steps = (0..30).map(|nth| {
        let prompt = if nth < 20 {
            format!("please tell me where my order with the number {nth} is at present")
        } else {
            format!("{} and nothing besides", "other words ".repeat(nth as usize))
        };
        accepted(nth, &prompt, &format!("reply {nth}"))
    });
    let data = Data { max_per_prompt: Some(4), ..all_train() };
    let draft = built(&data, steps.clone());
    assert_eq!(imitated(&draft)[..4], ids(16..20));
    let Balanced { most, before, after, rows } = balanced(&draft, "max_per_prompt");
    assert_eq!((most, before, after), (4.0, 20.0, 4.0));
    assert_eq!(rows, count(&draft, "balance", "over_the_cap_of_a_prompt"));
    assert!(rows >= 32, "an example and a label each: {rows}");
    // Without a cap there is no stage.
    let free = built(&all_train(), steps);
    assert!(free.manifest().stages.iter().all(|stage| stage.stage != "balance"));
    assert!(free.manifest().balance.is_empty());
}

#[test]
fn classes_are_capped_by_their_answer() {
    let steps = (0..40).map(|nth| {
        let reply = if nth % 10 == 0 { "billing" } else { "delivery" };
        accepted(nth, &format!("prompt {nth}"), reply)
    });
    let data = Data { max_per_answer: Some(5), ..all_train() };
    let draft = built(&data, steps);
    let kept: Vec<i64> = (0..40).filter(|nth| nth % 10 == 0 || *nth >= 35).collect();
    assert_eq!(imitated(&draft), ids(kept));
    assert_eq!(balanced(&draft, "max_per_answer").before, 36.0);
}

#[test]
fn calls_of_one_tool_and_replies_of_one_model_are_capped() {
    let call = |name: &str| ToolCall {
        id: "c".to_owned(),
        kind: "function".to_owned(),
        function: FunctionCall { name: name.to_owned(), arguments: "{}".to_owned() },
    };
    let steps = (0..12).map(|nth| {
        let mut judged = accepted(nth, &format!("prompt {nth}"), "");
        let tool = if nth < 9 { "search" } else { "refund" };
        judged.step.reply.tool_calls = vec![call(tool)];
        let generation = if nth % 2 == 0 { "even" } else { "odd" };
        let (alias, generation) = ("live".to_owned(), generation.to_owned());
        judged.step.served.adapter = Some(ServedAdapter { alias, generation });
        judged
    });
    let draft = built(&Data { max_per_tool: Some(2), ..all_train() }, steps.clone());
    assert_eq!(imitated(&draft), ids([7, 8, 10, 11]));
    let draft = built(&Data { max_per_model: Some(1), ..all_train() }, steps.clone());
    assert_eq!(imitated(&draft), ids([10, 11]));
    // One after the other: what one cap left out counts for none of the next.
    let both = Data { max_per_tool: Some(2), max_per_model: Some(1), ..all_train() };
    let draft = built(&both, steps);
    assert_eq!(imitated(&draft), ids([10, 11]));
    assert_eq!(balanced(&draft, "max_per_model").before, 2.0);
}

#[test]
fn labels_of_the_commoner_kind_are_left_out_down_to_the_ratio() {
    let steps = |unwanted: i64| {
        (0..30).map(move |nth| {
            let said = if nth < unwanted { Signal::Abandon } else { Signal::Accept };
            let name = format!("step {nth}");
            later(with(step(&name, &name, &format!("prompt {nth}"), "reply"), said), nth)
        })
    };
    let labels = |draft: &Draft| {
        let (_root, frozen) = freeze(draft);
        let rows = frozen.labels(Split::Train).unwrap();
        rows.iter().filter(|row| row.label).count()
    };
    let data = Data { max_label_ratio: Some(1.5), ..all_train() };
    let draft = built(&data, steps(6));
    assert_eq!(draft.manifest().rows("labels.train.jsonl"), 6 + 9);
    assert_eq!(labels(&draft), 9);
    let Balanced { before, after, rows, .. } = balanced(&draft, "max_label_ratio");
    assert_eq!((before, after, rows), (4.0, 1.5, 15));
    // Examples to imitate are no labels.
    assert_eq!(draft.manifest().rows("sft.train.jsonl"), 24);
    // Of one kind alone there is nothing to even out.
    let draft = built(&data, steps(0));
    assert_eq!(draft.manifest().rows("labels.train.jsonl"), 30);
}

#[test]
fn a_row_that_is_over_a_cap_says_over_which_and_the_card_tells_before_and_after() {
    let steps: Vec<JudgedStep> =
        (0..4).map(|nth| accepted(nth, &format!("prompt {nth}"), "same")).collect();
    let data = Data { max_per_answer: Some(1), ..all_train() };
    let (task, now) = (task(), at(86_400_000));
    let request = Request { task: &task, data: &data, seed: 17, sources: &[], suites: &[], now };
    let builder = crate::Builder::new(request, &std::env::temp_dir()).unwrap();
    let mut builder = builder.following("chatcmpl-step 0");
    for trajectory in trajectories(steps.clone()) {
        builder.add(trajectory).unwrap();
    }
    let last = builder.explain().unwrap().pop().unwrap();
    assert_eq!(last.stage, "balance");
    assert_eq!(last.what, "labels: left out: enough newer steps have the same answer");
    let (_root, frozen) = freeze(&built(&data, steps));
    let card = std::fs::read_to_string(frozen.dir().join("README.md")).unwrap();
    assert!(card.contains("| `max_per_answer` | 1 | 4.000 | 1.000 | 6 |"), "{card}");
}
