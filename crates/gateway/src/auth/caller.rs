//! Whoever asks, and what is theirs.

use std::{convert::Infallible, sync::Arc, time::Instant};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, request::Parts},
};
use understudy_access::{Allowances, Principal, Scope};
use understudy_ident::{Id, IdKind, TaskName, TenantName};
use understudy_inference::{AdapterChoice, AdapterInfo, Usage};
use understudy_openai::Ask;

use super::{LEFT, Refusal};
use crate::{error::ApiError, routing, state::Gateway};

/// Whoever asks. A cheap handle.
///
/// Without a key one is nobody's tenant, and sees what is nobody's.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    key: Option<Arc<Holding>>,
    /// Of a feedback token.
    tenant: Option<TenantName>,
}

/// A key in use.
#[derive(Debug)]
pub(crate) struct Holding {
    pub(crate) who: Principal,
    pub(crate) allowances: Allowances,
    pub(crate) started: Instant,
    /// Of the request.
    pub(crate) body_bytes: u64,
}

impl Caller {
    pub(crate) fn holding(key: Holding) -> Self {
        let tenant = key.who.tenant.clone();
        Self { key: Some(Arc::new(key)), tenant }
    }

    /// Whoever holds a token that was given to somebody of this tenant.
    pub(crate) fn of_tenant(tenant: Option<TenantName>) -> Self {
        Self { key: None, tenant }
    }

    pub(crate) fn tenant(&self) -> Option<&TenantName> {
        self.tenant.as_ref()
    }

    /// Whom the key was made for; nobody without one.
    pub(crate) fn owner(&self) -> Option<&str> {
        self.key.as_ref().map(|key| key.who.owner.as_str())
    }

    /// The one person whose key it is, where it is one person's.
    pub(crate) fn user(&self) -> Option<&str> {
        self.key.as_ref().and_then(|key| key.who.user.as_deref())
    }

    /// The full name of what the caller calls this; `None` where it is somebody else's.
    pub(crate) fn full(&self, name: &str) -> Option<String> {
        TenantName::full(self.tenant(), name)
    }

    /// Whether something with this full name is the caller's.
    pub(crate) fn owns(&self, name: &str) -> bool {
        TenantName::owning(name) == self.tenant().map(TenantName::as_str)
    }

    /// What the caller calls something of theirs.
    pub(crate) fn local<'n>(&self, name: &'n str) -> &'n str {
        if self.tenant.is_some() { TenantName::local(name) } else { name }
    }

    /// The task that the caller calls this.
    pub(crate) fn task(&self, name: &str) -> Option<TaskName> {
        self.full(name)?.parse().ok()
    }

    pub(crate) fn owns_id<K: IdKind>(&self, id: &Id<K>) -> bool {
        id.tenant() == self.tenant().map(TenantName::as_str)
    }

    /// The id that this one is among the caller's.
    pub(crate) fn id<K: IdKind>(&self, id: &Id<K>) -> Id<K> {
        id.within(self.tenant())
    }

    /// The same for an id in text, which is left alone where it is none of ours.
    pub(crate) fn id_text<K: IdKind>(&self, text: &str) -> String {
        text.parse::<Id<K>>().map_or_else(|_| text.to_owned(), |id| self.id(&id).to_string())
    }

    /// For whom cached keys and values are: a tenant's are its own, whatever salts others choose.
    pub(crate) fn salt(&self, own: Option<String>) -> Option<String> {
        let own = own.map(|own| format!("own:{own}"));
        match &self.tenant {
            None => own,
            Some(tenant) => Some(format!("of:{tenant}:{}", own.unwrap_or_default())),
        }
    }

    /// Refuses what the key is not for.
    pub(crate) fn may_ask(&self, ask: &Ask, base: &str) -> Result<(), ApiError> {
        let model = ask.model.as_deref().unwrap_or(base);
        if let Some(key) = &self.key {
            let scopes = &key.who.scopes;
            // An adapter by name could be another task's.
            let may_all = || scopes.may_ask("");
            if !scopes.may_ask(model) || (ask.adapter.is_some() && !may_all()) {
                let why = format!(
                    "this API key may not ask `{model}`: it has `{scopes}`; an adapter can be named \
                     only with `infer`"
                );
                return Err(ApiError::forbidden(why));
            }
        }
        Ok(())
    }

    /// Holds a completion to what the key may have. Who asks for more is told, and who says nothing
    /// gets as much.
    pub(crate) fn shorten(&self, ask: &mut Ask) -> Result<(), ApiError> {
        let Some(most) = self.key.as_ref().and_then(|key| key.who.limits.max_tokens) else {
            return Ok(());
        };
        if ask.admission.must_fit && ask.sampling.max_tokens > most {
            let why = format!("`max_tokens` can be at most {most} with this API key");
            return Err(ApiError::bad_field("max_tokens", why));
        }
        ask.sampling.max_tokens = ask.sampling.max_tokens.min(most);
        Ok(())
    }

    /// Whether a key for single tasks is for the one that the caller calls this.
    pub(crate) fn may_see(&self, local: &str) -> bool {
        self.key
            .as_ref()
            .is_none_or(|key| key.who.scopes.may_ask(local) || key.who.scopes.allows(&Scope::Read))
    }

    /// The adapter that a request names. A digest is no permission: whatever leads to it has to be
    /// the caller's.
    pub(crate) fn adapter(
        &self,
        gateway: &Gateway,
        asked: &AdapterChoice,
    ) -> Result<AdapterChoice, ApiError> {
        match asked {
            AdapterChoice::Alias(name) => {
                let full = self.full(name).ok_or_else(|| routing::unknown(gateway, self, name))?;
                Ok(AdapterChoice::Alias(full))
            }
            AdapterChoice::Generation(digest) => {
                let holds = |adapter: &AdapterInfo| {
                    let has = |generation: &String| generation == digest;
                    has(&adapter.generation) || adapter.previous.iter().any(has)
                };
                let adapters = gateway.student.adapters();
                let mut holders = adapters.iter().filter(|adapter| holds(adapter));
                // What is not resident at all is for the engine to say.
                if holders.all(|adapter| self.owns(&adapter.alias)) {
                    return Ok(asked.clone());
                }
                Err(routing::unknown(gateway, self, digest))
            }
        }
    }

    /// Counts the tokens of a choice. All choices have one prompt.
    pub(crate) fn spend(&self, usage: Usage, choice: usize) {
        let prompt = if choice == 0 { usage.prompt_tokens } else { 0 };
        self.spend_tokens(prompt.saturating_add(usage.completion_tokens));
    }

    fn spend_tokens(&self, tokens: u32) {
        if let Some(key) = &self.key {
            key.allowances.spend_tokens(&key.who.key, tokens, key.started.elapsed());
        }
    }

    /// Counts a generation that broke off, of which nobody knows the tokens: about four bytes each,
    /// or who hangs up early would pay nothing.
    pub(crate) fn spend_about(&self, text: &str) {
        if let Some(key) = &self.key {
            let bytes = key.body_bytes + text.len() as u64;
            self.spend_tokens(u32::try_from(bytes.div_ceil(4)).unwrap_or(u32::MAX));
        }
    }

    /// Lets so many outcomes be told, or says what there is too much of.
    pub(crate) fn tell(&self, outcomes: usize) -> Result<(), Refusal> {
        let Some(key) = &self.key else { return Ok(()) };
        let count = u32::try_from(outcomes).unwrap_or(u32::MAX);
        Ok(key.allowances.tell(&key.who, count, key.started.elapsed())?)
    }

    pub(super) fn say_what_is_left(&self, headers: &mut HeaderMap) {
        let Some(key) = &self.key else { return };
        let limits = key.who.limits;
        let (requests, tokens) = key.allowances.left(&key.who.key, key.started.elapsed());
        let numbers = [(limits.requests_per_minute, requests), (limits.tokens_per_minute, tokens)];
        for ((limit_name, left_name), (limit, left)) in LEFT.into_iter().zip(numbers) {
            if let (Some(limit), Some(left)) = (limit, left) {
                headers.insert(limit_name, HeaderValue::from(limit));
                headers.insert(left_name, HeaderValue::from(left));
            }
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // Whoever came past the door without a name is nobody's tenant.
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}
