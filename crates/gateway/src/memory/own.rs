//! A user's own lessons: for the requests of whoever holds that user's key, and for nobody else's.
//!
//! | path | what |
//! | --- | --- |
//! | `GET /v1/memory/mine` | all of them, which is also the export |
//! | `POST /v1/memory/mine` | another one: `{"situation": "When writing letters", "text": "…"}`; with `recovery`, for heal |
//! | `PUT /v1/memory/mine/{id}` | `{"text": "…"}` instead |
//! | `DELETE /v1/memory/mine/{id}` | this one, down to its bytes |
//! | `DELETE /v1/memory/mine` | everything that was kept for this user, down to the bytes |
//!
//! Who that is comes from the key alone: no body, header or path can name a user or a tenant.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, put},
};
use serde::Deserialize;
use serde_json::{Value, json};
use understudy_memory::{
    By, ErrorReport, Kept, Kind, MemoryError, MemoryId, Principal, Shelf, Standings, Tactic,
    Target, UserItem, UserStore, UserText, Written,
};

use super::{
    Finder, Memories, Shared,
    http::{failed, memories, parse},
};
use crate::{auth::Caller, body::Body, error::ApiError, state::Gateway};

/// How long another process's change may go unnoticed.
const FRESH: Duration = Duration::from_secs(1);
/// Users whose lessons are held ready.
const HELD: usize = 1024;

/// One user's lessons, ready for search.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) shelf: Arc<Shelf>,
    pub(super) standings: Standings,
    /// What the embedder they are to be found by is called.
    by: String,
    read: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Held {
    ready: HashMap<Principal, Arc<Own>>,
    /// Whose lessons wait to be embedded, which no request does.
    cold: HashSet<Principal>,
}

pub(super) fn routes() -> Router<Gateway> {
    Router::new()
        .route("/v1/memory/mine", get(list).post(add).delete(forget_all))
        .route("/v1/memory/mine/{id}", put(rewrite).delete(forget))
}

impl Shared {
    /// Whom a request is from, where its key says so.
    pub(super) fn principal(&self, caller: &Caller) -> Option<Principal> {
        let own = self.deployment.tenant.as_str();
        let same = caller.tenant().is_none_or(|tenant| tenant.as_str() == own);
        let user = caller.user().filter(|_| same)?;
        Principal::authenticated(self.deployment.tenant.clone(), user).ok()
    }

    /// The user's own lessons; none where nothing was ever kept. New ones are shown once the thread
    /// behind the memory has embedded them; until the first time, words alone find them.
    pub(super) fn own(
        &self,
        caller: &Caller,
        finder: &Finder,
    ) -> Result<Option<Arc<Own>>, MemoryError> {
        let Some(principal) = self.principal(caller) else { return Ok(None) };
        if !self.root.has_user(&principal) {
            self.held().ready.remove(&principal);
            return Ok(None);
        }
        let before = self.held().ready.get(&principal).cloned();
        let is_fresh = |own: &&Arc<Own>| own.read.elapsed() < FRESH;
        let by = finder.embedder.name();
        if let Some(own) = before.as_ref().filter(is_fresh).filter(|own| own.by == by) {
            return Ok(Some(Arc::clone(own)));
        }
        self.read_own(&principal, finder, before.as_deref(), false).map(Some)
    }

    /// Reads a user's lessons. They are embedded when `wait`, or when nothing of them is new.
    fn read_own(
        &self,
        principal: &Principal,
        finder: &Finder,
        before: Option<&Own>,
        wait: bool,
    ) -> Result<Arc<Own>, MemoryError> {
        let (now, embedder) = (self.clock.now(), finder.embedder.as_ref());
        let kept = self.root.user(principal)?.all(now)?;
        let standings = Standings::of(&kept, &self.deployment.settings.counters, now);
        let words = Shelf::by_words(&kept, &self.catalogue);
        let before = before.filter(|own| own.by == embedder.name()).map(|own| &own.shelf);
        let known = before.is_some_and(|before| words.is_known_to(before, embedder.name()));
        let cold = !(wait || known);
        let shelf = match before {
            // As it was, but for what is gone: that stands nowhere any more.
            Some(before) if cold => Arc::clone(before),
            _ if cold => Arc::new(words),
            _ => Arc::new(words.embedded(before.map(AsRef::as_ref), Some(embedder))?),
        };
        let by = embedder.name().to_owned();
        let own = Arc::new(Own { shelf, standings, by, read: Instant::now() });
        let mut held = self.held();
        if held.ready.len() >= HELD {
            held.ready.retain(|_, own| own.read.elapsed() < FRESH);
        }
        held.ready.insert(principal.clone(), Arc::clone(&own));
        if cold {
            held.cold.insert(principal.clone());
        }
        Ok(own)
    }

    /// Embeds what requests have met and found by words only.
    pub(super) fn warm_own(&self) -> Result<(), MemoryError> {
        let cold = std::mem::take(&mut self.held().cold);
        cold.iter().try_for_each(|principal| self.changed(principal))
    }

    /// Reads a user's lessons anew, all of them embedded.
    pub(super) fn changed(&self, principal: &Principal) -> Result<(), MemoryError> {
        if !self.root.has_user(principal) {
            self.held().ready.remove(principal);
            return Ok(());
        }
        let serving = self.serving();
        let finder = serving.finder.as_ref().unwrap_or(&self.preferred);
        let before = self.held().ready.get(principal).cloned();
        self.read_own(principal, finder, before.as_deref(), true).map(|_| ())
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    /// When it applies: "When writing letters".
    situation: String,
    text: String,
    /// Only for this task.
    #[serde(default)]
    agent: Option<String>,
    /// What it gets past, and how.
    #[serde(default)]
    recovery: Option<Recovery>,
}

/// A way past a failure that this user has found.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recovery {
    tactic: Tactic,
    /// The tool to go on with.
    #[serde(default)]
    tool: Option<String>,
    #[serde(default)]
    target: Option<Target>,
    #[serde(default)]
    error: Option<ErrorReport>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    text: String,
}

async fn list(State(gateway): State<Gateway>, caller: Caller) -> Result<Json<Value>, ApiError> {
    let (memories, principal) = whose(&gateway, &caller)?;
    let shared = &memories.shared;
    if !shared.root.has_user(&principal) {
        return Ok(Json(json!([])));
    }
    let all = store(memories, &principal)?.all(shared.clock.now()).map_err(|why| failed(&why))?;
    Ok(Json(all.iter().map(line).collect()))
}

async fn add(
    State(gateway): State<Gateway>,
    caller: Caller,
    Body(body): Body,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let (memories, principal) = whose(&gateway, &caller)?;
    let new: New = parse(&body)?;
    let shared = &memories.shared;
    let recovery = new.recovery.as_ref();
    if recovery.is_some_and(|way| way.target.is_none() && way.error.is_none()) {
        let why = "a recovery needs the `error` it gets past, or the `target` it happens at";
        return Err(ApiError::bad_field("recovery", why.to_owned()));
    }
    let prefer: Vec<&str> = recovery.iter().filter_map(|way| way.tool.as_deref()).collect();
    let error = |way: &Recovery| Some(way.error.as_ref()?.signature(shared.store.key()));
    let written = Written {
        kind: recovery.map_or(Kind::Preference, |_| Kind::Recovery),
        agent: new.agent.as_deref(),
        target: recovery.and_then(|way| way.target.as_ref()).map(|target| target.key.as_str()),
        error: recovery.and_then(error),
        situation: &new.situation,
        strategy: &new.text,
        prefer: &prefer,
        tactic: recovery.map(|way| way.tactic),
        ..Written::default()
    };
    let (store, by) = (store(memories, &principal)?, by(shared)?);
    let most = shared.deployment.settings.caps.per_user;
    let kept = || -> Result<Option<Kept<UserText>>, MemoryError> {
        if !store.has_room(by.at)? {
            return Ok(None);
        }
        let item = UserItem::written(&written, &shared.catalogue, store.key(), by.at)?;
        let id = match store.propose(item, shared.preferred.embedder.as_ref(), &by)? {
            understudy_memory::Proposed::New { id }
            | understudy_memory::Proposed::Conflicting { id, .. }
            | understudy_memory::Proposed::Merged { into: id }
            | understudy_memory::Proposed::Settled { by: id, .. } => id,
        };
        store.confirm(&id, &by)?;
        store.get(&id, by.at).map(Some)
    };
    let kept = kept().map_err(|why| refused(&why))?.ok_or_else(|| {
        ApiError::conflict(format!("{most} lessons are kept for one user at most; delete one"))
    })?;
    shared.changed(&principal).map_err(|why| failed(&why))?;
    Ok((StatusCode::CREATED, Json(line(&kept))))
}

async fn rewrite(
    State(gateway): State<Gateway>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body,
) -> Result<Json<Value>, ApiError> {
    let (memories, principal) = whose(&gateway, &caller)?;
    let Text { text } = parse(&body)?;
    let text = UserText::new(&text).map_err(|why| refused(&why))?;
    let shared = &memories.shared;
    let (store, id) = of_user(memories, &principal, &id)?;
    let by = by(shared)?;
    store.rewrite(&id, text, &by).map_err(|why| failed(&why))?;
    shared.changed(&principal).map_err(|why| failed(&why))?;
    let kept = store.get(&id, by.at).map_err(|why| failed(&why))?;
    Ok(Json(line(&kept)))
}

async fn forget(
    State(gateway): State<Gateway>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let (memories, principal) = whose(&gateway, &caller)?;
    let shared = &memories.shared;
    let (store, id) = of_user(memories, &principal, &id)?;
    drop(store);
    let by = by(shared)?;
    shared.root.forget_own(&principal, &id, &by).map_err(|why| failed(&why))?;
    shared.changed(&principal).map_err(|why| failed(&why))?;
    Ok(Json(json!({"forgotten": id})))
}

async fn forget_all(
    State(gateway): State<Gateway>,
    caller: Caller,
) -> Result<Json<Value>, ApiError> {
    let (memories, principal) = whose(&gateway, &caller)?;
    let found = memories.shared.root.forget_user(&principal).map_err(|why| failed(&why))?;
    memories.shared.changed(&principal).map_err(|why| failed(&why))?;
    Ok(Json(json!({"forgotten": found})))
}

/// Whose memory: the key's own, or nobody's.
fn whose<'g>(gateway: &'g Gateway, caller: &Caller) -> Result<(&'g Memories, Principal), ApiError> {
    let memories = memories(gateway)?;
    let principal = memories.shared.principal(caller).ok_or_else(|| {
        ApiError::forbidden(
            "this is for one user's own lessons, and this API key is no user's; make one with \
             `understudy key create --user NAME`",
        )
    })?;
    Ok((memories, principal))
}

fn store(memories: &Memories, principal: &Principal) -> Result<UserStore, ApiError> {
    memories.shared.root.user(principal).map_err(|why| failed(&why))
}

/// A lesson of this user; one of anybody else's is as unknown as one that never was.
fn of_user(
    memories: &Memories,
    principal: &Principal,
    id: &str,
) -> Result<(UserStore, MemoryId), ApiError> {
    let unknown =
        || ApiError::not_found(format!("you have no memory {id}; see GET /v1/memory/mine"));
    let parsed: MemoryId = id.parse().map_err(|_| unknown())?;
    if !memories.shared.root.has_user(principal) {
        return Err(unknown());
    }
    let store = store(memories, principal)?;
    store.get(&parsed, memories.shared.clock.now()).map_err(|_| unknown())?;
    Ok((store, parsed))
}

fn by(shared: &Shared) -> Result<By, ApiError> {
    // The file is the user's own, so whose doing it was needs no name in it.
    By::new("its user", "over HTTP", shared.clock.now()).map_err(|why| failed(&why))
}

fn line(kept: &Kept<UserText>) -> Value {
    let item = &kept.item;
    json!({
        "id": item.id,
        "revision": item.rev,
        "situation": item.situation.text,
        "text": item.strategy.text,
        "kind": item.kind,
        "tactic": item.strategy.tactic,
        "agent": item.agent,
        "status": kept.status,
        "expires_at": item.expires_at,
    })
}

/// What is wrong with the words, not with the server.
fn refused(why: &MemoryError) -> ApiError {
    match why {
        MemoryError::Text { .. } | MemoryError::Catalogue { .. } => {
            ApiError::bad_request(why.to_string())
        }
        why => failed(why),
    }
}
