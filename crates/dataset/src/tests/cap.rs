//! What one subject may make of a version when the recipe says nothing about it.

use super::*;
use crate::cap::ALWAYS;

/// Accepted replies, `count` of one person and the rest of nobody in particular.
fn one_among_many(count: i64, others: i64) -> Vec<JudgedStep> {
    let accepted = |nth: i64| {
        let name = format!("step {nth}");
        let mut judged = later(with(step(&name, &name, &name, "reply"), Signal::Accept), nth);
        judged.step.subject = (nth < count).then(|| "the busy one".to_owned());
        judged
    };
    (0..count + others).map(accepted).collect()
}

#[test]
fn one_person_among_many_keeps_the_newest_steps_up_to_a_share() {
    let always = ALWAYS as i64;
    let steps = one_among_many(always + 7, 220);
    let draft = try_build(&all_train(), &[], steps.clone()).unwrap();
    // An example and a label each.
    assert_eq!(count(&draft, "cap", "over_the_share_of_a_subject"), 14);
    let text = draft.file("sft.train.jsonl").unwrap().unwrap();
    assert_eq!(text.lines().count() as i64, always + 220);
    assert!(!text.contains(StepId::derived("step 6").as_str()));
    assert!(text.contains(StepId::derived("step 7").as_str()));
    let population = draft.manifest().population.clone().unwrap();
    assert_eq!((population.subjects, population.most_of_one_subject), (1, ALWAYS));
    assert_eq!(population.without_subject, 220);

    let uncapped = Data { max_subject_share: 1.0, ..all_train() };
    let draft = try_build(&uncapped, &[], steps).unwrap();
    assert!(draft.manifest().stages.iter().all(|stage| stage.stage != "cap"));
}

#[test]
fn a_person_alone_keeps_everything() {
    let draft = try_build(&all_train(), &[], one_among_many(ALWAYS as i64 + 7, 0)).unwrap();
    assert_eq!(draft.manifest().rows("sft.train.jsonl"), ALWAYS + 7);
    assert!(draft.manifest().stages.iter().all(|stage| stage.stage != "cap"));
}

#[test]
fn a_row_over_the_share_says_so() {
    let (task, data, now) = (task(), all_train(), at(86_400_000));
    let request = Request { task: &task, data: &data, seed: 17, sources: &[], suites: &[], now };
    let builder = crate::Builder::new(request, &std::env::temp_dir()).unwrap();
    let mut builder = builder.following("chatcmpl-step 0");
    for trajectory in trajectories(one_among_many(ALWAYS as i64 + 1, 200)) {
        builder.add(trajectory).unwrap();
    }
    let last = builder.explain().unwrap().pop().unwrap();
    assert_eq!(last.stage, "cap");
    assert_eq!(last.what, "labels: left out: its subject makes its share with newer ones");
}
