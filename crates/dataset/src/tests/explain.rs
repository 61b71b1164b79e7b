use crate::{Builder, Verdict};

use super::*;

fn explain(name: &str, data: &Data, steps: Vec<JudgedStep>) -> Vec<(&'static str, String)> {
    let (task, held_out) = (task(), [suite(&["a held out question"])]);
    let now = at(86_400_000);
    let request = Request { task: &task, data, seed: 17, sources: &[], suites: &held_out, now };
    let mut builder = Builder::new(request, &std::env::temp_dir()).unwrap().following(name);
    for trajectory in trajectories(steps) {
        builder.add(trajectory).unwrap();
    }
    let verdicts = builder.explain().unwrap().into_iter();
    verdicts.map(|Verdict { stage, what }| (stage, what)).collect()
}

fn steps() -> Vec<JudgedStep> {
    let mut cut = with(step("c", "cut", "long", "half an"), Signal::Accept);
    cut.step.finish_reason = FinishReason::Length;
    let mut foreign = step("f", "foreign", "x", "y");
    foreign.step.task = "another".parse().unwrap();
    let damned = with(step("d", "damned", "q", "r"), Signal::Accept);
    vec![
        with(step("a", "good", "question", "answer"), Signal::Accept),
        later(with(step("b", "again", "question", "answer"), Signal::Accept), 1),
        with(
            step("h", "held", "a held out question", "an answer to it"),
            edit("an answer to that"),
        ),
        step("s", "silent", "nobody", "cares"),
        with(damned, Signal::Flag { reason: "rude".to_owned() }),
        cut,
        foreign,
        later(with(step("m", "mail", "I am a@x.example", "hello"), Signal::Accept), 2),
    ]
}

fn last(name: &str, data: &Data) -> (&'static str, String) {
    explain(name, data, steps()).pop().unwrap()
}

#[test]
fn every_stage_that_leaves_a_step_out_says_so() {
    let data = all_train();
    let said = |stage, what: &str| (stage, what.to_owned());
    assert_eq!(last("chatcmpl-foreign", &data), said("select", "left out: other_task"));
    assert_eq!(last("chatcmpl-cut", &data), said("filter", "left out: cut_off"));
    assert_eq!(
        last("chatcmpl-silent", &data),
        said("join", "nothing was said; left out: no_outcome")
    );
    assert_eq!(last("chatcmpl-damned", &data), said("join", "accept, flag; left out: review"));
    assert_eq!(
        last("chatcmpl-again", &data),
        said("dedupe", "labels: left out: an older row teaches the same")
    );
    let why = "pairs: left out: repeats a held-out case, exact";
    assert_eq!(last("chatcmpl-held", &data), said("decontaminate", why));
    let data = Data { limit: Some(1), ..all_train() };
    let why = "labels: left out: there are enough newer ones";
    assert_eq!(last("chatcmpl-good", &data), said("limit", why));
    assert_eq!(explain("nobody", &data, steps()), []);
}

#[test]
fn a_step_that_is_in_is_followed_to_its_lines() {
    let id = StepId::derived("good");
    let verdicts = explain(id.as_str(), &all_train(), steps());
    let stages: Vec<&str> = verdicts.iter().map(|(stage, _)| *stage).collect();
    let of_two_rows = ["dedupe", "decontaminate", "limit", "split"].map(|stage| [stage; 2]);
    assert_eq!(
        stages,
        [&["select", "filter", "join", "build"][..], of_two_rows.as_flattened()].concat()
    );
    assert_eq!(verdicts[3].1, "sft, labels");
    assert_eq!(verdicts[10].1, "line 1 of sft.train.jsonl");
    let draft = try_build(&all_train(), &[suite(&["a held out question"])], steps()).unwrap();
    let first = draft.file("sft.train.jsonl").unwrap().unwrap();
    assert!(first.lines().next().unwrap().contains(id.as_str()));
}

/// What a build refuses to freeze can be explained all the same.
#[test]
fn a_refused_build_says_why() {
    let data = Data { min_verified: 1000, ..all_train() };
    let verdicts = explain("chatcmpl-good", &data, steps());
    let (stage, what) = verdicts.last().unwrap();
    assert_eq!(*stage, "freeze");
    assert!(what.contains("there is no version") && what.contains("1000"), "{what}");
}
