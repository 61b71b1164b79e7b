//! The server around everything: who routes, who is let in, and how it ends.

use std::{net::SocketAddr, num::NonZero, sync::Arc, thread, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use tokio::{net::TcpListener, runtime::Runtime, sync::oneshot, task::JoinHandle};
use understudy_access::Keyring;
use understudy_canary::{Controller, Parts, PolicyDefaults};
use understudy_capture::Levels;
use understudy_gateway::{
    AdapterUpdates, Board, Door, Gateway, GatewayParts, LiveBoard, Patience, Tls, serve_loading,
    serve_with,
};
use understudy_ident::TaskName;
use understudy_inference::{Backend, SamplingDefaults, Student};
use understudy_registry::Target;
use understudy_router::RouteTable;

use super::{Grpc, ServedMemory, Stores, grpc::take_grpc};
use crate::{
    follow::{Control, Follower, Following},
    signals::Signals,
    watch::{OnNote, Watcher},
};

/// A server that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    is_https: bool,
    pub(crate) grpc_address: Option<SocketAddr>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
    runtime: Runtime,
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

/// What a server is started with.
pub(crate) struct Serving<'a> {
    pub(crate) runtime: Runtime,
    pub(crate) stores: &'a Stores,
    pub(crate) student: Arc<dyn Student>,
    pub(crate) teacher: Option<Arc<dyn Backend>>,
    pub(crate) tasks: Vec<TaskName>,
    pub(crate) listening: Listening,
    pub(crate) grpc: Grpc,
    pub(crate) adapter_updates: AdapterUpdates,
    pub(crate) request_templates: bool,
    /// How the student draws where requests do not say.
    pub(crate) sampling_defaults: SamplingDefaults,
    /// How long raw bodies of telemetry are kept; for ever unless given.
    pub(crate) keep_raw: Option<Duration>,
    /// Whether a reply's last byte waits for the disk.
    pub(crate) flush_replies: bool,
    /// How much is kept of what is said.
    pub(crate) capture: Levels,
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

/// The threads that serve: half as many as there are processors, because models and whoever asks
/// need the others. More would take each other's work, and wake each other for it.
pub(crate) fn runtime() -> Result<Runtime> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads((processors / 2).max(1))
        .enable_all()
        .build()
        .context("failed to start the server's threads")
}

/// A port that is taken, and whoever tells those who ask there that the model is being loaded.
#[derive(Debug)]
pub(crate) struct Listening {
    socket: std::net::TcpListener,
    loading: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Listening {
    /// Nobody is answered yet.
    pub(crate) fn at(listen: SocketAddr, runtime: &Runtime) -> Result<Self> {
        let failed = || format!("failed to listen on {listen}");
        let socket = runtime.block_on(TcpListener::bind(listen)).with_context(failed)?;
        Ok(Self { socket: socket.into_std().with_context(failed)?, loading: None })
    }

    /// From now on everybody is told to come back when `model` is in memory.
    pub(crate) fn loading(
        self,
        model: String,
        (tls, patience): (Option<Tls>, Patience),
        runtime: &Runtime,
    ) -> Result<Self> {
        let listener = self.listener(runtime)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let task = runtime.spawn(async move {
            // A dropped sender means the same as a sent stop.
            let stopped = async { drop(stopped.await) };
            serve_loading(listener, &model, tls, patience, stopped).await;
        });
        Ok(Self { loading: Some((stop, task)), ..self })
    }

    /// The port for whoever answers from now on; who connects meanwhile waits for them.
    fn end(mut self, runtime: &Runtime) -> Result<TcpListener> {
        if let Some((stop, task)) = self.loading.take() {
            drop(stop);
            runtime.block_on(task).context("the server ended while the model was loaded")?;
        }
        self.listener(runtime)
    }

    fn listener(&self, runtime: &Runtime) -> Result<TcpListener> {
        let _runtime = runtime.enter();
        let twin = self.socket.try_clone().and_then(TcpListener::from_std);
        twin.context("failed to go on listening")
    }
}

impl Server {
    /// Publishes the routes the registry asks for, and answers from then on.
    pub(crate) fn start(serving: Serving<'_>) -> Result<Self> {
        let Serving { runtime, stores, student, teacher, listening, grpc, .. } = serving;
        let Access { keys, tls } = serving.access;
        let is_https = tls.is_some();
        let routes = Arc::new(RouteTable::default());
        let memory_routes = Arc::new(RouteTable::default());
        let address = listening.socket.local_addr().context("failed to read the bound address")?;
        let door = keys.map_or_else(Door::open, |keys| Door::keyed(keys, address));
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
                tasks: serving.tasks,
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
            adapter_updates: serving.adapter_updates,
            request_templates: serving.request_templates,
        };
        let gateway = Gateway::behind(door, parts);
        if let Some(age) = serving.keep_raw {
            gateway.keep_raw_for(age);
        }
        if serving.flush_replies {
            gateway.flush_replies();
        }
        gateway.capture_at(serving.capture);
        gateway.release_under(serving.policy);
        gateway.draw_like(serving.sampling_defaults);
        if let Some(memory) = serving.memory {
            let memories = memory.open(stores, memory_routes)?;
            gateway.remember_with(memories).map_err(|_| anyhow!("there are two memories"))?;
        }
        let shown = (gateway.board(), gateway.live());
        let grpc_address = take_grpc(&runtime, grpc, &gateway)?;
        let listener = listening.end(&runtime)?;
        let (stop, stopped) = oneshot::channel::<()>();
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
