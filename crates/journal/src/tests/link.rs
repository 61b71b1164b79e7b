//! Every order of arrival gives the same links, as a plain reading of the rule says.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use understudy_message::Message;
use understudy_trajectory::{JudgedStep, Outcome, Step, Target, Trajectory};

use super::{Home, about_response, append, everything, outcome, record, step};
use crate::{Entry, Journal, Query};

/// Sessions that go on in several trajectories, trajectories of several tasks, equal times, reply
/// ids used twice, and outcomes about all of it and about nothing.
fn world(random: &mut StdRng) -> (Vec<Step>, Vec<Outcome>) {
    let mut steps = Vec::new();
    for n in 0..random.random_range(1..14) {
        let session = ["a", "b", "c"][random.random_range(0..3)];
        let mut step = step(session, n);
        step.at = step_time(random);
        step.trajectory = ["traj_1", "traj_2"][random.random_range(0..2)].parse().unwrap();
        step.task = ["triage", "reply", "acme.reply", "bolt.triage"][random.random_range(0..4)]
            .parse()
            .unwrap();
        step.prompt = (0..random.random_range(1..4)).map(|_| Message::user("said")).collect();
        if random.random_bool(0.2) {
            step.session = None;
        }
        if random.random_bool(0.2) {
            step.response_id = "chatcmpl-twice".to_owned();
        }
        steps.push(step);
    }
    let outcomes = (0..random.random_range(0..14)).map(|n| {
        let step = &steps[random.random_range(0..steps.len())];
        let target = match random.random_range(0..8) {
            0 => Target::Response(step.response_id.clone()),
            1 => Target::Step(step.id.to_string()),
            2 => Target::Trajectory(step.trajectory.to_string()),
            3 | 4 => Target::Session(["a", "b", "c"][random.random_range(0..3)].to_owned()),
            5 | 6 => Target::Turn {
                session: ["a", "b", "c"][random.random_range(0..3)].to_owned(),
                turn: random.random_range(1..5),
            },
            _ => Target::Response("never said".to_owned()),
        };
        let said = outcome(&format!("outcome {n}"), target, 0);
        // Of any tenant, whatever it names.
        let tenant = [None, Some("acme"), Some("bolt")][random.random_range(0..3)];
        let tenant = tenant.map(|name| name.parse().unwrap());
        Outcome { at: step_time(random), id: said.id.within(tenant.as_ref()), ..said }
    });
    let outcomes = outcomes.collect();
    (steps, outcomes)
}

fn step_time(random: &mut StdRng) -> understudy_ident::Timestamp {
    understudy_ident::Timestamp::from_microsecond(random.random_range(-2..9)).unwrap()
}

/// The rule, read plainly: the oracle of this file.
fn about<'a>(outcome: &Outcome, steps: &'a [Step]) -> Option<&'a Step> {
    let key = |step: &&Step| (step.at, step.id.clone());
    let tenant = |step: &Step| step.task.tenant().map(|tenant| tenant.to_string());
    let own = steps.iter().filter(|step| tenant(step).as_deref() == outcome.id.tenant());
    let named = own.filter(|step| match &outcome.target {
        Target::Response(id) => step.response_id == *id,
        Target::Step(id) => step.id.as_str() == id,
        Target::Trajectory(id) => step.trajectory.as_str() == id,
        Target::Session(id) => step.session.as_ref() == Some(id),
        Target::Turn { session, turn } => {
            step.session.as_ref() == Some(session) && step.prompt.len() == *turn as usize
        }
    });
    match &outcome.target {
        Target::Response(_) | Target::Step(_) => named.min_by_key(key),
        Target::Trajectory(_) | Target::Session(_) | Target::Turn { .. } => {
            let (before, after): (Vec<_>, Vec<_>) = named.partition(|step| step.at <= outcome.at);
            before.into_iter().max_by_key(key).or_else(|| after.into_iter().min_by_key(key))
        }
    }
}

fn expected(steps: &[Step], outcomes: &[Outcome]) -> Vec<Trajectory> {
    let mut trajectories: BTreeMap<_, Vec<JudgedStep>> = BTreeMap::new();
    let mut steps: Vec<Step> = steps.to_vec();
    steps.sort_by_key(|step| (step.at, step.id.clone()));
    for step in &steps {
        let mut said: Vec<Outcome> = outcomes
            .iter()
            .filter(|outcome| about(outcome, &steps).is_some_and(|found| found.id == step.id))
            .cloned()
            .collect();
        said.sort_by_key(|outcome| (outcome.at, outcome.id.clone()));
        let judged = JudgedStep { step: read_back(step), outcomes: said };
        trajectories.entry(step.trajectory.clone()).or_default().push(judged);
    }
    trajectories.into_iter().map(|(id, steps)| Trajectory { id, steps }).collect()
}

/// JSON may change the last bit of a number, once.
fn read_back(step: &Step) -> Step {
    serde_json::from_slice(&serde_json::to_vec(step).unwrap()).unwrap()
}

/// Everything, some of it twice, in any order.
fn deliveries(random: &mut StdRng, steps: &[Step], outcomes: &[Outcome]) -> Vec<Entry> {
    let steps = steps.iter().cloned().map(Entry::from);
    let mut all: Vec<Entry> = steps.chain(outcomes.iter().cloned().map(Entry::from)).collect();
    for n in 0..all.len() / 3 {
        all.push(all[n * 3].clone());
    }
    all.shuffle(random);
    all
}

fn check(journal: &Journal, steps: &[Step], outcomes: &[Outcome], seed: u64) {
    assert_eq!(everything(journal), expected(steps, outcomes), "seed {seed}");
    let counts = journal.counts().unwrap();
    let pending = outcomes.iter().filter(|outcome| about(outcome, steps).is_none()).count();
    assert_eq!(counts.pending_outcomes, pending as u64, "seed {seed}");
    assert_eq!((counts.steps, counts.unreadable), (steps.len() as u64, 0), "seed {seed}");
    for outcome in outcomes {
        let found = journal.judged(outcome).unwrap().map(|judged| judged.step.id);
        assert_eq!(found.as_ref(), about(outcome, steps).map(|step| &step.id), "seed {seed}");
    }
    for tenant in [None, Some("acme"), Some("bolt")] {
        let theirs = |outcome: &&Outcome| outcome.id.tenant() == tenant;
        let waits = |outcome: &&Outcome| about(outcome, steps).is_none();
        let waiting = outcomes.iter().filter(theirs).filter(waits).count();
        let (count, listed) = journal.pending_of(tenant, 100).unwrap();
        assert_eq!((count, listed.len()), (waiting as u64, waiting), "seed {seed}");
        assert!(listed.iter().all(|outcome| theirs(&outcome)), "seed {seed}");
    }
}

#[test]
fn every_order_of_arrival_links_as_the_rule_says() {
    for seed in 0..60 {
        let mut random = StdRng::seed_from_u64(seed);
        let (steps, outcomes) = world(&mut random);
        let home = Home::new();
        let mut deliveries = deliveries(&mut random, &steps, &outcomes);
        let later = deliveries.split_off(random.random_range(0..=deliveries.len()));
        record(&home.open(), deliveries);
        let journal = home.open();
        record(&journal, later);
        check(&journal, &steps, &outcomes, seed);
        journal.rebuild().unwrap();
        check(&journal, &steps, &outcomes, seed);
    }
}

#[test]
fn concurrent_deliveries_link_as_the_rule_says() {
    for seed in 0..10 {
        let mut random = StdRng::seed_from_u64(1000 + seed);
        let (steps, outcomes) = world(&mut random);
        let home = Home::new();
        // Two handles on one file, as two processes have them.
        let journals = [home.open(), home.open()];
        std::thread::scope(|scope| {
            for n in 0..4 {
                let deliveries = deliveries(&mut random, &steps, &outcomes);
                let journal = &journals[n % 2];
                scope.spawn(move || record(journal, deliveries));
            }
        });
        check(&journals[0], &steps, &outcomes, seed);
        assert_eq!(everything(&journals[1]), expected(&steps, &outcomes));
    }
}

#[test]
fn a_reading_can_be_repeated_as_of_any_record() {
    for seed in 0..10 {
        let mut random = StdRng::seed_from_u64(2000 + seed);
        let (steps, outcomes) = world(&mut random);
        let home = Home::new();
        let journal = home.open();
        let mut readings = vec![(0, Vec::new())];
        for entry in deliveries(&mut random, &steps, &outcomes) {
            append(&journal, entry).unwrap().wait().unwrap();
            readings.push((journal.watermark().unwrap(), everything(&journal)));
        }
        journal.rebuild().unwrap();
        for (until_seq, then) in readings {
            let query = Query { until_seq: Some(until_seq), ..Query::default() };
            assert_eq!(journal.trajectories(&query).unwrap(), then, "seed {seed}");
        }
    }
}

#[test]
fn leaving_steps_out_moves_no_outcome_to_another() {
    for seed in 0..20 {
        let mut random = StdRng::seed_from_u64(3000 + seed);
        let (steps, outcomes) = world(&mut random);
        let home = Home::new();
        let journal = home.open();
        record(&journal, deliveries(&mut random, &steps, &outcomes));
        let task: understudy_ident::TaskName = "triage".parse().unwrap();
        let mut wanted = expected(&steps, &outcomes);
        for trajectory in &mut wanted {
            trajectory.steps.retain(|judged| judged.step.task == task);
        }
        wanted.retain(|trajectory| !trajectory.steps.is_empty());
        let query = Query { task: Some(task), ..Query::default() };
        assert_eq!(journal.trajectories(&query).unwrap(), wanted, "seed {seed}");
    }
}

#[test]
fn an_outcome_waits_for_its_step_across_a_restart() {
    let home = Home::new();
    let early = about_response("a", 1);
    record(&home.open(), [early.clone().into()]);
    let journal = home.open();
    assert_eq!(journal.counts().unwrap().pending_outcomes, 1);
    assert!(journal.judged(&early).unwrap().is_none());
    record(&journal, [step("a", 1).into()]);
    assert_eq!(journal.judged(&early).unwrap().unwrap().step.id, step("a", 1).id);
    assert_eq!(journal.counts().unwrap().pending_outcomes, 0);
}
