//! The seam between those who need text and those who make it.

use std::{collections::BTreeMap, fmt, ops::ControlFlow, path::Path, sync::mpsc};

use understudy_ident::Timestamp;

use crate::{
    AdapterChoice, AdapterInfo, Attempt, Completion, Event, Gauge, GenerateRequest, InLine,
    InferenceError, LoadAdapter, LoadedAdapter, Loads, Prompt, Stats,
};

/// Where a generation's events go. It is called from the backend's own thread, so it must not
/// block; `Break` cancels the generation, and its sequence is freed at the next step. While there
/// is no event to answer, [`crate::Admission::cancel`] does the same.
pub type Sink = Box<dyn FnMut(Event) -> ControlFlow<()> + Send>;

/// Something that generates: our engine, a remote endpoint, or a fake.
pub trait Backend: Send + Sync + fmt::Debug {
    /// The name of the base model, as `/v1/models` lists it.
    fn base(&self) -> &str;

    /// Queues a generation and returns at once. Errors returned here were found before queueing;
    /// later ones arrive as [`Event::Failed`].
    fn submit(&self, request: GenerateRequest, sink: Sink) -> Result<(), InferenceError>;

    /// Queues several generations as one: either all are accepted or none is, and an alias they
    /// share means the same generation to all of them.
    fn submit_all(&self, requests: Vec<(GenerateRequest, Sink)>) -> Result<(), InferenceError> {
        let mut requests = requests;
        match requests.pop() {
            None => Ok(()),
            Some((request, sink)) if requests.is_empty() => self.submit(request, sink),
            Some(_) => Err(InferenceError::Unsupported("several completions of one prompt")),
        }
    }

    /// What it counts of itself, samples of one name together.
    fn gauges(&self) -> Vec<Gauge> {
        Vec::new()
    }
}

/// A backend whose weights we decide on: adapters come and go, and text is tokens.
pub trait Student: Backend {
    /// Reads, checks and publishes an adapter; requests in flight finish on the generation they
    /// started with, and a load that fails changes nothing.
    fn publish_adapter(&self, load: LoadAdapter) -> Result<LoadedAdapter, InferenceError>;

    /// Forgets an alias. Its weights go when the last request holding them ends.
    fn unload_adapter(&self, alias: &str) -> Result<(), InferenceError>;

    /// Forgets the aliases whose time is over at `now` and that are not spared, and says which.
    fn expire_adapters(
        &self,
        now: Timestamp,
        spared: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<String>, InferenceError>;

    /// Requests that were taken up under this alias and are not over, whatever it means by now.
    fn in_flight(&self, alias: &str) -> usize;

    /// Points an alias back at a generation that is still in memory: the one before, or the named.
    fn rollback_adapter(
        &self,
        alias: &str,
        to: Option<&str>,
    ) -> Result<AdapterInfo, InferenceError>;

    fn adapters(&self) -> Vec<AdapterInfo>;

    /// The ids a prompt becomes.
    fn tokenize(&self, prompt: &Prompt) -> Result<Vec<u32>, InferenceError>;

    /// The text of ids, markers included.
    fn detokenize(&self, ids: &[u32]) -> Result<String, InferenceError>;

    /// The bytes one token adds to a text, markers included; `None` beyond the vocabulary.
    fn token_bytes(&self, id: u32) -> Option<Vec<u8>>;

    /// The longest prompt and completion together, in tokens.
    fn context(&self) -> usize;

    fn stats(&self) -> Stats;

    /// Requests by adapter, those of adapters nobody asks for left out; `None` where nobody counts.
    fn in_line(&self) -> Option<Vec<InLine>> {
        None
    }

    /// How loads went.
    fn loads(&self) -> Loads {
        Loads::default()
    }

    /// Aliases that are being loaded, and those whose last load failed, with why.
    fn attempts(&self) -> BTreeMap<String, Attempt> {
        BTreeMap::new()
    }

    /// Whether generations can still be made; why not, otherwise.
    fn check(&self) -> Result<(), InferenceError>;

    /// Stops between two steps; what is in flight waits, and new requests are told to come back.
    fn pause(&self);

    fn resume(&self);

    fn is_paused(&self) -> bool;

    /// How many replicas are left alone for failing with this adapter, and of how many; `None`
    /// where there are none.
    fn out_of_order(&self, _adapter: &AdapterChoice) -> Option<(usize, usize)> {
        None
    }

    /// What decides, beside the adapter, what is answered: a digest of the base's files and
    /// template and of how they are held, the same after a restart. `None` where nobody knows.
    fn identity(&self) -> Option<String> {
        None
    }

    /// Publishes the PEFT directory under `alias`, whatever was there before.
    fn load_adapter(&self, alias: &str, directory: &Path) -> Result<AdapterInfo, InferenceError> {
        Ok(self.publish_adapter(LoadAdapter::new(alias, directory))?.adapter)
    }
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
