//! Lessons for chats: retrieved from what is in memory, noted and measured in the background.
//!
//! A chat waits for nothing but the search. That it was shown a lesson is written by a thread, which
//! also reads outcomes off the journal and takes notice of releases and of lessons taken out. Where
//! memory fails or takes too long, the chat goes on without and that is counted.
//!
//! | path | what |
//! | --- | --- |
//! | `POST /v1/memory/heal` | what got others past a failure |
//! | `POST /v1/memory/heal/{id}/outcome` | `{"worked": true}`: whether it did |
//! | `POST /v1/memory/plan` | the lessons for a goal, with tools to prefer and to avoid |
//! | `GET /v1/memory/status` | what serves, and how often it was shown, withheld or failed |
//! | `/v1/memory/mine` | a user's own lessons, for that user's key alone |

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
    time::{Duration, Instant},
};

use axum::http::HeaderMap;
use serde_json::Value;
use understudy_ident::{Clock, Digest, TaskName, Timestamp};
use understudy_inference::{Chat, Embedder, Prompt};
use understudy_journal::Journal;
use understudy_memory::{
    Catalogue, Deployment, DeploymentStore, ErrorSignature, Intents, Key, Library, MemoryError,
    MemoryId, MemoryRoot, Query, Releases, Retrieved, Room, Shelf, Standings, estimated_tokens,
    failure_in, has_block, place,
};
use understudy_message::{Message, Role};
use understudy_router::RouteTable;
use understudy_trajectory::Recalled;

use crate::{auth::Caller, routing::Routing, state::Gateway};

pub(crate) use http::routes;
use trial::Shelved;

/// The request goes without lessons when this header says `off`.
const SWITCH: &str = "x-memory";

/// The lessons of one deployment, as a gateway serves them.
#[derive(Debug)]
pub struct Memories {
    shared: Arc<Shared>,
    notes: mpsc::Sender<Note>,
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
    /// Opens a deployment's memory and begins to follow the journal for outcomes. `routes` says which
    /// sessions meet a release on trial; with an empty table there is none.
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
        Ok(Self { shared, notes })
    }

    /// Lessons are those of whoever runs the server, and of the tenant they are named after.
    pub(crate) fn are_for(&self, caller: &Caller) -> bool {
        let own = self.shared.deployment.tenant.as_str();
        caller.tenant().is_none_or(|tenant| tenant.as_str() == own)
    }

    /// Puts lessons into a chat, and says which. `None` where nothing serves or memory failed.
    pub(crate) fn show(
        &self,
        gateway: &Gateway,
        (routing, caller): (&Routing, &Caller),
        headers: &HeaderMap,
        chat: &mut Chat,
    ) -> Option<Met> {
        let began = Instant::now();
        if has_block(&chat.messages) {
            return None;
        }
        let met = match self.met(gateway, (routing, caller), headers, chat) {
            Ok(met) => met?,
            Err(why) => {
                tracing::warn!("a chat goes without memory: {why}");
                self.shared.failed.fetch_add(1, Ordering::Relaxed);
                return None;
            }
        };
        if began.elapsed() > Duration::from_millis(self.shared.settings().budget_ms) {
            self.shared.late.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        if let Some(block) = &met.retrieved.block {
            chat.messages = place(&chat.messages, block);
        }
        Some(met)
    }

    /// What the request meets: of the release that serves, or of the one on trial, and of the user's
    /// own.
    fn met(
        &self,
        gateway: &Gateway,
        (routing, caller): (&Routing, &Caller),
        headers: &HeaderMap,
        chat: &Chat,
    ) -> Result<Option<Met>, MemoryError> {
        let shared = &self.shared;
        let view = shared.view(caller)?;
        // Without the candidate, its sessions go on with what serves, and are not compared.
        let trial = shared.trial(&routing.assignment.unit).unwrap_or_else(|why| {
            tracing::warn!("the release on trial is not shown: {why}");
            shared.failed.fetch_add(1, Ordering::Relaxed);
            None
        });
        if view.shelf.release().is_none() && trial.is_none() && view.own.is_none() {
            return Ok(None);
        }
        // What the user wants now; the first message may be hours old.
        let user = chat.messages.iter().rev().find(|message| message.role == Role::User);
        let goal = user.map(Message::text).unwrap_or_default();
        let off = headers.get(SWITCH).is_some_and(|value| value.as_bytes() == b"off");
        let query = Query {
            goal: &goal,
            agent: Some(routing.task.as_str()),
            tools: chat.tools.iter().filter_map(tool_name).collect(),
            error: last_failure(&chat.messages, shared.store.key()),
            session: &routing.assignment.unit,
            off,
            ..Query::default()
        };
        let by_tokenizer = |text: &str| {
            let ids = gateway.student.tokenize(&Prompt::Text(text.to_owned()));
            ids.map_or_else(|_| estimated_tokens(text), |ids| ids.len())
        };
        // A teacher's tokens are not ours to count.
        let count: &dyn Fn(&str) -> usize =
            if routing.way.teacher { &estimated_tokens } else { &by_tokenizer };
        let window = Window { context: gateway.student.context(), count };
        shared.meet(trial, &view, &query, window).map(Some)
    }

    /// Has it written down that a reply was shown lessons. A reply whose session asked for none
    /// belongs to no comparison.
    pub(crate) fn note(&self, response: String, retrieved: &Retrieved, at: Timestamp) {
        let (mut shown, withheld) = (retrieved.shown_ids(), retrieved.withheld.clone());
        self.shared.shown.fetch_add(u64::from(!shown.is_empty()), Ordering::Relaxed);
        self.shared.withheld.fetch_add(u64::from(!withheld.is_empty()), Ordering::Relaxed);
        // What a user wants for themselves is followed and not measured, and leaves no trace here.
        shown.retain(|id| self.shared.serving().standings.knows(id));
        if !shown.is_empty() || !withheld.is_empty() {
            // The thread is gone only when the server is.
            self.notes.send(Note { response, shown, withheld, at }).ok();
        }
    }
}

impl Shared {
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
        Ok(view.library(self).retrieve(query, room, self.clock.now())?.0)
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

/// How the call failed that the conversation ends with, if it ends with one.
fn last_failure(messages: &[Message], key: &Key) -> Option<ErrorSignature> {
    let last = messages.last().filter(|message| message.role == Role::Tool)?;
    let message = failure_in(&last.text())?;
    Some(ErrorSignature::of(&message, None, key))
}

fn tool_name(tool: &Value) -> Option<&str> {
    tool.get("function")?.get("name")?.as_str()
}
