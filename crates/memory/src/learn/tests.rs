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
        target_argument: None,
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
                attempt_of: None,
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

/// Runs at two sites whose button hides: what brings it back is not the same there.
fn browsing(catalogue: &Catalogue, key: &Key) -> Vec<Episode> {
    let sites = ["https://shop.alpha.example/cart", "https://beta.example"];
    (0..48)
        .map(|n: usize| {
            let (site, won) = (sites[n % 2], n % 4 < 2);
            let call = |tool: &str, batch, result| Called {
                tool: tool.to_owned(),
                arguments: json!({"url": format!("{site}?id={n}")}),
                result,
                batch,
                latency_ms: 5,
                tokens: 5,
            };
            let hidden =
                Failure { message: format!("element \"#{n}\" is not visible"), code: None };
            let next = match (won, n % 2) {
                (true, 0) => "page.scroll",
                (true, _) => "page.wait",
                (false, _) => "page.press",
            };
            let mut calls =
                vec![call("page.click", 1, Err(hidden)), call(next, 2, Ok("done".to_owned()))];
            if won {
                calls.push(call("page.click", 3, Ok("done".to_owned())));
            }
            let transcript = Transcript {
                source: TrajectoryId::derived(&n.to_string()),
                attempt_of: None,
                agent: None,
                subject: Some(format!("user {}", n % 7)),
                at: ManualClock::default().now(),
                goal: format!("please put item {n} into my cart"),
                calls,
                answer: "done".to_owned(),
                heard: Vec::new(),
                reward: Some(f64::from(u8::from(won))),
                harmful: false,
                run: Run::production(),
            };
            Episode::read(&transcript, catalogue, key)
        })
        .collect()
}

#[test]
fn what_works_at_one_site_is_learnt_for_it_and_copied_there() {
    let directory = tempfile::tempdir().unwrap();
    let root = crate::MemoryRoot::open(directory.path(), Settings::default()).unwrap();
    let tenant: crate::TenantId = "acme".parse().unwrap();
    let (store, releases) = (root.deployment(&tenant).unwrap(), root.releases(&tenant));
    let tool = |name: &str| ToolSchema {
        name: name.to_owned(),
        description: String::new(),
        access: Access::Write,
        target: None,
        target_argument: Some("url".to_owned()),
        arguments: vec![Argument { name: "url".to_owned(), required: true, values: Vec::new() }],
    };
    let names = ["page.click", "page.scroll", "page.wait", "page.press"];
    let catalogue = Catalogue { tools: names.map(tool).to_vec(), ..Catalogue::default() };
    catalogue.check().unwrap();
    let job = Job {
        catalogue: &catalogue,
        key: store.key(),
        settings: &Settings::default(),
        embedder: &HashingEmbedder,
        teacher: None,
        now: ManualClock::default().now(),
    };
    let report = job.learn(&browsing(&catalogue, store.key()), &mut NoVerifier).unwrap();
    let by = crate::By::new("ada", "a test", job.now).unwrap();
    for item in report.proposals {
        let crate::Proposed::New { id } = store.propose(item, &HashingEmbedder, &by).unwrap()
        else {
            panic!("the two sites' lessons are not one")
        };
        store.validate(&id, &by).unwrap();
    }
    let choice = crate::Choice::default();
    let (digest, _) = store.release(&releases, "hashing@1", &choice, &by).unwrap();
    let release = releases.read(&digest).unwrap();
    let shelf =
        crate::Shelf::of_release(digest, &release, Some(&HashingEmbedder), &catalogue).unwrap();
    let kept = store.all(job.now).unwrap();
    let settings = store.settings();
    let library = crate::Library {
        deployment: &shelf,
        user: None,
        standings: &crate::Standings::of(&kept, &settings.counters, job.now),
        embedder: Some(&HashingEmbedder),
        intents: None,
        settings: &settings.retrieval,
        counters: &settings.counters,
        key: store.key(),
    };
    for (site, way) in [("www.alpha.example", "page.scroll"), ("beta.example/x", "page.wait")] {
        let failure = json!({"target": {"kind": "site", "key": site},
            "action": {"tool": "page.click"}, "error": {"message": "element \"#q\" is not visible"}});
        let reply = library.heal(&serde_json::from_value(failure).unwrap(), job.now).unwrap();
        assert_eq!((reply.tier, reply.escalate), (crate::Tier::High, false), "{reply:?}");
        assert_eq!(reply.candidates[0].tool.as_deref(), Some(way), "{reply:?}");
    }
    // Elsewhere neither is copied: what helped there is at most a general approach.
    let failure = json!({"target": {"kind": "site", "key": "gamma.example"},
        "action": {"tool": "page.click"}, "error": {"message": "element \"#q\" is not visible"}});
    let reply = library.heal(&serde_json::from_value(failure).unwrap(), job.now).unwrap();
    assert_eq!(reply.tier, crate::Tier::Low, "{reply:?}");
}

#[test]
fn a_target_that_is_no_argument_is_refused() {
    let wrong = "[[tools]]\nname = \"page.click\"\ntarget_argument = \"url\"\n";
    let refused = Catalogue::parse(wrong).unwrap_err().to_string();
    assert!(refused.contains("which is none of its arguments"), "{refused}");
}

#[test]
fn runs_that_were_not_handed_in_are_told_of() {
    let (catalogue, key) = (catalogue(), Key::from_bytes([1; 32]));
    let job = Job {
        catalogue: &catalogue,
        key: &key,
        settings: &Settings::default(),
        embedder: &HashingEmbedder,
        teacher: None,
        now: ManualClock::default().now(),
    };
    let report =
        job.learn(&[], &mut NoVerifier).unwrap().without("it repeats a case of a suite", 7);
    assert_eq!((report.episodes, report.skipped["it repeats a case of a suite"]), (7, 7));
    assert_eq!(report.verdict, "nothing was learnt: it repeats a case of a suite (7)");
}

/// A run of the pay desk with `said` in every field that holds content.
fn told(n: usize, said: &[String]) -> Transcript {
    let at = |place: usize| format!("{}{n}", said[place]);
    let paid = n.is_multiple_of(2);
    let refused = Failure { message: format!("\"{n}\" is not quoted {}", at(0)), code: Some(412) };
    let call = |tool: &str, batch, result| Called {
        tool: tool.to_owned(),
        arguments: json!({"id": at(1), at(2): [at(3)], "nested": {at(4): at(5)}}),
        result,
        batch,
        latency_ms: 5,
        tokens: 5,
    };
    let mut calls = vec![call("pay", 2, if paid { Ok(at(6)) } else { Err(refused) })];
    if paid {
        calls.insert(0, call("quote", 1, Ok(json!({"title": at(7), "mail": at(8)}).to_string())));
    }
    calls.push(call(&at(9), 3, Ok(at(10))));
    Transcript {
        source: TrajectoryId::derived(&at(11)),
        attempt_of: None,
        agent: Some(at(12)),
        subject: Some(format!("{}-{}", at(13), n % 5)),
        at: ManualClock::default().now(),
        goal: format!("please pay this back {}", at(14)),
        calls,
        answer: at(15),
        heard: vec![at(16), format!("Document {} in {}.pdf", at(17), at(18))],
        reward: Some(f64::from(u8::from(paid))),
        harmful: false,
        run: Run::production(),
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig {
        cases: 48, failure_persistence: None, ..Default::default()
    })]

    /// Whatever stands in whichever field of a trace: lessons are learnt, and it is in none of them,
    /// nor in what is said about them.
    #[test]
    fn nothing_that_was_said_in_any_field_is_in_a_lesson_or_a_report(
        said in proptest::collection::vec("[a-zA-Z0-9@._:/-]{7,24}[a-z]", 19),
    ) {
        let (catalogue, key) = (catalogue(), Key::from_bytes([1; 32]));
        let job = Job {
            catalogue: &catalogue,
            key: &key,
            settings: &Settings::default(),
            embedder: &HashingEmbedder,
            teacher: None,
            now: ManualClock::default().now(),
        };
        let read = |n| Episode::read(&told(n, &said), &catalogue, &key);
        let report = job.learn(&(0..24).map(read).collect::<Vec<_>>(), &mut NoVerifier).unwrap();
        proptest::prop_assert!(report.learned > 0, "{report:?}");
        let kept = serde_json::to_string(&report.proposals).unwrap();
        let kept = format!("{kept}{}", serde_json::to_string(&report).unwrap()).to_lowercase();
        for text in &said {
            proptest::prop_assert!(!kept.contains(&text.to_lowercase()), "{text} in {kept}");
        }
    }
}
