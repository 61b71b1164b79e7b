//! `GET /metrics`: vLLM's names and buckets, so that its dashboards work, and per-adapter ones
//! beside them.

mod arms;
mod exposition;
mod histogram;
mod memory;
mod process;
mod telemetry;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use understudy_inference::{Completion, Delta, GenerateRequest, InferenceError, Served};

use understudy_trajectory::TapMode;

use self::{
    arms::{Arms, Labels},
    exposition::Held,
    histogram::{CHOICES, FIRST_TOKEN, Histogram, LATENCY, OVERHEAD, STEP, TOKENS},
};
use crate::{error::ApiError, exchange::Exchange, routing::Routing, state::Gateway};

/// Adapters beyond this many are counted together: names come from outside.
const MOST_ADAPTERS: usize = 64;

/// What has been observed since the start.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    first_token: Histogram,
    between_tokens: Histogram,
    per_token: Histogram,
    whole: Histogram,
    queued: Histogram,
    inference: Histogram,
    prefill: Histogram,
    decode: Histogram,
    prompt_tokens: Histogram,
    completion_tokens: Histogram,
    /// Of the longest choice of each prompt.
    longest: Histogram,
    max_tokens: Histogram,
    choices: Histogram,
    cached_tokens: u64,
    /// By finish reason.
    ended: BTreeMap<&'static str, u64>,
    /// By reason.
    refused: BTreeMap<&'static str, u64>,
    /// By task and arm.
    routed: BTreeMap<(String, &'static str), u64>,
    adapters: BTreeMap<String, PerAdapter>,
    arms: Arms,
    /// Seconds of a request that nobody generated in.
    overhead: Histogram,
}

#[derive(Debug)]
struct PerAdapter {
    first_token: Histogram,
    between_tokens: Histogram,
    requests: u64,
}

impl Default for PerAdapter {
    fn default() -> Self {
        let (first_token, between_tokens) = (Histogram::new(FIRST_TOKEN), Histogram::new(STEP));
        Self { first_token, between_tokens, requests: 0 }
    }
}

impl Default for Seen {
    fn default() -> Self {
        let latency = || Histogram::new(LATENCY);
        let tokens = || Histogram::new(TOKENS);
        Self {
            first_token: Histogram::new(FIRST_TOKEN),
            between_tokens: Histogram::new(STEP),
            per_token: Histogram::new(STEP),
            whole: latency(),
            queued: latency(),
            inference: latency(),
            prefill: latency(),
            decode: latency(),
            prompt_tokens: tokens(),
            completion_tokens: tokens(),
            longest: tokens(),
            max_tokens: tokens(),
            choices: Histogram::new(CHOICES),
            cached_tokens: 0,
            ended: BTreeMap::new(),
            refused: BTreeMap::new(),
            routed: BTreeMap::new(),
            adapters: BTreeMap::new(),
            arms: Arms::default(),
            overhead: Histogram::new(OVERHEAD),
        }
    }
}

/// The choices of one prompt, of which the longest is counted once all have ended.
#[derive(Debug)]
pub(crate) struct Siblings(Mutex<Running>);

#[derive(Debug)]
struct Running {
    choices: u32,
    longest: u32,
}

impl Siblings {
    pub(crate) fn new(choices: u32) -> Self {
        Self(Mutex::new(Running { choices, longest: 0 }))
    }

    /// One has ended; the tokens of the longest when it was the last.
    fn ended(&self, tokens: u32) -> Option<u32> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.choices = running.choices.saturating_sub(1);
        running.longest = running.longest.max(tokens);
        (running.choices == 0).then_some(running.longest)
    }
}

/// One generation as it is observed.
#[derive(Debug)]
pub(crate) struct Watch {
    submitted: Instant,
    first: Option<Instant>,
    last: Instant,
    /// Seconds between deltas after the first, one per token.
    gaps: Vec<f64>,
    max_tokens: u32,
    siblings: Arc<Siblings>,
}

impl Watch {
    pub(crate) fn start(request: &GenerateRequest, siblings: Arc<Siblings>) -> Self {
        let now = Instant::now();
        let max_tokens = request.sampling.max_tokens;
        Self { submitted: now, first: None, last: now, gaps: Vec::new(), max_tokens, siblings }
    }

    pub(crate) fn begun(&mut self) {
        self.last = Instant::now();
    }

    pub(crate) fn delta(&mut self, delta: &Delta) {
        let now = Instant::now();
        if self.first.is_none() {
            self.first = Some(now);
        } else {
            let tokens = delta.tokens.len().max(1);
            let gap = (now - self.last).as_secs_f64() / tokens as f64;
            self.gaps.extend(std::iter::repeat_n(gap, tokens));
        }
        self.last = now;
    }
}

impl Metrics {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request for so many choices was taken.
    pub(crate) fn accepted(&self, choices: u32) {
        self.lock().choices.observe(f64::from(choices));
    }

    /// A generation is over, one way or another.
    pub(crate) fn ended(
        &self,
        watch: &Watch,
        routing: &Routing,
        served: Option<&Served>,
        last: &Result<Box<Completion>, Option<InferenceError>>,
    ) {
        let mut seen = self.lock();
        let arm = routing.assignment.arm.as_str();
        *seen.routed.entry((routing.task.to_string(), arm)).or_default() += 1;
        let reason = match last {
            Ok(completion) => completion.finish_reason.as_openai(),
            Err(Some(_)) => "error",
            Err(None) => "abort",
        };
        *seen.ended.entry(reason).or_default() += 1;
        let marks = routing.assignment.course.marks;
        seen.arms.arm(Labels::of(routing, served)).ended(watch, marks, last);
        if let Some(adapter) = served.and_then(|served| served.adapter.as_ref()) {
            seen.adapter(&adapter.alias).observe(watch);
        }
        let tokens = last.as_ref().map_or(0, |completion| completion.usage.completion_tokens);
        if let Some(longest) = watch.siblings.ended(tokens).filter(|longest| *longest > 0) {
            seen.longest.observe(f64::from(longest));
        }
        if let Ok(completion) = last {
            seen.completed(watch, completion);
        }
    }

    /// A request was turned away before anything was generated for it.
    pub(crate) fn refused(&self, error: &ApiError) {
        let reason = error.0.reason.unwrap_or("invalid");
        *self.lock().refused.entry(reason).or_default() += 1;
    }

    /// Between reading a request and asking for its reply, and between having the reply and being
    /// done with it.
    pub(crate) fn overhead(&self, exchange: &Exchange, begun: Instant, finished: Instant) {
        let before = begun.saturating_duration_since(exchange.opened);
        let seconds = (before + finished.elapsed()).as_secs_f64();
        self.lock().overhead.observe(seconds);
    }

    /// Another answered for the assigned arm.
    pub(crate) fn fell_back(&self, routing: &Routing, why: &'static str) {
        let key = (routing.task.to_string(), routing.assignment.arm.as_str(), why);
        *self.lock().arms.fallbacks.entry(key).or_default() += 1;
    }

    /// A cue spoke against the student's reply; `what` came of it.
    pub(crate) fn escalated(&self, routing: &Routing, what: &'static str) {
        let key = (routing.task.to_string(), routing.assignment.arm.as_str(), what);
        *self.lock().arms.escalations.entry(key).or_default() += 1;
    }

    /// The teacher was to answer and did not.
    pub(crate) fn tap_skipped(&self, routing: &Routing, mode: TapMode, why: &'static str) {
        let key = (routing.task.to_string(), mode.as_str(), why);
        *self.lock().arms.skipped.entry(key).or_default() += 1;
    }

    /// A reply beside another is on record.
    pub(crate) fn beside_kept(&self, routing: &Routing) {
        let key = (routing.task.to_string(), arms::kind(routing));
        *self.lock().arms.beside.entry(key).or_default() += 1;
    }

    /// Whether a reply beside another came to the same.
    pub(crate) fn compared(&self, routing: &Routing, same: bool) {
        let same = if same { "true" } else { "false" };
        let key = (routing.task.to_string(), arms::kind(routing), same);
        *self.lock().arms.compared.entry(key).or_default() += 1;
    }

    /// A reply beside another was not asked for, not finished or not recorded.
    pub(crate) fn beside_dropped(&self, routing: &Routing, why: &'static str) {
        let key = (routing.task.to_string(), arms::kind(routing), why);
        *self.lock().arms.dropped.entry(key).or_default() += 1;
    }

    /// An exchange could not be recorded, and its client was told so.
    pub(crate) fn uncaptured(&self, arm: &'static str) {
        *self.lock().arms.uncaptured.entry(arm).or_default() += 1;
    }
}

impl Seen {
    fn adapter(&mut self, alias: &str) -> &mut PerAdapter {
        let known = self.adapters.contains_key(alias) || self.adapters.len() < MOST_ADAPTERS;
        self.adapters.entry(if known { alias } else { "other" }.to_owned()).or_default()
    }

    fn completed(&mut self, watch: &Watch, completion: &Completion) {
        let Completion { usage, timing, .. } = completion;
        let total = (watch.last - watch.submitted).as_secs_f64();
        let first = watch.first.map_or(total, |first| (first - watch.submitted).as_secs_f64());
        let queued = timing.queued_ms / 1e3;
        self.first_token.observe(first);
        for gap in &watch.gaps {
            self.between_tokens.observe(*gap);
        }
        if usage.completion_tokens > 1 {
            self.per_token.observe((total - first) / f64::from(usage.completion_tokens - 1));
        }
        self.whole.observe(total);
        self.queued.observe(queued);
        self.inference.observe((total - queued).max(0.0));
        self.prefill.observe((first - queued).max(0.0));
        self.decode.observe(total - first);
        self.prompt_tokens.observe(f64::from(usage.prompt_tokens));
        self.completion_tokens.observe(f64::from(usage.completion_tokens));
        self.max_tokens.observe(f64::from(watch.max_tokens));
        self.cached_tokens += u64::from(usage.cached_tokens);
    }
}

impl PerAdapter {
    fn observe(&mut self, watch: &Watch) {
        self.requests += 1;
        if let Some(first) = watch.first {
            self.first_token.observe((first - watch.submitted).as_secs_f64());
        }
        for gap in &watch.gaps {
            self.between_tokens.observe(*gap);
        }
    }
}

/// `GET /metrics`, in Prometheus' text format.
pub(crate) async fn page(State(gateway): State<Gateway>) -> Response {
    let student = &gateway.student;
    let held = Held {
        base: student.base(),
        stats: student.stats(),
        paused: student.is_paused(),
        adapters: student.adapters(),
        in_line: student.in_line(),
        loads: student.loads(),
    };
    let mut text = exposition::write(&gateway.metrics().lock(), &held);
    let teacher = gateway.teacher.as_ref().map(|teacher| teacher.gauges());
    exposition::gauges_of(&mut text, "student", &gateway.student.gauges());
    exposition::gauges_of(&mut text, "teacher", &teacher.unwrap_or_default());
    if let Some(report) = gateway.live().latest() {
        exposition::live_scores(&mut text, &report);
    }
    telemetry::write(&mut text, &gateway);
    memory::write(&mut text, &gateway);
    process::write(&mut text);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
