use std::time::{Duration, Instant};

use understudy_router::{Exposure, Follower, LEASE};

use super::*;

impl Stage {
    /// A server that follows says which table it has; `now` is when.
    fn follower(&self, name: &str, sequence: u64, heard: Instant) {
        self.routes.followers().heard(name, Follower { sequence, took_ms: 1.0, heard });
    }

    fn sequence(&self) -> u64 {
        self.routes.numbered().sequence
    }
}

fn a_lease_ago() -> Instant {
    Instant::now().checked_sub(LEASE + Duration::from_millis(10)).unwrap()
}

#[test]
fn a_candidate_meets_nobody_before_every_server_has_it_or_can_show_it_to_none() {
    let stage = stage();
    let mut controller = stage.controller();
    stage.follower("one", 0, Instant::now());
    stage.follower("partitioned", 0, Instant::now());
    stage.follower("gone", 0, a_lease_ago());
    let notes = controller.tick().unwrap();
    assert!(notes[0].text.contains("waits until one, partitioned have loaded it"), "{notes:?}");
    assert_eq!(stage.state(), ReleaseState::Staging);
    // They are told of it, and nobody meets it.
    let canary = stage.route().canary.unwrap();
    assert_eq!(canary.share, Exposure::NONE);
    assert!(stage.route().support.shadow.is_none());
    for n in 0..200 {
        let assigned = stage.route().assign(&format!("visitor-{n}"));
        assert!(assigned.side().is_none() && assigned.arm != Arm::Canary);
    }
    stage.follower("one", stage.sequence(), Instant::now());
    controller.tick().unwrap();
    assert_eq!(stage.state(), ReleaseState::Staging, "the other holds a lease on an older table");
    // A controller that starts anew waits all the same.
    controller = stage.controller();
    controller.tick().unwrap();
    assert_eq!(stage.state(), ReleaseState::Staging);
    stage.follower("partitioned", 0, a_lease_ago());
    controller.tick().unwrap();
    assert_eq!(stage.state(), ReleaseState::Ramping, "it serves what is stable alone");
    assert!(stage.route().canary.unwrap().share > Exposure::NONE);
}

#[test]
fn servers_that_are_there_and_do_not_get_the_candidate_end_the_release() {
    let stage = stage();
    let mut controller = stage.controller();
    controller.patience = Duration::ZERO;
    stage.follower("one", 0, Instant::now());
    controller.tick().unwrap();
    std::thread::sleep(Duration::from_millis(2));
    controller.tick().unwrap();
    assert_eq!(stage.state(), ReleaseState::Failed);
    assert!(stage.route().canary.is_none());
    let release = stage.now();
    assert!(release.changed_because.contains("one have not loaded triage@1"), "{release:?}");
}

#[test]
fn a_pause_is_no_way_past_the_servers_that_are_waited_for() {
    let stage = stage();
    let mut controller = stage.controller();
    stage.follower("one", 0, Instant::now());
    controller.tick().unwrap();
    let change = Change::new("ada", "one moment", &SystemClock);
    stage.registry.pause(&stage.release.id, PauseReason::Manual, change).unwrap();
    controller.tick().unwrap();
    assert!(stage.route().canary.is_none());
    stage.resume(&SystemClock);
    controller.tick().unwrap();
    assert_eq!(stage.state(), ReleaseState::Staging);
    stage.follower("one", stage.sequence(), Instant::now());
    controller.tick().unwrap();
    assert_eq!(stage.state(), ReleaseState::Ramping);
}
