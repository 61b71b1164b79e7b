//! Everything over real sockets; what is drawn is the same each time.

use understudy_registry::PauseReason;
use understudy_router::Steps;
use understudy_simulation::Scenario;

use crate::{
    Drill, Ending, Played, Soak,
    drill::{drill_rules, play, rarely_exceeded, repeat},
    soak,
};

/// A shorter ramp, and less patience with silence.
fn quick() -> Drill {
    let mut rules = drill_rules().unwrap();
    rules.policy.max_silent_units = 200;
    rules.policy.steps = Steps::new(vec![25, 50, 100]).unwrap();
    Drill { most_sessions: 8_000, ..Drill::of(rules) }
}

fn ends_right(scenario: Scenario) -> Played {
    let played = play(scenario, &quick()).unwrap();
    assert!(played.is_right, "{}", played.text());
    played
}

#[test]
fn ten_points_of_reward_less_are_rolled_back() {
    let played = ends_right(Scenario::TenPointsWorse);
    assert!(played.reason.contains("reward"), "{}", played.reason);
    assert!(played.outcomes > 0 && played.requests == played.sessions, "{played:?}");
}

#[test]
fn five_percent_of_errors_are_rolled_back() {
    ends_right(Scenario::FivePercentErrors);
}

#[test]
fn half_again_the_latency_is_rolled_back() {
    let played = ends_right(Scenario::HalfAgainSlower);
    assert!(played.canary_sessions < 400, "{}", played.text());
}

#[test]
fn unsafe_outputs_are_rolled_back() {
    ends_right(Scenario::Unsafe);
}

#[test]
fn a_proxy_that_loses_the_candidates_sessions_stops_the_comparison() {
    let played = ends_right(Scenario::LostUnits);
    assert!(played.requests < played.sessions, "some never arrived: {played:?}");
}

#[test]
fn rewards_that_go_missing_on_one_arm_stop_the_comparison() {
    ends_right(Scenario::MissingRewards);
}

#[test]
fn a_candidate_that_half_of_the_replicas_fail_is_taken_off_at_once() {
    let played = ends_right(Scenario::DeadReplica);
    assert!(played.reason.contains("1 of 2 replicas"), "{}", played.reason);
    assert!(played.canary_sessions < 100, "{}", played.text());
}

#[test]
fn a_teacher_that_judges_no_more_stops_the_ramp() {
    let played = ends_right(Scenario::SilentTeacher);
    assert!(played.sessions > 500, "until then it judged: {}", played.text());
}

#[test]
fn of_twenty_harmless_candidates_no_more_are_taken_off_than_is_stated() {
    // With a wider margin what is harmless is seen to be so sooner.
    let mut drill = quick();
    drill.rules.policy.margin = 0.2.into();
    drill.rules.policy.steps = Steps::new(vec![50, 100]).unwrap();
    let repeated = repeat(Scenario::Identical, &drill, 20, &mut |_| {}).unwrap();
    assert!(repeated.is_within(), "{}", repeated.text());
    assert_eq!(repeated.promoted + repeated.held + repeated.paused + repeated.rolled_back, 20);
    assert!(repeated.promoted >= 15, "{}", repeated.text());
}

#[test]
fn the_same_settings_end_the_same_and_other_seeds_otherwise() {
    let [one, again] = [(); 2].map(|()| ends_right(Scenario::HalfAgainSlower));
    assert_eq!(Played { wall_ms: 0, ..one.clone() }, Played { wall_ms: 0, ..again });
    let other = play(Scenario::HalfAgainSlower, &Drill { seed: 18, ..quick() }).unwrap();
    assert_ne!(other.reason, one.reason);
}

#[test]
fn an_ending_is_right_in_its_own_world_only() {
    let promoted = Ending::Promoted;
    for scenario in Scenario::ALL {
        let wants_promotion = scenario.expected() == understudy_simulation::Expected::Promotion;
        assert_eq!(promoted.is_right_for(scenario), wants_promotion, "{scenario}");
    }
    let silent = Ending::Paused { because: PauseReason::LowTraffic };
    assert!(silent.is_right_for(Scenario::SilentTeacher));
    assert!(!silent.is_right_for(Scenario::Identical), "nobody fell silent there");
}

#[test]
fn a_binomial_s_tail() {
    // scipy.stats.binom.ppf(0.99, n, p)
    assert_eq!(rarely_exceeded(20, 0.05), 4);
    assert_eq!(rarely_exceeded(20, 0.0), 0);
    assert_eq!(rarely_exceeded(200, 0.05), 18);
    assert_eq!(rarely_exceeded(1, 0.5), 1);
}

#[test]
fn a_soak_accounts_for_every_reply_and_every_outcome() {
    let settings = Soak { seconds: 6, rate: Some(40.0), clients: 4, seed: 17 };
    let soaked = soak(&settings).unwrap();
    assert!(soaked.is_kept(), "{}", soaked.text());
    assert!(soaked.streamed > 0 && soaked.early > 0 && soaked.releases > 0, "{}", soaked.text());
    let about_nobody = soaked.sums.iter().find(|sum| sum.what.contains("nobody")).unwrap();
    assert!(about_nobody.told > 0, "{}", soaked.text());
}
