use understudy_inference::ServedAdapter;
use understudy_manifest::Guard;

use super::*;
use crate::{Basis, LatencyLimits};

const DAY_MS: i64 = 24 * 3600 * 1000;

fn ago(ms: i64) -> understudy_ident::Timestamp {
    understudy_ident::Timestamp::from_millisecond(SystemClock.now().as_millisecond() - ms).unwrap()
}

/// A reply from before the release.
fn before(name: &str, total_ms: f64) -> Step {
    let timing = Timing { queued_ms: 0.0, first_token_ms: total_ms / 2.0, total_ms };
    let mut step = Step { at: ago(DAY_MS), timing, ..step(name, Arm::Stable, "none") };
    step.assignment.as_mut().unwrap().release = None;
    step
}

impl Stage {
    fn append(&self, step: Step) {
        self.journal.append_step(step).unwrap().wait().unwrap();
    }

    /// 300 replies of the stable arm that took 1 to 300 ms, and others that are none of its own.
    fn with_a_week_behind_it(self) -> Self {
        for n in 1..=300 {
            self.append(before(&format!("before {n}"), f64::from(n)));
        }
        let slow = |name| before(name, 9_000.0);
        let mut failed = slow("failed");
        failed.error = Some("down".to_owned());
        let mut saved = slow("saved");
        saved.assignment.as_mut().unwrap().course.fallback = Some("failed".to_owned());
        let mut candidate = slow("candidate");
        candidate.assignment.as_mut().unwrap().arm = Arm::Canary;
        let mut other = slow("other weights");
        let adapter = ServedAdapter { alias: "triage@0".to_owned(), generation: "0".repeat(64) };
        other.served.adapter = Some(adapter);
        let old = Step { at: ago(8 * DAY_MS), ..slow("a week ago") };
        for step in [failed, saved, candidate, other, old] {
            self.append(step);
        }
        self
    }

    fn limits(&self) -> Option<LatencyLimits> {
        self.examined().latency_limits
    }

    /// Replies of both arms that took so long, until the release moves no more.
    fn both_take(&self, controller: &mut Controller, (canary, stable): (Timing, Timing)) -> usize {
        for n in 0..200 {
            for (arm, timing) in [(Arm::Canary, canary), (Arm::Stable, stable)] {
                let name = format!("{} {n}", arm.as_str());
                self.append(Step { timing, ..step(&name, arm, self.release.id.as_str()) });
            }
            controller.tick().unwrap();
            if !self.state().is_moving() {
                return n;
            }
        }
        200
    }
}

fn timing(first_token_ms: f64, total_ms: f64) -> Timing {
    Timing { queued_ms: 0.0, first_token_ms, total_ms }
}

#[test]
fn where_nothing_is_said_slow_is_what_is_beyond_the_p95_of_what_served_before() {
    let stage = stage().with_a_week_behind_it();
    assert_eq!(stage.limits(), None, "it is frozen when the candidate comes on stage");
    stage.controller().tick().unwrap();
    let frozen = stage.limits().unwrap();
    assert_eq!((frozen.reply.ms, frozen.reply.basis), (285.0, Basis::Served { replies: 300 }));
    assert_eq!(frozen.first_token.as_ref().unwrap().ms, 142.5);
    assert!(frozen.to_string().contains("285 ms (p95 of 300 replies"), "{frozen}");
    // Neither what comes later nor a restart moves it.
    for n in 0..300 {
        stage.append(before(&format!("later {n}"), 5_000.0));
    }
    let mut restarted = stage.controller();
    restarted.tick().unwrap();
    assert_eq!(stage.limits().unwrap(), frozen);
    let tokens = 10.0;
    stage.both_take(&mut restarted, (timing(tokens, 290.0), timing(tokens, 200.0)));
    let release = stage.now();
    assert_eq!(release.state, ReleaseState::RolledBack);
    assert!(release.changed_because.contains("slow replies"), "{}", release.changed_because);
}

#[test]
fn an_examiner_that_looked_before_the_stage_sees_what_was_frozen_there() {
    let stage = stage().with_a_week_behind_it();
    let mut examiner = Examiner::default();
    let mut limits = || {
        let release = stage.now();
        let examined = examiner.examine(&stage.registry, &stage.journal, &release);
        examined.unwrap().unwrap().latency_limits
    };
    assert_eq!(limits(), None);
    stage.controller().tick().unwrap();
    assert_eq!(limits().unwrap().reply.ms, 285.0);
}

#[test]
fn too_few_replies_make_no_p95_and_a_recipe_needs_none() {
    let stage = stage();
    for n in 0..199 {
        stage.append(before(&format!("before {n}"), 100.0));
    }
    stage.controller().tick().unwrap();
    let limits = stage.limits().unwrap();
    assert_eq!((limits.reply.ms, limits.reply.basis), (10_000.0, Basis::Default));
    assert_eq!(limits.first_token, None);

    let said =
        with_all_rules(|rules| rules.first_token_slo_ms = Some(70.0)).with_a_week_behind_it();
    said.controller().tick().unwrap();
    let limits = said.limits().unwrap();
    let first = limits.first_token.unwrap();
    assert_eq!((first.ms, first.basis), (70.0, Basis::Recipe));
    assert_eq!(limits.reply.ms, 285.0);
}

#[test]
fn late_first_tokens_send_a_canary_back_where_their_guard_acts() {
    for acts in [false, true] {
        let name = |rules: &mut Rules| {
            if acts {
                rules.policy.rollback_on.insert(Guard::FirstToken);
            }
        };
        let stage = with_all_rules(name).with_a_week_behind_it();
        let mut controller = stage.controller();
        controller.tick().unwrap();
        let after = stage.both_take(&mut controller, (timing(180.0, 200.0), timing(90.0, 200.0)));
        let release = stage.now();
        assert_eq!(release.state == ReleaseState::RolledBack, acts, "{}", release.changed_because);
        if acts {
            assert!(after < 20, "after {after}");
            let why = &release.changed_because;
            assert!(why.contains("late first tokens"), "{why}");
        }
    }
}
