//! What a watcher sees of a journal, and the whole loop over simulated users.

mod scenario;
mod world;

use understudy_ident::{OutcomeId, SystemClock};
use understudy_journal::Config;
use understudy_trajectory::Target as About;

use super::*;
use crate::tests::world::{step, task};

struct Desk {
    _directory: tempfile::TempDir,
    parts: Parts,
}

fn desk() -> Desk {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let parts = Parts {
        task: task(),
        journal: Journal::open(&at("journal.db"), Config::default()).unwrap(),
        registry: Arc::new(Registry::open(&at("registry.db"), &at("adapters")).unwrap()),
        clock: Arc::new(SystemClock),
    };
    Desk { _directory: directory, parts }
}

impl Desk {
    fn watcher(&self) -> Watcher {
        let settings = Unattended { window: 40, ..Unattended::default() };
        Watcher::new(self.parts.clone(), settings, RewardPolicy::DefaultV1)
    }

    fn step(&self, name: &str, prompt: &str) {
        let step = step(name, prompt, "an answer", Arm::Stable, Some("triage@1"));
        self.parts.journal.append_step(step).unwrap().wait().unwrap();
    }

    fn outcome(&self, about: &str, id: &str, signal: Signal, source: Source) {
        let outcome = Outcome {
            id: OutcomeId::derived(id),
            target: About::Response(format!("reply-{about}")),
            signal,
            source,
            at: SystemClock.now(),
            note: None,
            details: None,
        };
        self.parts.journal.append_outcome(outcome).unwrap().wait().unwrap();
    }
}

#[test]
fn a_step_is_verified_once_by_whoever_says_so_openly_and_in_any_order() {
    let desk = desk();
    let mut watcher = desk.watcher();
    desk.step("one", "hello");
    assert_eq!(watcher.look(0).unwrap().verified_new, 0);
    // Behaviour alone verifies nothing, and a report of harm is nothing to learn from.
    desk.outcome("one", "a", Signal::Abandon, Source::Implicit);
    desk.outcome("one", "b", Signal::Flag { reason: "rude".into() }, Source::Explicit);
    desk.outcome("one", "f", Signal::Regenerate { kept: None }, Source::Explicit);
    assert_eq!(watcher.look(0).unwrap().verified_all, 0);
    desk.outcome("one", "c", Signal::Accept, Source::Explicit);
    desk.outcome("one", "d", Signal::Rating { value: 0.5 }, Source::Explicit);
    // This one is spoken of before it arrives.
    desk.outcome("two", "e", Signal::Accept, Source::Automated);
    let before = watcher.look(0).unwrap();
    assert_eq!((before.verified_new, before.verified_all), (1, 1));
    desk.step("two", "hello");
    let after = watcher.look(before.until).unwrap();
    assert_eq!((after.verified_new, after.verified_all), (1, 2));
    // Another one that reads everything again sees the same.
    assert_eq!(desk.watcher().look(before.until).unwrap(), after);
}

#[test]
fn other_tasks_are_not_looked_at() {
    let desk = desk();
    let other =
        Step { task: "other".parse().unwrap(), ..step("x", "hi", "an answer", Arm::Stable, None) };
    desk.parts.journal.append_step(other).unwrap().wait().unwrap();
    desk.outcome("x", "a", Signal::Accept, Source::Explicit);
    let sight = desk.watcher().look(0).unwrap();
    assert_eq!((sight.verified_all, sight.rewards.len(), sight.until), (0, 0, 2));
}

#[test]
fn rewards_are_told_by_who_answered() {
    let desk = desk();
    for n in 0..4 {
        let name = format!("s{n}");
        desk.step(&name, "hello");
        let signal = if n == 0 { Signal::Abandon } else { Signal::Accept };
        desk.outcome(&name, &name, signal, Source::Explicit);
    }
    let rewards = desk.watcher().look(0).unwrap().rewards;
    assert_eq!((rewards[0].who.as_str(), rewards[0].n, rewards[0].mean), ("triage@1", 4, 0.75));
    assert!(rewards[0].low < 0.75 && rewards[0].high > 0.75);
}

#[test]
fn words_nobody_used_before_raise_the_alarm_of_the_version_that_serves() {
    let desk = desk();
    let serving = Some("triage@1");
    let put = |name: String, prompt: &str, arm| {
        let step = step(&name, prompt, "an answer", arm, serving);
        desk.parts.journal.append_step(step).unwrap()
    };
    let mut last = None;
    for n in 0..20 {
        last = Some(put(format!("canary-{n}"), "where is my parcel 17", Arm::Canary));
    }
    for n in 0..60 {
        last = Some(put(format!("known-{n}"), "where is my parcel 99", Arm::Stable));
    }
    last.take().unwrap().wait().unwrap();
    let mut watcher = desk.watcher();
    watcher.read().unwrap();
    assert!(watcher.watches.iter().all(|(_, watch)| watch.alarm.is_none()));
    for n in 0..60 {
        last = Some(put(format!("new-{n}"), "wie kündige ich den Vertrag", Arm::Stable));
    }
    last.unwrap().wait().unwrap();
    watcher.read().unwrap();
    let alarm = watcher.watches[0].1.alarm.clone().unwrap().text;
    assert!(alarm.contains("of their words are new to triage@1, where 0 % were"), "{alarm}");
}
