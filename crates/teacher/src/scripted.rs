//! A teacher that answers from a function: the demo's expert, and tests'.

use std::{
    fmt,
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Duration,
};

use understudy_inference::{
    Backend, Completion, Event, FinishReason, GenerateRequest, InferenceError, Sampling, Served,
    Sink, Stopwatch, Usage,
};
use understudy_message::Message;

use crate::{TeacherError, pool::Pool, refuse};

const THREADS: usize = 4;
const WAITING: usize = 256;
/// It has no tokenizer; this is about what English costs.
const BYTES_PER_TOKEN: usize = 4;

type Answer = dyn Fn(&[Message]) -> Result<String, InferenceError> + Send + Sync;

/// Answers with `answer(messages)` after a fixed delay, none unless set, in word-sized deltas.
/// Token counts are estimates of one per four bytes; `max_tokens` and `stop` cut the answer as
/// they would a model's, and there is no randomness for the other settings to act on.
pub struct ScriptedTeacher {
    name: String,
    answer: Arc<Answer>,
    delay: Duration,
    pool: Pool,
}

impl ScriptedTeacher {
    pub fn new(
        name: impl Into<String>,
        answer: impl Fn(&[Message]) -> Result<String, InferenceError> + Send + Sync + 'static,
    ) -> Result<Self, TeacherError> {
        let pool = Pool::start(THREADS, WAITING)?;
        Ok(Self { name: name.into(), answer: Arc::new(answer), delay: Duration::ZERO, pool })
    }

    /// Waits this long before each answer, as a frontier model would.
    #[must_use]
    pub fn with_delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }
}

impl fmt::Debug for ScriptedTeacher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedTeacher").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Backend for ScriptedTeacher {
    fn base(&self) -> &str {
        &self.name
    }

    fn submit(&self, request: GenerateRequest, mut sink: Sink) -> Result<(), InferenceError> {
        refuse::messages(&request)?;
        let (answer, delay) = (Arc::clone(&self.answer), self.delay);
        let served = Served { base: self.name.clone(), adapter: None };
        let (closing, watch) = (self.pool.closing(), Stopwatch::start());
        self.pool.submit(Box::new(move || {
            let answered = closing.check().and_then(|()| {
                thread::sleep(delay);
                let messages = refuse::messages(&request)?;
                catch_unwind(AssertUnwindSafe(|| answer(messages))).unwrap_or_else(|_| {
                    Err(InferenceError::Failed("the teacher's script panicked".to_owned()))
                })
            });
            match answered {
                Ok(text) => play(&text, served, &request, watch, &mut sink),
                Err(error) => {
                    let _: ControlFlow<()> = sink(Event::Failed(error));
                }
            }
        }))
    }
}

fn play(
    text: &str,
    served: Served,
    request: &GenerateRequest,
    mut watch: Stopwatch,
    sink: &mut Sink,
) {
    watch.begin();
    let (text, finish_reason) = cut(text, &request.sampling);
    if sink(Event::Started(served.clone())).is_break() {
        return;
    }
    for word in text.split_inclusive(' ') {
        watch.text();
        if sink(Event::Delta(word.into())).is_break() {
            return;
        }
    }
    let prompt = refuse::messages(request).unwrap_or_default();
    let prompt_bytes: usize = prompt.iter().map(|message| message.text().len()).sum();
    let tokens = |bytes: usize| bytes.div_ceil(BYTES_PER_TOKEN) as u32;
    let usage = Usage {
        prompt_tokens: tokens(prompt_bytes),
        completion_tokens: tokens(text.len()),
        cached_tokens: 0,
    };
    let (text, timing) = (text.to_owned(), watch.timing());
    let completion = Completion::of_text(served, text, finish_reason, usage, timing);
    let _: ControlFlow<()> = sink(Event::Finished(Box::new(completion)));
}

/// The answer up to the first stop string and to as many bytes as `max_tokens` are taken to be.
fn cut<'a>(text: &'a str, sampling: &Sampling) -> (&'a str, FinishReason) {
    let stop = sampling.stop.iter().filter_map(|stop| text.find(stop)).min();
    let most = (sampling.max_tokens as usize).saturating_mul(BYTES_PER_TOKEN);
    let end = stop.unwrap_or(text.len());
    if end <= most {
        return (&text[..end], FinishReason::Stop);
    }
    (&text[..text.floor_char_boundary(most)], FinishReason::Length)
}
