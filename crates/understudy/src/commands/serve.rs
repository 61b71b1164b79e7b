//! `understudy serve`: gateway, engine and canary controller on one port.

use std::{
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use understudy_access::may_listen;
use understudy_capture::Levels;
use understudy_gateway::{AdapterUpdates, Patience, Tls};
use understudy_inference::{SamplingDefaults, Student};
use understudy_live::{Rules, Watch};
use understudy_manifest::Recipe;
use understudy_model::sampling_defaults;
use understudy_storage::DataDirLock;

use super::{Exit, model};
use crate::{
    attend::{self, Attending},
    cli::{GenerationConfig, Role, ServeArgs},
    config::Config,
    exports,
    follow::Control,
    live::Scoring,
    output::Out,
    ports::MakeTeacher,
    wiring::{self, Access, Grpc, Listening, Server, Serving, Stores},
};

/// How soon a renewed certificate is served with.
const CERTIFICATE: Duration = Duration::from_secs(30);

pub(crate) fn run(args: &ServeArgs, config: &Config, out: Out) -> Result<Exit> {
    let listen = args.listen.unwrap_or(config.listen);
    let access = access(args, config, listen)?;
    let needs_key = access.keys.as_ref().is_some_and(|keys| keys.is_locked());
    let stores = Stores::open(&config.data)?;
    let control = control(args)?;
    // Two controllers would each carry out the same verdict; a replica has none, and may share the
    // directory of the server it follows.
    let _lock = match control {
        None => Some(DataDirLock::acquire(config.data.root().to_owned())?),
        Some(_) => None,
    };
    let paths = if args.loops.is_empty() { &config.loops } else { &args.loops };
    let paths = if control.is_none() { &paths[..] } else { &[] };
    let runtime = wiring::runtime()?;
    let teacher = wiring::teacher_on(config, Some(runtime.handle()))?;
    let live = live_rules(config)?;
    let first = if teacher.is_some() { "the teacher" } else { "the base model" };
    let tasks = tasks(config)?;
    let patience = patience(args, config);
    let loaded = args.base.clone().unwrap_or_else(|| config.base.clone());
    let listening = Listening::at(listen, &runtime)?;
    let listening = listening.loading(loaded, (access.tls.clone(), patience), &runtime)?;
    let (student, sampling_defaults) = student(args, config, out)?;
    let name = student.base().to_owned();
    let recipes = attend::recipes(paths, config, &name)?;
    let is_replica = control.is_some();
    let server = Server::start(Serving {
        runtime,
        stores: &stores,
        student: Arc::clone(&student),
        teacher,
        tasks: [tasks, recipes.iter().map(|recipe| recipe.task.clone()).collect()].concat(),
        listening,
        grpc: args.grpc.unwrap_or(Grpc::IfFree),
        adapter_updates: adapter_updates(args, config),
        request_templates: args.allow_request_templates,
        sampling_defaults,
        patience,
        keep_raw: config.keep_raw,
        flush_replies: config.capture.flush_replies,
        capture: Levels::new(
            args.capture.unwrap_or(config.capture.level),
            config.capture.tenants.clone(),
        ),
        policy: config.policy.clone(),
        on_note: Box::new(move |note| {
            out.say(format!("{}: {}", note.task, note.text));
            out.line(&json!({"event": "note", "task": note.task, "text": note.text}));
        }),
        access,
        control,
        memory: super::memory::remembering(config)?,
    })?;
    let routed = if is_replica {
        "tasks are routed as the server it follows says".to_owned()
    } else {
        format!("tasks nothing was released for are answered by {first}")
    };
    announce(&server, (&name, &routed, needs_key), config, out);
    let _scoring = match live {
        // Dropped after the server, when nothing is served any more.
        Some(rules) => {
            let watch = Watch::new(rules, stores.journal.watermark()?);
            Some(Scoring::start(watch, stores.journal.clone(), server.live())?)
        }
        None => None,
    };
    let _expiring = exports::expiring(config.data.clone())?;
    if !recipes.is_empty() {
        start_loops(recipes, student, &server, config, out)?;
    }
    server.wait()?;
    Ok(Exit::Ok)
}

/// How long is waited for what.
fn patience(args: &ServeArgs, config: &Config) -> Patience {
    let usual = Patience::default();
    let longest = args.max_request_timeout.or(config.max_request_timeout);
    let seconds = |longest: NonZeroU32| Duration::from_secs(longest.get().into());
    Patience {
        drain: Duration::from_secs(args.drain_timeout),
        silence: Duration::from_secs(args.sse_keep_alive),
        longest_deadline: longest.map_or(usual.longest_deadline, seconds),
        ..usual
    }
}

/// Says where what is served.
fn announce(
    server: &Server,
    (name, routed, needs_key): (&str, &str, bool),
    config: &Config,
    out: Out,
) {
    let who = if needs_key {
        "whoever asks needs an API key: understudy key list"
    } else {
        "this machine is answered without an API key; understudy key create makes one"
    };
    let (url, root) = (server.url(), config.data.root());
    out.say(format!(
        "serving {name} at {url}/v1\n  state in {}\n  {routed}\n  {who}",
        root.display()
    ));
    if let Some(address) = server.grpc_address {
        out.say(format!("  OTLP over gRPC at {address}"));
    }
    out.line(&json!({
        "event": "serving", "base": name, "url": url, "grpc": server.grpc_address,
        "needs_key": needs_key, "data_dir": root,
    }));
}

/// Who answers where nothing was released, and holds the adapters; and how it draws where a request
/// does not say.
fn student(
    args: &ServeArgs,
    config: &Config,
    out: Out,
) -> Result<(Arc<dyn Student>, SamplingDefaults)> {
    let openai = SamplingDefaults::default();
    let mut settings = config.engine;
    if let Some(mode) = args.logprobs_mode {
        settings.logprobs_mode = mode.into();
    }
    if let Some(dtype) = args.kv_cache_dtype {
        settings.kv_cache_dtype = dtype.into();
    }
    if args.mock_engine {
        let name = args.base.as_deref();
        let mock = wiring::mock_engine(name, args.mock_step, settings.logprobs_mode)?;
        return Ok((mock, openai));
    }
    if let Some(fleet) = wiring::fleet(config)? {
        ensure!(
            args.logprobs_mode.is_none(),
            "--logprobs-mode is for our own engine; start the servers of [fleet] with theirs"
        );
        ensure!(
            args.kv_cache_dtype.is_none(),
            "--kv-cache-dtype is for our own engine; start the servers of [fleet] with theirs"
        );
        ensure!(
            args.generation_config != Some(GenerationConfig::Auto),
            "--generation-config auto is for our own engine; what the servers of [fleet] read is \
             not known here, so they are always told how to draw"
        );
        return Ok((fleet, openai));
    }
    // Before a model is fetched and loaded, which takes a while.
    settings.check().context("[engine] in understudy.toml cannot be honoured")?;
    let name = args.base.clone().unwrap_or_else(|| config.base.clone());
    let base = model::obtain(config, &name, out)?;
    let defaults = match args.generation_config.unwrap_or(config.drawing) {
        GenerationConfig::OpenAi => openai,
        GenerationConfig::Auto => sampling_defaults(&base).context(
            "failed to read how the base model is to be drawn from; correct the file, or pass \
             --generation-config openai",
        )?,
    };
    let is_replica = args.role.is_some();
    let kept = (settings, &*config.data.aliases(is_replica));
    let engine = wiring::serving_engine(&base, &name, (args.precision, &config.device), kept)?;
    Ok((engine, defaults))
}

/// What of the traffic is scored, if anything.
fn live_rules(config: &Config) -> Result<Option<Rules>> {
    let Some(live) = &config.live else { return Ok(None) };
    let rules = Rules::new(live.share, &live.scorers, &live.checks);
    rules.map(Some).context("[live] in understudy.toml cannot be honoured")
}

/// Before a model is loaded, which takes a while, it is known that it may be served.
fn access(args: &ServeArgs, config: &Config, listen: SocketAddr) -> Result<Access> {
    let keys = Arc::new(super::key::open(config)?);
    may_listen(listen, &keys)?;
    if let Some(Grpc::At(address)) = args.grpc {
        may_listen(address, &keys)?;
    }
    let tls = match (&args.tls_cert, &args.tls_key, &config.tls) {
        (None, None, None) => None,
        (None, None, Some(tls)) => Some(tls_from(&tls.cert, &tls.key)?),
        (Some(cert), Some(key), _) => Some(tls_from(cert, key)?),
        (Some(_), None, _) => bail!("--tls-cert needs --tls-key, the certificate's private key"),
        (None, Some(_), _) => bail!("--tls-key needs --tls-cert, the key's certificate"),
    };
    if tls.is_none() && !listen.ip().is_loopback() {
        tracing::warn!(
            "keys and content travel to {listen} unencrypted: give --tls-cert and --tls-key, or \
             let a proxy in front speak TLS"
        );
    }
    Ok(Access { keys: Some(keys), tls })
}

/// The certificate in these files, and in what takes their place while the server runs.
fn tls_from(cert: &Path, key: &Path) -> Result<Tls> {
    let read = || -> Result<(Vec<u8>, Vec<u8>)> {
        let read = |path: &Path| {
            std::fs::read(path).with_context(|| format!("failed to read {}", path.display()))
        };
        Ok((read(cert)?, read(key)?))
    };
    let (cert_pem, key_pem) = read()?;
    let failed = || format!("failed to use {} with {}", cert.display(), key.display());
    let tls = Tls::from_pem(&cert_pem, &key_pem).with_context(failed)?;
    let (renewed, paths) = (tls.clone(), [cert.to_owned(), key.to_owned()]);
    std::thread::Builder::new()
        .name("certificate".to_owned())
        .spawn(move || renew_for_ever(&renewed, &paths, (cert_pem, key_pem)))
        .context("failed to start the certificate's thread")?;
    Ok(tls)
}

fn renew_for_ever(tls: &Tls, [cert, key]: &[PathBuf; 2], mut last: (Vec<u8>, Vec<u8>)) {
    loop {
        std::thread::sleep(CERTIFICATE);
        let (Ok(cert_pem), Ok(key_pem)) = (std::fs::read(cert), std::fs::read(key)) else {
            tracing::warn!("{} or {} cannot be read any more", cert.display(), key.display());
            continue;
        };
        // Half of a renewal does not fit together, and is tried again when the other half is there.
        if last != (cert_pem.clone(), key_pem.clone()) {
            match tls.renew(&cert_pem, &key_pem) {
                Ok(()) => tracing::info!("the certificate {} was renewed", cert.display()),
                Err(why) => tracing::error!("{} is not served: {why}", cert.display()),
            }
            last = (cert_pem, key_pem);
        }
    }
}

fn start_loops(
    recipes: Vec<Recipe>,
    student: Arc<dyn Student>,
    server: &Server,
    config: &Config,
    out: Out,
) -> Result<()> {
    for recipe in &recipes {
        out.say(format!(
            "the loop of {} runs by itself; `understudy loop status` says what it waits for",
            recipe.task
        ));
    }
    let base = model::obtain(config, student.base(), out)?;
    let settings = config.clone();
    let make_teacher = Arc::new(move || {
        let settings = settings.clone();
        Box::new(move || wiring::teacher(&settings)) as MakeTeacher
    });
    let board = server.board();
    Attending { config: config.clone(), recipes, student, board, out, base, make_teacher }.start()
}

fn control(args: &ServeArgs) -> Result<Option<Control>> {
    let (Some(Role::Replica), Some(url)) = (args.role, &args.control) else { return Ok(None) };
    let key = match &args.control_key_env {
        None => None,
        Some(variable) => Some(std::env::var(variable).with_context(|| {
            format!("the key for {url} should be in the environment variable {variable}")
        })?),
    };
    let url = url.trim_end_matches('/').to_owned();
    Ok(Some(Control { url, node: args.node.clone(), key }))
}

/// What an operator must say twice to open wider: that updates are allowed, and from where.
fn adapter_updates(args: &ServeArgs, config: &Config) -> AdapterUpdates {
    match &args.adapter_root[..] {
        _ if !args.allow_adapter_updates => AdapterUpdates::Forbidden,
        [] => AdapterUpdates::Under(vec![config.data.adapters(), ".".into()]),
        roots => AdapterUpdates::Under(roots.to_vec()),
    }
}

/// Tasks that suites are named after are routed before anything is registered for them.
fn tasks(config: &Config) -> Result<Vec<understudy_ident::TaskName>> {
    let mut tasks = config.tasks.clone();
    tasks.extend(super::suite::all(&config.data)?.into_iter().map(|suite| suite.name));
    Ok(tasks)
}
