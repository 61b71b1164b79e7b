//! A memory release on trial: a gateway, the controller, and a model that does what its lessons
//! say.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use understudy_canary::{Controller, Lessons, Parts, Rules};
use understudy_gateway::{AdapterUpdates, Gateway, GatewayParts, Memories};
use understudy_ident::{AdapterVersion, Clock as _, Digest, SystemClock, TaskName};
use understudy_inference::{
    Backend, Embedder, FakeBackend, GenerateRequest, HashingEmbedder, InferenceError, Prompt, Sink,
};
use understudy_journal::{Config, Journal, Query};
use understudy_memory::{
    By, Choice, Deployment, DeploymentItem, DeploymentStore, MemoryId, MemoryRoot, Releases,
    Status, Written,
};
use understudy_registry::{
    Change, Override, Registry, ReleaseRecord, ReleaseState, RollbackTarget, StartRelease, Target,
};
use understudy_router::RouteTable;
use understudy_toolworld::{Agent, Job, Request};
use understudy_trajectory::{Arm, Recalled, RewardPolicy, Signal};

/// Shown to every session, so that the arms differ in nothing but the release.
const ALWAYS: &str = "\n[settings.counters]\ncontrol_share = 0.0\nprobation_share = 0.0\n\
                      [settings.retrieval]\nbudget_ms = 5000\nsmall_model = false\n\
                      max_line_tokens = 400\nmax_tokens = 2000\ncontext_share = 0.5\n";

/// How long a busy machine may take over what takes a fifth of a second.
const PATIENCE: Duration = Duration::from_mins(1);

const TOOLS: [&str; 5] =
    ["orders.find", "orders.cancel", "refunds.quote", "refunds.create", "shipments.history"];

/// A model that says what its lessons tell it to do, and nothing else.
#[derive(Debug)]
struct Obedient(FakeBackend);

impl Obedient {
    fn new() -> Self {
        Self(FakeBackend::new("obedient", |text, _| Ok(text.to_owned())))
    }

    fn heard(request: GenerateRequest) -> GenerateRequest {
        let block = match &request.prompt {
            Prompt::Chat(chat) => chat.messages.first().map(understudy_message::Message::text),
            _ => None,
        };
        let block = block.filter(|text| text.contains("<memory")).unwrap_or_default();
        GenerateRequest { prompt: Prompt::Text(format!("I was told:\n{block}")), ..request }
    }
}

impl Backend for Obedient {
    fn base(&self) -> &str {
        self.0.base()
    }

    fn submit(&self, request: GenerateRequest, sink: Sink) -> Result<(), InferenceError> {
        self.0.submit(Self::heard(request), sink)
    }

    fn submit_all(&self, requests: Vec<(GenerateRequest, Sink)>) -> Result<(), InferenceError> {
        requests.into_iter().try_for_each(|(request, sink)| self.submit(request, sink))
    }
}

/// A reply, and what its headers say about the lessons.
struct Asked {
    arm: Option<String>,
    shown: String,
    reply: Value,
}

struct World {
    deployment: Deployment,
    store: DeploymentStore,
    releases: Releases,
    registry: Arc<Registry>,
    journal: Journal,
    routes: Arc<RouteTable>,
    controller: Controller,
    address: SocketAddr,
    agent: ureq::Agent,
    asked: u64,
    passed_by: u64,
    _runtime: tokio::runtime::Runtime,
    directory: tempfile::TempDir,
}

fn deployment() -> Deployment {
    let file = include_str!("../../toolworld/memory.toml");
    let release = "\n[release]\nsteps = [50, 100]\nmin_outcomes_per_step = 10\nmargin = 0.1\n\
                   rollback_on = [\"reward\"]\n";
    Deployment::parse(&format!("{file}{ALWAYS}{release}")).unwrap()
}

impl World {
    fn new() -> Self {
        Self::embedding(Arc::new(HashingEmbedder))
    }

    /// With a gateway that embeds by this.
    fn embedding(by: Arc<dyn Embedder>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let (deployment, clock) = (deployment(), Arc::new(SystemClock));
        let registry = Arc::new(Registry::open(&at("registry.db"), &at("adapters")).unwrap());
        let journal = Journal::open(&at("journal.db"), Config::default()).unwrap();
        let root = MemoryRoot::open(&at("memory"), deployment.settings.clone()).unwrap();
        let (routes, memory_routes) = (Arc::new(RouteTable::default()), Arc::default());
        let embedder = Arc::new(HashingEmbedder);
        let lessons =
            Lessons::open(&root, &deployment, embedder.clone(), Arc::clone(&memory_routes));
        let student = Arc::new(FakeBackend::new("idle", |_, _| Ok("nobody asks".to_owned())));
        let controller = Controller::new(Parts {
            registry: Arc::clone(&registry),
            journal: journal.clone(),
            routes: Arc::clone(&routes),
            student: student.clone(),
            clock: clock.clone(),
            tasks: vec!["desk".parse().unwrap()],
            first: Target::Teacher,
            lessons: Some(Arc::new(lessons.unwrap())),
        });
        let gateway = Gateway::new(GatewayParts {
            student,
            teacher: Some(Arc::new(Obedient::new())),
            routes: Arc::clone(&routes),
            journal: journal.clone(),
            registry: Arc::clone(&registry),
            clock: clock.clone(),
            adapter_updates: AdapterUpdates::Forbidden,
            request_templates: false,
        });
        let memory = at("memory");
        let memories = open(&memory, &deployment, by, &journal, &memory_routes);
        gateway.remember_with(memories).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(understudy_gateway::serve(listener, gateway, std::future::pending()));
        let store = root.deployment(&deployment.tenant).unwrap();
        let releases = root.releases(&deployment.tenant);
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut world = Self {
            deployment,
            store,
            releases,
            registry,
            journal,
            routes,
            controller,
            address,
            agent,
            asked: 0,
            passed_by: 0,
            _runtime: runtime,
            directory,
        };
        world.tick();
        assert!(world.routes.get(&"desk".parse().unwrap()).is_some());
        world
    }

    fn channel(&self) -> TaskName {
        self.deployment.channel()
    }

    fn by() -> By {
        By::new("ada", "a test", SystemClock.now()).unwrap()
    }

    fn tick(&mut self) {
        self.controller.tick().unwrap();
    }

    /// Writes and approves a lesson for refunds.
    fn lesson(&self, first: &str) -> MemoryId {
        let strategy = format!("prefer calling `{first}` first.");
        let written = Written {
            intent: Some("refund-order"),
            agent: Some("desk"),
            tools: &[first, "refunds.create"],
            situation: "When a task needs `refunds.create`",
            strategy: &strategy,
            prefer: &[first],
            ..Written::default()
        };
        let (catalogue, key) = (&self.deployment.catalogue, self.store.key());
        let item = DeploymentItem::written(&written, catalogue, key, SystemClock.now()).unwrap();
        let id = item.id.clone();
        self.store.propose(item, &HashingEmbedder, &Self::by()).unwrap();
        self.store.validate(&id, &Self::by()).unwrap();
        id
    }

    /// Cuts what is approved and puts it on trial; and waits until its lessons have been read,
    /// which no request does.
    fn start(&mut self) -> (AdapterVersion, Digest, ReleaseRecord) {
        let started = self.begin();
        let began = Instant::now();
        while !self.is_ready() {
            assert!(began.elapsed() < PATIENCE, "the candidate was never read");
            std::thread::sleep(Duration::from_millis(20));
        }
        started
    }

    fn is_ready(&self) -> bool {
        let status = self.agent.get(format!("http://{}/v1/memory/status", self.address)).call();
        status.unwrap().body_mut().read_json::<Value>().unwrap()["trial"]["ready"] == true
    }

    fn begin(&mut self) -> (AdapterVersion, Digest, ReleaseRecord) {
        let (next, _) = self
            .store
            .next_release(&self.releases, "hashing@1", &Choice::default(), &Self::by())
            .unwrap();
        let digest = self.releases.cut(&next, SystemClock.now()).unwrap();
        let change = Change::new("ada", "for the test", &SystemClock);
        let manifest = next.registered(&self.deployment.tenant);
        let registered = self.registry.register_memory(&self.channel(), &manifest, change).unwrap();
        let version = registered.record.version;
        let target = self.registry.stable(&self.channel()).unwrap().unwrap_or(Target::Base);
        let loaded_generation = target
            .adapter()
            .map(|stable| self.registry.get(stable).unwrap().record.generation.to_hex());
        let policy = Rules::of(&self.deployment.release, RewardPolicy::DefaultV1).unwrap();
        let start = StartRelease {
            candidate: version.clone(),
            rollback: RollbackTarget {
                target,
                loaded_generation,
                verified_by: "read by the test".to_owned(),
            },
            policy: policy.to_value(),
            // The same sessions on the same sides in every run of this test.
            salt: format!("{:032x}", version.number),
            forced: Some(Override {
                owner: "ada".to_owned(),
                reason: "there is no gate in this test".to_owned(),
            }),
        };
        let release = self.registry.start_release(start, change).unwrap();
        self.tick();
        let release = self.registry.release(&release.id).unwrap();
        (version, digest, release)
    }

    fn post(&self, path: &str, body: &Value) -> (Value, Vec<(String, String)>) {
        let mut response =
            self.agent.post(format!("http://{}{path}", self.address)).send_json(body).unwrap();
        assert!(
            response.status().is_success(),
            "{}",
            response.body_mut().read_to_string().unwrap()
        );
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        (response.body_mut().read_json().unwrap(), headers)
    }

    /// The next refund that somebody wants, of a stream that `seed` names.
    fn draw(seed: u64, asked: &mut u64) -> Request {
        loop {
            *asked += 1;
            let request = Request::draw(seed, *asked);
            if request.job == Job::Refund {
                return request;
            }
        }
    }

    /// What the model says to a refund, and by which arm and lessons.
    fn ask(&self, request: &Request) -> Asked {
        let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}});
        let tools: Vec<Value> = TOOLS.iter().map(|name| tool(name)).collect();
        let body = json!({"model": "desk", "tools": tools, "user": request.session,
            "messages": [{"role": "user", "content": request.goal}]});
        let (reply, headers) = self.post("/v1/chat/completions", &body);
        let header =
            |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
        Asked {
            arm: header("x-memory-arm"),
            shown: header("x-memory-ids").unwrap_or_default(),
            reply,
        }
    }

    /// One refund: the model is asked, the agent does what it says, and the outcome is told.
    fn refund(&mut self) -> Asked {
        let request = Self::draw(7, &mut self.asked);
        let asked = self.ask(&request);
        let said = asked.reply["choices"][0]["message"]["content"].as_str().unwrap();
        let played = Agent::student().play(&request, Some(said), 7, SystemClock.now());
        let signal = if played.success { "accept" } else { "abandon" };
        self.post("/v1/feedback", &json!({"response_id": asked.reply["id"], "signal": signal}));
        asked
    }

    /// Refunds until the release is decided; successes and requests of each arm, the stable one
    /// first, of those that were compared.
    fn run_until_decided(&mut self, release: &ReleaseRecord) -> [[u32; 2]; 2] {
        for n in 1..=600 {
            self.refund();
            if n % 10 == 0 {
                self.tick();
                if self.registry.release(&release.id).unwrap().state != ReleaseState::Ramping {
                    return self.compared(release);
                }
            }
        }
        let undecided = self.registry.release(&release.id).unwrap();
        panic!("never decided: {:?}, {undecided:?}", self.compared(release));
    }

    /// What the controller went by. A request for which both arms would have shown the same is not
    /// compared, and says nothing about the lesson.
    fn compared(&self, release: &ReleaseRecord) -> [[u32; 2]; 2] {
        let mut counts = [[0; 2]; 2];
        for trajectory in self.journal.scan(&Query::default()).unwrap() {
            for judged in trajectory.unwrap().steps {
                let met = judged.step.assignment.and_then(|assignment| assignment.course.memory);
                let of_trial = |met: &Recalled| met.trial == Some(release.id.to_string());
                let Some(met) = met.filter(|met| met.analysed && of_trial(met)) else { continue };
                let Some(outcome) = judged.outcomes.first() else { continue };
                let arm = usize::from(met.arm == Arm::Canary);
                counts[arm][0] += u32::from(outcome.signal == Signal::Accept);
                counts[arm][1] += 1;
            }
        }
        counts
    }

    fn status(&self, id: &MemoryId) -> Status {
        self.store.get(id, SystemClock.now()).unwrap().status
    }

    fn serving(&self) -> Option<Digest> {
        self.store.releases().unwrap().into_iter().next().flatten()
    }

    /// What every step met.
    fn recalled(&self) -> Vec<Recalled> {
        let all = self.journal.scan(&Query::default()).unwrap();
        let steps = all.flat_map(|trajectory| trajectory.unwrap().steps);
        steps.filter_map(|judged| judged.step.assignment?.course.memory).collect()
    }

    /// Waits until the gateway has taken notice, which it does by its own clock. Whoever asks until
    /// then is none of those whose refunds are compared, so that these are the same in every run.
    fn eventually(&mut self, what: &str, holds: impl Fn(&Asked) -> bool) {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let request = Self::draw(8, &mut self.passed_by);
            if holds(&self.ask(&request)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{what} did not come about");
    }

    /// Waits until the candidate's sessions meet its new lesson. Until the gateway has read where
    /// that stands, both arms show the same and nothing is compared.
    fn on_trial(&mut self, lesson: &MemoryId) {
        self.eventually("the trial", |asked| {
            asked.arm.as_deref() == Some("canary") && asked.shown.contains(lesson.as_str())
        });
    }
}

fn open(
    directory: &Path,
    deployment: &Deployment,
    embedder: Arc<dyn Embedder>,
    journal: &Journal,
    routes: &Arc<RouteTable>,
) -> Memories {
    let clock = Arc::new(SystemClock);
    let (journal, routes) = (journal.clone(), Arc::clone(routes));
    Memories::open(directory, deployment.clone(), embedder, journal, clock, routes).unwrap()
}

#[test]
fn a_harmful_release_is_rolled_back_by_its_canary_and_a_good_one_is_promoted() {
    let mut world = World::new();
    let good = world.lesson("refunds.quote");
    let (version, first, release) = world.start();
    assert_eq!(release.state, ReleaseState::Ramping);
    world.on_trial(&good);
    let promoted = world.run_until_decided(&release);
    assert_eq!(
        world.registry.release(&release.id).unwrap().state,
        ReleaseState::Promoted,
        "{promoted:?}"
    );
    let [without, with] = promoted.map(|[successes, n]| f64::from(successes) / f64::from(n));
    assert!(with > without + 0.2, "the lesson is worth something: {promoted:?}");
    assert_eq!((world.serving(), world.status(&good)), (Some(first), Status::Active));
    world.eventually("the promotion", |asked| {
        asked.arm.is_none() && asked.shown.contains(good.as_str())
    });

    let bad = world.lesson("orders.cancel");
    let (_, second, release) = world.start();
    world.on_trial(&bad);
    let refused = world.run_until_decided(&release);
    let ended = world.registry.release(&release.id).unwrap();
    assert_eq!(ended.state, ReleaseState::RolledBack, "{refused:?} {}", ended.changed_because);
    let [stable, canary] = refused.map(|[successes, n]| f64::from(successes) / f64::from(n));
    assert!(canary < stable - 0.2, "{refused:?}");
    // The pointer never moved; the lesson waits for a person; nobody meets it any more.
    assert_eq!((world.serving(), world.status(&bad)), (Some(first), Status::Suspended));
    assert_eq!(world.status(&good), Status::Active);
    world.eventually("the end of the trial", |asked| asked.arm.is_none());
    for _ in 0..20 {
        assert!(!world.refund().shown.contains(bad.as_str()));
    }
    // Why is in the registry, with the numbers, and on every step is what it met.
    let audit = world.registry.audit(Some(&world.channel())).unwrap();
    let verdict = audit.iter().rev().find(|entry| entry.action == "release.roll_back").unwrap();
    assert_eq!(verdict.actor, "canary controller");
    assert!(verdict.evidence.as_ref().unwrap()["judgement"].is_object());
    world.registry.verify_audit(None).unwrap();
    let trial = release.id.to_string();
    let met = world.recalled();
    let met: Vec<&Recalled> = met.iter().filter(|met| met.trial.as_ref() == Some(&trial)).collect();
    let of = |arm: Arm| met.iter().filter(move |met| met.arm == arm && met.analysed);
    assert!(of(Arm::Canary).all(|met| met.release == Some(second.to_string())));
    assert!(of(Arm::Stable).all(|met| met.release == Some(first.to_string())));
    let counts = [Arm::Canary, Arm::Stable].map(|arm| of(arm).count());
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");

    // And back to nothing at all: one row, within a second.
    let began = Instant::now();
    let change = Change::new("ada", "answers got worse", &SystemClock);
    world.registry.undo(&world.channel(), None, change).unwrap();
    world.tick();
    assert_eq!(world.serving(), None);
    assert!(began.elapsed() < Duration::from_secs(1));
    world.eventually("the rollback", |asked| asked.shown.is_empty());
    assert_eq!(version.to_string(), "memory-greyhaven@1");
    assert!(!world.directory.path().join("adapters/memory-greyhaven/1").exists());
}

/// Embeds nothing for the thread behind the memory while it is closed.
#[derive(Debug, Default)]
struct Gate(AtomicBool);

impl Embedder for Gate {
    fn name(&self) -> &'static str {
        "hashing@1"
    }

    fn dimensions(&self) -> usize {
        HashingEmbedder.dimensions()
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, InferenceError> {
        let is_behind = std::thread::current().name() == Some("memory");
        while is_behind && self.0.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        HashingEmbedder.embed(texts)
    }
}

#[test]
fn until_a_candidate_is_read_its_sessions_go_on_with_what_serves_and_are_not_compared() {
    let gate = Arc::new(Gate::default());
    let mut world = World::embedding(Arc::clone(&gate) as Arc<dyn Embedder>);
    let lesson = world.lesson("refunds.quote");
    gate.0.store(true, Ordering::SeqCst);
    let (_, _, release) = world.begin();
    assert_eq!(release.state, ReleaseState::Ramping);
    for _ in 0..20 {
        let asked = world.refund();
        assert_eq!((asked.arm, asked.shown.as_str()), (None, ""), "half of them are its sessions");
    }
    assert!(!world.is_ready());
    assert_eq!(world.compared(&release), [[0; 2]; 2], "nobody has met it");
    gate.0.store(false, Ordering::SeqCst);
    world.on_trial(&lesson);
    (0..20).for_each(|_| drop(world.refund()));
    let [stable, canary] = world.compared(&release);
    assert!(stable[1] > 0 && canary[1] > 0, "{stable:?} {canary:?}");
}

#[test]
fn requests_that_no_lesson_of_the_trial_concerns_are_not_compared() {
    let mut world = World::new();
    world.lesson("refunds.quote");
    let (_, _, release) = world.start();
    for n in 0..10 {
        let body = json!({"model": "desk", "user": format!("poet {n}"),
            "messages": [{"role": "user", "content": "write a poem about the sea"}]});
        let (_, headers) = world.post("/v1/chat/completions", &body);
        assert!(headers.iter().any(|(name, value)| name == "x-memory-ids" && value.is_empty()));
    }
    let met = world.recalled();
    assert_eq!(met.len(), 10);
    assert!(met.iter().all(|met| !met.analysed && met.trial == Some(release.id.to_string())));
}
