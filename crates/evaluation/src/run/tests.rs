#[path = "cache_tests.rs"]
mod cache_tests;

use std::{
    ops::ControlFlow,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use understudy_inference::{
    Event, FakeBackend, FinishReason, Served, ServedAdapter, Sink, Student, Timing,
};
use understudy_manifest::{Case, Scorer, Tier};
use understudy_message::Message;

use super::*;

/// What a [`Scripted`] backend does with the nth submission for a question.
type Script = dyn Fn(usize, &str) -> Reaction + Send + Sync;

enum Reaction {
    Refuse(InferenceError),
    /// Forgets the request: its sink is dropped without a last event.
    Drop,
    /// Answers from another thread, after a while.
    Answer {
        after_ms: u64,
        served: Option<(&'static str, &'static str)>,
    },
    Fail(InferenceError),
}

/// A backend that answers late, out of order, wrongly or not at all.
struct Scripted {
    script: Box<Script>,
    submissions: AtomicUsize,
    in_flight: Arc<AtomicUsize>,
    most_in_flight: Mutex<usize>,
}

impl std::fmt::Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scripted")
    }
}

impl Scripted {
    fn new(script: impl Fn(usize, &str) -> Reaction + Send + Sync + 'static) -> Self {
        Self {
            script: Box::new(script),
            submissions: AtomicUsize::new(0),
            in_flight: Arc::default(),
            most_in_flight: Mutex::new(0),
        }
    }
}

impl Backend for Scripted {
    fn base(&self) -> &'static str {
        "scripted"
    }

    fn submit(&self, request: GenerateRequest, mut sink: Sink) -> Result<(), InferenceError> {
        let Prompt::Chat(chat) = request.prompt else { panic!("cases are messages") };
        let question = chat.messages.last().unwrap().text();
        let nth = self.submissions.fetch_add(1, Ordering::SeqCst);
        match (self.script)(nth, &question) {
            Reaction::Refuse(error) => return Err(error),
            Reaction::Drop => {}
            Reaction::Fail(error) => {
                let _: ControlFlow<()> = sink(Event::Failed(error));
            }
            Reaction::Answer { after_ms, served } => {
                let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
                let mut most = self.most_in_flight.lock().unwrap();
                *most = now.max(*most);
                let in_flight = Arc::clone(&self.in_flight);
                let adapter = served.map(|(alias, generation)| ServedAdapter {
                    alias: alias.to_owned(),
                    generation: generation.to_owned(),
                });
                thread::spawn(move || {
                    thread::sleep(Duration::from_millis(after_ms));
                    in_flight.fetch_sub(1, Ordering::SeqCst);
                    let completion = Completion::of_text(
                        Served { base: "scripted".to_owned(), adapter },
                        format!("re: {question}"),
                        FinishReason::Stop,
                        Usage { prompt_tokens: 3, completion_tokens: 2, cached_tokens: 0 },
                        Timing::default(),
                    );
                    let _: ControlFlow<()> = sink(Event::Finished(Box::new(completion)));
                });
            }
        }
        Ok(())
    }
}

fn suite(cases: usize) -> Suite {
    let case = |n: usize| Case {
        id: format!("case-{n}"),
        prompt: vec![Message::user(n.to_string())],
        expected: format!("re: {n}"),
        tags: vec![],
        ..Case::default()
    };
    Suite {
        name: "triage".parse().unwrap(),
        tier: Tier::Dev,
        scorers: vec![Scorer::Exact],
        rubrics: Vec::new(),
        cases: (0..cases).map(case).collect(),
    }
}

fn base() -> Vec<Subject> {
    vec![Subject { name: "base".to_owned(), adapter: None }]
}

const FOUR: RunOptions = RunOptions { max_new_tokens: 16, concurrency: 4 };

fn answer(after_ms: u64) -> Reaction {
    Reaction::Answer { after_ms, served: None }
}

fn run_on(backend: &Scripted, suite: &Suite) -> Result<SubjectRun, EvaluationError> {
    run(backend, suite, &base(), FOUR, &mut |_| {}).map(|mut runs| runs.remove(0))
}

#[test]
fn results_stand_in_case_order_and_the_cap_is_used_and_kept() {
    let suite = suite(24);
    // The first of each four takes longest, so answers arrive out of order.
    let backend = Scripted::new(|nth, _| answer(10 * (4 - nth as u64 % 4)));
    let mut seen = Vec::new();
    let runs =
        run(&backend, &suite, &base(), FOUR, &mut |now| seen.push((now.done, now.total))).unwrap();
    for (case, result) in suite.cases.iter().zip(&runs[0].results) {
        assert_eq!((&result.id, &result.output), (&case.id, &case.expected));
        assert!(result.latency_ms >= 9.0, "measured by us: {}", result.latency_ms);
        assert_eq!(
            result.usage,
            Usage { prompt_tokens: 3, completion_tokens: 2, cached_tokens: 0 }
        );
    }
    assert_eq!(*backend.most_in_flight.lock().unwrap(), 4);
    assert_eq!(seen, (1..=24).map(|done| (done, 24)).collect::<Vec<_>>());
}

#[test]
fn subjects_take_turns_case_by_case() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&order);
    let backend = FakeBackend::new("fake", move |question, adapter| {
        log.lock().unwrap().push((question.to_owned(), adapter.is_some()));
        Ok(question.to_owned())
    });
    let directory = std::env::temp_dir().join(format!("evaluation-turns-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("adapter_config.json"), "{}").unwrap();
    std::fs::write(directory.join("adapter_model.safetensors"), "weights").unwrap();
    let info = backend.load_adapter("new", &directory).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();

    let mut subjects = base();
    subjects.push(Subject { name: "candidate".to_owned(), adapter: Some("new".to_owned()) });
    let runs = run(&backend, &suite(2), &subjects, FOUR, &mut |_| {}).unwrap();
    let turns = [("0", false), ("0", true), ("1", false), ("1", true)];
    assert_eq!(*order.lock().unwrap(), turns.map(|(q, adapted)| (q.to_owned(), adapted)));
    assert_eq!(runs[0].generation, None);
    assert_eq!(runs[1].generation, Some(info.generation));
}

#[test]
fn a_failed_case_is_a_result_and_the_run_goes_on() {
    let backend = Scripted::new(|_, question| match question {
        "1" => Reaction::Fail(InferenceError::Failed("out of luck".to_owned())),
        "2" => Reaction::Refuse(InferenceError::ContextOverflow {
            prompt_tokens: 9,
            max_tokens: 2,
            limit: 8,
        }),
        _ => answer(1),
    });
    let results = run_on(&backend, &suite(4)).unwrap().results;
    let failed: Vec<bool> = results.iter().map(|result| result.error.is_some()).collect();
    assert_eq!(failed, [false, true, true, false]);
    assert!(results[1].error.as_ref().unwrap().contains("out of luck"));
    assert_eq!(results[1].output, "");
}

#[test]
fn a_full_backend_is_asked_again() {
    // Every other submission is refused, the very first one too, when nothing of ours is in flight.
    let backend = Scripted::new(|nth, _| {
        if nth.is_multiple_of(2) { Reaction::Refuse(InferenceError::Busy(9)) } else { answer(1) }
    });
    let results = run_on(&backend, &suite(10)).unwrap().results;
    assert!(results.iter().all(|result| result.error.is_none() && !result.output.is_empty()));
}

#[test]
fn a_request_the_backend_forgot_ends_the_run_instead_of_hanging_it() {
    let backend = Scripted::new(|_, q| if q == "2" { Reaction::Drop } else { answer(1) });
    let error = run_on(&backend, &suite(4)).unwrap_err();
    let source = InferenceError::ShuttingDown;
    assert_eq!(error, EvaluationError::Backend { subject: "base".to_owned(), source });
}

#[test]
fn an_adapter_that_is_not_loaded_is_no_bad_score() {
    let backend = FakeBackend::new("fake", |question, _| Ok(question.to_owned()));
    let subject = [Subject { name: "s".to_owned(), adapter: Some("typo".to_owned()) }];
    let error = run(&backend, &suite(3), &subject, FOUR, &mut |_| {}).unwrap_err();
    assert!(matches!(
        error,
        EvaluationError::Backend { source: InferenceError::UnknownAdapter { .. }, .. }
    ));
}

#[test]
fn an_adapter_replaced_on_the_way_is_found_out() {
    let backend = Scripted::new(|nth, _| Reaction::Answer {
        after_ms: 1,
        served: Some(("a", if nth < 6 { "first" } else { "second" })),
    });
    let subject = [Subject { name: "s".to_owned(), adapter: Some("a".to_owned()) }];
    let error = run(&backend, &suite(12), &subject, FOUR, &mut |_| {}).unwrap_err();
    assert!(matches!(error, EvaluationError::GenerationChanged { .. }), "{error}");
}

#[test]
fn a_base_model_answering_for_an_adapter_is_found_out() {
    let backend = Scripted::new(|_, _| answer(1));
    let subject = [Subject { name: "s".to_owned(), adapter: Some("a".to_owned()) }];
    let error = run(&backend, &suite(2), &subject, FOUR, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("none (the base model) answered"), "{error}");
}

#[test]
fn a_run_without_cases_or_room_is_refused() {
    let backend = Scripted::new(|_, _| answer(1));
    assert!(matches!(run_on(&backend, &suite(0)), Err(EvaluationError::NoCases { .. })));
    let none = RunOptions { concurrency: 0, ..FOUR };
    let refused = run(&backend, &suite(1), &base(), none, &mut |_| {});
    assert!(matches!(refused, Err(EvaluationError::NoConcurrency { .. })));
}

#[test]
fn the_tools_of_a_case_are_offered() {
    let mut suite = suite(1);
    let tool = serde_json::json!({"type": "function", "function": {"name": "ping"}});
    suite.cases[0].tools = vec![tool.clone()];
    let subjects = [Subject { name: "base".to_owned(), adapter: None }];
    let options = RunOptions { max_new_tokens: 8, concurrency: 1 };
    let prompt_of = |_: usize, case: &Case| case.prompt.clone();
    let subjects = (subjects.as_slice(), &prompt_of as PromptOf<'_>);
    let asked = request(&suite, subjects, Job { subject: 0, case: 0 }, options.sampling());
    let Prompt::Chat(chat) = asked.prompt else { panic!("a case is a conversation") };
    assert_eq!((chat.tools, chat.messages), (vec![tool], suite.cases[0].prompt.clone()));
}

#[test]
fn each_subject_is_asked_in_its_own_words() {
    let backend = FakeBackend::new("tiny", |text, _| Ok(format!("heard {text}")));
    let suite = suite(3);
    let subjects = ["plain", "told"].map(|name| Subject { name: name.to_owned(), adapter: None });
    let prompt_of = |subject: usize, case: &Case| {
        let mut prompt = case.prompt.clone();
        if subject == 1 {
            prompt.push(Message::user("and what you were told"));
        }
        prompt
    };
    let options = RunOptions { max_new_tokens: 8, concurrency: 2 };
    let asked = (subjects.as_slice(), &prompt_of as PromptOf<'_>);
    let kept = Kept { cache: &mut NoCache, subjects: &[] };
    let runs = resume(&backend, &suite, asked, options, kept, &mut |_| {}).unwrap();
    assert!(runs[1].results.iter().all(|result| result.output.ends_with("what you were told")));
    assert!(runs[0].results.iter().all(|result| !result.output.contains("told")));
}
