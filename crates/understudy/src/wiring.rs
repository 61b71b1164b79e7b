//! How the parts are put together: stores, engine, teacher, and the server around them.

use std::{net::SocketAddr, path::Path, sync::Arc};

use anyhow::{Context, Result, anyhow};
use understudy_access::Keyring;
use understudy_canary::{Controller, Parts};
use understudy_engine::Engine;
use understudy_gateway::{AdapterUpdates, Door, Gateway, GatewayParts, Patience, Tls, serve_with};
use understudy_ident::{Clock, SystemClock, TaskName};
use understudy_inference::{Backend, MockConfig, MockEngine, Student};
use understudy_journal::Journal;
use understudy_model::{BaseModel, device};
use understudy_orchestrator::RunStore;
use understudy_registry::{Registry, Target};
use understudy_router::RouteTable;
use understudy_storage::atomic;
use understudy_teacher::{ApiKey, Endpoint, OpenAiTeacher};

use crate::{
    config::{Config, TeacherSettings},
    held::{self, HeldIn},
    paths::DataDir,
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
pub(crate) fn engine(base: &Path, name: &str, held: HeldIn) -> Result<Arc<dyn Student>> {
    let model = BaseModel::load_with(base, &device("cpu")?, held.precision())
        .with_context(|| format!("failed to load the base model {}", base.display()))?;
    if let Some(remark) = held::remark(held, &model) {
        tracing::warn!("{remark}");
    }
    Ok(Arc::new(Engine::start(model, name.to_owned(), understudy_engine::Config::default())?))
}

/// An engine without a model, as slow as it is told to be.
pub(crate) fn mock_engine(name: &str, step_ms: u64) -> Result<Arc<dyn Student>> {
    let step = std::time::Duration::from_millis(step_ms);
    let config = MockConfig { base: name.to_owned(), step, ..MockConfig::default() };
    Ok(Arc::new(MockEngine::start(config)?))
}

/// The configured teacher, if any.
pub(crate) fn teacher(config: &Config) -> Result<Option<Arc<dyn Backend>>> {
    let Some(TeacherSettings { url, model, api_key_env }) = &config.teacher else {
        return Ok(None);
    };
    let key = match api_key_env {
        None => None,
        Some(variable) => {
            let text = std::env::var(variable)
                .with_context(|| format!("the teacher's key should be in {variable}"))?;
            Some(ApiKey::parse(&text)?)
        }
    };
    let teacher = OpenAiTeacher::new(Endpoint::new(url.as_str(), model.as_str(), key))?;
    Ok(Some(Arc::new(teacher)))
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    is_https: bool,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    task: Option<tokio::task::JoinHandle<std::io::Result<()>>>,
    runtime: tokio::runtime::Runtime,
    _watcher: Watcher,
}

/// What a server is started with.
pub(crate) struct Serving<'a> {
    pub(crate) stores: &'a Stores,
    pub(crate) student: Arc<dyn Student>,
    pub(crate) teacher: Option<Arc<dyn Backend>>,
    pub(crate) tasks: Vec<TaskName>,
    pub(crate) listen: SocketAddr,
    pub(crate) adapter_updates: AdapterUpdates,
    pub(crate) on_note: OnNote,
    pub(crate) access: Access,
}

/// Who is let in; by default this machine's user, and nobody else.
#[derive(Debug, Default)]
pub(crate) struct Access {
    pub(crate) keys: Option<Arc<Keyring>>,
    pub(crate) tls: Option<Tls>,
}

impl Server {
    /// Binds, publishes the routes the registry asks for, and answers from then on.
    pub(crate) fn start(serving: Serving<'_>) -> Result<Self> {
        let Serving { stores, student, teacher, tasks, listen, adapter_updates, .. } = serving;
        let (on_note, Access { keys, tls }) = (serving.on_note, serving.access);
        let door = keys.map_or_else(Door::open, |keys| Door::keyed(keys, listen));
        let is_https = tls.is_some();
        let routes = Arc::new(RouteTable::default());
        let controller = Controller::new(Parts {
            registry: Arc::clone(&stores.registry),
            journal: stores.journal.clone(),
            routes: Arc::clone(&routes),
            student: Arc::clone(&student),
            clock: Arc::clone(&stores.clock),
            tasks,
            first: if teacher.is_some() { Target::Teacher } else { Target::Base },
        });
        let watcher = Watcher::start(controller, on_note)?;
        let parts = GatewayParts {
            student,
            teacher,
            routes,
            journal: stores.journal.clone(),
            registry: Arc::clone(&stores.registry),
            clock: Arc::clone(&stores.clock),
            adapter_updates,
        };
        let gateway = Gateway::behind(door, parts);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("failed to start the server's threads")?;
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind(listen))
            .with_context(|| format!("failed to listen on {listen}"))?;
        let address = listener.local_addr().context("failed to read the bound address")?;
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let stopped = async {
            // A dropped sender means the same as a sent stop.
            stopped.await.ok();
        };
        let task = runtime.spawn(serve_with(listener, gateway, tls, Patience::default(), stopped));
        let (stop, task) = (Some(stop), Some(task));
        Ok(Self { address, is_https, stop, task, runtime, _watcher: watcher })
    }

    pub(crate) fn url(&self) -> String {
        format!("http{}://{}", if self.is_https { "s" } else { "" }, self.address)
    }

    /// Serves until Ctrl-C, then finishes what is in flight.
    pub(crate) fn wait(mut self) -> Result<()> {
        self.runtime.block_on(tokio::signal::ctrl_c()).context("failed to wait for Ctrl-C")?;
        self.stop.take();
        let task = self.task.take().ok_or_else(|| anyhow!("the server is not running"))?;
        self.runtime.block_on(task).context("the server stopped badly")??;
        Ok(())
    }
}
