use super::*;

impl Stage {
    /// The same candidate once more, by the same rules.
    fn again(&mut self) {
        let change = Change::new("ada", "once more", &SystemClock);
        let start = StartRelease {
            candidate: self.release.candidate.clone(),
            rollback: self.release.rollback.clone(),
            policy: self.release.policy.clone(),
            salt: fresh_salt().to_string(),
            forced: self.release.forced.clone(),
        };
        self.release = self.registry.start_release(start, change).unwrap();
    }

    fn abort(&self) {
        let change = Change::new("ada", "not today", &SystemClock);
        self.registry.abort(&self.release.id, change).unwrap();
    }

    fn canary_units(&self) -> u64 {
        self.examined().canary.units
    }
}

#[test]
fn trying_again_does_not_roll_the_dice_again() {
    let alone = {
        let stage = stage();
        let mut controller = stage.controller();
        (0..60).find(|n| {
            stage.session(*n, false);
            controller.tick().unwrap();
            !stage.state().is_moving()
        })
    };
    let alone = alone.unwrap() + 1;
    let mut stage = stage();
    let mut controller = stage.controller();
    for n in 0..alone - 2 {
        controller.tick().unwrap();
        stage.session(n, false);
    }
    controller.tick().unwrap();
    assert_eq!(stage.state(), ReleaseState::Ramping);
    stage.abort();
    stage.again();
    controller.tick().unwrap();
    let release = stage.now();
    assert_eq!((release.attempt, release.state, release.step), (2, ReleaseState::Ramping, 0));
    assert_eq!(stage.canary_units(), alone as u64 - 2, "what was seen stays seen");
    // The same sessions by name, of which none is one of before.
    for n in 0..2 {
        stage.session(n + 1_000, false);
        controller.tick().unwrap();
    }
    assert_eq!(stage.state(), ReleaseState::RolledBack, "{alone} sessions in all");
    // And one that was proven harmful is so before it meets anybody.
    stage.again();
    stage.controller().tick().unwrap();
    assert_eq!(stage.state(), ReleaseState::RolledBack);
    assert!(stage.route().canary.is_none());
}

#[test]
fn a_step_is_left_by_what_was_seen_at_it_and_patience_begins_anew() {
    let mut stage = with_rules(|policy| policy.max_units = 12);
    let mut controller = stage.controller();
    for n in 0..9 {
        controller.tick().unwrap();
        stage.session(n, true);
    }
    controller.tick().unwrap();
    stage.abort();
    stage.again();
    for n in 0..9 {
        controller.tick().unwrap();
        assert_eq!(stage.now().step, 0, "{n}");
        assert_eq!(stage.state(), ReleaseState::Ramping, "{n}: twelve units of this attempt");
        stage.session(n + 100, true);
    }
    assert_eq!(stage.canary_units(), 18);
}

#[test]
fn an_attempt_whose_comparison_was_not_valid_proves_nothing_later() {
    let mut stage = stage();
    let mut controller = stage.controller();
    stage.lopsided(&mut controller);
    stage.abort();
    stage.again();
    controller.tick().unwrap();
    assert_eq!((stage.state(), stage.canary_units()), (ReleaseState::Ramping, 0));
}
