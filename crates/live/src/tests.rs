use understudy_ident::{StepId, Timestamp, TrajectoryId};
use understudy_inference::{FinishReason, Served, ServedAdapter, Timing, Usage};
use understudy_journal::{Config, Journal};
use understudy_manifest::{Check, Scorer};
use understudy_message::Message;
use understudy_trajectory::{Arm, Assignment, Course, Step};

use super::*;

fn scorer(name: &str) -> Scorer {
    Scorer::parse(name).unwrap()
}

fn rules(share: f64, names: &[&str]) -> Rules {
    let scorers: Vec<Scorer> = names.iter().map(|name| scorer(name)).collect();
    Rules::new(share, &scorers, &[]).unwrap()
}

fn step(nth: usize, arm: Option<Arm>, question: &str, reply: &str) -> Step {
    let adapter = (arm == Some(Arm::Canary))
        .then(|| ServedAdapter { alias: "triage@2".to_owned(), generation: "g".to_owned() });
    Step {
        id: StepId::derived(&format!("step {nth}")),
        trajectory: TrajectoryId::derived(&format!("session {nth}")),
        task: "triage".parse().unwrap(),
        session: None,
        subject: None,
        metadata: std::collections::BTreeMap::new(),
        response_id: format!("chatcmpl-{nth}"),
        at: Timestamp::from_millisecond(1000).unwrap(),
        prompt: vec![Message::user(question)],
        reply: Message::assistant(reply),
        finish_reason: FinishReason::Stop,
        assignment: arm.map(|arm| Assignment {
            arm,
            analysed: true,
            unit: String::new(),
            u: 0,
            release: None,
            course: Course::default(),
        }),
        served: Served { base: "b".to_owned(), adapter },
        usage: Usage { prompt_tokens: 5, completion_tokens: 9, cached_tokens: 0 },
        timing: Timing { total_ms: 120.0, ..Timing::default() },
        tools: Vec::new(),
        tokens: None,
        error: None,
    }
}

fn row<'a>(report: &'a Report, arm: &str, scorer: &str) -> &'a Row {
    report.rows.iter().find(|row| row.arm == arm && row.scorer == scorer).unwrap()
}

#[test]
fn each_arm_has_its_own_mean_under_each_scorer() {
    let names = ["json_valid", "no_refusal", "latency:100", "tokens:9", "regex:^.a"];
    let mut watch = Watch::new(rules(1.0, &names), 0);
    for nth in 0..20 {
        let reply =
            if nth % 4 == 0 { "I'm sorry, but I cannot help with that." } else { "{\"a\": 1}" };
        watch.note(&step(nth, Some(Arm::Stable), "what?", reply));
        watch.note(&step(100 + nth, Some(Arm::Canary), "what?", "[1]"));
    }
    let report = watch.report();
    assert_eq!((report.seen, report.scored, report.failed), (40, 40, 0));
    assert_eq!(report.rows.len(), 10);
    let mean = |arm, scorer| row(&report, arm, scorer).mean;
    assert_eq!((mean("stable", "json_valid"), mean("canary", "json_valid")), (0.75, 1.0));
    assert_eq!((mean("stable", "no_refusal"), mean("canary", "no_refusal")), (0.75, 1.0));
    assert_eq!((mean("stable", "latency:100"), mean("stable", "tokens:9")), (0.0, 1.0));
    let stable = row(&report, "stable", "json_valid");
    assert!(stable.low < 0.75 && 0.75 < stable.high && stable.low > 0.0, "{stable:?}");
    assert_eq!((stable.scored, &stable.adapter), (20, &None));
    assert_eq!(row(&report, "canary", "json_valid").adapter.as_deref(), Some("triage@2"));
}

#[test]
fn the_share_is_drawn_by_trajectory_and_grows_with_itself() {
    let ids: Vec<TrajectoryId> =
        (0..4000).map(|nth| TrajectoryId::derived(&format!("session {nth}"))).collect();
    let chosen = |share: f64| -> Vec<&TrajectoryId> {
        let rules = rules(share, &["json_valid"]);
        ids.iter().filter(|id| rules.chooses(id)).collect()
    };
    let (tenth, half) = (chosen(0.1), chosen(0.5));
    // Three standard errors of 4000 draws.
    assert!((343..=457).contains(&tenth.len()), "{} of 4000", tenth.len());
    assert!((1905..=2095).contains(&half.len()), "{} of 4000", half.len());
    assert!(tenth.iter().all(|id| half.contains(id)));
    assert_eq!(chosen(1.0).len(), 4000);
    let mut watch = Watch::new(rules(0.1, &["json_valid"]), 0);
    for nth in 0..4000 {
        watch.note(&step(nth, Some(Arm::Stable), "q", "{}"));
    }
    assert_eq!(watch.report().scored, tenth.len() as u64);
}

#[test]
fn what_no_arm_said_and_what_failed_is_in_no_mean() {
    let mut watch = Watch::new(rules(1.0, &["json_valid", "latency:500"]), 0);
    watch.note(&step(0, None, "imported", "{}"));
    let failed = Step { error: Some("broke".to_owned()), ..step(1, Some(Arm::Base), "q", "") };
    watch.note(&failed);
    let untimed = Step { timing: Timing::default(), ..step(2, Some(Arm::Base), "q", "{}") };
    watch.note(&untimed);
    let report = watch.report();
    assert_eq!((report.seen, report.scored, report.failed), (2, 2, 1));
    let latency = row(&report, "base", "latency:500");
    assert_eq!((latency.scored, latency.unscored, latency.mean), (0, 1, 0.0));
    assert_eq!((latency.low, latency.high), (0.0, 1.0));
}

#[test]
fn personal_data_of_the_question_may_be_in_the_reply() {
    let mut watch = Watch::new(rules(1.0, &["pii_leak"]), 0);
    let question = "write to ada@example.org";
    watch.note(&step(0, Some(Arm::Stable), question, "I wrote to ada@example.org."));
    watch.note(&step(1, Some(Arm::Canary), question, "I wrote to bob@example.org."));
    let report = watch.report();
    assert_eq!(row(&report, "stable", "pii_leak").mean, 1.0);
    assert_eq!(row(&report, "canary", "pii_leak").mean, 0.0);
}

#[test]
fn a_check_may_bring_the_value_that_a_scorer_needs() {
    let schema = Check::new(scorer("json_schema"), Some(r#"{"required": ["a"]}"#.to_owned()));
    let word = Check { negate: true, ..Check::new(scorer("contains"), Some("lorem".to_owned())) };
    let rules = Rules::new(1.0, &[], &[schema, word]).unwrap();
    assert_eq!(rules.names(), ["json_schema", "not contains"]);
    let mut watch = Watch::new(rules, 0);
    watch.note(&step(0, Some(Arm::Stable), "q", r#"{"a": 1}"#));
    watch.note(&step(1, Some(Arm::Stable), "q", r#"{"b": "lorem"}"#));
    let report = watch.report();
    assert_eq!(row(&report, "stable", "json_schema").mean, 0.5);
    assert_eq!(row(&report, "stable", "not contains").mean, 0.5);
}

#[test]
fn scorers_that_need_an_expected_answer_are_refused_by_name() {
    let refused = |name: &str| Rules::new(0.5, &[scorer(name)], &[]).unwrap_err().to_string();
    for name in ["exact", "field_f1", "json_schema", "tool_call_ast", "contains", "checks"] {
        let why = refused(name);
        assert!(why.contains(&format!("`{name}`")) && why.contains("expected answer"), "{why}");
    }
    assert!(refused("cost:5").contains("not in the journal"));
    let none: [Scorer; 0] = [];
    assert_eq!(Rules::new(0.5, &none, &[]).unwrap_err(), RulesError::NoScorer);
    for share in [0.0, -1.0, 1.5, f64::NAN] {
        let error = Rules::new(share, &[scorer("json_valid")], &[]).unwrap_err();
        assert!(matches!(error, RulesError::Share(_)), "{share}");
    }
    let broken = Check::new(scorer("json_schema"), Some("{".to_owned()));
    assert!(matches!(Rules::new(0.5, &none, &[broken]), Err(RulesError::Scorer { .. })));
    let twice = Rules::new(0.5, &[scorer("refusal"), scorer("refusal")], &[]).unwrap_err();
    assert_eq!(twice, RulesError::Twice("refusal".to_owned()));
}

#[test]
fn the_journal_is_read_once_and_from_where_it_was() {
    let home = tempfile::tempdir().unwrap();
    let journal = Journal::open(&home.path().join("journal.db"), Config::default()).unwrap();
    let append = |nth: usize| {
        let step = step(nth, Some(Arm::Stable), "q", "{}");
        journal.append_step(step).unwrap().wait().unwrap();
    };
    (0..3).for_each(append);
    let mut watch = Watch::new(rules(1.0, &["json_valid"]), journal.watermark().unwrap());
    (3..8).for_each(append);
    assert!(!watch.read(&journal).unwrap());
    assert_eq!(watch.report().seen, 5);
    assert!(!watch.read(&journal).unwrap());
    append(8);
    watch.read(&journal).unwrap();
    assert_eq!(watch.report().seen, 6);
}
