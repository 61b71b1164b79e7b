use std::collections::BTreeSet;

use serde_json::json;
use understudy_message::Role;

use super::*;
use crate::{Turn, named};

fn tasks(split: Split, count: usize) -> Vec<Task> {
    PriceDesk::default().tasks(split, 7, count)
}

/// The first task with one product, so that a single lookup is enough.
fn simple() -> (Task, Order) {
    let task = tasks(Split::Train, 50).into_iter();
    let mut orders = task.map(|task| (task.clone(), Order::read(&task.record).unwrap()));
    orders.find(|(_, order)| order.items.len() == 1).unwrap()
}

/// Says these in turn; the reward and everything that happened after each.
fn play(desk: PriceDesk, task: &Task, replies: &[&str]) -> (Option<f64>, Vec<Turn>) {
    let mut episode = desk.start(task).unwrap();
    let turns = replies.iter().map(|text| episode.act(&Message::assistant(*text))).collect();
    (episode.reward().unwrap(), turns)
}

fn seen(turn: &Turn) -> String {
    let Turn::Observe(messages) = turn else { panic!("expected an observation, not {turn:?}") };
    messages.iter().map(Message::text).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_same_seed_gives_the_same_tasks_and_none_twice() {
    let made = tasks(Split::Train, 500);
    assert_eq!(made, tasks(Split::Train, 500));
    assert_eq!(made[..100], tasks(Split::Train, 100));
    assert_ne!(made, PriceDesk::default().tasks(Split::Train, 8, 500));
    let records: BTreeSet<String> = made.iter().map(|task| task.record.to_string()).collect();
    assert_eq!(records.len(), 500);
}

#[test]
fn no_code_occurs_in_both_splits() {
    let codes = |split| {
        let orders = tasks(split, 2000).into_iter().map(|task| Order::read(&task.record).unwrap());
        orders.flat_map(|order| order.items).map(|item| item.code).collect::<BTreeSet<_>>()
    };
    let (train, held_out) = (codes(Split::Train), codes(Split::HeldOut));
    assert!(train.len() > 500 && held_out.len() > 500);
    assert!(train.is_disjoint(&held_out));
    let first = |codes: &BTreeSet<String>| codes.iter().map(|code| code[..1].to_owned()).collect();
    let letters: [BTreeSet<String>; 2] = [first(&train), first(&held_out)];
    assert!(letters[0].is_disjoint(&letters[1]), "not by luck but by letter");
}

#[test]
fn one_seed_gives_the_two_splits_unrelated_orders() {
    let totals = |split| {
        let orders = tasks(split, 100).into_iter().map(|task| Order::read(&task.record).unwrap());
        orders.map(|order| order.total()).collect::<Vec<_>>()
    };
    let (train, held_out) = (totals(Split::Train), totals(Split::HeldOut));
    let same = train.iter().zip(&held_out).filter(|(one, other)| one == other).count();
    assert!(same < 10, "{same} of 100 answers are the same");
}

#[test]
fn prices_are_in_no_prompt() {
    for task in tasks(Split::Train, 200) {
        let order = Order::read(&task.record).unwrap();
        let question = task.prompt.last().unwrap().text();
        for item in &order.items {
            assert!(question.contains(&format!("{} of {}", item.quantity, item.code)));
        }
        let numbers: Vec<&str> =
            question.split(|c: char| !c.is_ascii_digit()).filter(|n| !n.is_empty()).collect();
        // Quantity and code of each item, and the discount: nothing else.
        let known = order.items.len() * 2 + usize::from(order.discount > 0);
        assert_eq!(numbers.len(), known, "{question}");
    }
}

#[test]
fn the_demonstration_earns_everything_and_foresees_what_is_observed() {
    for calls in [CallStyle::Line, CallStyle::Json, CallStyle::Native] {
        let desk = PriceDesk { calls, ..PriceDesk::default() };
        for task in tasks(Split::Train, 200).iter().chain(&tasks(Split::HeldOut, 200)) {
            let mut episode = desk.start(task).unwrap();
            assert_eq!(episode.prompt(), task.prompt);
            let demonstration = desk.demonstration(task).unwrap();
            let mut messages = demonstration.iter();
            while let Some(said) = messages.next() {
                assert_eq!(said.role, Role::Assistant);
                match episode.act(said) {
                    Turn::Observe(observed) => {
                        assert_eq!(observed, [messages.next().unwrap().clone()]);
                        assert_eq!(episode.reward(), Ok(None));
                    }
                    turn => assert_eq!((turn, messages.len()), (Turn::Done, 0)),
                }
            }
            assert_eq!(episode.reward(), Ok(Some(1.0)), "{demonstration:?}");
        }
    }
}

#[test]
fn an_answer_without_looking_up_is_a_guess_and_earns_nothing() {
    for task in tasks(Split::Train, 300) {
        let total = Order::read(&task.record).unwrap().total();
        let right = format!("ANSWER: {total}");
        for guess in [right.as_str(), "ANSWER: 100", "ANSWER:", ""] {
            for shaping in [0.0, 0.5] {
                let desk = PriceDesk { shaping, turns: 1, ..PriceDesk::default() };
                assert_eq!(play(desk, &task, &[guess]), (Some(0.0), vec![Turn::Done]), "{guess}");
            }
        }
    }
}

#[test]
fn no_constant_script_earns_anything() {
    let scripts: [&[&str]; 3] = [
        &["lookup(A17)", "calculate(2 * 30)", "ANSWER: 60"],
        &["calculate(1)", "ANSWER: 1"],
        &["lookup(A)", "lookup(B)", "lookup(C)", "ANSWER: 0"],
    ];
    for script in scripts {
        let tasks = tasks(Split::HeldOut, 300);
        let earned = tasks.iter().map(|task| play(PriceDesk::default(), task, script).0.unwrap());
        assert_eq!(earned.sum::<f64>(), 0.0, "{script:?}");
    }
}

#[test]
fn looking_up_pays_its_share_only_where_shaping_is_on_and_the_answer_is_wrong() {
    let (task, order) = simple();
    let lookup = format!("lookup({})", order.items[0].code);
    let wrong = format!("ANSWER: {}", order.total() + 1.0);
    let right = format!("So that is it.\nANSWER: {} euros", order.total());
    let shaped = PriceDesk { shaping: 0.25, ..PriceDesk::default() };
    assert_eq!(play(PriceDesk::default(), &task, &[&lookup, &wrong]).0, Some(0.0));
    assert_eq!(play(shaped, &task, &[&lookup, &wrong]).0, Some(0.25));
    assert_eq!(play(shaped, &task, &[&lookup, &lookup, &wrong]).0, Some(0.25));
    assert_eq!(play(shaped, &task, &[&lookup, &right]).0, Some(1.0));
}

#[test]
fn what_goes_wrong_is_observed_and_the_episode_goes_on() {
    let (task, order) = simple();
    for (reply, said) in [
        ("Hello!", "error: call a tool, or finish"),
        ("lookup(A17", "error: `lookup(A17` is no call"),
        ("lookup(ZZ9)", "error: no product `ZZ9`"),
        ("calculate(2 ** 3)", "error: unexpected `*`"),
        ("calculate(1/0)", "error: division by zero"),
        ("<tool_call>{</tool_call>", "error: the tool call is not valid JSON"),
        ("{\"name\": \"rm\", \"arguments\": {}}", "error: there is no tool `rm`"),
        ("{\"name\": \"lookup\", \"arguments\": {}}", "error: `lookup` needs `code`"),
        (
            "{\"name\": \"lookup\", \"arguments\": {\"id\": 1}}",
            "error: `lookup` has no argument `id`",
        ),
        ("calculate(0.1 + 0.2)", "0.3"),
        ("{\"name\": \"calculate\", \"arguments\": {\"expression\": 5}}", "5"),
    ] {
        let lookup = format!("lookup({})", order.items[0].code);
        let answer = format!("ANSWER: {}", order.total());
        let (reward, turns) = play(PriceDesk::default(), &task, &[reply, &lookup, &answer]);
        assert!(seen(&turns[0]).starts_with(said), "{reply}: {}", seen(&turns[0]));
        assert_eq!((reward, &turns[2]), (Some(1.0), &Turn::Done), "{reply}");
    }
}

#[test]
fn a_reply_that_asks_and_answers_at_once_has_only_asked() {
    let (task, order) = simple();
    let both = format!("lookup({})\nANSWER: {}", order.items[0].code, order.total());
    let (reward, turns) = play(PriceDesk::default(), &task, &[&both]);
    assert_eq!((reward, seen(&turns[0])), (None, order.items[0].price.to_string()));
}

#[test]
fn several_calls_get_an_answer_each_up_to_a_limit() {
    let (task, _) = simple();
    let replies = ["calculate(1)\ncalculate(2)", &"calculate(1)\n".repeat(100)];
    let (_, turns) = play(PriceDesk::default(), &task, &replies);
    assert_eq!(seen(&turns[0]), "1\n2");
    assert_eq!(seen(&turns[1]).lines().count(), 8);
}

#[test]
fn turns_run_out_and_after_the_end_nothing_changes() {
    let (task, order) = simple();
    let desk = PriceDesk { turns: 2, ..PriceDesk::default() };
    let lookup = format!("lookup({})", order.items[0].code);
    let right = format!("ANSWER: {}", order.total());
    let (reward, turns) = play(desk, &task, &[&lookup, &lookup, &right]);
    assert_eq!((reward, &turns[1..]), (Some(0.0), &[Turn::Done, Turn::Done][..]));
    assert_eq!(play(desk, &task, &[&lookup, &right]).0, Some(1.0));
}

#[test]
fn native_calls_are_answered_by_their_ids() {
    let (task, order) = simple();
    let call = Call::new("lookup", [("code", order.items[0].code.as_str().into())]);
    let mut episode = PriceDesk::default().start(&task).unwrap();
    let Turn::Observe(seen) = episode.act(&write_call(&call, CallStyle::Native, "c9")) else {
        panic!("expected an observation");
    };
    assert_eq!((seen[0].role, seen[0].tool_call_id.as_deref()), (Role::Tool, Some("c9")));
    assert_eq!(seen[0].name.as_deref(), Some("lookup"));
}

#[test]
fn environments_are_found_by_name_and_refuse_what_is_not_theirs() {
    let desk = named("price_desk").unwrap();
    assert_eq!((desk.name(), desk.tools().len()), ("price_desk", 2));
    assert!(named("prize_desk").unwrap_err().to_string().contains("there is price_desk"));
    for record in [json!(null), json!({"items": [], "discount": 0}), json!({"items": 1})] {
        let task = Task { id: "t".to_owned(), prompt: Vec::new(), record };
        let error = desk.start(&task).unwrap_err();
        assert!(matches!(error, EnvironmentError::Task { .. }));
        assert!(desk.demonstration(&task).is_err());
    }
}
