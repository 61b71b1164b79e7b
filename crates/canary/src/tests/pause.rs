use super::*;
use crate::CanaryError;

#[test]
fn a_release_whose_evidence_cannot_be_read_is_paused_after_four_tries() {
    let stage = stage();
    let mut controller = stage.controller();
    controller.tick().unwrap();
    let lost = || CanaryError::Unreadable { release: "r".to_owned(), why: "gone".to_owned() };
    for _ in 0..3 {
        assert!(controller.blind(&task(), &stage.release, lost()).is_err());
        assert_eq!(stage.state(), ReleaseState::Ramping);
    }
    let note = controller.blind(&task(), &stage.release, lost()).unwrap();
    assert!(note.text.contains("gone"), "{}", note.text);
    assert_eq!(stage.state(), ReleaseState::Paused);
    controller.tick().unwrap();
    assert!(stage.route().canary.is_none());
    // Once it can be read again, the count begins anew.
    let change = Change::new("ada", "the disk is back", &SystemClock);
    stage.registry.resume(&stage.release.id, stage.release.revision + 2, change).unwrap();
    controller.tick().unwrap();
    assert!(controller.blind(&task(), &stage.release, lost()).is_err());
}

/// Keeps everybody from reading the records of a journal, until `heal` is run.
struct Unreadable {
    connection: understudy_storage::sqlite::Connection,
    heal: String,
}

impl Unreadable {
    fn of(stage: &Stage) -> Self {
        let path = stage.directory.path().join("journal.db");
        let connection = understudy_storage::sqlite::Connection::open(path).unwrap();
        let of_view = "SELECT sql FROM sqlite_master WHERE name = 'readable'";
        let heal = connection.query_row(of_view, [], |row| row.get(0)).unwrap();
        connection.execute_batch("DROP VIEW readable").unwrap();
        Self { connection, heal }
    }

    fn heal(self) {
        self.connection.execute_batch(&self.heal).unwrap();
    }
}

#[test]
fn a_journal_that_cannot_be_read_pauses_the_release_by_ticks_alone() {
    let stage = stage();
    let mut controller = stage.controller();
    controller.tick().unwrap();
    stage.session(0, true);
    controller.tick().unwrap();
    assert!(stage.route().canary.is_some());
    let unreadable = Unreadable::of(&stage);
    for tick in 0..3 {
        let error = controller.tick().unwrap_err();
        assert!(matches!(error, CanaryError::Journal(_)), "{error}");
        assert_eq!(stage.state(), ReleaseState::Ramping, "{tick}");
    }
    let notes = controller.tick().unwrap();
    assert!(notes[0].text.contains("could not be read 4 times in a row"), "{notes:?}");
    assert_eq!(stage.paused_because(), Some(PauseReason::MetricError));
    assert!(stage.route().canary.is_none(), "in the same tick");
    let audit = stage.registry.audit(Some(&task())).unwrap();
    let paused = audit.last().unwrap();
    assert_eq!(
        (paused.action.as_str(), paused.actor.as_str()),
        ("release.pause", "canary controller")
    );
    assert_eq!(paused.detail["paused_because"], "metric_error");
    // A person lets it go on once it can be read again, and the evidence is still there.
    unreadable.heal();
    stage.resume(&SystemClock);
    controller.tick().unwrap();
    assert_eq!(stage.state(), ReleaseState::Ramping);
    assert!(stage.route().canary.is_some());
    assert_eq!(stage.examined().canary.rewarded, 1);
}

#[test]
fn a_canary_that_nobody_watches_is_taken_off_until_somebody_does_again() {
    let stage = stage();
    let mut controller = stage.controller();
    controller.tick().unwrap();
    let (dead_man, lease) = (controller.dead_man(), std::time::Duration::from_secs(5));
    let now = std::time::Instant::now();
    assert!(dead_man.check(now + lease / 2, lease).is_empty());
    assert!(stage.route().canary.is_some());
    // The controller's thread is gone, or hangs, or finds no registry to read.
    let notes = dead_man.check(now + lease * 2, lease);
    assert!(notes[0].text.contains("nobody has watched the canary for 5 s"), "{notes:?}");
    assert_eq!(stage.route().stable, understudy_router::Target::Teacher);
    assert!(stage.route().canary.is_none() && stage.route().support.shadow.is_none());
    assert!(dead_man.check(now + lease * 3, lease).is_empty(), "it is said once");
    assert_eq!(stage.state(), ReleaseState::Ramping, "which is for the registry to say");
    controller.tick().unwrap();
    assert!(stage.route().canary.is_some());
}

#[test]
fn a_release_grows_old_without_any_traffic_and_a_person_may_give_it_more_time() {
    let stage = stage();
    let clock = Arc::new(understudy_ident::ManualClock::default());
    let mut controller = stage.controller_at(clock.clone());
    controller.tick().unwrap();
    let day = 24 * 3_600_000;
    clock.advance_ms(13 * day);
    controller.tick().unwrap();
    assert_eq!(stage.state(), ReleaseState::Ramping);
    clock.advance_ms(day);
    controller.tick().unwrap();
    assert_eq!(stage.paused_because(), Some(PauseReason::Inconclusive));
    for mut controller in [controller, stage.controller_at(clock.clone())] {
        stage.resume(&*clock);
        controller.tick().unwrap();
        assert_eq!(stage.state(), ReleaseState::Ramping, "it has a fortnight again");
        clock.advance_ms(14 * day);
        controller.tick().unwrap();
        assert_eq!(stage.state(), ReleaseState::Paused);
    }
}

#[test]
fn a_release_that_a_person_lets_go_on_does_go_on() {
    let silent = with_rules(|policy| policy.max_silent_units = 6);
    let spent = with_rules(|policy| policy.max_units = 3);
    for (stage, because) in [(silent, PauseReason::LowTraffic), (spent, PauseReason::Inconclusive)]
    {
        let mut controller = stage.controller();
        controller.tick().unwrap();
        for round in 0..2 {
            for n in 0..3 {
                assert_eq!(stage.state(), ReleaseState::Ramping, "{because:?} {round} {n}");
                for arm in [Arm::Canary, Arm::Stable] {
                    let name = format!("{} {round} {n}", arm.as_str());
                    stage.served(&name, arm, SystemClock.now());
                }
                controller.tick().unwrap();
            }
            assert_eq!(stage.paused_because(), Some(because));
            stage.resume(&SystemClock);
            controller.tick().unwrap();
            assert_eq!(stage.state(), ReleaseState::Ramping, "{because:?}");
            // A server that starts anew comes to the same.
            controller = stage.controller();
            controller.tick().unwrap();
            assert_eq!(stage.state(), ReleaseState::Ramping, "{because:?}");
        }
    }
}

#[test]
fn a_comparison_that_was_not_valid_begins_anew_when_a_person_lets_it_go_on() {
    let stage = stage();
    let mut controller = stage.controller();
    stage.lopsided(&mut controller);
    stage.resume(&SystemClock);
    controller.tick().unwrap();
    assert_eq!(stage.state(), ReleaseState::Ramping);
    // Late news of what was void is no news.
    stage.served("late", Arm::Canary, stage.release.started_at);
    for n in 0..5 {
        stage.session(n, true);
    }
    stage.controller().tick().unwrap();
    controller.tick().unwrap();
    assert_eq!(stage.state(), ReleaseState::Ramping);
    let audit = stage.registry.audit(Some(&task())).unwrap();
    let release = stage.now();
    let mut watch = crate::watch::Watch::begin(&release, &audit).unwrap();
    watch.read(&stage.journal).unwrap();
    assert_eq!(watch.summary(understudy_router::Side::Canary).units, 5);
}
