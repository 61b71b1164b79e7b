//! Failure modes that are planted at the desk, and the lessons that are mined from them.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use serde_json::{Value, json};
use understudy_ident::{Digest, Timestamp, TrajectoryId};
use understudy_inference::HashingEmbedder;
use understudy_memory::{
    Argument, Called, Catalogue, Contrast, Episode, Failure, Job as LearnJob, Key, Kind,
    LearnReport, NoVerifier, Part, Run, Settings, Shape, Transcript,
};
use understudy_toolworld::{Desk, Draw, Job, Request, catalogue};

const SEED: u64 = 41;

/// A desk at which refunds ask for more than its schema tells.
struct Planted {
    catalogue: Catalogue,
    /// Whether a call goes wrong for the planted reason.
    refuses: fn(&str, &Value) -> Option<Failure>,
    /// Calls after which nobody waits for the answer any more.
    patience: usize,
}

impl Planted {
    fn new() -> Self {
        Self { catalogue: catalogue(), refuses: |_, _| None, patience: usize::MAX }
    }

    /// With one more argument of `refunds.create`.
    fn with_argument(name: &str, values: &[&str]) -> Self {
        let mut planted = Self::new();
        let tool = planted.catalogue.tools.iter_mut().find(|tool| tool.name == "refunds.create");
        tool.unwrap().arguments.push(Argument {
            name: name.to_owned(),
            required: false,
            values: values.iter().map(|value| (*value).to_owned()).collect(),
        });
        planted
    }

    /// Makes the calls at a desk of its own, and sees what came of them.
    fn run(
        &self,
        n: u64,
        calls: impl Fn(&Request, &mut Draw) -> Vec<(&'static str, Value)>,
    ) -> Episode {
        let mut request = Request::draw(SEED, n);
        request.job = Job::Refund;
        request.goal = format!("please refund order {}.", request.order);
        let mut desk = Desk::new(&request);
        let mut draw = Draw::new(SEED, &format!("planted {n}"));
        let made = calls(&request, &mut draw);
        let in_time = made.len() <= self.patience;
        let calls = made.into_iter().enumerate().map(|(at, (tool, arguments))| {
            let result = match (self.refuses)(tool, &arguments) {
                Some(failure) => Err(failure),
                None => desk.call(tool, &arguments).map(|value| value.to_string()),
            };
            let (tool, batch) = (tool.to_owned(), at as u32);
            Called { tool, arguments, result, batch, latency_ms: 40, tokens: 30 }
        });
        let calls: Vec<Called> = calls.collect();
        let transcript = Transcript {
            source: TrajectoryId::derived(&format!("planted {n}")),
            attempt_of: None,
            agent: Some("desk".to_owned()),
            subject: Some(format!("user {}", n % 9)),
            at: now(),
            goal: request.goal.clone(),
            calls,
            answer: "done".to_owned(),
            heard: Vec::new(),
            reward: Some(f64::from(u8::from(in_time && desk.succeeded()))),
            harmful: false,
            run: Run { part: Part::Production, config: Digest::of(b"planted"), seed: n },
        };
        Episode::read(&transcript, &self.catalogue, &Key::from_bytes([7; 32]))
    }

    fn learn(&self, episodes: &[Episode], contrast: Contrast) -> LearnReport {
        let settings = Settings { contrast, ..Settings::default() };
        let job = LearnJob {
            catalogue: &self.catalogue,
            key: &Key::from_bytes([7; 32]),
            settings: &settings,
            embedder: &HashingEmbedder,
            teacher: None,
            now: now(),
        };
        job.learn(episodes, &mut NoVerifier).unwrap()
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_900_000_000).unwrap()
}

fn texts(report: &LearnReport) -> Vec<&str> {
    report.proposals.iter().map(|item| item.strategy.text.as_str()).collect()
}

/// A quote, and a refund with whatever else is in these arguments.
fn refund(request: &Request, extra: &[(&str, Value)]) -> Vec<(&'static str, Value)> {
    let id = json!({"order_id": request.order});
    let mut create = json!({"order_id": request.order, "amount": request.paid});
    for (key, value) in extra {
        create[*key] = value.clone();
    }
    vec![("refunds.quote", id), ("refunds.create", create)]
}

#[test]
fn in_which_shape_an_argument_is_given_is_found() {
    let planted = Planted::new();
    let episodes: Vec<Episode> = (0..40)
        .map(|n| {
            planted.run(n, |request, draw| {
                let told = draw.chance(0.5);
                let amount =
                    if told { json!(request.paid.to_string()) } else { json!(request.paid) };
                refund(request, &[("amount", amount)])
            })
        })
        .collect();
    let report = planted.learn(&episodes, Contrast::default());
    assert_eq!(
        texts(&report)[0],
        "prefer passing `amount` = <integer>, because runs that did so succeeded more often."
    );
    let lesson = &report.proposals[0];
    assert_eq!(lesson.strategy.parameters[0].shape, Shape::Integer);
    assert!(lesson.evidence.p < 1e-6 && lesson.evidence.lift > 0.99, "{:?}", lesson.evidence);
    // What is to be given says already what is not to be.
    assert_eq!(texts(&report).iter().filter(|text| text.contains("amount")).count(), 1);
}

#[test]
fn that_an_argument_is_given_is_found_though_no_value_of_it_is_decisive() {
    let mut planted = Planted::with_argument("reason", &["damaged", "late", "wrong", "other"]);
    planted.refuses = |tool, arguments| {
        let lacks = tool == "refunds.create" && arguments.get("reason").is_none();
        lacks.then(|| Failure { message: "no".to_owned(), code: None })
    };
    let episodes = |planted: &Planted, runs: u64| -> Vec<Episode> {
        let values = ["damaged", "late", "wrong", "other"];
        let play = |n| {
            planted.run(n, |request, draw| {
                let reason = draw.chance(0.5).then(|| ("reason", json!(draw.pick(&values))));
                refund(request, reason.as_slice())
            })
        };
        (0..runs).map(play).collect()
    };
    let report = planted.learn(&episodes(&planted, 40), Contrast::default());
    assert_eq!(
        texts(&report)[0],
        "prefer passing `reason`, because runs that did so succeeded more often."
    );
    assert!(report.proposals[0].strategy.parameters.is_empty());
    assert!(texts(&report).iter().all(|text| !text.contains("reason` =")), "{:?}", texts(&report));
    // The same bars as for every other difference.
    for contrast in [
        Contrast { max_p: 1e-12, ..Contrast::default() },
        Contrast { min_support: 30, ..Contrast::default() },
    ] {
        let report = planted.learn(&episodes(&planted, 40), contrast);
        assert!(
            texts(&report).iter().all(|text| !text.contains("passing")),
            "{:?}",
            texts(&report)
        );
    }
    // And none where it makes no difference.
    planted.refuses = |_, _| None;
    let report = planted.learn(&episodes(&planted, 40), Contrast::default());
    assert_eq!(texts(&report), [""; 0]);
}

/// Looks the order up again and again before it does what was asked.
fn dithering(request: &Request, looks: usize) -> Vec<(&'static str, Value)> {
    let look = ("orders.find", json!({"number": request.order}));
    let mut calls = vec![look; looks];
    calls.extend(refund(request, &[]));
    calls
}

#[test]
fn how_many_calls_are_too_many_is_found_where_no_call_is_to_blame() {
    let planted = Planted { patience: 5, ..Planted::new() };
    let play = |n| {
        planted.run(n, |request, draw| {
            // Whoever fails calls the same tools, in the same order.
            dithering(request, if draw.chance(0.5) { 3 } else { 4 })
        })
    };
    let episodes: Vec<Episode> = (0..40).map(play).collect();
    let report = planted.learn(&episodes, Contrast::default());
    assert_eq!(
        texts(&report),
        ["prefer a plan of at most 5 calls, because runs that did so succeeded more often."]
    );
    let lesson = &report.proposals[0];
    assert_eq!((lesson.kind, lesson.tools().len()), (Kind::Strategy, 0));
    assert_eq!(lesson.situation.text.as_str(), "When a task of this kind begins");
    let strict = Contrast { max_p: 1e-14, ..Contrast::default() };
    assert_eq!(planted.learn(&episodes, strict).learned, 0);
}

#[test]
fn a_number_of_calls_that_follows_from_what_was_called_is_no_lesson_of_its_own() {
    let planted = Planted::new();
    let play = |n| {
        planted.run(n, |request, draw| {
            let mut calls = refund(request, &[]);
            // Without the quote it is a call less, and fails.
            if draw.chance(0.5) {
                calls.remove(0);
            }
            calls
        })
    };
    let episodes: Vec<Episode> = (0..40).map(play).collect();
    let report = planted.learn(&episodes, Contrast::default());
    assert!(texts(&report)[0].contains("`refunds.quote` first"), "{:?}", texts(&report));
    assert!(texts(&report).iter().all(|text| !text.contains("calls")), "{:?}", texts(&report));
}
