//! What every handler shares.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use understudy_canary::{Examiner, PolicyDefaults};
use understudy_capture::Levels;
use understudy_ident::{Clock, Timestamp};
use understudy_inference::{Backend, SamplingDefaults, Student};
use understudy_intake::{Intake, Limits};
use understudy_journal::Journal;
use understudy_registry::Registry;
use understudy_router::RouteTable;

use crate::{
    adapters::MOST_LOADS, auth::Door, beside::Room, error::ApiError, feedback::TokenKey,
    live::LiveBoard, loops::Board, memory::Memories, metrics::Metrics, server::Patience,
    watch::Hub,
};

/// The parts a gateway is put together from.
#[derive(Debug)]
pub struct GatewayParts {
    /// Our engine: answers for the base and for every adapter.
    pub student: Arc<dyn Student>,
    /// The frontier model; without one, routes to the teacher answer 503.
    pub teacher: Option<Arc<dyn Backend>>,
    pub routes: Arc<RouteTable>,
    pub journal: Journal,
    pub registry: Arc<Registry>,
    pub clock: Arc<dyn Clock>,
    pub adapter_updates: AdapterUpdates,
    /// Whether requests may bring a chat template, a program whose memory has no limit.
    pub request_templates: bool,
}

/// Whether clients may load and unload adapters, and pause and resume generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdapterUpdates {
    /// Releases decide alone.
    Forbidden,
    /// From directories that lie in one of these, symbolic links resolved.
    Under(Vec<PathBuf>),
}

/// A cheap handle: one per connection.
#[derive(Debug, Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    parts: GatewayParts,
    metrics: Metrics,
    room: Room,
    /// Places of loads that clients ask for.
    loads: Arc<Semaphore>,
    started: Timestamp,
    intake: Intake,
    /// How long raw bodies of telemetry are kept; for ever unless set.
    keep_raw: OnceLock<Duration>,
    /// What releases start from; the program's unless set.
    release_defaults: OnceLock<PolicyDefaults>,
    /// What our own model is asked with where requests say nothing; OpenAI's unless set.
    sampling_defaults: OnceLock<SamplingDefaults>,
    /// How long a stream says nothing.
    silence: OnceLock<Duration>,
    /// The longest deadline a request gets.
    longest_deadline: OnceLock<Duration>,
    token_key: OnceLock<TokenKey>,
    door: Arc<Door>,
    board: Arc<Board>,
    live: Arc<LiveBoard>,
    hub: Hub,
    memories: OnceLock<Memories>,
    examiner: Mutex<Examiner>,
    draining: AtomicBool,
    flushes_replies: AtomicBool,
}

impl Gateway {
    pub fn new(parts: GatewayParts) -> Self {
        Self::with_limits(parts, Limits::default())
    }

    /// A gateway that takes as much telemetry at once as it is told to.
    pub fn with_limits(parts: GatewayParts, limits: Limits) -> Self {
        Self::guarded(parts, limits, Door::open())
    }

    /// A gateway that lets in whom this door does.
    pub fn behind(door: Door, parts: GatewayParts) -> Self {
        Self::guarded(parts, Limits::default(), door)
    }

    pub(crate) fn guarded(parts: GatewayParts, limits: Limits, door: Door) -> Self {
        let (metrics, started) = (Metrics::default(), parts.clock.now());
        let intake = Intake::new(parts.journal.clone(), limits);
        let hub = Hub::over(&parts.routes);
        Self {
            shared: Arc::new(Shared {
                parts,
                metrics,
                room: Room::default(),
                loads: Arc::new(Semaphore::new(MOST_LOADS)),
                started,
                intake,
                keep_raw: OnceLock::new(),
                release_defaults: OnceLock::new(),
                sampling_defaults: OnceLock::new(),
                silence: OnceLock::new(),
                longest_deadline: OnceLock::new(),
                token_key: OnceLock::new(),
                door: Arc::new(door),
                board: Arc::default(),
                live: Arc::default(),
                hub,
                memories: OnceLock::new(),
                examiner: Mutex::default(),
                draining: AtomicBool::new(false),
                flushes_replies: AtomicBool::new(false),
            }),
        }
    }

    /// The key of the tokens that browsers give feedback with.
    pub(crate) fn token_key(&self) -> Result<TokenKey, ApiError> {
        if let Some(key) = self.shared.token_key.get() {
            return Ok(*key);
        }
        let secret = self.journal.secret().map_err(|why| ApiError::unavailable(why.to_string()))?;
        Ok(*self.shared.token_key.get_or_init(|| TokenKey::derived(&secret)))
    }

    pub(crate) fn door(&self) -> &Door {
        &self.shared.door
    }

    pub(crate) fn shared_door(&self) -> &Arc<Door> {
        &self.shared.door
    }

    /// Where the server's own threads post how they fare.
    pub fn board(&self) -> Arc<Board> {
        Arc::clone(&self.shared.board)
    }

    /// Where live scores are posted.
    pub fn live(&self) -> Arc<LiveBoard> {
        Arc::clone(&self.shared.live)
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.shared.hub
    }

    /// Who follows this server's routes, and what they have acknowledged.
    pub(crate) fn servers(&self) -> Value {
        self.hub().listing(&self.routes)
    }

    /// What releases rest on, read one at a time.
    pub(crate) fn examiner(&self) -> MutexGuard<'_, Examiner> {
        self.shared.examiner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on chats are shown lessons. A gateway remembers with one memory; a second is
    /// handed back.
    pub fn remember_with(&self, memories: Memories) -> Result<(), Memories> {
        self.shared.memories.set(memories)
    }

    pub(crate) fn memories(&self) -> Option<&Memories> {
        self.shared.memories.get()
    }

    /// From now on nothing new is begun: who asks is told to ask elsewhere, and what is in flight
    /// goes on.
    pub fn drain(&self) {
        self.shared.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::Relaxed)
    }

    /// From now on a reply's last byte waits until its step would survive a power failure, and not
    /// only the end of this process.
    pub fn flush_replies(&self) {
        self.shared.flushes_replies.store(true, Ordering::Relaxed);
    }

    pub(crate) fn flushes_replies(&self) -> bool {
        self.shared.flushes_replies.load(Ordering::Relaxed)
    }

    /// From now on no more than this is kept of what is said. Said again, the first word counts.
    pub fn capture_at(&self, levels: impl Into<Levels>) {
        self.shared.intake.capture_at(levels);
    }

    pub(crate) fn capture(&self) -> &Levels {
        self.shared.intake.capture()
    }

    /// From now on raw bodies of telemetry that were read are forgotten when they are this old; what
    /// was made of them stays. Said again, the first word counts.
    pub fn keep_raw_for(&self, age: Duration) {
        self.shared.keep_raw.get_or_init(|| age);
    }

    pub(crate) fn keep_raw(&self) -> Option<Duration> {
        self.shared.keep_raw.get().copied()
    }

    /// From now on releases start with these rules where their recipes say nothing. Said again, the
    /// first word counts.
    pub fn release_under(&self, defaults: PolicyDefaults) {
        self.shared.release_defaults.get_or_init(|| defaults);
    }

    pub(crate) fn release_defaults(&self) -> &PolicyDefaults {
        self.shared.release_defaults.get_or_init(PolicyDefaults::default)
    }

    /// From now on our own model draws like this where a request says nothing. Said again, the
    /// first word counts.
    pub fn draw_like(&self, defaults: SamplingDefaults) {
        self.shared.sampling_defaults.get_or_init(|| defaults);
    }

    pub(crate) fn sampling_defaults(&self) -> SamplingDefaults {
        self.shared.sampling_defaults.get().copied().unwrap_or_default()
    }

    /// From now on a stream that has nothing to say for so long says at least that it is there. Said
    /// again, the first word counts.
    pub(crate) fn comment_after(&self, silence: Duration) {
        self.shared.silence.get_or_init(|| silence);
    }

    pub(crate) fn silence(&self) -> Duration {
        self.shared.silence.get().copied().unwrap_or_else(|| Patience::default().silence)
    }

    /// From now on no request gets a deadline later than this. Said again, the first word counts.
    pub(crate) fn wait_at_most(&self, longest: Duration) {
        self.shared.longest_deadline.get_or_init(|| longest);
    }

    pub(crate) fn longest_deadline(&self) -> Duration {
        let set = self.shared.longest_deadline.get().copied();
        set.unwrap_or_else(|| Patience::default().longest_deadline)
    }

    pub(crate) fn intake(&self) -> &Intake {
        &self.shared.intake
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    pub(crate) fn room(&self) -> &Room {
        &self.shared.room
    }

    /// A place among the loads that clients have asked for, unless all are taken.
    pub(crate) fn place_to_load(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.shared.loads).try_acquire_owned().ok()
    }

    pub(crate) fn started(&self) -> Timestamp {
        self.shared.started
    }
}

impl std::ops::Deref for Gateway {
    type Target = GatewayParts;

    fn deref(&self) -> &GatewayParts {
        &self.shared.parts
    }
}
