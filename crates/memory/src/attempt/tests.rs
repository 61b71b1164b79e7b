use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use serde_json::json;
use understudy_inference::FakeBackend;
use understudy_message::{FunctionCall, ToolCall};

use super::*;
use crate::{ChatLimits, ChatPlayer};

/// One request, answered by a shelf with one book on it.
struct Shelf {
    tasks: Vec<Task>,
}

struct Book;

impl World for Book {
    fn call(&mut self, tool: &str, arguments: &Value) -> Result<Value, Failure> {
        match (tool, arguments["title"].as_str()) {
            ("find", Some("Emma")) => Ok(json!({"place": 7})),
            _ => Err(Failure { message: "no such book".to_owned(), code: Some(404) }),
        }
    }

    fn end(self: Box<Self>, _: &Played) -> Ending {
        Ending { reward: Some(1.0), ..Ending::default() }
    }
}

impl Practice for Shelf {
    fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    fn world(&mut self, _: usize) -> Box<dyn World + '_> {
        Box::new(Book)
    }
}

fn shelf() -> Shelf {
    let task = Task {
        source: TrajectoryId::derived("one"),
        agent: Some("clerk".to_owned()),
        subject: Some("ada".to_owned()),
        prompt: vec![Message::system("Be brief."), Message::user("where is Emma?")],
        tools: Vec::new(),
    };
    Shelf { tasks: vec![task] }
}

/// `find Emma` is a call.
fn read(text: &str) -> Vec<ToolCall> {
    let Some(title) = text.strip_prefix("find ") else { return Vec::new() };
    let function =
        FunctionCall { name: "find".to_owned(), arguments: json!({"title": title}).to_string() };
    vec![ToolCall { id: String::new(), kind: "function".to_owned(), function }]
}

fn player(backend: FakeBackend, turns: u32) -> ChatPlayer {
    let limits = ChatLimits { turns, max_tokens: 64, temperature: 0.0 };
    ChatPlayer::new(Arc::new(backend), None, read, limits)
}

fn make(student: &mut dyn Player, teacher: Option<&mut dyn Player>) -> Made {
    let attempts = Attempts { runs: 2, seed: 5, at: Timestamp::UNIX_EPOCH };
    attempts.make(&mut shelf(), student, teacher, &mut || {}).unwrap()
}

#[test]
fn a_model_calls_until_it_answers_and_every_part_has_its_runs() {
    let answer = |last: &str| match last {
        "where is Emma?" => "find Ema",
        "{\"error\":\"no such book (404)\"}" => "find Emma",
        _ => "at place 7",
    };
    let backend = |name: &str| FakeBackend::new(name, move |last, _| Ok(answer(last).to_owned()));
    let (mut student, mut teacher) = (player(backend("small"), 8), player(backend("large"), 8));
    let made = make(&mut student, Some(&mut teacher));
    let parts: Vec<Part> = made.transcripts.iter().map(|told| told.run.part).collect();
    assert_eq!(parts, [Part::Student, Part::Student, Part::Teacher]);
    let told = &made.transcripts[0];
    assert_eq!((told.answer.as_str(), told.calls.len()), ("at place 7", 2));
    assert_eq!(told.calls[0].result.as_ref().unwrap_err().code, Some(404));
    assert_eq!(told.calls[1].result.as_deref(), Ok("{\"place\":7}"));
    assert_eq!((told.goal.as_str(), told.reward), ("where is Emma?", Some(1.0)));
    assert_eq!((told.subject.as_deref(), told.agent.as_deref()), (Some("ada"), Some("clerk")));
    assert_ne!(told.run.config, made.transcripts[2].run.config);
    assert_ne!(told.source, made.transcripts[1].source, "each run is a source of its own");
    assert_eq!((made.count.requests, made.count.runs), (1, 3));
}

#[test]
fn a_model_that_never_answers_is_stopped_and_one_prompt_too_long_loses_nothing_else() {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let endless = FakeBackend::new("endless", move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
        Ok("find Emma".to_owned())
    });
    let made = make(&mut player(endless, 3), None);
    assert_eq!(asked.load(Ordering::Relaxed), 2 * 3);
    assert_eq!((made.transcripts[0].answer.as_str(), made.transcripts[0].calls.len()), ("", 3));
    let narrow = FakeBackend::new("narrow", |_, _| {
        Err(InferenceError::ContextOverflow { prompt_tokens: 9, max_tokens: 9, limit: 9 })
    });
    let made = make(&mut player(narrow, 3), None);
    assert_eq!(made.transcripts, []);
    assert_eq!(made.count.unfit, BTreeMap::from([("it did not fit the model's context", 2)]));
    let broken = FakeBackend::new("broken", |_, _| Err(InferenceError::ShuttingDown));
    let attempts = Attempts { runs: 1, seed: 5, at: Timestamp::UNIX_EPOCH };
    let failed = attempts.make(&mut shelf(), &mut player(broken, 3), None, &mut || {});
    assert!(matches!(failed, Err(MemoryError::Model(_))), "{failed:?}");
}

#[test]
fn lessons_are_put_where_a_server_puts_them() {
    let backend = FakeBackend::new("small", |_, _| Ok("done".to_owned()));
    let mut student = player(backend, 2);
    let conditions = Conditions {
        block: Some("<memory release=\"trial\">\n- (m1) When x, do y\n</memory>"),
        seed: 1,
        part: Part::Student,
        at: Timestamp::UNIX_EPOCH,
    };
    let played = student.play(&shelf().tasks[0], conditions, &mut Book).unwrap();
    assert!(played.heard[0].starts_with("Be brief.\n\n<memory"), "{:?}", played.heard);
}
