use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::Path,
};

use understudy_gateway::wire::WatchAnswer;
use understudy_inference::FakeBackend;
use understudy_journal::Config;
use understudy_router::{Route, Target};

use super::*;

/// Much longer than the lease that the other server gives.
const HANGS: Duration = Duration::from_secs(4);
const LEASE: Duration = Duration::from_millis(1_500);
const SLOW_MACHINE: Duration = Duration::from_secs(30);

/// A server that tells tables, and whose files never come.
struct Other {
    address: SocketAddr,
    table: Arc<Mutex<(u64, Told)>>,
    is_silent: Arc<AtomicBool>,
}

impl Other {
    fn start(first: Told) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (table, is_silent) =
            (Arc::new(Mutex::new((1, first))), Arc::new(AtomicBool::new(false)));
        let (told, silent) = (Arc::clone(&table), Arc::clone(&is_silent));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (told, silent) = (Arc::clone(&told), Arc::clone(&silent));
                thread::spawn(move || answer(stream.unwrap(), &told, &silent));
            }
        });
        Self { address, table, is_silent }
    }

    fn tell(&self, next: Told) {
        let mut table = self.table.lock().unwrap();
        *table = (table.0 + 1, next);
    }
}

fn answer(mut stream: TcpStream, table: &Mutex<(u64, Told)>, silent: &AtomicBool) {
    let mut asked = String::new();
    BufReader::new(&stream).read_line(&mut asked).unwrap();
    if silent.load(Ordering::Relaxed) {
        return;
    }
    let mut reply = |status: &str, body: &str| {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n");
        write!(stream, "{head}connection: close\r\n\r\n{body}").ok();
    };
    if asked.contains("/api/v1/watch/adapters/") {
        thread::sleep(HANGS);
        return reply("404 Not Found", "");
    }
    if !asked.contains("/api/v1/watch?") {
        return reply("404 Not Found", "");
    }
    let (sequence, told) = table.lock().unwrap().clone();
    let is_known = asked.contains("epoch=e&") && asked.contains(&format!("since={sequence}&"));
    if is_known {
        thread::sleep(Duration::from_millis(50));
    }
    let answer = WatchAnswer {
        epoch: "e".to_owned(),
        sequence,
        lease_ms: LEASE.as_millis() as u64,
        journal: "elsewhere".to_owned(),
        table: (!is_known).then_some(told),
    };
    reply("200 OK", &serde_json::to_string(&answer).unwrap());
}

/// Loads an adapter that is told by its name from all others.
fn held(student: &dyn Student, directory: &Path, version: &str) -> Target {
    let directory = directory.join(version);
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("adapter_config.json"), "{}").unwrap();
    let header = format!("{{\"__metadata__\": {{\"note\": \"{version}\"}}}}");
    let weights = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    std::fs::write(directory.join("adapter_model.safetensors"), weights).unwrap();
    let generation = student.load_adapter(version, &directory).unwrap().generation;
    Target::Adapter { version: version.to_owned(), generation }
}

fn told(stable: &[(&str, &Target)]) -> Told {
    let route = |target: &Target| TaskRoute { route: Route::to(target.clone()), release: None };
    let tasks = stable.iter().map(|(task, target)| (task.parse().unwrap(), route(target)));
    let adapters = stable.iter().filter_map(|(_, target)| match target {
        Target::Adapter { version, generation } => Some(ToldAdapter {
            version: version.clone(),
            generation: generation.clone(),
            files: vec!["adapter_model.safetensors".to_owned()],
        }),
        Target::Teacher | Target::Base => None,
    });
    Told { tasks: tasks.collect(), adapters: adapters.collect(), revoked: BTreeSet::new() }
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < SLOW_MACHINE, "{what} did not come about");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_rollback_takes_effect_beside_a_champion_that_cannot_be_fetched() {
    let home = tempfile::tempdir().unwrap();
    let student: Arc<dyn Student> = Arc::new(FakeBackend::new("tiny", |_, _| Ok(String::new())));
    let [good, bad, other] =
        ["a@1", "a@2", "b@1"].map(|version| held(&*student, home.path(), version));
    let nowhere = Target::Adapter { version: "b@2".to_owned(), generation: "f".repeat(64) };
    let server = Other::start(told(&[("a", &bad), ("b", &other)]));
    let engine = Arc::clone(&student);
    let routes = Arc::new(RouteTable::default());
    let notes = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&notes);
    let following = Following {
        control: Control { url: format!("http://{}", server.address), node: None, key: None },
        address: server.address,
        routes: Arc::clone(&routes),
        student,
        journal: Journal::open(&home.path().join("journal.db"), Config::default()).unwrap(),
        data: DataDir::new(home.path().to_owned()),
        on_note: Box::new(move |note| noted.lock().unwrap().push(note.text.clone())),
    };
    let follower = Follower::start(following).unwrap();
    let serves = |task: &str| routes.get(&task.parse().unwrap()).unwrap().route.stable.clone();
    let is_alone = || notes.lock().unwrap().iter().any(|note| note.contains("champions alone"));
    assert_eq!((serves("a"), serves("b")), (bad.clone(), other.clone()));

    // The one is rolled back after its promotion; the other's next champion does not come.
    server.tell(told(&[("a", &good), ("b", &nowhere)]));
    until("the rollback", || serves("a") == good);
    assert_eq!(serves("b"), other, "it keeps what it has");
    let begun = Instant::now();
    while begun.elapsed() < LEASE * 2 {
        assert_eq!((serves("a"), serves("b")), (good.clone(), other.clone()));
        thread::sleep(Duration::from_millis(10));
    }
    assert!(!is_alone(), "the lease is renewed while files are waited for");
    until("why it is not here", || {
        routes.asked().is_some_and(|asked| asked.failed.contains_key("b@2"))
    });
    let asked = routes.asked().unwrap();
    assert_eq!(asked.tasks[&"b".parse::<TaskName>().unwrap()].route.stable, nowhere);
    assert!(!asked.failed.contains_key("a@1"));

    // What is revoked leaves the engine here as well, and is refused by whatever name.
    let generation = |target: &Target| match target {
        Target::Adapter { generation, .. } => generation.clone(),
        Target::Teacher | Target::Base => String::new(),
    };
    let mut revoking = told(&[("a", &good), ("b", &nowhere)]);
    revoking.revoked.insert(generation(&bad));
    server.tell(revoking);
    until("the revocation", || routes.numbered().revoked.contains(&generation(&bad)));
    until("the eviction", || !engine.adapters().iter().any(|info| info.alias == "a@2"));

    // And a silent server does not bring back what was taken off.
    server.is_silent.store(true, Ordering::Relaxed);
    until("the end of the lease", is_alone);
    assert_eq!((serves("a"), serves("b")), (good.clone(), other.clone()));
    let kept: Held =
        serde_json::from_slice(&std::fs::read(home.path().join("replica/table.json")).unwrap())
            .unwrap();
    assert_eq!(kept.told.tasks[&"a".parse::<TaskName>().unwrap()].route.stable, good);
    assert_eq!(kept.told.tasks[&"b".parse::<TaskName>().unwrap()].route.stable, other);
    drop(follower);
}
