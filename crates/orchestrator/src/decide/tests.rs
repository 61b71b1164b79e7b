use proptest::prelude::*;
use understudy_ident::Timestamp;
use understudy_manifest::Unattended;

use super::*;
use crate::Paused;

const HOUR: i64 = 3_600_000;
/// Midnight, UTC.
const DAY_ZERO: i64 = 20_000 * DAY_MS;

fn ms(at: i64) -> Timestamp {
    Timestamp::from_millisecond(DAY_ZERO + at).unwrap()
}

fn settings(text: &str) -> Unattended {
    let recipe = format!(
        "schema = 1\ntask = \"t\"\nbase = \"b\"\n[[train]]\nmethod = \"sft\"\n[loop]\n{text}"
    );
    understudy_manifest::Recipe::parse("r", &recipe).unwrap().unattended.unwrap()
}

fn plenty() -> Sight {
    Sight { verified_new: 100, verified_all: 500, ..Sight::default() }
}

fn holds(decision: Decision) -> Vec<Hold> {
    match decision {
        Decision::Wait { holds } => holds,
        other => panic!("{other:?}"),
    }
}

/// Every rule with the world just before and just after it lets the loop go.
#[test]
fn each_rule_holds_a_turn_back_exactly_as_long_as_it_says() {
    let past = |f: fn(&mut Past)| {
        let mut past = Past::default();
        f(&mut past);
        past
    };
    let sight = |f: fn(&mut Sight)| {
        let mut sight = plenty();
        f(&mut sight);
        sight
    };
    let ended = |past: &mut Past| past.last_ended = Some(ms(0));
    let begun = |past: &mut Past| past.begun = vec![ms(0), ms(HOUR), ms(2 * HOUR)];
    let trained = |past: &mut Past| {
        past.trained = vec![(ms(0), 1800.0), (ms(HOUR), 1800.0), (ms(2 * HOUR), 60.0)];
    };
    let same = |_: &mut Sight| {};
    let table: Vec<(&str, Past, Sight, i64, Option<&str>)> = vec![
        ("min_interval = \"6h\"", past(ended), sight(same), 6 * HOUR - 1, Some("until 5555")),
        ("min_interval = \"6h\"", past(ended), sight(same), 6 * HOUR, None),
        ("quiet_hours = [\"08:00-18:00\"]", Past::default(), sight(same), 8 * HOUR, Some("quiet")),
        ("quiet_hours = [\"08:00-18:00\"]", Past::default(), sight(same), 18 * HOUR, None),
        ("turns_per_day = 2", past(begun), sight(same), 25 * HOUR - 1, Some("2 turns a day")),
        ("turns_per_day = 2", past(begun), sight(same), 25 * HOUR, None),
        ("turns_per_day = 3", past(begun), sight(same), 24 * HOUR - 1, Some("3 turns a day")),
        ("turns_per_day = 3", past(begun), sight(same), 24 * HOUR, None),
        ("train_minutes_per_day = 61", past(trained), sight(same), 24 * HOUR - 1, Some("61.0 are")),
        ("train_minutes_per_day = 61", past(trained), sight(same), 24 * HOUR, None),
        ("train_minutes_per_day = 62", past(trained), sight(same), 3 * HOUR, None),
        ("min_new = 101", Past::default(), sight(same), 0, Some("1 more verified outcomes since")),
        ("min_new = 100", Past::default(), sight(same), 0, None),
        (
            "",
            Past::default(),
            sight(|s| s.verified_all = 79),
            0,
            Some("1 more verified outcomes in"),
        ),
        ("", Past::default(), sight(|s| s.verified_all = 80), 0, None),
        (
            "",
            Past::default(),
            sight(|s| s.open_release = Some("r".into())),
            0,
            Some("open release"),
        ),
        ("", Past::default(), sight(|s| s.frozen = Some("f".into())), 0, Some("freeze")),
    ];
    for (text, past, sight, now, expected) in table {
        let interval = if text.contains("min_interval") { "" } else { "\nmin_interval = \"0s\"" };
        let settings = settings(&format!("{text}{interval}\nmin_new_when_falling = 1"));
        let decision = decide(&settings, 80, &sight, &past, ms(now));
        let said = decision.to_string();
        match expected {
            None => assert!(matches!(decision, Decision::Train { .. }), "{text} at {now}: {said}"),
            Some("until 5555") => {
                let until = ms(6 * HOUR);
                assert_eq!(holds(decision), [Hold::Interval { until }], "{text} at {now}");
            }
            Some(words) => {
                assert!(said.contains(words), "{text} at {now}: {said}");
                assert_eq!(holds(decision).len(), 1, "{said}");
            }
        }
    }
}

#[test]
fn everything_that_is_missing_is_said_at_once() {
    let settings = settings("min_new = 50\nquiet_hours = [\"00:00-06:00\"]");
    let sight = Sight { verified_new: 8, verified_all: 10, ..Sight::default() };
    let past = Past { last_ended: Some(ms(0)), ..Past::default() };
    let said = decide(&settings, 64, &sight, &past, ms(1)).to_string();
    for words in ["42 more", "(8 of 50)", "54 more", "quiet hours", "interval"] {
        assert!(said.contains(words), "no {words} in: {said}");
    }
}

#[test]
fn an_alarm_makes_fewer_outcomes_do_and_is_named() {
    let settings = settings("min_new = 200\nmin_new_when_falling = 100\nmin_interval = \"0s\"");
    let calm = decide(&settings, 1, &plenty(), &Past::default(), ms(0));
    assert!(matches!(calm, Decision::Wait { .. }));
    let fallen = || Some("the reward of t@3 has fallen".to_owned());
    let early = Sight { alarm: fallen(), verified_since_alarm: 99, ..plenty() };
    let said = decide(&settings, 1, &early, &Past::default(), ms(0)).to_string();
    assert!(said.contains("1 more verified outcomes since the alarm (99 of 100)"), "{said}");
    let alarmed = Sight { alarm: fallen(), verified_since_alarm: 100, ..plenty() };
    let decision = decide(&settings, 1, &alarmed, &Past::default(), ms(0));
    assert!(decision.to_string().contains("t@3 has fallen"), "{decision}");
    let Decision::Train { because: Because::Alarm { new: 100, .. } } = decision else {
        panic!("{decision:?}")
    };
}

#[test]
fn only_a_person_ends_a_stop() {
    let settings = settings("max_failures = 2\nmax_turns = 9");
    let paused = Paused { owner: "ada".into(), reason: "the desk is closed".into() };
    let stop = |past: Past| match decide(&settings, 1, &plenty(), &past, ms(0)) {
        Decision::Stop { why } => why.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(stop(Past { paused: Some(paused), ..Past::default() }).contains("ada paused it"));
    let failed = Past {
        failures_in_a_row: 2,
        last_ending: Some("the gate refused t@2: worse".into()),
        ..Past::default()
    };
    let said = stop(failed);
    assert!(said.contains("2 turns in a row") && said.contains("the gate refused t@2"), "{said}");
    assert!(stop(Past { turns: 9, ..Past::default() }).contains("9 turns"));
}

prop_compose! {
    fn any_settings()(
        (min_new, falling) in (1_u64..100).prop_flat_map(|n| (Just(n), 1..=n)),
        interval in 0_u64..200_000,
        from in 0_u32..1440, length in 1_u32..720, quiet in any::<bool>(),
        per_day in proptest::option::of(1_u64..5),
        minutes in proptest::option::of(1_u64..200),
        max_turns in proptest::option::of(3_u64..20),
        max_failures in 1_u64..5,
    ) -> Unattended {
        let to = (from + length) % 1440;
        let hours = format!("{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60);
        Unattended {
            min_new,
            min_new_when_falling: falling,
            min_interval: understudy_manifest::Pause::from_seconds(interval),
            quiet_hours: if quiet { vec![hours.parse().unwrap()] } else { Vec::new() },
            turns_per_day: per_day,
            train_minutes_per_day: minutes,
            max_turns,
            max_failures,
            ..Unattended::default()
        }
    }
}

prop_compose! {
    fn any_past()(
        begun in proptest::collection::vec(0_i64..3 * DAY_MS, 0..6),
        seconds in proptest::collection::vec(0.0_f64..9000.0, 0..6),
        failures in 0_u64..3,
        paused in proptest::bool::weighted(0.1),
    ) -> Past {
        let mut begun = begun;
        begun.sort_unstable();
        let owner = || Paused { owner: "ada".into(), reason: "so".into() };
        Past {
            turns: begun.len() as u64,
            trained: begun.iter().zip(&seconds).map(|(at, s)| (ms(*at), *s)).collect(),
            last_ended: begun.last().map(|at| ms(*at)),
            begun: begun.iter().map(|at| ms(*at)).collect(),
            failures_in_a_row: failures,
            paused: paused.then(owner),
            ..Past::default()
        }
    }
}

prop_compose! {
    fn any_sight()(
        new in 0_u64..120, old in 0_u64..120, since in 0.0_f64..1.0,
        alarm in any::<bool>(), open in proptest::bool::weighted(0.1),
        frozen in proptest::bool::weighted(0.1),
    ) -> Sight {
        Sight {
            verified_new: new,
            verified_all: new + old,
            alarm: alarm.then(|| "it has fallen".to_owned()),
            verified_since_alarm: if alarm { (new as f64 * since) as u64 } else { 0 },
            open_release: open.then(|| "t@1 is ramping".to_owned()),
            frozen: frozen.then(|| "holidays".to_owned()),
            ..Sight::default()
        }
    }
}

fn trains(settings: &Unattended, sight: &Sight, past: &Past, now: i64) -> bool {
    matches!(decide(settings, 30, sight, past, ms(now)), Decision::Train { .. })
}

proptest! {
    // About one case in five trains. The others are passed over in silence, not rejected: proptest
    // gives up after a number of rejects, which such a share now and then reaches.
    #![proptest_config(ProptestConfig::with_cases(2048))]

    /// It never trains against a rule, whatever else is true.
    #[test]
    fn it_never_trains_against_a_rule(
        settings in any_settings(), sight in any_sight(), past in any_past(),
        now in 3 * DAY_MS..5 * DAY_MS,
    ) {
        if !trains(&settings, &sight, &past, now) {
            return Ok(());
        }
        prop_assert!(past.paused.is_none() && sight.open_release.is_none());
        prop_assert!(sight.frozen.is_none() && past.failures_in_a_row < settings.max_failures);
        prop_assert!(settings.quiet_for(ms(now).as_millisecond()).is_none());
        prop_assert!(sight.verified_all >= 30);
        let by_alarm = sight.alarm.is_some()
            && sight.verified_since_alarm >= settings.min_new_when_falling;
        prop_assert!(by_alarm || sight.verified_new >= settings.min_new);
        let recent = past.begun.iter().filter(|at| at.as_millisecond() + DAY_MS > DAY_ZERO + now);
        prop_assert!(settings.turns_per_day.is_none_or(|most| (recent.count() as u64) < most));
        if let Some(ended) = past.last_ended {
            prop_assert!(ended.as_millisecond() + settings.min_interval.as_ms() <= DAY_ZERO + now);
        }
    }

    /// More outcomes, or an alarm, never keep it from training.
    #[test]
    fn more_news_never_stops_it(
        settings in any_settings(), sight in any_sight(), past in any_past(),
        now in 3 * DAY_MS..5 * DAY_MS, more in 0_u64..50,
    ) {
        if !trains(&settings, &sight, &past, now) {
            return Ok(());
        }
        let (new, all) = (sight.verified_new + more, sight.verified_all + more);
        let alarm = Some("drift".to_owned());
        let later = Sight { verified_new: new, verified_all: all, alarm, ..sight };
        prop_assert!(trains(&settings, &later, &past, now));
    }

    /// When all holds are of time, it trains once the last of them is over, and not before.
    #[test]
    fn a_moment_that_is_named_is_the_moment(
        settings in any_settings(), past in any_past(), now in 0_i64..3 * DAY_MS,
    ) {
        let settings = Unattended { quiet_hours: Vec::new(), ..settings };
        let Decision::Wait { holds } = decide(&settings, 1, &plenty(), &past, ms(now)) else {
            return Ok(());
        };
        let until = holds.iter().map(|hold| match hold {
            Hold::Interval { until }
            | Hold::TurnsPerDay { until, .. }
            | Hold::TrainMinutesPerDay { until, .. } => until.as_millisecond() - DAY_ZERO,
            other => panic!("{other:?}"),
        });
        let until = until.max().unwrap();
        prop_assert!(trains(&settings, &plenty(), &past, until));
        prop_assert!(!trains(&settings, &plenty(), &past, until - 1));
    }
}
