//! Several servers that hold the same base model and whatever adapters they are told of: vLLM's
//! `/v1/load_lora_adapter` and `/v1/unload_lora_adapter`, which ours have as well.
//!
//! At a replica an adapter is called by its alias and the beginning of its content's digest
//! (`support@7#9f2c41aa03b1`), so that one name never means two contents, no cache of an earlier
//! version can answer under it, and what is loaded already can be told by its name. The directory of
//! an adapter must lie under the same path everywhere, on a shared disk.
//!
//! A replica that was away, or started anew, is brought up to date in the background; until it has
//! an adapter it is not asked for it.

mod replicas;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::time::interval;
use understudy_ident::Timestamp;
use understudy_inference::{
    AdapterChoice, AdapterInfo, Attempt, Backend, Gauge, GenerateRequest, InLine, InferenceError,
    LoadAdapter, LoadLog, LoadedAdapter, Loads, Prompt, Served, ServedAdapter, Shelf, Sink, Stats,
    Student,
};

use self::replicas::join_all;
use crate::{
    Endpoint, Upstream, UpstreamError,
    pick::Replica,
    upstream::{Shared, Weights},
};

/// How often replicas are looked at.
const ROUND: Duration = Duration::from_secs(5);
/// A load reads and uploads weights.
const LOAD_PATIENCE: Duration = Duration::from_mins(2);
const PATIENCE: Duration = Duration::from_secs(5);
/// Where a server does not say how long its context is.
const DEFAULT_CONTEXT: usize = 4096;

/// A student that lives on several servers.
#[derive(Debug)]
pub struct Fleet {
    upstream: Upstream,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    shelf: Shelf,
    loads: LoadLog,
    paused: AtomicBool,
    /// Names that no alias meant at the last look.
    unmeant: Mutex<BTreeSet<String>>,
    /// Replicas differed at the last look, which is said once.
    differed: AtomicBool,
}

impl State {
    /// What we had replicas load and nobody means any more, at two looks in a row: an adapter that
    /// is just being loaded is on no shelf yet.
    fn doom(
        &self,
        known: &BTreeSet<String>,
        held: impl Iterator<Item = BTreeSet<String>>,
    ) -> BTreeSet<String> {
        let now: BTreeSet<String> = held.flatten().filter(|name| !known.contains(name)).collect();
        let mut before = self.unmeant.lock().unwrap_or_else(PoisonError::into_inner);
        let doomed = now.intersection(&before).cloned().collect();
        *before = now;
        doomed
    }
}

/// An adapter as replicas are told of it.
#[derive(Debug, Clone)]
struct Wanted {
    name: String,
    directory: String,
}

impl Wanted {
    fn of(info: &AdapterInfo) -> Self {
        let name = name_at_replicas(&info.alias, &info.generation);
        Self { name, directory: info.directory.clone() }
    }
}

fn name_at_replicas(alias: &str, generation: &str) -> String {
    format!("{alias}#{}", generation.get(..12).unwrap_or(generation))
}

impl Fleet {
    /// Finds out what the replicas serve; at least one must answer.
    pub fn start(endpoint: Endpoint) -> Result<Self, UpstreamError> {
        let what = endpoint.urls.join(", ");
        let fleet = Self { upstream: Upstream::new(endpoint)?, state: Arc::default() };
        let shared = Arc::clone(&fleet.upstream.shared);
        let looked = fleet.wait(PATIENCE * 2, async move {
            let mut last = Err(InferenceError::ShuttingDown);
            for replica in &shared.replicas {
                match shared.models(replica).await {
                    Ok(models) => return Ok(models),
                    Err(error) => last = Err(error),
                }
            }
            last
        });
        let models =
            looked.map_err(|why| UpstreamError::Unreachable { what, why: why.to_string() })?;
        let context = models.context.unwrap_or(DEFAULT_CONTEXT);
        fleet.upstream.shared.context.store(context, Ordering::Relaxed);
        let (shared, state) = (Arc::downgrade(&fleet.upstream.shared), Arc::clone(&fleet.state));
        fleet.upstream.threads().spawn(look_for_ever(shared, state));
        Ok(fleet)
    }

    /// Runs on the upstream's own threads and waits here: these calls are made by people who load
    /// adapters and count tokens, not for each request.
    fn wait<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl Future<Output = Result<T, InferenceError>> + Send + 'static,
    ) -> Result<T, InferenceError> {
        let (done, waiting) = mpsc::channel();
        let begun = Instant::now();
        self.upstream.threads().spawn(async move {
            // Whoever waits may have given up.
            done.send(work.await).ok();
        });
        let late = |_| InferenceError::TimedOut(begun.elapsed().as_millis() as u64);
        waiting.recv_timeout(patience).map_err(late)?
    }

    #[cfg(test)]
    pub(crate) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    fn weights(&self, request: &GenerateRequest) -> Result<Weights, InferenceError> {
        let base = self.base().to_owned();
        let Some(choice) = &request.adapter else {
            let served = Served { base: base.clone(), adapter: None };
            return Ok(Weights { name: base, served, _lease: None });
        };
        let lease = self.state.shelf.lease(choice)?;
        let ServedAdapter { alias, generation } = lease.served.clone();
        let name = name_at_replicas(&alias, &generation);
        let adapter = Some(ServedAdapter { alias, generation });
        Ok(Weights { name, served: Served { base, adapter }, _lease: Some(lease) })
    }

    /// Tells every replica of an adapter; those that do not take it now are told again later.
    fn tell(&self, wanted: Wanted) -> Result<(), InferenceError> {
        let shared = Arc::clone(&self.upstream.shared);
        self.wait(LOAD_PATIENCE, async move {
            let loads = shared.replicas.iter().map(|replica| shared.load(replica, &wanted));
            let mut took = 0;
            let mut last = None;
            for loaded in join_all(loads).await {
                match loaded {
                    Ok(()) => took += 1,
                    Err(error) => last = Some(error),
                }
            }
            // Half of the replicas can carry the fleet while the others are brought up to date.
            match last {
                Some(error) if took * 2 < shared.replicas.len() => Err(error),
                _ => Ok(()),
            }
        })
    }

    fn ask(&self, path: &'static str, body: Value) -> Result<Value, InferenceError> {
        let shared = Arc::clone(&self.upstream.shared);
        self.wait(PATIENCE, async move {
            let mut last = InferenceError::ShuttingDown;
            for replica in shared.replicas.iter().filter(|replica| !replica.is_out(None)) {
                match shared.post_beside(replica, path, &body, PATIENCE).await {
                    Ok(text) => return read(&text, path),
                    Err(error) => last = error,
                }
            }
            Err(last)
        })
    }
}

/// As long as there is a fleet.
async fn look_for_ever(shared: Weak<Shared>, state: Arc<State>) {
    let mut rounds = interval(ROUND);
    loop {
        rounds.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        shared.reconcile(&state).await;
    }
}

/// What all of them say, if it is the same.
fn common(mut said: impl Iterator<Item = Option<String>>) -> Option<String> {
    let first = said.next()??;
    said.all(|other| other.as_ref() == Some(&first)).then_some(first)
}

fn read(text: &str, path: &str) -> Result<Value, InferenceError> {
    let wrong = |why| InferenceError::Failed(format!("{path} answered no JSON: {why}"));
    serde_json::from_str(text).map_err(wrong)
}

impl Backend for Fleet {
    fn base(&self) -> &str {
        self.upstream.base()
    }

    fn submit(&self, request: GenerateRequest, sink: Sink) -> Result<(), InferenceError> {
        self.submit_all(vec![(request, sink)])
    }

    fn submit_all(&self, requests: Vec<(GenerateRequest, Sink)>) -> Result<(), InferenceError> {
        if self.is_paused() {
            return Err(InferenceError::Paused);
        }
        let mut weighed = Vec::with_capacity(requests.len());
        for (request, sink) in requests {
            self.upstream.shared.endpoint.dialect.check(&request)?;
            let weights = self.weights(&request)?;
            weighed.push((request, weights, sink));
        }
        self.upstream.reserve(weighed.len())?;
        for (request, weights, sink) in weighed {
            self.upstream.spawn(request, weights, sink);
        }
        Ok(())
    }

    fn gauges(&self) -> Vec<Gauge> {
        let mut gauges = self.upstream.gauges();
        for adapter in self.adapters() {
            let name = name_at_replicas(&adapter.alias, &adapter.generation);
            let replicas = &self.upstream.shared.replicas;
            let holding = replicas.iter().filter(|replica| replica.holds(&name)).count();
            gauges.push(Gauge {
                name: "replicas_holding",
                labels: vec![("adapter", adapter.alias)],
                value: holding as f64,
                rises: false,
            });
        }
        // Replicas of which nobody knows what they hold are not among them.
        gauges.extend(self.upstream.shared.replicas.iter().filter_map(|replica| {
            let labels = vec![("replica", replica.url.clone()), ("identity", replica.identity()?)];
            Some(Gauge { name: "replica_identity_info", labels, value: 1.0, rises: false })
        }));
        gauges
    }
}

impl Fleet {
    fn place(&self, load: LoadAdapter) -> Result<LoadedAdapter, InferenceError> {
        // On a shelf of its own first: an alias must not mean what no replica has.
        let trial = Shelf::default();
        let checked =
            trial.publish(LoadAdapter::new(load.alias.clone(), load.directory.clone()))?;
        let absolute = std::path::absolute(&load.directory).map_err(|why| {
            let why = format!("{} has no absolute path: {why}", load.directory.display());
            InferenceError::BadAdapter { alias: load.alias.clone(), why }
        })?;
        let info = AdapterInfo { directory: absolute.display().to_string(), ..checked.adapter };
        if !load.on_demand {
            self.tell(Wanted::of(&info)).map_err(|error| InferenceError::BadAdapter {
                alias: load.alias.clone(),
                why: format!("too few replicas took it: {error}"),
            })?;
        }
        self.state.shelf.publish(LoadAdapter { directory: absolute, ..load })
    }
}

impl Student for Fleet {
    fn publish_adapter(&self, load: LoadAdapter) -> Result<LoadedAdapter, InferenceError> {
        let alias = load.alias.clone();
        self.state.loads.load(&alias, || self.place(load))
    }

    fn attempts(&self) -> BTreeMap<String, Attempt> {
        self.state.loads.attempts()
    }

    fn loads(&self) -> Loads {
        self.state.loads.so_far()
    }

    fn unload_adapter(&self, alias: &str) -> Result<(), InferenceError> {
        let gone: Vec<String> = self
            .adapters()
            .into_iter()
            .filter(|info| info.alias == alias)
            .flat_map(|info| {
                let all = info.previous.iter().chain([&info.generation]);
                all.map(|digest| name_at_replicas(alias, digest)).collect::<Vec<_>>()
            })
            .collect();
        self.state.shelf.unload(alias)?;
        let shared = Arc::clone(&self.upstream.shared);
        // Those that do not hear it now are told in the next round.
        self.wait(PATIENCE, async move {
            for name in gone {
                let unloads = shared.replicas.iter().map(|replica| shared.unload(replica, &name));
                join_all(unloads).await;
            }
            Ok(())
        })
    }

    fn expire_adapters(
        &self,
        now: Timestamp,
        spared: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<String>, InferenceError> {
        // Replicas hear of it in the next rounds.
        Ok(self.state.shelf.expire(now, spared))
    }

    fn in_flight(&self, alias: &str) -> usize {
        self.state.shelf.in_flight(alias)
    }

    fn rollback_adapter(
        &self,
        alias: &str,
        to: Option<&str>,
    ) -> Result<AdapterInfo, InferenceError> {
        // Earlier generations stay loaded under names of their own: only the alias moves.
        let back = self.state.shelf.rollback(alias, to)?;
        self.state.loads.rolled_back();
        Ok(back)
    }

    fn adapters(&self) -> Vec<AdapterInfo> {
        self.state.shelf.list()
    }

    fn tokenize(&self, prompt: &Prompt) -> Result<Vec<u32>, InferenceError> {
        let body = match prompt {
            Prompt::Tokens(ids) => return Ok(ids.clone()),
            Prompt::Text(text) => json!({"prompt": text, "add_special_tokens": false}),
            Prompt::Chat(chat) => json!({
                "messages": chat.messages,
                "tools": chat.tools,
                "add_generation_prompt": chat.add_generation_prompt,
                "continue_final_message": chat.continue_final_message,
            }),
        };
        let mut answer = self.ask("/tokenize", body)?;
        serde_json::from_value(answer["tokens"].take())
            .map_err(|why| InferenceError::Failed(format!("/tokenize answered without ids: {why}")))
    }

    fn detokenize(&self, ids: &[u32]) -> Result<String, InferenceError> {
        let answer = self.ask("/detokenize", json!({ "tokens": ids }))?;
        let text = answer["prompt"].as_str().map(str::to_owned);
        text.ok_or_else(|| InferenceError::Failed("/detokenize answered without text".to_owned()))
    }

    /// No server tells the bytes of a token; those who need them see none.
    fn token_bytes(&self, _: u32) -> Option<Vec<u8>> {
        None
    }

    fn context(&self) -> usize {
        self.upstream.shared.context.load(Ordering::Relaxed)
    }

    fn stats(&self) -> Stats {
        let shared = &self.upstream.shared;
        let load = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        let busy = shared.replicas.iter().map(|replica| replica.busy.load(Ordering::Relaxed));
        let running: usize = busy.sum();
        let adapters = self.adapters();
        Stats {
            running,
            waiting: shared.accepted.load(Ordering::Relaxed).saturating_sub(running),
            finished: load(&shared.counts.finished),
            failed: load(&shared.counts.failed),
            prompt_tokens: load(&shared.counts.prompt_tokens),
            completion_tokens: load(&shared.counts.completion_tokens),
            resident_bytes: adapters.iter().map(|adapter| adapter.bytes).sum(),
            resident_adapters: adapters.len(),
            ..Stats::default()
        }
    }

    fn in_line(&self) -> Option<Vec<InLine>> {
        Some(self.upstream.shared.line.list())
    }

    fn identity(&self) -> Option<String> {
        common(self.upstream.shared.replicas.iter().map(Replica::identity))
    }

    fn check(&self) -> Result<(), InferenceError> {
        let replicas = &self.upstream.shared.replicas;
        if replicas.iter().all(|replica| replica.is_out(None)) {
            let what = format!("none of the {} replicas answers", replicas.len());
            return Err(InferenceError::Failed(what));
        }
        Ok(())
    }

    fn pause(&self) {
        self.state.paused.store(true, Ordering::Release);
    }

    fn resume(&self) {
        self.state.paused.store(false, Ordering::Release);
    }

    fn is_paused(&self) -> bool {
        self.state.paused.load(Ordering::Acquire)
    }

    fn out_of_order(&self, adapter: &AdapterChoice) -> Option<(usize, usize)> {
        let served = self.state.shelf.lease(adapter).ok()?.served;
        let name = name_at_replicas(&served.alias, &served.generation);
        let replicas = &self.upstream.shared.replicas;
        let out = replicas.iter().filter(|replica| replica.is_out(Some(&name))).count();
        Some((out, replicas.len()))
    }
}
