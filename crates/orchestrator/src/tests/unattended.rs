//! The supervisor over stages that answer at once.

use std::{cell::Cell, path::Path, rc::Rc};

use understudy_ident::{Clock, ManualClock};
use understudy_manifest::{ApprovalStep, Unattended};

use super::*;
use crate::{
    Decision, Lookout, Note, NoteKind, Past, Sight, Status, StepHold, Supervisor, Tick,
    plan::{Finish, Next},
};

/// As many outcomes as it is told.
#[derive(Clone, Default)]
struct Desk(Rc<Cell<u64>>);

impl Lookout for Desk {
    fn look(&mut self, since: u64) -> Result<Sight, PortError> {
        let until = self.0.get();
        let serving = Some("triage@1".to_owned());
        let (verified_new, verified_all) = (until - since, until);
        Ok(Sight { until, verified_new, verified_all, serving, ..Sight::default() })
    }
}

struct World {
    directory: tempfile::TempDir,
    clock: ManualClock,
    desk: Desk,
    stages: Stages,
    settings: Unattended,
}

fn world(settings: &str, stages: Stages) -> World {
    let recipe = Recipe::parse("test", &format!("{RECIPE}\n[loop]\n{settings}")).unwrap();
    World {
        directory: tempfile::tempdir().unwrap(),
        clock: ManualClock::default(),
        desk: Desk::default(),
        stages,
        settings: recipe.unattended.unwrap(),
    }
}

const EASY: &str = "min_new = 10\nmin_new_when_falling = 5\nmin_interval = \"60s\"\n";

impl World {
    fn store(&self) -> RunStore {
        let path: &Path = self.directory.path();
        RunStore::open(&path.join("runs.db"), Box::new(self.clock.clone())).unwrap()
    }

    fn tick(&self) -> Tick {
        let store = self.store();
        let lookout = Box::new(self.desk.clone());
        let mut supervisor =
            Supervisor::new(recipe(), self.settings.clone(), &store, &self.stages, lookout);
        supervisor.tick(&mut Quiet).unwrap()
    }

    /// Ticks, each with a supervisor of its own, until nothing moves or a turn is over.
    fn turn(&self) -> Tick {
        for _ in 0..40 {
            match self.tick() {
                Tick::Advanced(_) | Tick::Waits { .. } | Tick::Decided(Decision::Train { .. }) => {}
                Tick::Failed { .. } => self.clock.advance_ms(120_000),
                end => return end,
            }
        }
        panic!("the turn does not end");
    }

    fn outcomes(&self, more: u64) {
        self.desk.0.set(self.desk.0.get() + more);
        *self.stages.rows.borrow_mut() = self.desk.0.get().to_le_bytes().to_vec();
        self.stages.looked.set(false);
        self.clock.advance_ms(60_000);
    }

    fn past(&self) -> Past {
        Past::read(&self.store(), &recipe().task).unwrap()
    }

    fn log(&self) -> Vec<String> {
        self.store().notes(&recipe().task).unwrap().iter().map(Note::line).collect()
    }

    fn calls(&self, name: &str) -> usize {
        self.stages.calls.borrow().iter().filter(|call| **call == name).count()
    }

    fn says(&self, kind: NoteKind, reason: &str) {
        let note = Note::new(kind, self.clock.now(), reason).by("ada");
        self.store().note(&recipe().task, &note).unwrap();
    }
}

#[test]
fn turns_follow_outcomes_and_nothing_else() {
    let world = world(EASY, Stages::new([0.8, 0.9], true));
    for _ in 0..3 {
        assert!(matches!(world.turn(), Tick::Decided(Decision::Wait { .. })));
        world.outcomes(9);
        assert!(matches!(world.turn(), Tick::Decided(Decision::Wait { .. })));
        world.outcomes(1);
        assert!(matches!(world.turn(), Tick::Ended(Finish::Promoted { .. })));
    }
    assert_eq!((world.past().turns, world.calls("train")), (3, 6));
    let turns = world.store().turns(&recipe().task).unwrap();
    let facts = world.store().facts(&turns[2].id).unwrap();
    let turn = crate::turn_of(&facts).unwrap();
    assert_eq!((turn.number, turn.until), (3, 30));
    assert!(turns[2].ending.as_deref().unwrap().contains("promoted"));
}

#[test]
fn the_log_reads_as_sentences_and_says_the_same_thing_once() {
    let world = world(EASY, Stages::new([0.8, 0.9], true));
    for _ in 0..5 {
        world.desk.0.set(world.desk.0.get() + 1);
        world.tick();
    }
    assert_eq!(world.log().len(), 1, "{:?}", world.log());
    assert!(world.log()[0].contains("9 more verified outcomes since the last turn (1 of 10)"));
    world.outcomes(5);
    world.turn();
    let log = world.log().join("\n");
    for sentence in [
        "the loop trains, because 10 steps with a verified outcome have come",
        "turn 1 of triage begins",
        "10 examples and 4 pairs are frozen as triage@",
        "the candidate is triage@1",
        "the gate lets it pass: better by 0.6",
        "turn 1 of triage is over: triage@1 is promoted",
    ] {
        assert!(log.contains(sentence), "no `{sentence}` in:\n{log}");
    }
}

#[test]
fn the_same_data_are_not_trained_on_again_after_they_led_to_nothing() {
    let world = world(EASY, Stages::new([0.8, 0.9], false));
    world.outcomes(10);
    assert!(matches!(world.turn(), Tick::Ended(Finish::Refused { .. })));
    let trained = world.calls("train");
    world.outcomes(10);
    // New outcomes came, and none of them made it into the dataset.
    *world.stages.rows.borrow_mut() = 10_u64.to_le_bytes().to_vec();
    let Tick::Ended(Finish::AlreadyTried { why, .. }) = world.turn() else {
        panic!("trained again")
    };
    assert!(why.contains("better by 0.6"), "the reason is remembered: {why}");
    assert_eq!(world.calls("train"), trained);
    // Another recipe over the same data is another candidate.
    let other = Recipe { seed: 99, ..recipe() };
    assert!(
        world.store().tried_before(&Digest::of(&10_u64.to_le_bytes()), &other).unwrap().is_none()
    );
}

#[test]
fn failures_in_a_row_stop_it_until_a_person_has_looked() {
    let settings = format!("{EASY}max_failures = 2");
    let world = world(&settings, Stages::new([0.8, 0.9], false));
    for _ in 0..2 {
        world.outcomes(10);
        assert!(matches!(world.turn(), Tick::Ended(Finish::Refused { .. })));
    }
    world.outcomes(10);
    assert!(matches!(world.turn(), Tick::Decided(Decision::Stop { .. })));
    world.clock.advance_ms(1);
    world.says(NoteKind::Resumed, "the suite was wrong");
    assert!(matches!(world.turn(), Tick::Ended(Finish::Refused { .. })));
    assert_eq!(world.past().failures_in_a_row, 1);
}

#[test]
fn a_person_lets_a_step_happen_or_ends_the_turn() {
    let settings = format!("{EASY}approve = [\"train\", \"release\"]");
    let world = world(&settings, Stages::new([0.8, 0.9], true));
    world.outcomes(10);
    let Tick::Held { step: Next::Train { .. }, by } = world.turn() else { panic!("not held") };
    assert_eq!(by, StepHold::Approval { step: ApprovalStep::Train });
    let run = world.past().open.unwrap();
    let word = |step| Fact::Approved { step, owner: "ada".into(), reason: "fine".into() };
    world.store().answer(&run, &word(ApprovalStep::Train)).unwrap();
    // Both stages are one approval; the release is another.
    let Tick::Held { step: Next::StartRelease { .. }, .. } = world.turn() else { panic!() };
    assert_eq!((world.calls("train"), world.calls("release")), (2, 0));
    let no = Fact::Declined { owner: "ada".into(), reason: "not on a Friday".into() };
    world.store().answer(&run, &no).unwrap();
    let Tick::Ended(Finish::Declined { .. }) = world.turn() else { panic!("not over") };
    let ending = world.store().get(run.id.as_str()).unwrap().ending.unwrap();
    assert_eq!(ending, "it was declined by ada: not on a Friday");
    assert!(world.log().iter().any(|line| line.contains("ada lets it train: fine")));
    world.clock.advance_ms(60_000);
    let Tick::Decided(Decision::Wait { .. }) = world.turn() else { panic!("it goes on") };
    let past = world.past();
    assert!(past.last_ending.unwrap().contains("ada: not on a Friday"));
    assert_eq!((past.failures_in_a_row, past.learnt_to), (0, 10));
    assert_eq!(world.calls("release"), 0);
    assert!(world.store().answer(&run, &word(ApprovalStep::Release)).is_err(), "it is over");
}

#[test]
fn what_the_registry_wants_first_and_a_pause_hold_a_step_back() {
    let world = world(EASY, Stages::new([0.8, 0.9], true));
    world.outcomes(10);
    *world.stages.not_yet.borrow_mut() = Some("1 of 2 approvals".to_owned());
    let Tick::Held { by: StepHold::Outside { what }, .. } = world.turn() else { panic!() };
    assert_eq!(what, "1 of 2 approvals");
    *world.stages.not_yet.borrow_mut() = None;
    world.says(NoteKind::Paused, "the holidays");
    assert!(matches!(world.turn(), Tick::Held { by: StepHold::Paused { .. }, .. }));
    assert_eq!(world.calls("release"), 0);
    world.says(NoteKind::Resumed, "back");
    assert!(matches!(world.turn(), Tick::Ended(Finish::Promoted { .. })));
}

#[test]
fn a_step_that_fails_is_tried_again_and_given_up_after_three_times() {
    let world = world(EASY, Stages::new([0.8, 0.9], true));
    world.outcomes(10);
    *world.stages.fail_at.borrow_mut() = Some("evaluate");
    assert!(matches!(world.turn(), Tick::Ended(Finish::Promoted { .. })));
    assert_eq!((world.calls("evaluate"), world.calls("train")), (2, 2));
    world.outcomes(10);
    loop {
        *world.stages.fail_at.borrow_mut() = Some("train");
        match world.tick() {
            Tick::Ended(Finish::GaveUp { why }) => {
                assert!(why.contains("training failed 3 times"), "{why}");
                break;
            }
            Tick::Failed { .. } => world.clock.advance_ms(120_000),
            Tick::Decided(Decision::Wait { .. } | Decision::Stop { .. }) => panic!("it went on"),
            _ => {}
        }
    }
    let past = world.past();
    assert_eq!((past.failures_in_a_row, past.learnt_to), (1, 10), "its outcomes are still news");
}

#[test]
fn one_supervisor_waits_before_it_tries_again() {
    let world = world(EASY, Stages::new([0.8, 0.9], true));
    world.outcomes(10);
    *world.stages.fail_at.borrow_mut() = Some("dataset");
    let store = world.store();
    let lookout = Box::new(world.desk.clone());
    let mut supervisor =
        Supervisor::new(recipe(), world.settings.clone(), &store, &world.stages, lookout);
    supervisor.tick(&mut Quiet).unwrap();
    assert!(matches!(supervisor.tick(&mut Quiet).unwrap(), Tick::Failed { .. }));
    let Tick::Held { by: StepHold::Retry { .. }, .. } = supervisor.tick(&mut Quiet).unwrap() else {
        panic!("at once")
    };
    world.clock.advance_ms(15_000);
    assert!(matches!(supervisor.tick(&mut Quiet).unwrap(), Tick::Advanced(_)));
}

#[test]
fn quiet_hours_also_hold_the_costly_steps_of_a_turn_under_way() {
    let settings = format!("{EASY}quiet_hours = [\"00:03-01:00\"]");
    let world = world(&settings, Stages::new([0.8, 0.9], true));
    world.outcomes(10);
    assert!(matches!(world.tick(), Tick::Decided(Decision::Train { .. })));
    assert!(matches!(world.tick(), Tick::Advanced(_)));
    world.clock.advance_ms(120_000);
    assert!(matches!(world.tick(), Tick::Held { by: StepHold::QuietHours { .. }, .. }));
    world.clock.advance_ms(57 * 60_000);
    assert!(matches!(world.turn(), Tick::Ended(Finish::Promoted { .. })));
}

#[test]
fn a_crash_between_a_run_and_its_first_fact_begins_the_same_run() {
    let world = world(EASY, Stages::new([0.8, 0.9], true));
    world.outcomes(10);
    let run = world.store().begin_turn(&recipe(), 1, "because").unwrap();
    assert!(world.past().open.is_none());
    assert!(matches!(world.turn(), Tick::Ended(Finish::Promoted { .. })));
    let turns = world.store().turns(&recipe().task).unwrap();
    assert_eq!((turns.len(), &turns[0].id), (1, &run.id));
}

#[test]
fn a_status_says_what_is_waited_for_and_what_the_last_turn_changed() {
    let world = world(EASY, Stages::new([0.8, 0.9], true));
    world.outcomes(10);
    world.turn();
    world.clock.advance_ms(60_000);
    let past = world.past();
    let mut desk = world.desk.clone();
    let mut sight = desk.look(past.learnt_to).unwrap();
    let earned = |who: &str, mean| crate::Earned {
        who: who.to_owned(),
        n: 40,
        mean,
        low: mean - 0.1,
        high: mean + 0.1,
    };
    sight.rewards = vec![earned("triage@1", 0.75)];
    let decision = crate::decide(&world.settings, 1, &sight, &past, world.clock.now());
    let notes = world.store().notes(&recipe().task).unwrap();
    let status = Status::between(&recipe().task, &decision, &past, sight, &notes);
    let text = status.text(&world.settings);
    for words in ["10 more verified", "turn 1", "triage@1 serves instead of triage@1", "0.750 ["] {
        assert!(text.contains(words), "no {words} in:\n{text}");
    }
    let json = serde_json::to_value(&status).unwrap();
    assert_eq!(json["holds"][0]["missing"], 10);
    assert_eq!(json["last_turn"]["promoted"], true);
    assert_eq!(serde_json::from_value::<Status>(json).unwrap(), status);
}
