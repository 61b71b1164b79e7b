//! The one seam between those who need text and those who make it.

use std::{fmt, ops::ControlFlow, path::Path, sync::mpsc};

use serde::{Deserialize, Serialize};

use crate::{Completion, Event, GenerateRequest, InferenceError};

/// Where a generation's events go. It is called from the backend's own thread, so it must not
/// block; `Break` cancels the generation, and its sequence is freed at the next step.
pub type Sink = Box<dyn FnMut(Event) -> ControlFlow<()> + Send>;

/// Something that generates: our engine, a remote endpoint, or a fake.
pub trait Backend: Send + Sync + fmt::Debug {
    /// The name of the base model, as `/v1/models` lists it.
    fn base(&self) -> &str;

    /// Queues a generation and returns at once. Errors returned here were found before queueing;
    /// later ones arrive as [`Event::Failed`].
    fn submit(&self, request: GenerateRequest, sink: Sink) -> Result<(), InferenceError>;

    /// Loads the PEFT directory under `alias`, replacing what the alias pointed at; requests in
    /// flight finish on the generation they started with.
    fn load_adapter(&self, alias: &str, directory: &Path) -> Result<AdapterInfo, InferenceError>;

    fn unload_adapter(&self, alias: &str) -> Result<(), InferenceError>;

    fn adapters(&self) -> Vec<AdapterInfo>;
}

/// One loaded adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterInfo {
    pub alias: String,
    pub generation: String,
    pub rank: usize,
    pub bytes: u64,
    pub directory: String,
}

/// Generates and waits: for callers with a thread of their own, such as evaluation.
pub fn complete(
    backend: &dyn Backend,
    request: GenerateRequest,
) -> Result<Completion, InferenceError> {
    let (sender, receiver) = mpsc::channel();
    backend.submit(
        request,
        Box::new(move |event| match event {
            Event::Started(_) | Event::Delta(_) => ControlFlow::Continue(()),
            Event::Finished(completion) => deliver(&sender, Ok(*completion)),
            Event::Failed(error) => deliver(&sender, Err(error)),
        }),
    )?;
    receiver.recv().unwrap_or(Err(InferenceError::ShuttingDown))
}

fn deliver<T>(sender: &mpsc::Sender<T>, value: T) -> ControlFlow<()> {
    // A receiver that has gone away no longer wants the answer.
    match sender.send(value) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    }
}
