//! The order and number of deliveries never show, and neither do crashes or new rules.

use std::collections::BTreeSet;

use rand::SeedableRng;

use super::*;

fn steps_of(home: &Home) -> Vec<Step> {
    let trajectories = home.trajectories();
    let judged = trajectories.into_iter().flat_map(|trajectory| trajectory.steps);
    let mut steps: Vec<Step> = judged.map(|judged| judged.step).collect();
    steps.sort_by(|a, b| a.id.cmp(&b.id));
    steps
}

#[test]
fn however_it_is_delivered_the_trajectories_are_the_same_bytes() {
    for seed in 0..12 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let sent = world(&mut random);
        let whole = Home::new();
        whole.send_all(&sent);
        whole.read();
        assert_eq!(steps_of(&whole), at_once(&sent), "seed {seed}");
        for _ in 0..2 {
            let mut deliveries = sent.clone();
            deliveries.extend_from_slice(&sent[..random.random_range(0..=sent.len())]);
            deliveries.shuffle(&mut random);
            let other = Home::new();
            for body in &deliveries {
                other.send(body);
                if random.random_bool(0.4) {
                    other.read();
                }
            }
            other.read();
            assert_eq!(other.text(), whole.text(), "seed {seed}");
            let distinct: BTreeSet<&Sent> = sent.iter().collect();
            assert_eq!(other.journal.counts().unwrap().bodies, distinct.len() as u64);
        }
    }
}

#[test]
fn reading_again_changes_nothing_and_new_rules_read_everything() {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let home = Home::new();
    home.send_all(&world(&mut random));
    let first = home.read();
    let (text, records) = (home.text(), home.journal.counts().unwrap().records);
    assert!(first.told >= 3 && first.withdrawn == 0, "{first:?}");
    assert_eq!(home.read(), Progress::default());

    // A crash before the place was noted: the same is told, and is known already.
    let notes = understudy_journal::Notes { mapper: "mapper@0".to_owned(), ..Default::default() };
    home.journal.note(notes).unwrap();
    assert_eq!(home.read(), Progress { bodies: first.bodies, ..Progress::default() });
    assert_eq!(home.journal.counts().unwrap().records, records);

    let newer = Intake::with_mapper(home.journal.clone(), Limits::default(), 999);
    let again = Home { intake: newer, ..home };
    let second = again.read();
    assert_eq!((second.told, second.withdrawn), (first.told, 0));
    assert_eq!(again.text(), text);
    assert_eq!(again.journal.told_otherwise("mapper@999").unwrap(), Vec::<String>::new());
    let counts = again.journal.counts().unwrap();
    assert_eq!(counts.superseded, first.told as u64);
}

#[test]
fn what_other_rules_made_is_over_unless_nobody_can_read_its_body_again() {
    for expired in [false, true] {
        let home = Home::new();
        home.send(&traces(&[call(1, 1, 1, &["q".into(), "a".into()], json!({}))]));
        home.read();
        let step = steps_of(&home).remove(0);
        let entry = understudy_journal::Entry::Step(Box::new(Step {
            id: understudy_ident::StepId::derived("of older rules"),
            ..step
        }));
        let told = understudy_journal::Told { origin: "mapper@0".to_owned(), entry };
        home.journal.append_told(told).unwrap().wait().unwrap();
        if expired {
            assert_eq!(home.journal.expire_bodies(Timestamp::MAX).unwrap(), 1);
        }
        let withdrawn = home.read().withdrawn;
        assert_eq!((withdrawn, steps_of(&home).len()), if expired { (0, 2) } else { (1, 1) });
    }
}

#[test]
fn a_late_span_joins_and_a_score_that_came_first_finds_it() {
    let home = Home::new();
    let words = |n: usize| (0..2 * n).map(|n| format!("w{n}")).collect::<Vec<_>>();
    home.send(&score(1, Some(1), 1.0));
    home.send(&traces(&[call(2, 2, 2, &words(2), json!({}))]));
    home.read();
    assert_eq!(home.trajectories().len(), 1);
    assert_eq!(home.trajectories()[0].steps[0].outcomes, []);
    home.send(&traces(&[call(1, 1, 1, &words(1), json!({}))]));
    let progress = home.read();
    assert_eq!(progress.withdrawn, 0);
    let [trajectory] = &home.trajectories()[..] else { panic!("one conversation") };
    let outcomes: Vec<usize> = trajectory.steps.iter().map(|step| step.outcomes.len()).collect();
    assert_eq!(outcomes, [1, 0]);
}

#[test]
fn a_call_our_own_server_answered_is_not_stored_again() {
    let home = Home::new();
    let words = ["hello".to_owned(), "hi".to_owned()];
    let theirs = traces(&[call(1, 1, 1, &words, json!({"gen_ai.response.id": "chatcmpl-1"}))]);
    let before = at_once(std::slice::from_ref(&theirs)).remove(0);
    let own = understudy_ident::StepId::derived("own");
    home.journal.append_step(Step { id: own.clone(), ..before }).unwrap().wait().unwrap();
    home.send(&theirs);
    home.send(&score(1, Some(1), 0.0));
    home.read();
    let steps = steps_of(&home);
    assert_eq!(steps.iter().map(|step| &step.id).collect::<Vec<_>>(), [&own]);
    assert_eq!(home.trajectories()[0].steps[0].outcomes.len(), 1);
}

#[test]
fn bodies_of_different_tasks_are_never_read_together() {
    let home = Home::new();
    let words = |n: usize| (0..2 * n).map(|n| format!("w{n}")).collect::<Vec<_>>();
    home.send(&traces(&[call(1, 1, 1, &words(1), json!({}))]));
    let (payload, body) = traces(&[call(2, 2, 2, &words(2), json!({}))]);
    let request = Request {
        task: "other".parse().unwrap(),
        payload,
        content_type: "application/json",
        compression: Compression::None,
        body: &body,
    };
    home.intake.receive(request).unwrap().ack.unwrap().wait().unwrap();
    home.read();
    assert_eq!(home.trajectories().len(), 2);
}

#[test]
fn the_bodies_of_a_subject_are_found_wherever_it_is_named() {
    let home = Home::new();
    let said = |text: &str| vec![format!("{text} asks"), format!("{text} is told")];
    let named = json!({"user.id": "rosalind"});
    let unnamed = json!({});
    let sent = [
        traces(&[call(1, 1, 10, &said("rosalind's body"), named.clone())]),
        // The other half of her trace, which does not say whose it is.
        traces(&[call(1, 2, 20, &said("the rest of it"), unnamed.clone())]),
        traces(&[call(2, 1, 10, &said("maurice"), json!({"user.id": "maurice"}))]),
        traces(&[
            call(3, 1, 10, &said("both in one"), named),
            call(4, 1, 10, &said("a stranger"), unnamed),
        ]),
    ];
    home.send_all(&sent);
    home.read();
    let holdings = home.journal.holdings("rosalind").unwrap();
    assert_eq!(holdings.steps.len(), 3, "a trace has one subject");
    let bodies = home.intake.bodies_of("rosalind", &holdings).unwrap();
    assert_eq!(bodies, [1, 2, 4]);
    home.journal.erase("rosalind", &bodies).unwrap();
    let left = home.text();
    assert!(!left.contains("rosalind") && !left.contains("the rest of it"), "{left}");
    assert!(left.contains("maurice") && left.contains("a stranger"), "{left}");
    // Delivered again, they are neither stored nor told.
    home.send_all(&sent);
    home.read();
    assert_eq!(home.text(), left);
    let kept: Vec<bool> =
        home.journal.bodies(0, 10).unwrap().iter().map(|body| body.raw.is_some()).collect();
    assert_eq!(kept, [false, false, true, false]);
}
