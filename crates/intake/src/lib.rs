//! Telemetry of applications, received durably and made into trajectories as it arrives.
//!
//! Guarantees: a body is in the journal before it is acknowledged, as it was sent or as much of it as
//! the capture level keeps, and once however often it is sent; what is made of the bodies depends on
//! neither the order nor the number of their deliveries, and follows when more of a conversation
//! comes, however late; newer rules of reading make everything anew from the same bodies; memory is
//! bounded by what was asked for, and a receiver that is full says so.
//!
//! Never: drops an item because its parents are missing, replaces what our own server recorded, or
//! reads bodies of different tasks together, or lets a tenant's touch another's.

mod bodies;
mod erase;
mod error;
mod map;
mod receive;
mod room;
mod tell;
mod wanting;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use understudy_capture::Levels;
use understudy_ident::Timestamp;
use understudy_ingest::telemetry::{LeftOut, MAPPER_VERSION};
use understudy_journal::{Holdings, Journal};
use understudy_trajectory::{Conversation, Trajectory};

pub use error::IntakeError;
pub use map::Progress;
pub use receive::{Received, Request};
pub use room::Room;

use crate::{bodies::Bodies, wanting::Wanting};

/// What an intake may take of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// One body, before and after decompression.
    pub body_bytes: usize,
    /// All bodies that are being received at once.
    pub waiting_bytes: usize,
}

impl Default for Limits {
    /// The limit of a body is the one that OTLP recommends.
    fn default() -> Self {
        Self { body_bytes: 64 << 20, waiting_bytes: 256 << 20 }
    }
}

/// Receives bodies, and reads what it has received. A cheap handle.
#[derive(Clone)]
pub struct Intake {
    shared: Arc<Shared>,
}

struct Shared {
    journal: Journal,
    limits: Limits,
    /// How much of what is received is kept; all of it unless set.
    capture: OnceLock<Levels>,
    room: Arc<room::Waiting>,
    /// The version of the rules of reading.
    mapper: u32,
    /// Held while reading: two readers would only do the same work twice.
    bodies: Mutex<Bodies>,
    wanting: Wanting,
}

impl Intake {
    pub fn new(journal: Journal, limits: Limits) -> Self {
        Self::with_mapper(journal, limits, MAPPER_VERSION)
    }

    fn with_mapper(journal: Journal, limits: Limits, mapper: u32) -> Self {
        let room = Arc::new(room::Waiting::new(limits.waiting_bytes));
        let bodies = Mutex::new(Bodies::new(journal.clone()));
        let wanting = Wanting::default();
        let capture = OnceLock::new();
        let shared = Shared { journal, limits, capture, room, mapper, bodies, wanting };
        Self { shared: Arc::new(shared) }
    }

    pub fn limits(&self) -> Limits {
        self.shared.limits
    }

    /// From now on no more is kept than this. Said again, the first word counts.
    pub fn capture_at(&self, levels: impl Into<Levels>) {
        self.shared.capture.get_or_init(|| levels.into());
    }

    pub fn capture(&self) -> &Levels {
        static UNLESS_SET: Levels = Levels::FULL;
        self.shared.capture.get().unwrap_or(&UNLESS_SET)
    }

    /// Makes room for `bytes` of a body that is on its way, until the room is dropped.
    pub fn room(&self, bytes: usize) -> Result<Room, IntakeError> {
        room::Waiting::take(&self.shared.room, bytes)
    }

    /// Checks a body and queues it for the journal.
    pub fn receive(&self, request: Request<'_>) -> Result<Received, IntakeError> {
        let level = self.capture().of(request.task.tenant().as_ref());
        receive::receive(&self.shared.journal, (self.shared.limits, level), request)
    }

    /// The bodies that hold anything of a subject: its name, a step of it or the response in one, or
    /// another part of the same trace. Others may share a body, and lose it with the subject; what
    /// was made of it for them stays.
    pub fn bodies_of(&self, subject: &str, holdings: &Holdings) -> Result<Vec<u64>, IntakeError> {
        erase::bodies_of(&self.shared.journal, subject, holdings)
    }

    /// Reads some of the bodies that were not read yet, and tells the journal what they amount to
    /// together with all that came before. Call it until there are none.
    pub fn advance(&self) -> Result<Progress, IntakeError> {
        let mut bodies = self.shared.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        map::Pass::new(&self.shared, &mut bodies).run()
    }

    /// What telemetry told around the steps of a trajectory: tools, retrievals, frames, and who went
    /// on from whom. `None` where nothing did, where its bodies were forgotten, and where so much
    /// begins with the same words that all of it would have to be read.
    pub fn conversation(
        &self,
        trajectory: &Trajectory,
    ) -> Result<Option<Conversation>, IntakeError> {
        // Not the bodies that are kept for reading, which a pass may hold for long.
        let mut bodies = Bodies::new(self.shared.journal.clone());
        map::Pass::new(&self.shared, &mut bodies).conversation(trajectory)
    }

    /// How many calls became no step since this process began, by reason. A client that captures no
    /// content shows here.
    pub fn left_out(&self) -> BTreeMap<LeftOut, u64> {
        self.shared.wanting.counts()
    }

    /// Forgets the content of bodies that were received before this and have been read, and answers
    /// of how many.
    pub fn expire(&self, before: Timestamp) -> Result<usize, IntakeError> {
        Ok(self.shared.journal.expire_read_bodies(before)?)
    }
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").field("mapper", &self.shared.mapper).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
