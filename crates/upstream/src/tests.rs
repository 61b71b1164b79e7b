//! Everything against loopback servers that do what a test says.

mod faults;
mod fleet;
mod mutations;
mod openai;
mod server;

use std::{ops::ControlFlow, sync::mpsc, time::Duration};

use understudy_inference::{
    Backend, Completion, Event, GenerateRequest, InferenceError, Prompt, Sampling,
};
use understudy_message::Message;

fn ask(text: &str) -> GenerateRequest {
    GenerateRequest::new(Prompt::messages(vec![Message::user(text)]), Sampling::greedy(64))
}

/// What a generation said, and how it ended: `None` when its sink was dropped without a last word.
struct Outcome {
    started: bool,
    deltas: Vec<String>,
    end: Option<Result<Completion, InferenceError>>,
}

impl Outcome {
    fn completion(self) -> Completion {
        self.end.expect("the generation has an end").expect("the generation succeeds")
    }

    fn error(self) -> InferenceError {
        self.end.expect("the generation has an end").expect_err("the generation fails")
    }
}

fn run(backend: &dyn Backend, request: GenerateRequest) -> Outcome {
    run_until(backend, request, usize::MAX)
}

/// Breaks off at the given delta.
fn run_until(backend: &dyn Backend, request: GenerateRequest, most: usize) -> Outcome {
    let (sender, receiver) = mpsc::channel();
    let mut seen = 0;
    let sink = move |event: Event| {
        seen += usize::from(matches!(event, Event::Delta(_)));
        sender.send(event).expect("the test waits");
        if seen >= most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    backend.submit(request, Box::new(sink)).expect("the request is accepted");
    let mut outcome = Outcome { started: false, deltas: Vec::new(), end: None };
    loop {
        match receiver.recv_timeout(Duration::from_secs(20)) {
            Ok(Event::Started(_)) => outcome.started = true,
            Ok(Event::Delta(text)) => outcome.deltas.push(text.text),
            Ok(Event::Finished(completion)) => outcome.end = Some(Ok(*completion)),
            Ok(Event::Failed(error)) => outcome.end = Some(Err(error)),
            Err(mpsc::RecvTimeoutError::Disconnected) => return outcome,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("the generation hangs"),
        }
    }
}
