use understudy_ident::{OutcomeId, Timestamp};

use crate::{Outcome, RewardPolicy, Signal, Source, Target, edit_ratio};

fn outcome(signal: Signal, source: Source) -> Outcome {
    Outcome {
        id: OutcomeId::generate(),
        target: Target::Response("chatcmpl-1".to_owned()),
        signal,
        source,
        at: Timestamp::UNIX_EPOCH,
        note: None,
    }
}

fn reward(outcomes: &[Outcome]) -> Option<f64> {
    RewardPolicy::DefaultV1.reward("abcd", outcomes).map(|reward| reward.value)
}

#[test]
fn silence_is_no_opinion() {
    assert_eq!(reward(&[]), None);
}

#[test]
fn an_edit_is_worth_what_it_kept() {
    let edit = Signal::Edit { text: "abcx".to_owned() };
    assert_eq!(reward(&[outcome(edit, Source::Explicit)]), Some(0.75));
}

#[test]
fn an_implicit_abandon_weighs_a_quarter_of_an_explicit_accept() {
    let said = outcome(Signal::Accept, Source::Explicit);
    let left = outcome(Signal::Abandon, Source::Implicit);
    assert_eq!(reward(&[said, left]), Some(0.8));
}

#[test]
fn a_flag_overrides_praise_but_its_components_stay() {
    let outcomes = [
        outcome(Signal::Accept, Source::Explicit),
        outcome(Signal::Flag { reason: "leaked".to_owned() }, Source::Explicit),
    ];
    let reward = RewardPolicy::DefaultV1.reward("abcd", &outcomes).unwrap();
    assert_eq!(reward.value, 0.0);
    assert_eq!(reward.components.len(), 2);
}

#[test]
fn edit_ratio_is_a_symmetric_share_of_characters() {
    assert_eq!(edit_ratio("", ""), 0.0);
    assert_eq!(edit_ratio("abc", ""), 1.0);
    assert_eq!(edit_ratio("kitten", "sitting"), edit_ratio("sitting", "kitten"));
    assert!((edit_ratio("kitten", "sitting") - 3.0 / 7.0).abs() < 1e-12);
    assert_eq!(edit_ratio("café", "cafe"), 0.25);
}

#[test]
fn outcomes_read_the_same_after_a_round_trip() {
    let edit = outcome(Signal::Edit { text: "x".to_owned() }, Source::Explicit);
    let wire = serde_json::to_string(&edit).unwrap();
    assert!(wire.contains(r#""signal":{"kind":"edit","text":"x"}"#), "{wire}");
    assert_eq!(serde_json::from_str::<Outcome>(&wire).unwrap(), edit);
}
