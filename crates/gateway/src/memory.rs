//! Lessons for chats: retrieved from what is in memory, noted and measured in the background.
//!
//! A chat waits for nothing but the search. That it was shown a lesson is written by a thread,
//! which also reads outcomes off the journal and takes notice of releases and of lessons taken out.
//! Where memory fails or is not found in time, the chat goes on without, and its reply and a metric
//! say so.
//!
//! | path | what |
//! | --- | --- |
//! | `POST /v1/memory/heal` | what got others past a failure |
//! | `POST /v1/memory/heal/{id}/outcome` | `{"worked": true}`: whether it did |
//! | `POST /v1/memory/plan` | the lessons for a goal, with tools to prefer and to avoid |
//! | `GET /v1/memory/status` | what serves, and how often it was shown, withheld or failed |
//! | `/v1/memory/mine` | a user's own lessons, for that user's key alone |

mod deadline;
mod http;
mod own;
mod trial;
mod worker;

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use axum::http::HeaderMap;
use serde_json::Value;
use tokio::task::block_in_place;
use understudy_ident::{Clock, Digest, TaskName, Timestamp};
use understudy_inference::{Chat, Embedder, Prompt, Student};
use understudy_journal::Journal;
use understudy_memory::{
    Catalogue, Deployment, DeploymentStore, ErrorSignature, Intents, Key, Library, MemoryError,
    MemoryId, MemoryRoot, Query, Releases, Retrieved, Room, Shelf, Standings, estimated_tokens,
    has_block, place,
};
use understudy_message::{Message, Role};
use understudy_router::RouteTable;
use understudy_trajectory::Recalled;

use crate::{auth::Caller, routing::Routing, state::Gateway};

use deadline::Searchers;
pub(crate) use http::routes;
use trial::Shelved;

/// The request goes without lessons when this header says `off`.
const SWITCH: &str = "x-memory";

/// The lessons of one deployment, as a gateway serves them.
#[derive(Debug)]
pub struct Memories {
    shared: Arc<Shared>,
    notes: mpsc::Sender<Note>,
    searchers: Searchers,
}

/// Why a chat got no lessons although there are some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missed {
    /// Looking for them took longer than `budget_ms`.
    Late,
    Failed,
}

impl Missed {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Failed => "failed",
        }
    }
}

#[derive(Debug)]
struct Shared {
    deployment: Deployment,
    catalogue: Catalogue,
    store: DeploymentStore,
    releases: Releases,
    /// A release cut for spelling is found by spelling all the same.
    preferred: Arc<Finder>,
    clock: Arc<dyn Clock>,
    /// Users' own lessons lie beside those of everybody.
    root: MemoryRoot,
    held: Mutex<own::Held>,
    /// What the registry calls this memory, and which sessions meet which of its releases.
    channel: TaskName,
    routes: Arc<RouteTable>,
    candidate: RwLock<Option<Shelved>>,
    serving: RwLock<Arc<Serving>>,
    shown: AtomicU64,
    withheld: AtomicU64,
    failed: AtomicU64,
    late: AtomicU64,
}

/// What is served until something changes.
#[derive(Debug, Default)]
struct Serving {
    shelf: Arc<Shelf>,
    standings: Arc<Standings>,
    /// `None` until there is a release.
    finder: Option<Arc<Finder>>,
}

/// By what lessons are found, with the kinds of task as it sees them.
#[derive(Debug)]
struct Finder {
    embedder: Arc<dyn Embedder>,
    intents: Intents,
}

impl Finder {
    fn new(embedder: Arc<dyn Embedder>, catalogue: &Catalogue) -> Result<Self, MemoryError> {
        let intents = Intents::new(catalogue, embedder.as_ref())?;
        Ok(Self { embedder, intents })
    }
}

/// That a reply was shown lessons, or would have been.
#[derive(Debug)]
struct Note {
    response: String,
    shown: Vec<MemoryId>,
    withheld: Vec<MemoryId>,
    at: Timestamp,
}

impl Memories {
    /// Opens a deployment's memory and begins to follow the journal for outcomes. `routes` says
    /// which sessions meet a release on trial; with an empty table there is none.
    pub fn open(
        directory: &Path,
        deployment: Deployment,
        embedder: Arc<dyn Embedder>,
        journal: Journal,
        clock: Arc<dyn Clock>,
        routes: Arc<RouteTable>,
    ) -> Result<Self, MemoryError> {
        let root = MemoryRoot::open(directory, deployment.settings.clone())?;
        let store = root.deployment(&deployment.tenant)?;
        let releases = root.releases(&deployment.tenant);
        let mut catalogue = deployment.catalogue.clone();
        catalogue.approved_terms.extend(store.approved_terms()?);
        let shared = Arc::new(Shared {
            channel: deployment.channel(),
            deployment,
            store,
            releases,
            preferred: Arc::new(Finder::new(embedder, &catalogue)?),
            catalogue,
            clock,
            root,
            held: Mutex::default(),
            routes,
            candidate: RwLock::default(),
            serving: RwLock::default(),
            shown: AtomicU64::new(0),
            withheld: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            late: AtomicU64::new(0),
        });
        shared.refresh()?;
        let (notes, noted) = mpsc::channel();
        worker::start(Arc::clone(&shared), noted, journal)?;
        let searchers = Searchers::start().map_err(|source| MemoryError::Io {
            attempt: "start the threads that search",
            path: shared.store.path().to_owned(),
            source,
        })?;
        Ok(Self { shared, notes, searchers })
    }

    /// Lessons are those of whoever runs the server, and of the tenant they are named after.
    pub(crate) fn are_for(&self, caller: &Caller) -> bool {
        let own = self.shared.deployment.tenant.as_str();
        caller.tenant().is_none_or(|tenant| tenant.as_str() == own)
    }

    /// Puts lessons into a chat, and says which. `None` where nothing serves; a search that fails,
    /// or is not over within its budget, is waited for no longer.
    pub(crate) fn show(
        &self,
        gateway: &Gateway,
        (routing, caller): (&Routing, &Caller),
        headers: &HeaderMap,
        chat: &mut Chat,
    ) -> Result<Option<Met>, Missed> {
        if has_block(&chat.messages) {
            return Ok(None);
        }
        let wanted = Wanted::of(routing, headers, chat, self.shared.store.key());
        let (shared, student) = (Arc::clone(&self.shared), Arc::clone(&gateway.student));
        let caller = caller.clone();
        let budget = Duration::from_millis(self.shared.settings().budget_ms);
        let search = move || shared.met(student.as_ref(), &wanted, &caller);
        let found = block_in_place(|| self.searchers.within(budget, search));
        let Some(found) = found else {
            self.shared.late.fetch_add(1, Ordering::Relaxed);
            return Err(Missed::Late);
        };
        let met = found.map_err(|why| {
            tracing::warn!("a chat goes without memory: {why}");
            self.shared.failed.fetch_add(1, Ordering::Relaxed);
            Missed::Failed
        })?;
        if let Some(block) = met.as_ref().and_then(|met| met.retrieved.block.as_ref()) {
            chat.messages = place(&chat.messages, block);
        }
        Ok(met)
    }

    /// How often chats were shown lessons, were denied them to compare, or went without.
    pub(crate) fn counts(&self) -> [(&'static str, u64); 4] {
        let Shared { shown, withheld, failed, late, .. } = &*self.shared;
        [("shown", shown), ("withheld", withheld), ("failed", failed), ("late", late)]
            .map(|(what, count)| (what, count.load(Ordering::Relaxed)))
    }

    /// Has it written down that a reply was shown lessons. A reply whose session asked for none
    /// belongs to no comparison.
    pub(crate) fn note(&self, response: String, retrieved: &Retrieved, at: Timestamp) {
        let (mut shown, mut withheld) = (retrieved.shown_ids(), retrieved.withheld.clone());
        self.shared.shown.fetch_add(u64::from(!shown.is_empty()), Ordering::Relaxed);
        self.shared.withheld.fetch_add(u64::from(!withheld.is_empty()), Ordering::Relaxed);
        // What a user wants for themselves is followed and not measured, and leaves no trace here.
        let serving = self.shared.serving();
        for ids in [&mut shown, &mut withheld] {
            ids.retain(|id| serving.standings.knows(id));
        }
        if !shown.is_empty() || !withheld.is_empty() {
            // The thread is gone only when the server is.
            self.notes.send(Note { response, shown, withheld, at }).ok();
        }
    }
}

/// What lessons are looked for by, apart from the request itself, which goes on meanwhile.
#[derive(Debug)]
struct Wanted {
    goal: String,
    agent: String,
    tools: Vec<String>,
    error: Option<ErrorSignature>,
    unit: String,
    off: bool,
    /// A teacher's tokens are not ours to count.
    by_teacher: bool,
}

impl Wanted {
    fn of(routing: &Routing, headers: &HeaderMap, chat: &Chat, key: &Key) -> Self {
        // What the user wants now; the first message may be hours old.
        let user = chat.messages.iter().rev().find(|message| message.role == Role::User);
        Self {
            goal: user.map(Message::text).unwrap_or_default(),
            agent: routing.task.to_string(),
            tools: chat.tools.iter().filter_map(tool_name).map(str::to_owned).collect(),
            error: ErrorSignature::of_last(&chat.messages, key),
            unit: routing.assignment.unit.clone(),
            off: headers.get(SWITCH).is_some_and(|value| value.as_bytes() == b"off"),
            by_teacher: routing.way.teacher,
        }
    }
}

impl Shared {
    /// What a request meets: of the release that serves, or of the one on trial, and of the user's
    /// own.
    fn met(
        &self,
        student: &dyn Student,
        wanted: &Wanted,
        caller: &Caller,
    ) -> Result<Option<Met>, MemoryError> {
        let view = self.view(caller)?;
        // Without the candidate, its sessions go on with what serves, and are not compared.
        let trial = self.trial(&wanted.unit).unwrap_or_else(|why| {
            tracing::warn!("the release on trial is not shown: {why}");
            self.failed.fetch_add(1, Ordering::Relaxed);
            None
        });
        if view.shelf.release().is_none() && trial.is_none() && view.own.is_none() {
            return Ok(None);
        }
        let query = Query {
            goal: &wanted.goal,
            agent: Some(&wanted.agent),
            tools: wanted.tools.iter().map(String::as_str).collect(),
            error: wanted.error,
            session: &wanted.unit,
            off: wanted.off,
            ..Query::default()
        };
        let by_tokenizer = |text: &str| {
            let ids = student.tokenize(&Prompt::Text(text.to_owned()));
            ids.map_or_else(|_| estimated_tokens(text), |ids| ids.len())
        };
        let count: &dyn Fn(&str) -> usize =
            if wanted.by_teacher { &estimated_tokens } else { &by_tokenizer };
        let window = Window { context: student.context(), count };
        self.meet(trial, &view, &query, window).map(Some)
    }

    fn settings(&self) -> &understudy_memory::Retrieval {
        &self.deployment.settings.retrieval
    }

    fn serving(&self) -> Arc<Serving> {
        Arc::clone(&self.serving.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What a caller's requests are retrieved from.
    fn view(&self, caller: &Caller) -> Result<View, MemoryError> {
        let serving = self.serving();
        let finder = serving.finder.as_ref().unwrap_or(&self.preferred);
        let own = self.own(caller, finder)?;
        let merged =
            own.as_ref().map(|own| Standings::clone(&serving.standings).and(own.standings.clone()));
        let standings = merged.map_or_else(|| Arc::clone(&serving.standings), Arc::new);
        let (shelf, finder) = (Arc::clone(&serving.shelf), Arc::clone(finder));
        Ok(View { shelf, finder, own, standings })
    }

    /// Of one release, in the room that its settings give it.
    fn retrieve(
        &self,
        view: &View,
        query: &Query<'_>,
        window: Window<'_>,
    ) -> Result<Retrieved, MemoryError> {
        let rules = view.shelf.retrieval(self.settings());
        let room = Room { tokens: rules.token_budget(Some(window.context)), count: window.count };
        view.library(self).retrieve(query, room, self.clock.now())
    }

    /// Serves what the store points at, as its lessons stand now.
    fn refresh(&self) -> Result<(), MemoryError> {
        let pointed = self.store.releases()?.into_iter().next().flatten();
        let before = self.serving();
        let now = self.clock.now();
        let kept = self.store.all(now)?;
        let standings = Standings::of(&kept, &self.deployment.settings.counters, now);
        let (shelf, finder) = if before.shelf.release() == pointed.as_ref() {
            (Arc::clone(&before.shelf), before.finder.clone())
        } else {
            let (shelf, finder) = self.shelf(pointed.as_ref())?;
            let (lessons, by) = (shelf.len(), finder.as_ref().map(|one| one.embedder.name()));
            tracing::info!(release = ?pointed, lessons, by, "another memory release serves");
            (Arc::new(shelf), finder)
        };
        let serving = Arc::new(Serving { shelf, standings: Arc::new(standings), finder });
        *self.serving.write().unwrap_or_else(PoisonError::into_inner) = serving;
        Ok(())
    }

    fn shelf(&self, release: Option<&Digest>) -> Result<(Shelf, Option<Arc<Finder>>), MemoryError> {
        let Some(digest) = release else { return Ok((Shelf::default(), None)) };
        let release = self.releases.read(digest)?;
        let embedder = release.embedder(Arc::clone(&self.preferred.embedder));
        let shelf = Shelf::of_release(*digest, &release, Some(embedder.as_ref()), &self.catalogue)?;
        let finder = if embedder.name() == self.preferred.embedder.name() {
            Arc::clone(&self.preferred)
        } else {
            Arc::new(Finder::new(embedder, &self.catalogue)?)
        };
        Ok((shelf, Some(finder)))
    }
}

/// The prompt that lessons go into: the model's context, and how a text's tokens are counted.
#[derive(Clone, Copy)]
struct Window<'a> {
    context: usize,
    count: &'a dyn Fn(&str) -> usize,
}

/// What one request is retrieved from.
#[derive(Debug, Clone)]
struct View {
    shelf: Arc<Shelf>,
    finder: Arc<Finder>,
    own: Option<Arc<own::Own>>,
    /// Of both.
    standings: Arc<Standings>,
}

impl View {
    fn library<'a>(&'a self, shared: &'a Shared) -> Library<'a> {
        Library {
            deployment: &self.shelf,
            user: self.own.as_ref().map(|own| own.shelf.as_ref()),
            standings: &self.standings,
            embedder: Some(self.finder.embedder.as_ref()),
            intents: Some(&self.finder.intents),
            settings: shared.settings(),
            counters: &shared.deployment.settings.counters,
            key: shared.store.key(),
        }
    }
}

/// What a request was shown, and what is recorded of it.
#[derive(Debug)]
pub(crate) struct Met {
    pub(crate) retrieved: Retrieved,
    pub(crate) recalled: Recalled,
}

fn tool_name(tool: &Value) -> Option<&str> {
    tool.get("function")?.get("name")?.as_str()
}
