//! What the models of a drill say: a function of the seed and of what they are asked.

use std::{f64::consts::TAU, fmt};

use understudy_ident::{Digest, Timestamp};
use understudy_inference::{
    AdapterChoice, AdapterInfo, Backend, Event, FakeBackend, GenerateRequest, InferenceError,
    LoadAdapter, LoadedAdapter, Prompt, Sink, Stats, Student, Timing,
};
use understudy_simulation::{Behaviour, World};

/// Spread of log-latencies and log-costs, as in the simulation: a p95 about 2.7 times the median.
const LOG_SPREAD: f64 = 0.6;
/// The normal distribution's 95th percentile.
const Z95: f64 = 1.644_853_626_951;

/// What a user does with what they read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feeling {
    Pleased,
    Displeased,
    Harmed,
    /// Goes away without a word.
    Silent,
}

impl Feeling {
    const ALL: [Self; 4] = [Self::Pleased, Self::Displeased, Self::Harmed, Self::Silent];

    fn as_reply(self) -> &'static str {
        match self {
            Self::Pleased => "It is settled.",
            Self::Displeased => "It is quite another matter.",
            Self::Harmed => "Here is what nobody should read.",
            Self::Silent => "It may be so.",
        }
    }

    /// What whoever reads this feels. They go by nothing else.
    pub(crate) fn on_reading(reply: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|feeling| feeling.as_reply() == reply)
    }
}

/// A world, the seed of its chance, and the scales of what it draws.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) world: World,
    pub(crate) seed: u64,
    /// The stable arm's p95, frozen before the release.
    pub(crate) latency_p95_ms: f64,
    /// In tokens.
    pub(crate) cost_cap: Option<f64>,
}

/// One reply, as it is drawn.
struct Line {
    feeling: Feeling,
    fails: bool,
    latency_ms: f64,
    tokens: u32,
}

impl Script {
    /// The name of the `turn`-th question of the `nth` session.
    pub(crate) fn question(nth: u64, turn: u32) -> String {
        format!("session {nth} turn {turn}")
    }

    /// From 0 to 1, the same for the same names.
    pub(crate) fn chance(&self, what: &str, of: &str) -> f64 {
        let parts = [&self.seed.to_le_bytes()[..], what.as_bytes(), of.as_bytes()];
        let digest = Digest::of_parts(parts);
        let first = digest.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        first as f64 / (u64::MAX as f64)
    }

    fn line(&self, question: &str, is_canary: bool) -> Line {
        let part = if is_canary { "canary" } else { "stable" };
        let is = if is_canary { self.world.canary } else { self.world.stable };
        let name = format!("{part} {question}");
        let session = question.split(" turn").next().unwrap_or_default();
        let nth = session.rsplit(' ').next().and_then(|nth| nth.parse().ok()).unwrap_or(0);
        let happens = |what: &str, share: f64| self.chance(what, &name) < share;
        let feeling = if happens("unsafe", is.unsafe_outputs) {
            Feeling::Harmed
        } else if happens("missing", is.missing) {
            Feeling::Silent
        } else if happens("success", self.success(is, nth, session)) {
            Feeling::Pleased
        } else {
            Feeling::Displeased
        };
        let median_ms = self.latency_p95_ms / (Z95 * LOG_SPREAD).exp();
        let tokens = self.cost_cap.map(|cap| cap * is.cost * self.log_normal("cost", &name));
        Line {
            feeling,
            fails: happens("error", is.errors),
            latency_ms: median_ms * is.slowness * self.log_normal("latency", &name),
            tokens: tokens.map_or(8, |tokens| tokens.round().max(1.0) as u32),
        }
    }

    /// A session's chance of success, which all its turns share.
    fn success(&self, is: Behaviour, nth: u64, session: &str) -> f64 {
        let World { drift, drift_arrivals, spread, .. } = self.world;
        let passed = nth.min(drift_arrivals) as f64 / drift_arrivals as f64;
        let mean = (is.success - drift * passed).clamp(0.0, 1.0);
        if spread == 0.0 {
            return mean;
        }
        let log_odds = (mean / (1.0 - mean)).ln() + spread * self.normal("spread", session);
        1.0 / (1.0 + (-log_odds).exp())
    }

    fn log_normal(&self, what: &str, of: &str) -> f64 {
        (LOG_SPREAD * self.normal(what, of)).exp()
    }

    /// Box and Muller's transform.
    fn normal(&self, what: &str, of: &str) -> f64 {
        let radius = 1.0 - self.chance(&format!("{what} radius"), of);
        let angle = self.chance(&format!("{what} angle"), of);
        (-2.0 * radius.max(f64::MIN_POSITIVE).ln()).sqrt() * (TAU * angle).cos()
    }
}

/// Whether a model fails whatever its script says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    Well,
    /// Fails every request for an adapter, and none for the base.
    DeadForAdapters,
}

/// A student that follows a script: the base is the stable arm, an adapter the candidate.
pub(crate) struct Actor {
    shelf: FakeBackend,
    script: Script,
}

impl Actor {
    pub(crate) fn new(base: &str, script: Script, health: Health) -> Self {
        let lines = script.clone();
        let shelf = FakeBackend::new(base, move |question, alias| {
            let line = lines.line(question, alias.is_some());
            let is_dead = health == Health::DeadForAdapters && alias.is_some();
            if line.fails || is_dead {
                return Err(InferenceError::Failed("the drill wants it".to_owned()));
            }
            Ok(line.feeling.as_reply().to_owned())
        });
        Self { shelf, script }
    }
}

impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Actor").field("script", &self.script).finish_non_exhaustive()
    }
}

impl Backend for Actor {
    fn base(&self) -> &str {
        self.shelf.base()
    }

    fn submit(&self, request: GenerateRequest, mut sink: Sink) -> Result<(), InferenceError> {
        let question = asked(&request.prompt);
        let script = self.script.clone();
        let told = move |event| {
            let Event::Finished(mut completion) = event else { return sink(event) };
            let line = script.line(&question, completion.served.adapter.is_some());
            let total_ms = line.latency_ms;
            completion.timing = Timing { queued_ms: 0.0, first_token_ms: total_ms / 4.0, total_ms };
            completion.usage.completion_tokens = line.tokens;
            sink(Event::Finished(completion))
        };
        self.shelf.submit(request, Box::new(told))
    }

    fn submit_all(&self, requests: Vec<(GenerateRequest, Sink)>) -> Result<(), InferenceError> {
        requests.into_iter().try_for_each(|(request, sink)| self.submit(request, sink))
    }
}

fn asked(prompt: &Prompt) -> String {
    match prompt {
        Prompt::Chat(chat) => {
            let [.., last] = &chat.messages[..] else { return String::new() };
            last.text()
        }
        Prompt::Text(text) => text.clone(),
        Prompt::Tokens(_) => String::new(),
    }
}

impl Student for Actor {
    fn publish_adapter(&self, load: LoadAdapter) -> Result<LoadedAdapter, InferenceError> {
        self.shelf.publish_adapter(load)
    }

    fn unload_adapter(&self, alias: &str) -> Result<(), InferenceError> {
        self.shelf.unload_adapter(alias)
    }

    fn expire_adapters(
        &self,
        now: Timestamp,
        spared: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<String>, InferenceError> {
        self.shelf.expire_adapters(now, spared)
    }

    fn in_flight(&self, alias: &str) -> usize {
        self.shelf.in_flight(alias)
    }

    fn rollback_adapter(
        &self,
        alias: &str,
        to: Option<&str>,
    ) -> Result<AdapterInfo, InferenceError> {
        self.shelf.rollback_adapter(alias, to)
    }

    fn adapters(&self) -> Vec<AdapterInfo> {
        self.shelf.adapters()
    }

    fn tokenize(&self, prompt: &Prompt) -> Result<Vec<u32>, InferenceError> {
        self.shelf.tokenize(prompt)
    }

    fn detokenize(&self, ids: &[u32]) -> Result<String, InferenceError> {
        self.shelf.detokenize(ids)
    }

    fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        self.shelf.token_bytes(id)
    }

    fn context(&self) -> usize {
        self.shelf.context()
    }

    fn stats(&self) -> Stats {
        self.shelf.stats()
    }

    fn check(&self) -> Result<(), InferenceError> {
        self.shelf.check()
    }

    fn pause(&self) {
        self.shelf.pause();
    }

    fn resume(&self) {
        self.shelf.resume();
    }

    fn is_paused(&self) -> bool {
        self.shelf.is_paused()
    }

    fn out_of_order(&self, adapter: &AdapterChoice) -> Option<(usize, usize)> {
        self.shelf.out_of_order(adapter)
    }
}
