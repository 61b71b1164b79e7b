//! What replicas are told of adapters, and asked of themselves.

use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode, header::AUTHORIZATION};
use serde_json::{Value, json};
use tokio::time::timeout;
use understudy_inference::{AdapterInfo, InferenceError};

use super::{LOAD_PATIENCE, PATIENCE, State, Wanted, name_at_replicas};
use crate::{attempt::Talk, pick::Replica, upstream::Shared};

const LONGEST_ANSWER: usize = 16 << 20;
const LONGEST_IDENTITY: usize = 128;

/// What a server says it has.
pub(super) struct Models {
    pub(super) names: BTreeSet<String>,
    pub(super) context: Option<usize>,
    /// A digest of the base and of how it is held: our servers tell it, vLLM's have none to tell.
    identity: Option<String>,
}

impl Shared {
    /// `GET /v1/models`.
    pub(super) async fn models(&self, replica: &Replica) -> Result<Models, InferenceError> {
        let talk = self.talk_to(replica);
        let url = format!("{}/models", replica.url);
        let mut request = Request::get(url);
        if let Some(key) = &self.endpoint.api_key {
            request = request.header(AUTHORIZATION, key.bearer());
        }
        let request = request.body(Full::new(Bytes::new()));
        let request = request.map_err(|why| talk.broken(&format!("cannot be asked ({why})")))?;
        let (status, text) = self.said(replica, request, PATIENCE).await?;
        if status != StatusCode::OK {
            return Err(talk.broken(&format!("answered {status} when asked for its models")));
        }
        let answer: Value = serde_json::from_str(&text)
            .map_err(|why| talk.broken(&format!("listed its models in no JSON ({why})")))?;
        let listed = answer["data"].as_array().cloned().unwrap_or_default();
        let names = listed.iter().filter_map(|model| Some(model["id"].as_str()?.to_owned()));
        let context = listed.iter().find_map(|model| model["max_model_len"].as_u64());
        let identity = listed.iter().find_map(|model| model["identity"].as_str());
        let identity = identity.filter(|text| text.len() <= LONGEST_IDENTITY).map(str::to_owned);
        let context = context.map(|context| context as usize);
        Ok(Models { names: names.collect(), context, identity })
    }

    pub(super) async fn load(
        &self,
        replica: &Replica,
        wanted: &Wanted,
    ) -> Result<(), InferenceError> {
        let body = json!({"lora_name": wanted.name, "lora_path": wanted.directory});
        let told = self.post(replica, "/load_lora_adapter", &body, LOAD_PATIENCE).await;
        let (status, text) = told?;
        // Under this name there is only this content.
        let has_it = status == StatusCode::BAD_REQUEST && text.contains("already been loaded");
        if status != StatusCode::OK && !has_it {
            let what = format!("did not load {}: {status}: {}", wanted.name, short(&text));
            return Err(self.talk_to(replica).broken(&what));
        }
        replica.held().insert(wanted.name.clone());
        Ok(())
    }

    pub(super) async fn unload(&self, replica: &Replica, name: &str) {
        replica.held().remove(name);
        let body = json!({ "lora_name": name });
        // What it does not know it need not forget, and what is away forgets by itself.
        let told = self.post(replica, "/unload_lora_adapter", &body, PATIENCE).await;
        if let Err(error) = told {
            tracing::debug!(%error, name, "a replica did not hear of an unload");
        }
    }

    /// One look at every replica: what it lacks is loaded.
    pub(super) async fn reconcile(&self, state: &State) {
        let adapters = state.shelf.list();
        let generations = |info: &AdapterInfo| {
            let all = info.previous.iter().chain([&info.generation]);
            all.map(|digest| name_at_replicas(&info.alias, digest)).collect::<Vec<_>>()
        };
        let known: BTreeSet<String> = adapters.iter().flat_map(generations).collect();
        let doomed = state.doom(&known, self.replicas.iter().map(|replica| replica.held().clone()));
        let doomed = &doomed;
        let rounds = self.replicas.iter().map(|replica| async {
            // What is loaded while the list is on its way is not in it, and held all the same.
            let before = replica.held().clone();
            let Ok(models) = self.models(replica).await else { return };
            replica.identify(models.identity);
            {
                let mut held = replica.held();
                held.retain(|name| models.names.contains(name) || !before.contains(name));
                held.extend(known.intersection(&models.names).cloned());
            }
            for wanted in adapters.iter().filter(|info| info.resident).map(Wanted::of) {
                if !models.names.contains(&wanted.name)
                    && let Err(error) = self.load(replica, &wanted).await
                {
                    tracing::warn!(%error, "a replica is not up to date");
                }
            }
            for name in doomed.iter().filter(|name| models.names.contains(*name)) {
                self.unload(replica, name).await;
            }
        });
        join_all(rounds).await;
        self.compare(state);
    }

    /// Replicas that hold other bases give other answers to the same request, whoever it goes to.
    fn compare(&self, state: &State) {
        let told: BTreeSet<String> = self.replicas.iter().filter_map(Replica::identity).collect();
        let differ = told.len() > 1;
        if differ && !state.differed.swap(differ, Ordering::Relaxed) {
            tracing::warn!(
                "the replicas of [fleet] do not hold the same base in the same way, so what is \
                 answered depends on who is asked; understudy:replica_identity_info in /metrics \
                 tells them apart"
            );
        }
        state.differed.store(differ, Ordering::Relaxed);
    }

    fn talk_to<'a>(&'a self, replica: &'a Replica) -> Talk<'a> {
        Talk { endpoint: &self.endpoint, client: &self.client, url: &replica.url }
    }

    async fn post(
        &self,
        replica: &Replica,
        path: &str,
        body: &Value,
        patience: Duration,
    ) -> Result<(StatusCode, String), InferenceError> {
        let talk = self.talk_to(replica);
        let request = talk.request(path, Bytes::from(body.to_string()))?;
        self.said(replica, request, patience).await
    }

    /// Of the addresses that lie beside `/v1`.
    pub(super) async fn post_beside(
        &self,
        replica: &Replica,
        path: &str,
        body: &Value,
        patience: Duration,
    ) -> Result<String, InferenceError> {
        let root = replica.url.trim_end_matches("/v1");
        let talk = Talk { endpoint: &self.endpoint, client: &self.client, url: root };
        let request = talk.request(path, Bytes::from(body.to_string()))?;
        match self.said(replica, request, patience).await? {
            (StatusCode::OK, text) => Ok(text),
            (status, text) => {
                Err(talk.broken(&format!("answered {path} with {status}: {}", short(&text))))
            }
        }
    }

    async fn said(
        &self,
        replica: &Replica,
        request: Request<Full<Bytes>>,
        patience: Duration,
    ) -> Result<(StatusCode, String), InferenceError> {
        let talk = self.talk_to(replica);
        let exchange = async {
            let response = self.client.send(request).await;
            let response =
                response.map_err(|why| talk.broken(&format!("could not be reached ({why})")))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await;
            let body = body.map_err(|why| talk.broken(&format!("broke off ({why})")))?;
            Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
        };
        let late = |_| InferenceError::TimedOut(patience.as_millis() as u64);
        timeout(patience, exchange).await.map_err(late)?
    }
}

fn short(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
}

/// All of them at once.
pub(super) async fn join_all<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    let mut done: Vec<Option<T>> = all.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, done) in all.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *done = Some(value);
            }
        }
        if done.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done.into_iter().flatten().collect()
}
