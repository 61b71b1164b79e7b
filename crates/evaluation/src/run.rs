//! Puts the cases of a suite to subjects on a backend.
//!
//! All subjects are asked the same case one after the other and share the requests in flight, so
//! that they meet the same load: comparing latencies measured minutes apart would compare the
//! machine's moods.

mod attempt;
pub(crate) mod flight;

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;
use understudy_inference::{
    Backend, Chat, Completion, GenerateRequest, InferenceError, Prompt, Sampling, Usage,
};
use understudy_manifest::{Case, Conditions, Prices, Suite};
use understudy_message::{Message, ToolCall};

use crate::{
    EvaluationError,
    cache::{Kept, NoCache},
};
pub use attempt::{Repeats, attempt};
use flight::{Flight, Landing};

/// Who is evaluated: the base model of a backend, or one of its loaded adapters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// As it appears in the report.
    pub name: String,
    pub adapter: Option<String>,
}

/// How the cases are put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunOptions {
    pub max_new_tokens: u32,
    /// Requests in flight, which an engine decodes as one batch.
    pub concurrency: usize,
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// Whose answer came in last.
    pub subject: &'a str,
    /// Those that were kept from an earlier run included.
    pub done: usize,
    pub total: usize,
    /// Answers that were not asked for again.
    pub kept: usize,
    /// Answers that failed so far.
    pub errors: usize,
}

/// The answers of one subject to all cases, in the suite's order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SubjectRun {
    pub subject: String,
    /// Digest of the adapter that answered; the same for every case.
    pub generation: Option<String>,
    pub results: Vec<CaseResult>,
    /// Further attempts at all cases, each in the same order.
    pub more: Vec<Vec<CaseResult>>,
    /// None of answers that were given elsewhere.
    pub conditions: Option<Conditions>,
}

/// What became of one case.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CaseResult {
    pub id: String,
    /// Empty when there was an error.
    pub output: String,
    /// Calls that the backend took out of the text.
    pub calls: Vec<ToolCall>,
    /// From request to last token, as the backend measured it, or else as we did.
    pub latency_ms: f64,
    pub usage: Usage,
    pub error: Option<String>,
    /// No answer was recorded, so nothing is known of it; that is no failed answer.
    pub absent: bool,
    /// All messages after the prompt, of answers in several turns that were given elsewhere.
    pub steps: Vec<Message>,
    /// What the environment held in the end, likewise.
    pub state: Option<Value>,
    /// What scorers of another program gave it, likewise.
    pub scores: BTreeMap<String, f64>,
    /// In millionths of a dollar, where it is known.
    pub cost: Option<u64>,
}

impl CaseResult {
    pub(crate) fn is_answered(&self) -> bool {
        self.error.is_none() && !self.absent
    }
}

impl SubjectRun {
    /// One attempt at all cases after the other.
    pub(crate) fn attempts(&self) -> impl Iterator<Item = &Vec<CaseResult>> {
        std::iter::once(&self.results).chain(&self.more)
    }

    /// Reckons what answers cost from their tokens, where nobody said it and there are any.
    pub fn price(&mut self, prices: Prices) {
        for result in self.results.iter_mut().chain(self.more.iter_mut().flatten()) {
            let Usage { prompt_tokens, completion_tokens, .. } = result.usage;
            if result.cost.is_none() && prompt_tokens + completion_tokens > 0 {
                result.cost = Some(prices.of(prompt_tokens.into(), completion_tokens.into()));
            }
        }
    }
}

/// Asks every subject every case, greedily decoded. `progress` is called on this thread, after each
/// answer.
///
/// A case that fails is a result with an error. What makes a whole subject meaningless stops the
/// run: a backend that refuses all of its requests, another adapter answering than was asked, or an
/// adapter that was replaced on the way.
pub fn run(
    backend: &dyn Backend,
    suite: &Suite,
    subjects: &[Subject],
    options: RunOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Vec<SubjectRun>, EvaluationError> {
    let kept = Kept { cache: &mut NoCache, subjects: &[] };
    resume(backend, suite, (subjects, &as_written), options, kept, progress)
}

/// What a subject, by its position, is asked for a case: the prompt as it was written, or with
/// whatever it has at hand.
pub type PromptOf<'a> = &'a dyn Fn(usize, &Case) -> Vec<Message>;

/// Everybody is asked in the same words.
pub fn as_written(_subject: usize, case: &Case) -> Vec<Message> {
    case.prompt.clone()
}

/// The same, but asks only for answers that are not kept yet, and keeps each as it comes, so that a
/// run may be killed at any time and go on where it was. What a subject has at hand belongs to the
/// digest it is kept under.
pub fn resume(
    backend: &dyn Backend,
    suite: &Suite,
    (subjects, prompt_of): (&[Subject], PromptOf<'_>),
    options: RunOptions,
    kept: Kept<'_>,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Vec<SubjectRun>, EvaluationError> {
    let greedy = |_: &Case| options.sampling();
    once(backend, suite, (subjects, prompt_of), (options, &greedy), kept, progress)
}

/// Everybody answers every case once, sampled as it says.
pub(crate) fn once(
    backend: &dyn Backend,
    suite: &Suite,
    (subjects, prompt_of): (&[Subject], PromptOf<'_>),
    (options, sampling_of): (RunOptions, &dyn Fn(&Case) -> Sampling),
    mut kept: Kept<'_>,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Vec<SubjectRun>, EvaluationError> {
    refuse_nonsense(suite, subjects, options)?;
    let mut records: Vec<Record> = subjects.iter().map(|_| Record::new(suite)).collect();
    let mut queue = VecDeque::new();
    let total = suite.cases.len() * subjects.len();
    for (case, asked) in suite.cases.iter().enumerate() {
        for (subject, record) in records.iter_mut().enumerate() {
            let found = kept.find(subject, asked, &sampling_of(asked));
            if !found.is_some_and(|found| record.recall(case, found)) {
                queue.push_back(Job { subject, case });
            }
        }
    }
    let found = total - queue.len();
    if let Some(first) = subjects.first().filter(|_| found > 0) {
        progress(Progress { subject: &first.name, done: found, total, kept: found, errors: 0 });
    }
    let mut flight = Flight::new(backend);
    let (mut done, mut errors) = (found, 0);
    while done < total {
        while flight.len() < options.concurrency
            && let Some(job) = queue.pop_front()
        {
            let sampling = sampling_of(&suite.cases[job.case]);
            let request = request(suite, (subjects, prompt_of), job, sampling);
            if !flight.launch(job, request) {
                // The backend is full: wait for one of ours to land before asking again.
                queue.push_front(job);
                break;
            }
        }
        let landing = flight.land();
        let (subject, job) = (&subjects[landing.job.subject], landing.job);
        let record = &mut records[job.subject];
        record.note(subject, landing)?;
        let result = &record.results[job.case];
        let answer = (result, record.generation.as_ref());
        let case = &suite.cases[job.case];
        kept.keep(job.subject, case, &sampling_of(case), answer);
        (done, errors) = (done + 1, errors + usize::from(result.error.is_some()));
        progress(Progress { subject: &subject.name, done, total, kept: found, errors });
    }
    let finished = records.into_iter().zip(subjects);
    Ok(finished.map(|(record, subject)| record.finish(subject, options)).collect())
}

impl RunOptions {
    fn sampling(self) -> Sampling {
        Sampling::greedy(self.max_new_tokens)
    }
}

/// One question to one subject, both by position.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    pub subject: usize,
    pub case: usize,
}

fn refuse_nonsense(
    suite: &Suite,
    subjects: &[Subject],
    options: RunOptions,
) -> Result<(), EvaluationError> {
    if suite.cases.is_empty() {
        return Err(EvaluationError::NoCases { suite: suite.name.to_string() });
    }
    match subjects.first() {
        Some(subject) if options.concurrency == 0 => {
            Err(EvaluationError::NoConcurrency { subject: subject.name.clone() })
        }
        _ => Ok(()),
    }
}

fn request(
    suite: &Suite,
    (subjects, prompt_of): (&[Subject], PromptOf<'_>),
    job: Job,
    sampling: Sampling,
) -> GenerateRequest {
    let case = &suite.cases[job.case];
    let chat = Chat { tools: case.tools.clone(), ..Chat::new(prompt_of(job.subject, case)) };
    GenerateRequest::new(Prompt::Chat(Box::new(chat)), sampling)
        .with_adapter(subjects[job.subject].adapter.clone())
}

/// What one subject has said so far.
struct Record {
    generation: Option<String>,
    results: Vec<CaseResult>,
}

impl Record {
    fn new(suite: &Suite) -> Self {
        let unanswered = |case: &Case| CaseResult { id: case.id.clone(), ..CaseResult::default() };
        Self { generation: None, results: suite.cases.iter().map(unanswered).collect() }
    }

    /// Takes a kept result, unless it is of another generation than the others are.
    fn recall(&mut self, case: usize, (result, generation): (CaseResult, Option<String>)) -> bool {
        if self.generation.is_some() && self.generation != generation {
            return false;
        }
        self.generation = generation;
        self.results[case] = result;
        true
    }

    fn note(&mut self, subject: &Subject, landing: Landing) -> Result<(), EvaluationError> {
        let result = &mut self.results[landing.job.case];
        match landing.outcome {
            Ok(completion) => {
                check_served(&mut self.generation, subject, &completion)?;
                let measured = completion.timing.total_ms;
                result.latency_ms = if measured > 0.0 { measured } else { landing.elapsed_ms };
                result.usage = completion.usage;
                result.output = completion.text;
                result.calls = completion.tool_calls;
            }
            Err(source) if concerns_every_request(&source) => {
                return Err(EvaluationError::Backend { subject: subject.name.clone(), source });
            }
            Err(error) => {
                result.latency_ms = landing.elapsed_ms;
                result.error = Some(error.to_string());
            }
        }
        Ok(())
    }

    fn finish(self, subject: &Subject, options: RunOptions) -> SubjectRun {
        let Self { generation, results } = self;
        let conditions = Conditions {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            max_new_tokens: options.max_new_tokens,
            ..Conditions::default()
        };
        SubjectRun {
            subject: subject.name.clone(),
            generation,
            results,
            conditions: Some(conditions),
            ..SubjectRun::default()
        }
    }
}

/// Remembers which adapter generation answered first, and insists on it from then on.
fn check_served(
    generation: &mut Option<String>,
    subject: &Subject,
    completion: &Completion,
) -> Result<(), EvaluationError> {
    let served = completion.served.adapter.as_ref();
    let alias = served.map(|adapter| &adapter.alias);
    if alias != subject.adapter.as_ref() {
        let text = |alias: Option<&String>| {
            alias.map_or_else(|| "none (the base model)".to_owned(), Clone::clone)
        };
        return Err(EvaluationError::WrongAdapter {
            subject: subject.name.clone(),
            expected: text(subject.adapter.as_ref()),
            served: text(alias),
        });
    }
    let Some(adapter) = served else { return Ok(()) };
    let first = generation.get_or_insert_with(|| adapter.generation.clone());
    if *first == adapter.generation {
        return Ok(());
    }
    Err(EvaluationError::GenerationChanged {
        subject: subject.name.clone(),
        first: first.clone(),
        then: adapter.generation.clone(),
    })
}

/// Whether an error says nothing about the case at hand, so that going on would only collect it
/// again and make a configuration mistake look like a bad model.
pub(crate) fn concerns_every_request(error: &InferenceError) -> bool {
    match error {
        InferenceError::UnknownAdapter { .. }
        | InferenceError::BadAdapter { .. }
        | InferenceError::Invalid { .. }
        | InferenceError::Unsupported(_)
        | InferenceError::AdapterChanged { .. }
        | InferenceError::RankTooHigh { .. }
        | InferenceError::AdaptersFull { .. }
        | InferenceError::Busy(_)
        | InferenceError::BusyTokens(_)
        | InferenceError::Paused
        | InferenceError::OverBudget(_)
        | InferenceError::NoTeacher
        | InferenceError::ShuttingDown => true,
        InferenceError::ContextOverflow { .. }
        | InferenceError::Failed(_)
        | InferenceError::TimedOut(_) => false,
    }
}

#[cfg(test)]
mod tests;
