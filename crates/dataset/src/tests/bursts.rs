//! Much that was said within minutes.

use understudy_trajectory::{Arm, Assignment, Course};

use super::*;
use crate::{Builder, Burst, Review};

const MINUTE: i64 = 60_000;

/// A step of a subject or of an arm, and what was said of it half a minute later.
fn said(nth: i64, minute: i64, subject: Option<&str>, arm: Option<Arm>) -> JudgedStep {
    let name = format!("step {nth}");
    let mut judged = with(step(&name, &name, &name, "reply"), Signal::Accept);
    judged.step.at = at(minute * MINUTE);
    judged.outcomes[0].at = at(minute * MINUTE + MINUTE / 2);
    judged.step.subject = subject.map(str::to_owned);
    judged.step.assignment = arm.map(|arm| Assignment {
        arm,
        analysed: false,
        unit: name,
        u: 0,
        release: None,
        course: Course::default(),
    });
    judged
}

fn bursts(steps: Vec<JudgedStep>) -> Vec<Burst> {
    let (task, data, now) = (task(), all_train(), at(86_400_000));
    let request = Request { task: &task, data: &data, seed: 17, sources: &[], suites: &[], now };
    let mut builder = Builder::new(request, &std::env::temp_dir()).unwrap();
    for trajectory in trajectories(steps) {
        builder.add(trajectory).unwrap();
    }
    let found = builder.review().unwrap().into_iter();
    found
        .map(|one| match one {
            Review::Burst(burst) => burst,
            Review::Reply(conflict) => panic!("{conflict:?}"),
        })
        .collect()
}

/// Forty people who judge two replies each, and one who judges `many` within ten minutes.
fn one_says_more(many: i64) -> Vec<JudgedStep> {
    let usual = (0..80).map(|nth| (nth, nth, format!("user {}", nth % 40)));
    let much = (80..80 + many).map(|nth| (nth, 50, "loud".to_owned()));
    usual.chain(much).map(|(nth, minute, who)| said(nth, minute, Some(&who), None)).collect()
}

#[test]
fn what_one_subject_says_within_minutes_is_told_and_counted_and_nothing_is_left_out() {
    let found = bursts(one_says_more(35));
    let [Burst { subject, arm, from, said, usual, .. }] = &found[..] else { panic!("{found:?}") };
    assert_eq!((subject.as_deref(), *arm, *from), (Some("loud"), None, at(50 * MINUTE)));
    assert_eq!((*said, *usual), (35, 1.0));
    let draft = try_build(&all_train(), &[], one_says_more(35)).unwrap();
    assert_eq!(count(&draft, "join", "in_a_burst_of_a_subject"), 35);
    assert_eq!(draft.manifest().rows("sft.train.jsonl"), 115);
    let (_root, frozen) = freeze(&draft);
    let card = std::fs::read_to_string(frozen.dir().join("README.md")).unwrap();
    assert!(card.contains("- 35 steps were judged when more was said of one subject's"), "{card}");
    assert_eq!(bursts(one_says_more(29)), [], "it takes thirty");
}

#[test]
fn where_everybody_says_much_or_a_program_does_nobody_stands_out() {
    let everybody = (0..200).map(|nth| said(nth, 50, Some(&format!("user {}", nth % 4)), None));
    assert_eq!(bursts(everybody.collect()), []);
    let mut steps = one_says_more(60);
    for outcome in steps.iter_mut().flat_map(|judged| &mut judged.outcomes) {
        outcome.source = Source::Automated;
    }
    assert_eq!(bursts(steps), []);
}

/// An hour and a half of one reply and one word about it a minute.
fn an_arm(arm: Arm) -> Vec<JudgedStep> {
    (0..90).map(|nth| said(nth, nth, None, Some(arm))).collect()
}

#[test]
fn a_wave_of_words_about_an_arm_is_one_and_more_traffic_is_not() {
    let mut steps = an_arm(Arm::Canary);
    // What was answered in the first hour is judged all at once, over and over.
    for (nth, judged) in steps.iter_mut().take(60).enumerate() {
        for again in 0..4 {
            let mut one = judged.outcomes[0].clone();
            one.id = OutcomeId::derived(&format!("wave {nth} {again}"));
            one.at = at(85 * MINUTE);
            judged.outcomes.push(one);
        }
    }
    let found = bursts(steps.clone());
    let [Burst { subject, arm, from, said: times, .. }] = &found[..] else { panic!("{found:?}") };
    assert_eq!((subject, *arm, *from), (&None, Some(Arm::Canary), at(80 * MINUTE)));
    assert_eq!(*times, 250);
    let draft = try_build(&all_train(), &[], steps).unwrap();
    assert_eq!(count(&draft, "join", "in_a_burst_of_an_arm"), 70);

    let mut steps = an_arm(Arm::Stable);
    steps.extend((100..500).map(|nth| said(nth, 85, None, Some(Arm::Stable))));
    assert_eq!(bursts(steps), [], "its share has grown");
}
