//! A user's own lessons: for the requests of whoever holds that user's key, and for nobody else's.
//!
//! | path | what |
//! | --- | --- |
//! | `GET /v1/memory/mine` | all of them, which is also the export |
//! | `POST /v1/memory/mine` | another one: `{"situation": "When writing letters", "text": "…"}` |
//! | `PUT /v1/memory/mine/{id}` | `{"text": "…"}` instead |
//! | `DELETE /v1/memory/mine/{id}` | this one, down to its bytes |
//! | `DELETE /v1/memory/mine` | everything that was kept for this user, down to the bytes |
//!
//! Who that is comes from the key alone: no body, header or path can name a user or a tenant.

use std::{
    collections::HashMap,
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
    By, Kept, Kind, MemoryError, MemoryId, Principal, Shelf, Standings, UserItem, UserStore,
    UserText, Written,
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
    pub(super) shelf: Shelf,
    pub(super) standings: Standings,
    /// The embedder they are found by.
    by: String,
    read: Instant,
}

pub(super) type Held = HashMap<Principal, Arc<Own>>;

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

    /// The user's own lessons; none where nothing was ever kept.
    pub(super) fn own(
        &self,
        caller: &Caller,
        finder: &Finder,
    ) -> Result<Option<Arc<Own>>, MemoryError> {
        let Some(principal) = self.principal(caller) else { return Ok(None) };
        if !self.root.has_user(&principal) {
            self.held().remove(&principal);
            return Ok(None);
        }
        let by = finder.embedder.name();
        let is_ready = |own: &&Arc<Own>| own.read.elapsed() < FRESH && own.by == by;
        if let Some(own) = self.held().get(&principal).filter(is_ready) {
            return Ok(Some(Arc::clone(own)));
        }
        let now = self.clock.now();
        let kept = self.root.user(&principal)?.all(now)?;
        let shelf = Shelf::of_user(&kept, Some(finder.embedder.as_ref()), &self.catalogue)?;
        let standings = Standings::of(&kept, &self.deployment.settings.counters, now);
        let own = Arc::new(Own { shelf, standings, by: by.to_owned(), read: Instant::now() });
        let mut held = self.held();
        if held.len() >= HELD {
            held.retain(|_, own| own.read.elapsed() < FRESH);
        }
        held.insert(principal, Arc::clone(&own));
        Ok(Some(own))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self, principal: &Principal) {
        self.held().remove(principal);
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
    let written = Written {
        kind: Kind::Preference,
        agent: new.agent.as_deref(),
        situation: &new.situation,
        strategy: &new.text,
        ..Written::default()
    };
    let (store, by) = (store(memories, &principal)?, by(shared)?);
    let most = shared.deployment.settings.caps.per_user;
    let kept = || -> Result<Option<Kept<UserText>>, MemoryError> {
        if store.all(by.at)?.len() >= most {
            return Ok(None);
        }
        let item = UserItem::written(&written, &shared.catalogue, store.key(), by.at)?;
        let id = match store.propose(item, shared.preferred.embedder.as_ref(), &by)? {
            understudy_memory::Proposed::New { id }
            | understudy_memory::Proposed::Conflicting { id, .. } => id,
            understudy_memory::Proposed::Merged { into } => into,
        };
        store.confirm(&id, &by)?;
        store.get(&id, by.at).map(Some)
    };
    let kept = kept().map_err(|why| refused(&why))?.ok_or_else(|| {
        ApiError::conflict(format!("{most} lessons are kept for one user at most; delete one"))
    })?;
    shared.changed(&principal);
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
    shared.changed(&principal);
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
    shared.changed(&principal);
    Ok(Json(json!({"forgotten": id})))
}

async fn forget_all(
    State(gateway): State<Gateway>,
    caller: Caller,
) -> Result<Json<Value>, ApiError> {
    let (memories, principal) = whose(&gateway, &caller)?;
    let found = memories.shared.root.forget_user(&principal).map_err(|why| failed(&why))?;
    memories.shared.changed(&principal);
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
