//! How the parts are put together: stores, engine, teacher, and the server around them.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use understudy_access::Keyring;
use understudy_canary::{Controller, Lessons, Parts, PolicyDefaults};
use understudy_engine::Engine;
use understudy_gateway::{
    AdapterUpdates, Board, Door, Gateway, GatewayParts, LiveBoard, Memories, Patience, Tls,
    serve_with,
};
use understudy_ident::{Clock, Digest, SystemClock, TaskName};
use understudy_inference::{
    Backend, Embedder, LogProbsOf, MockConfig, MockEngine, SamplingDefaults, Student,
};
use understudy_journal::Journal;
use understudy_memory::{Deployment, MemoryRoot};
use understudy_model::{BaseDigests, BaseModel, device};
use understudy_orchestrator::RunStore;
use understudy_registry::{Registry, Target};
use understudy_router::RouteTable;
use understudy_storage::atomic;
use understudy_teacher::{Ledger, Limits, Metered, MicroUsd, Price, Redacted};
use understudy_upstream::{ApiKey, Endpoint, Fleet, Upstream};

use crate::{
    config::{Config, TeacherSettings},
    follow::{Control, Follower, Following},
    held::{self, HeldIn},
    paths::DataDir,
    signals::Signals,
    watch::{OnNote, Watcher},
};

/// What is on disk.
#[derive(Debug)]
pub(crate) struct Stores {
    pub(crate) data: DataDir,
    pub(crate) journal: Journal,
    pub(crate) registry: Arc<Registry>,
    pub(crate) runs: RunStore,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Stores {
    pub(crate) fn open(data: &DataDir) -> Result<Self> {
        atomic::create_dir(data.root())?;
        let attempt =
            |what: &str| format!("failed to open the {what} in {}", data.root().display());
        Ok(Self {
            journal: Journal::open(&data.journal(), understudy_journal::Config::default())
                .with_context(|| attempt("journal"))?,
            registry: Arc::new(
                Registry::open(&data.registry(), &data.adapters())
                    .with_context(|| attempt("registry"))?,
            ),
            runs: RunStore::open(&data.runs_log(), Box::new(SystemClock))
                .with_context(|| attempt("run log"))?,
            clock: Arc::new(SystemClock),
            data: data.clone(),
        })
    }
}

/// Loads a base model and starts the engine over it.
pub(crate) fn engine(base: &Path, name: &str, how: (HeldIn, &str)) -> Result<Arc<dyn Student>> {
    Ok(known_engine(base, name, how)?.0)
}

/// The same, with a digest of everything but the adapter that decides what it answers: the files of
/// the base, how they are held, on what, and by which version of this program.
pub(crate) fn known_engine(
    base: &Path,
    name: &str,
    (held, on): (HeldIn, &str),
) -> Result<(Arc<dyn Student>, Digest)> {
    let model = load(base, (held, on))?;
    let BaseDigests { base, tokenizer, template } = &model.digests;
    let (precision, version) = (format!("{:?}", model.precision), env!("CARGO_PKG_VERSION"));
    let parts = [base, tokenizer, template, precision.as_str(), on, version];
    let digest = Digest::of_parts(parts.map(str::as_bytes));
    let engine = Engine::start(model, name.to_owned(), understudy_engine::Config::default())?;
    Ok((Arc::new(engine), digest))
}

/// The engine of a server: as large as its settings say, and with every alias meaning what it meant
/// when the server last ran.
pub(crate) fn serving_engine(
    base: &Path,
    name: &str,
    (held, on): (HeldIn, &str),
    (settings, aliases): (understudy_engine::Config, &Path),
) -> Result<Arc<dyn Student>> {
    let model = load(base, (held, on))?;
    if let Some(folder) = aliases.parent() {
        atomic::create_dir(folder)?;
    }
    let (engine, missing) = Engine::restore(model, name.to_owned(), settings, aliases)
        .context("failed to start the engine")?;
    for (alias, why) in missing {
        tracing::warn!("the adapter {alias} of the last run is not served: {why}");
    }
    Ok(Arc::new(engine))
}

fn load(base: &Path, (held, on): (HeldIn, &str)) -> Result<BaseModel> {
    let model = BaseModel::load_with(base, &device(on)?, held.precision())
        .with_context(|| format!("failed to load the base model {}", base.display()))?;
    if let Some(remark) = held::remark(held, &model.decoder.products()) {
        tracing::warn!("{remark}");
    }
    Ok(model)
}

/// An engine without a model, as slow as it is told to be.
pub(crate) fn mock_engine(
    base: Option<&str>,
    step_ms: u64,
    logprobs_mode: LogProbsOf,
) -> Result<Arc<dyn Student>> {
    let (base, step) = (base.unwrap_or("mock").to_owned(), Duration::from_millis(step_ms));
    let config = MockConfig { base, step, logprobs_mode, ..MockConfig::default() };
    Ok(Arc::new(MockEngine::start(config)?))
}

/// The configured teacher, if any, within what it may cost.
pub(crate) fn teacher(config: &Config) -> Result<Option<Arc<dyn Backend>>> {
    let Some(settings) = &config.teacher else { return Ok(None) };
    paid(config, settings, ("the teacher", "teacher")).map(Some)
}

/// The configured judge of evaluations.
pub(crate) fn judge(config: &Config) -> Result<(Arc<dyn Backend>, &TeacherSettings)> {
    let settings = config.judge.as_ref().context(
        "no judge is configured: name an OpenAI-compatible endpoint as `url` and `model` under \
         [judge] in understudy.toml",
    )?;
    Ok((paid(config, settings, ("the judge", "judge"))?, settings))
}

/// A model of somebody else's, within what it may cost; the section is where its settings are.
fn paid(
    config: &Config,
    settings: &TeacherSettings,
    (role, section): (&'static str, &str),
) -> Result<Arc<dyn Backend>> {
    let key = api_key(settings.api_key_env.as_deref())?;
    let mut endpoint = Endpoint::new(settings.url.as_str(), settings.model.as_str(), key);
    endpoint.role = role;
    endpoint.urls.extend(settings.more_urls.iter().cloned());
    endpoint.limit_field = settings.limit_field;
    let mut teacher: Arc<dyn Backend> = Arc::new(Upstream::new(settings.patience.of(endpoint))?);
    if settings.redact {
        teacher = Arc::new(Redacted::new(teacher, understudy_redact::Policy::Standard));
    }
    let prices = (settings.input_usd_per_million, settings.output_usd_per_million);
    let (per_day, price) = match (settings.usd_per_day, prices) {
        (None, (None, None)) if !settings.limits_tenants() => return Ok(teacher),
        (Some(per_day), (Some(input), Some(output))) => {
            let price =
                Price { input_per_million: dollars(input)?, output_per_million: dollars(output)? };
            (dollars(per_day)?, price)
        }
        _ => bail!(
            "[{section}] needs all of usd_per_day, input_usd_per_million and output_usd_per_million, \
             or none of them and no budgets of tenants: a budget means nothing without prices"
        ),
    };
    atomic::create_dir(config.data.root())?;
    let clock = Arc::new(SystemClock);
    let path = config.data.root().join(format!("{section}-spend.json"));
    let tenants = settings.tenants.iter().map(|(name, usd)| Ok((name.to_string(), dollars(*usd)?)));
    let limits = Limits {
        per_day,
        per_tenant: settings.tenant_usd_per_day.map(dollars).transpose()?,
        tenants: tenants.collect::<Result<_>>()?,
    };
    let (ledger, budget) = Ledger::open(&path, limits, clock.now())?;
    Ok(Arc::new(Metered::new(teacher, price, budget, clock).kept_in(ledger)))
}

/// The configured fleet, if any.
pub(crate) fn fleet(config: &Config) -> Result<Option<Arc<dyn Student>>> {
    let Some(settings) = &config.fleet else { return Ok(None) };
    let key = api_key(settings.api_key_env.as_deref())?;
    let endpoint = Endpoint::fleet(settings.urls.clone(), settings.model.as_str(), key);
    Ok(Some(Arc::new(Fleet::start(settings.patience.of(endpoint))?)))
}

fn api_key(variable: Option<&str>) -> Result<Option<ApiKey>> {
    let Some(variable) = variable else { return Ok(None) };
    let text = std::env::var(variable)
        .with_context(|| format!("an API key should be in the variable {variable}"))?;
    Ok(Some(ApiKey::parse(&text)?))
}

fn dollars(usd: f64) -> Result<MicroUsd> {
    ensure!((0.0..=1e9).contains(&usd), "{usd} is no amount of dollars: say 0 or more");
    Ok(MicroUsd::new((usd * 1e6).round() as u64))
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    is_https: bool,
    pub(crate) grpc_address: Option<SocketAddr>,
    stop: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
    runtime: tokio::runtime::Runtime,
    /// Where loops and live scores are shown.
    shown: (Arc<Board>, Arc<LiveBoard>),
    _router: Router,
}

/// Who decides the routes.
#[derive(Debug)]
enum Router {
    /// Our own canary controller.
    Watcher { _watcher: Watcher },
    /// Another server.
    Follower { _follower: Follower },
}

/// Where OTLP over gRPC is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grpc {
    Off,
    At(SocketAddr),
    /// At the port that exporters try by themselves, unless another collector has it.
    IfFree,
}

impl FromStr for Grpc {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let address = text.parse().map_err(|_| {
            format!("`{text}` is neither an address such as 127.0.0.1:4317 nor `off`")
        })?;
        Ok(Self::At(address))
    }
}

impl Grpc {
    const USUAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4317);

    async fn bind(self) -> Result<Option<tokio::net::TcpListener>> {
        match self {
            Self::Off => Ok(None),
            Self::At(address) => tokio::net::TcpListener::bind(address)
                .await
                .map(Some)
                .with_context(|| format!("failed to listen on {address} for OTLP over gRPC")),
            Self::IfFree => match tokio::net::TcpListener::bind(Self::USUAL).await {
                Ok(listener) => Ok(Some(listener)),
                Err(why) => {
                    tracing::warn!("OTLP over gRPC is not taken at {}: {why}", Self::USUAL);
                    Ok(None)
                }
            },
        }
    }
}

/// Whose lessons a server shows, and by what it finds them.
pub(crate) struct ServedMemory {
    pub(crate) deployment: Deployment,
    pub(crate) embedder: Arc<dyn Embedder>,
}

impl ServedMemory {
    /// Releases of lessons, as the controller carries them out.
    fn lessons(&self, stores: &Stores, routes: &Arc<RouteTable>) -> Result<Lessons> {
        let root = MemoryRoot::open(&stores.data.memory(), self.deployment.settings.clone())?;
        let (embedder, routes) = (Arc::clone(&self.embedder), Arc::clone(routes));
        Lessons::open(&root, &self.deployment, embedder, routes)
            .context("failed to open the memory")
    }

    /// Lessons, as the gateway shows them.
    fn open(self, stores: &Stores, routes: Arc<RouteTable>) -> Result<Memories> {
        let (journal, clock) = (stores.journal.clone(), Arc::clone(&stores.clock));
        let directory = stores.data.memory();
        Memories::open(&directory, self.deployment, self.embedder, journal, clock, routes)
            .context("failed to open the memory")
    }
}

/// What a server is started with.
pub(crate) struct Serving<'a> {
    pub(crate) stores: &'a Stores,
    pub(crate) student: Arc<dyn Student>,
    pub(crate) teacher: Option<Arc<dyn Backend>>,
    pub(crate) tasks: Vec<TaskName>,
    pub(crate) listen: SocketAddr,
    pub(crate) grpc: Grpc,
    pub(crate) adapter_updates: AdapterUpdates,
    pub(crate) request_templates: bool,
    /// How the student draws where requests do not say.
    pub(crate) sampling_defaults: SamplingDefaults,
    /// How long raw bodies of telemetry are kept; for ever unless given.
    pub(crate) keep_raw: Option<Duration>,
    /// Whether a reply's last byte waits for the disk.
    pub(crate) flush_replies: bool,
    /// What releases start from where their recipes say nothing.
    pub(crate) policy: PolicyDefaults,
    pub(crate) on_note: OnNote,
    /// Lessons for chats, where there is a memory.toml.
    pub(crate) memory: Option<ServedMemory>,
    /// The server to follow; without one, this one decides for itself.
    pub(crate) control: Option<Control>,
    pub(crate) access: Access,
    pub(crate) patience: Patience,
}

/// Who is let in; by default this machine's user, and nobody else.
#[derive(Debug, Default)]
pub(crate) struct Access {
    pub(crate) keys: Option<Arc<Keyring>>,
    pub(crate) tls: Option<Tls>,
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("failed to start the server's threads")
}

/// Takes telemetry over gRPC, where that is wanted; returns where.
fn take_grpc(
    runtime: &tokio::runtime::Runtime,
    grpc: Grpc,
    gateway: &Gateway,
) -> Result<Option<SocketAddr>> {
    let Some(listener) = runtime.block_on(grpc.bind())? else { return Ok(None) };
    let address = listener.local_addr().ok();
    // It ends with the runtime: what it has not acknowledged is sent again.
    let taking = gateway.clone();
    runtime.spawn(understudy_gateway::serve_grpc(listener, taking, std::future::pending()));
    Ok(address)
}

impl Server {
    /// Binds, publishes the routes the registry asks for, and answers from then on.
    pub(crate) fn start(serving: Serving<'_>) -> Result<Self> {
        let Serving { stores, student, teacher, tasks, listen, grpc, adapter_updates, .. } =
            serving;
        let Access { keys, tls } = serving.access;
        let door = keys.map_or_else(Door::open, |keys| Door::keyed(keys, listen));
        let is_https = tls.is_some();
        let routes = Arc::new(RouteTable::default());
        let memory_routes = Arc::new(RouteTable::default());
        let runtime = runtime()?;
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind(listen))
            .with_context(|| format!("failed to listen on {listen}"))?;
        let address = listener.local_addr().context("failed to read the bound address")?;
        let router = if let Some(control) = serving.control {
            let following = Following {
                control,
                address,
                routes: Arc::clone(&routes),
                student: Arc::clone(&student),
                journal: stores.journal.clone(),
                data: stores.data.clone(),
                on_note: serving.on_note,
            };
            Router::Follower { _follower: Follower::start(following)? }
        } else {
            let lessons =
                serving.memory.as_ref().map(|memory| memory.lessons(stores, &memory_routes));
            let controller = Controller::new(Parts {
                registry: Arc::clone(&stores.registry),
                journal: stores.journal.clone(),
                routes: Arc::clone(&routes),
                student: Arc::clone(&student),
                clock: Arc::clone(&stores.clock),
                tasks,
                first: if teacher.is_some() { Target::Teacher } else { Target::Base },
                lessons: lessons.transpose()?.map(Arc::new),
            });
            let registry = Arc::clone(&stores.registry);
            Router::Watcher { _watcher: Watcher::start(controller, registry, serving.on_note)? }
        };
        let parts = GatewayParts {
            student,
            teacher,
            routes,
            journal: stores.journal.clone(),
            registry: Arc::clone(&stores.registry),
            clock: Arc::clone(&stores.clock),
            adapter_updates,
            request_templates: serving.request_templates,
        };
        let gateway = Gateway::behind(door, parts);
        if let Some(age) = serving.keep_raw {
            gateway.keep_raw_for(age);
        }
        if serving.flush_replies {
            gateway.flush_replies();
        }
        gateway.release_under(serving.policy);
        gateway.draw_like(serving.sampling_defaults);
        if let Some(memory) = serving.memory {
            let memories = memory.open(stores, memory_routes)?;
            gateway.remember_with(memories).map_err(|_| anyhow!("there are two memories"))?;
        }
        let shown = (gateway.board(), gateway.live());
        let grpc_address = take_grpc(&runtime, grpc, &gateway)?;
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        // A dropped sender means the same as a sent stop.
        let stopped = async { drop(stopped.await) };
        let task = runtime.spawn(serve_with(listener, gateway, tls, serving.patience, stopped));
        Ok(Self { address, grpc_address, is_https, stop, task, runtime, shown, _router: router })
    }

    /// Where the loops of this server say how they fare.
    pub(crate) fn board(&self) -> Arc<Board> {
        Arc::clone(&self.shown.0)
    }

    /// Where the scores of live traffic are shown.
    pub(crate) fn live(&self) -> Arc<LiveBoard> {
        Arc::clone(&self.shown.1)
    }

    pub(crate) fn url(&self) -> String {
        format!("http{}://{}", if self.is_https { "s" } else { "" }, self.address)
    }

    /// Serves until Ctrl-C or SIGTERM, then finishes what is in flight; told so again, it ends at
    /// once.
    pub(crate) fn wait(self) -> Result<()> {
        let Self { stop, task, runtime, .. } = self;
        let mut signals = {
            let _runtime = runtime.enter();
            Signals::listen().context("failed to listen for signals")?
        };
        let ended = runtime.block_on(async {
            signals.next().await;
            drop(stop);
            tokio::select! {
                ended = task => Some(ended),
                () = signals.next() => None,
            }
        });
        let Some(ended) = ended else {
            runtime.shutdown_background();
            bail!("told to end a second time: what was in flight was cut off");
        };
        ended.context("the server stopped badly")??;
        Ok(())
    }
}
