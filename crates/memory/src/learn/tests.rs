use std::sync::Arc;

use serde_json::json;
use understudy_ident::{Clock as _, ManualClock, TrajectoryId};
use understudy_inference::{FakeBackend, HashingEmbedder};

use super::*;
use crate::{
    Access, Argument, Called, Failure, NoVerifier, Run, TeacherDistiller, ToolSchema, Transcript,
};

fn catalogue() -> Catalogue {
    let tool = |name: &str, access| ToolSchema {
        name: name.to_owned(),
        description: String::new(),
        access,
        target: None,
        arguments: vec![Argument { name: "id".to_owned(), required: true, values: Vec::new() }],
    };
    Catalogue {
        tools: vec![tool("quote", Access::Read), tool("pay", Access::Write)],
        ..Catalogue::default()
    }
}

/// Runs in which paying works only after quoting.
fn episodes(users: usize) -> Vec<Episode> {
    let (catalogue, key) = (catalogue(), Key::from_bytes([1; 32]));
    (0..24)
        .map(|n| {
            let quoted = n % 2 == 0;
            let call = |tool: &str, batch, result| Called {
                tool: tool.to_owned(),
                arguments: json!({"id": format!("ORD-{n}00{n}")}),
                result,
                batch,
                latency_ms: 5,
                tokens: 5,
            };
            let refused = Failure { message: format!("\"{n}\" is not quoted"), code: Some(412) };
            let paid = if quoted { Ok("paid".to_owned()) } else { Err(refused) };
            let mut calls = vec![call("pay", 2, paid)];
            if quoted {
                calls.insert(0, call("quote", 1, Ok("12".to_owned())));
            }
            let transcript = Transcript {
                source: TrajectoryId::derived(&n.to_string()),
                agent: None,
                subject: Some(format!("user {}", n as usize % users)),
                at: ManualClock::default().now(),
                goal: format!("please pay order number {n} back"),
                calls,
                answer: "done".to_owned(),
                heard: vec!["Helios is confidential".to_owned()],
                reward: Some(f64::from(u8::from(quoted))),
                harmful: false,
                run: Run::production(),
            };
            Episode::read(&transcript, &catalogue, &key)
        })
        .collect()
}

fn learn(teacher: Option<&dyn Distil>) -> LearnReport {
    let (catalogue, key) = (catalogue(), Key::from_bytes([1; 32]));
    let settings = Settings::default();
    let job = Job {
        catalogue: &catalogue,
        key: &key,
        settings: &settings,
        embedder: &HashingEmbedder,
        teacher,
        now: ManualClock::default().now(),
    };
    job.learn(&episodes(4), &mut NoVerifier).unwrap()
}

fn teacher(answer: &'static str) -> TeacherDistiller {
    TeacherDistiller::new(Arc::new(FakeBackend::new("big", move |prompt, _| {
        // What a teacher is sent has no word of anybody.
        assert!(!prompt.contains("Helios") && !prompt.contains("ORD-") && !prompt.contains("412"));
        Ok(answer.to_owned())
    })))
}

#[test]
fn the_way_around_a_failure_is_a_recovery_with_its_error() {
    let report = learn(None);
    let first = &report.proposals[0];
    assert_eq!(first.situation.text.as_str(), "When a task needs `pay`");
    assert!(first.strategy.text.as_str().starts_with("prefer calling `quote` first"));
    assert_eq!(first.kind, crate::Kind::Recovery);
    assert_eq!(first.situation.error.unwrap().code, Some(412));
    assert_eq!((first.evidence.users, first.evidence.episodes), (4, 24));
    assert_eq!((first.evidence.winners, first.evidence.losers), (12, 12));
    assert!((first.evidence.lift - 1.0).abs() < 1e-9 && first.evidence.p < 1e-5);
    assert!(report.proposals.len() <= 3);
}

#[test]
fn a_teachers_words_are_taken_when_they_are_clean_and_keep_the_names() {
    let good = teacher(
        r#"Sure: {"situation": "When a task calls for `pay`", "strategy": "prefer `quote` beforehand; payment needs a fresh `quote`."}"#,
    );
    let report = learn(Some(&good));
    let first = &report.proposals[0];
    assert_eq!(first.provenance.distiller, Distiller::Teacher);
    assert_eq!(first.situation.text.as_str(), "When a task calls for `pay`");
    for bad in [
        // Says a name, changes a tool, says nothing.
        r#"{"situation": "When Ada needs `pay`", "strategy": "prefer `quote` first."}"#,
        r#"{"situation": "When a task needs `pay`", "strategy": "prefer `refund` first."}"#,
        "I cannot help with that.",
    ] {
        let report = learn(Some(&teacher(bad)));
        let first = &report.proposals[0];
        assert_eq!(first.provenance.distiller, Distiller::Template, "{bad}");
    }
}

#[test]
fn runs_of_one_kind_that_all_end_alike_teach_nothing() {
    let (catalogue, key) = (catalogue(), Key::from_bytes([1; 32]));
    let settings = Settings::default();
    let mut all = episodes(4);
    for episode in &mut all {
        episode.reward = Some(1.0);
        episode.skeleton = Skeleton { moves: all_alike(), undeclared: 0 };
    }
    let job = Job {
        catalogue: &catalogue,
        key: &key,
        settings: &settings,
        embedder: &HashingEmbedder,
        teacher: None,
        now: ManualClock::default().now(),
    };
    let report = job.learn(&all, &mut NoVerifier).unwrap();
    assert_eq!((report.learned, report.no_learning["no winners beside losers"]), (0, 1));
    for episode in &mut all {
        episode.reward = None;
    }
    let report = job.learn(&all, &mut NoVerifier).unwrap();
    assert_eq!(report.skipped["nobody said how good any run was"], 24);
}

fn all_alike() -> Vec<crate::Move> {
    episodes(1)[0].skeleton.moves.clone()
}
