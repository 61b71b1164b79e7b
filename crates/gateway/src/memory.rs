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

mod http;
mod worker;

use std::{
    path::Path,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use axum::http::HeaderMap;
use serde_json::Value;
use understudy_ident::{Clock, Digest, Timestamp};
use understudy_inference::{Chat, Embedder, Prompt};
use understudy_journal::Journal;
use understudy_memory::{
    Catalogue, Deployment, DeploymentStore, Intents, Library, MemoryError, MemoryId, MemoryRoot,
    Query, Releases, Retrieved, Room, Shelf, Standings, estimated_tokens, has_block, place,
};

use crate::{auth::Caller, routing::Routing, state::Gateway};

pub(crate) use http::routes;

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
    preferred: Arc<dyn Embedder>,
    clock: Arc<dyn Clock>,
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
    standings: Standings,
    /// `None` until there is a release.
    finder: Option<Arc<Finder>>,
}

/// By what lessons are found, with the kinds of task as it sees them.
#[derive(Debug)]
struct Finder {
    embedder: Arc<dyn Embedder>,
    intents: Intents,
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
    /// Opens a deployment's memory and begins to follow the journal for outcomes.
    pub fn open(
        directory: &Path,
        deployment: Deployment,
        embedder: Arc<dyn Embedder>,
        journal: Journal,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, MemoryError> {
        let root = MemoryRoot::open(directory, deployment.settings.clone())?;
        let store = root.deployment(&deployment.tenant)?;
        let releases = root.releases(&deployment.tenant);
        let mut catalogue = deployment.catalogue.clone();
        catalogue.approved_terms.extend(store.approved_terms()?);
        let shared = Arc::new(Shared {
            deployment,
            catalogue,
            store,
            releases,
            preferred: embedder,
            clock,
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
        routing: &Routing,
        headers: &HeaderMap,
        chat: &mut Chat,
    ) -> Option<Retrieved> {
        let began = Instant::now();
        let serving = self.shared.serving();
        serving.shelf.release()?;
        if has_block(&chat.messages) {
            return None;
        }
        let retrieved = self.retrieve(gateway, routing, headers, chat, &serving);
        let retrieved = match retrieved {
            Ok(retrieved) => retrieved,
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
        if let Some(block) = &retrieved.block {
            chat.messages = place(&chat.messages, block);
        }
        Some(retrieved)
    }

    fn retrieve(
        &self,
        gateway: &Gateway,
        routing: &Routing,
        headers: &HeaderMap,
        chat: &Chat,
        serving: &Serving,
    ) -> Result<Retrieved, MemoryError> {
        // What the user wants now; the first message may be hours old.
        let last = chat.messages.iter().rev();
        let user = last.clone().find(|message| message.role == understudy_message::Role::User);
        let goal = user.map(understudy_message::Message::text).unwrap_or_default();
        let off = headers.get(SWITCH).is_some_and(|value| value.as_bytes() == b"off");
        let query = Query {
            goal: &goal,
            agent: Some(routing.task.as_str()),
            tools: chat.tools.iter().filter_map(tool_name).collect(),
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
        let tokens = self.shared.settings().token_budget(gateway.student.context());
        self.shared.retrieve(serving, query, Room { tokens, count })
    }

    /// Has it written down that a reply was shown lessons. A reply whose session asked for none
    /// belongs to no comparison.
    pub(crate) fn note(&self, response: String, retrieved: &Retrieved, at: Timestamp) {
        let (shown, withheld) = (retrieved.shown_ids(), retrieved.withheld.clone());
        self.shared.shown.fetch_add(u64::from(!shown.is_empty()), Ordering::Relaxed);
        self.shared.withheld.fetch_add(u64::from(!withheld.is_empty()), Ordering::Relaxed);
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

    fn library<'a>(&'a self, serving: &'a Serving) -> Library<'a> {
        let finder = serving.finder.as_deref();
        Library {
            deployment: &serving.shelf,
            // Users' own lessons wait for requests that are authenticated.
            user: None,
            standings: &serving.standings,
            embedder: finder.map(|finder| finder.embedder.as_ref()),
            intents: finder.map(|finder| &finder.intents),
            settings: self.settings(),
            counters: &self.deployment.settings.counters,
            key: self.store.key(),
        }
    }

    fn retrieve(
        &self,
        serving: &Serving,
        query: Query<'_>,
        room: Room<'_>,
    ) -> Result<Retrieved, MemoryError> {
        Ok(self.library(serving).retrieve(&query, room, self.clock.now())?.0)
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
            (Arc::new(shelf), finder.map(Arc::new))
        };
        let serving = Arc::new(Serving { shelf, standings, finder });
        *self.serving.write().unwrap_or_else(PoisonError::into_inner) = serving;
        Ok(())
    }

    fn shelf(&self, release: Option<&Digest>) -> Result<(Shelf, Option<Finder>), MemoryError> {
        let Some(digest) = release else { return Ok((Shelf::default(), None)) };
        let release = self.releases.read(digest)?;
        let embedder = release.embedder(Arc::clone(&self.preferred));
        let shelf = Shelf::of_release(*digest, &release, Some(embedder.as_ref()), &self.catalogue)?;
        let intents = Intents::new(&self.catalogue, embedder.as_ref())?;
        Ok((shelf, Some(Finder { embedder, intents })))
    }
}

fn tool_name(tool: &Value) -> Option<&str> {
    tool.get("function")?.get("name")?.as_str()
}
