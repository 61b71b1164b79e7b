//! That nothing anybody said lies in a file that is for everybody.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::json;
use understudy_ident::Timestamp;
use understudy_inference::HashingEmbedder;
use understudy_memory::{
    By, Called, Choice, Episode, Failure, HealRequest, Job, MemoryRoot, NoVerifier, Principal,
    Settings, TenantId, Transcript, UserItem, Written,
};
use understudy_toolworld::{Agent, Request, Service, catalogue};

/// A token that is in no word list, different for every place.
fn canary(seen: &mut BTreeSet<String>, place: &str, n: u64) -> String {
    let mut text = format!("zq{place}{n}xv");
    text.retain(|c| c.is_ascii_alphanumeric());
    seen.insert(text.clone());
    text
}

/// Puts a canary into every field of a run that holds content.
fn salted(mut transcript: Transcript, n: u64, seen: &mut BTreeSet<String>) -> Transcript {
    let mut at = |place: &str| canary(seen, place, n);
    transcript.goal = format!("{} {}", transcript.goal, at("goal"));
    transcript.answer = json!({"done": true, "said": at("answer")}).to_string();
    transcript.subject = Some(format!("{}@{}.example", at("mail"), at("host")));
    transcript.heard.push(format!("system prompt {}", at("system")));
    transcript.heard.push(format!("Document: {}\nfile {}.pdf", at("title"), at("file")));
    transcript.heard.push(format!("https://{}.example/{}", at("site"), at("path")));
    for call in &mut transcript.calls {
        call.arguments[at("key")] = json!(at("value"));
        if let Some(order) = call.arguments.get_mut("order_id") {
            *order = json!(at("id"));
        }
        call.result = match &call.result {
            Ok(_) => Ok(json!({"title": at("output"), "body": [at("nested")]}).to_string()),
            Err(failure) => {
                let message = format!("{} for {} ({})", failure.message, at("error"), at("detail"));
                Err(Failure { message, code: failure.code })
            }
        };
    }
    transcript.calls.push(Called {
        tool: at("tool"),
        arguments: json!({"q": at("query")}),
        result: Ok(at("unknown")),
        batch: 99,
        latency_ms: 1,
        tokens: 1,
    });
    transcript
}

fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

fn holds(path: &Path, needle: &str) -> bool {
    let in_name = path.to_string_lossy().contains(needle);
    let bytes = fs::read(path).unwrap();
    in_name
        || bytes.windows(needle.len()).any(|window| window.eq_ignore_ascii_case(needle.as_bytes()))
}

struct Place {
    directory: tempfile::TempDir,
    root: MemoryRoot,
    tenant: TenantId,
    now: Timestamp,
}

fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let root = MemoryRoot::open(directory.path(), Settings::default()).unwrap();
    let now = Timestamp::from_second(1_900_000_000).unwrap();
    Place { directory, root, tenant: "acme".parse().unwrap(), now }
}

impl Place {
    fn by(&self) -> By {
        By::new("ada", "a test", self.now).unwrap()
    }

    fn user(&self, name: &str) -> Principal {
        Principal::authenticated(self.tenant.clone(), name).unwrap()
    }
}

#[test]
fn no_canary_of_any_field_reaches_any_file_answer_or_report() {
    let place = place();
    let catalogue = catalogue();
    let key = place.root.key_of(&place.tenant);
    let mut seen = BTreeSet::new();
    let agent = Agent::student();
    let episodes: Vec<Episode> = (0..160)
        .map(|n| {
            let played = agent.play(&Request::draw(3, n), None, 3, place.now);
            Episode::read(&salted(played.transcript, n, &mut seen), &catalogue, &key)
        })
        .collect();
    let settings = Settings::default();
    let job = Job {
        catalogue: &catalogue,
        key: &key,
        settings: &settings,
        embedder: &HashingEmbedder,
        teacher: None,
        now: place.now,
    };
    let report = job.learn(&episodes, &mut NoVerifier).unwrap();
    assert!(report.learned >= 2 && seen.len() > 2_000, "{} {report:#?}", seen.len());
    let store = place.root.deployment(&place.tenant).unwrap();
    for item in report.proposals.iter().take(5) {
        store.propose(item.clone(), &HashingEmbedder, &place.by()).unwrap();
        store.validate(&item.id, &place.by()).unwrap();
    }
    let releases = place.root.releases(&place.tenant);
    store.release(&releases, "hashing@1", &Choice::default(), &place.by()).unwrap();
    let mut service = Service::start(&catalogue, &store, &releases, place.now).unwrap();
    let mut said =
        vec![serde_json::to_string(&report).unwrap(), format!("{report:?} {episodes:?}")];
    for n in 0..20 {
        let mut request = Request::draw(3, n);
        request.session = canary(&mut seen, "session", n);
        request.goal = format!("{} {}", request.goal, canary(&mut seen, "asked", n));
        let (_, retrieved, _) = service.serve(&request, 3).unwrap();
        said.push(serde_json::to_string(&retrieved).unwrap());
    }
    drop(service);
    let all = files(place.directory.path());
    assert!(all.len() >= 4, "{all:?}");
    let told = said.into_iter().map(|text| ("what was said".to_owned(), text.into_bytes()));
    let written = all.iter().map(|path| (path.display().to_string(), fs::read(path).unwrap()));
    for (place, mut bytes) in told.chain(written) {
        bytes.make_ascii_lowercase();
        // Every canary begins so, and nothing else here does.
        let starts = bytes.windows(2).enumerate().filter(|(_, pair)| pair == b"zq");
        for (at, _) in starts {
            let rest = String::from_utf8_lossy(&bytes[at..bytes.len().min(at + 40)]).into_owned();
            assert!(!seen.iter().any(|needle| rest.starts_with(needle)), "{rest} in {place}");
        }
    }
    // The test can fail: what was released is in the files.
    let text = report.proposals[0].strategy.text.as_str();
    assert!(all.iter().any(|path| holds(path, text)));
}

#[test]
fn a_users_lessons_are_for_that_user_and_go_without_a_trace() {
    let place = place();
    let catalogue = catalogue();
    let (ada, grace) = (place.user("ada@example.org"), place.user("grace@example.org"));
    let preference = "prefer zqprivatexv at the top of every letter to Lord Byron.";
    let written = Written {
        kind: understudy_memory::Kind::Preference,
        situation: "When writing letters",
        strategy: preference,
        ..Written::default()
    };
    {
        let store = place.root.user(&ada).unwrap();
        let item = UserItem::written(&written, &catalogue, store.key(), place.now).unwrap();
        let id = item.id.clone();
        store.propose(item, &HashingEmbedder, &place.by()).unwrap();
        store.confirm(&id, &place.by()).unwrap();
        store.considered("r1", std::slice::from_ref(&id), &[], place.now).unwrap();
        store.outcome("r1", true, place.now).unwrap();
        let kept = store.get(&id, place.now).unwrap();
        assert!(kept.counters.success_with > 0.9 && kept.item.expires_at.is_some());
    }
    assert!(place.root.user(&grace).unwrap().all(place.now).unwrap().is_empty());
    // The same name in another tenant is somebody else.
    let elsewhere = Principal::authenticated("other".parse().unwrap(), "ada@example.org").unwrap();
    assert!(place.root.user(&elsewhere).unwrap().all(place.now).unwrap().is_empty());
    assert!(place.root.deployment(&place.tenant).unwrap().all(place.now).unwrap().is_empty());
    // Not even in the file that keeps it, because that is sealed.
    let all = files(place.directory.path());
    assert!(all.iter().any(|path| path.to_string_lossy().contains("users")));
    assert!(all.iter().all(|path| !holds(path, "zqprivatexv") && !holds(path, "ada@example.org")));

    assert!(place.root.forget_user(&ada).unwrap());
    assert!(!place.root.forget_user(&ada).unwrap());
    assert!(files(place.directory.path()).iter().all(|path| !holds(path, "zqprivatexv")));
    assert!(place.root.user(&ada).unwrap().all(place.now).unwrap().is_empty());
}

#[test]
fn no_body_can_name_a_tenant_or_a_user() {
    // Neither type reads from JSON, and a request with such fields is refused, not ignored.
    for field in ["tenant", "user", "user_id", "owner", "scope", "agent_id"] {
        let mut body = json!({
            "target": {"kind": "site", "key": "a.example"},
            "action": {"tool": "page.click"},
            "error": {"message": "not visible"},
        });
        assert!(serde_json::from_value::<HealRequest>(body.clone()).is_ok());
        body[field] = json!("grace@example.org");
        assert!(serde_json::from_value::<HealRequest>(body).is_err(), "{field}");
    }
    let tenant = || "acme".parse::<TenantId>().unwrap();
    assert!(Principal::authenticated(tenant(), "").is_err());
    assert!(Principal::authenticated(tenant(), "a\nb").is_err());
    for wrong in ["", "*", "..", "a/b", "Acme", "all tenants"] {
        assert!(wrong.parse::<TenantId>().is_err(), "{wrong}");
    }
}

#[test]
fn forgetting_a_lesson_removes_its_bytes_and_recuts_what_served_it() {
    let place = place();
    let catalogue = catalogue();
    let store = place.root.deployment(&place.tenant).unwrap();
    let releases = place.root.releases(&place.tenant);
    let write = |strategy: &str| {
        let written = Written {
            agent: Some("desk"),
            situation: "When an order is late",
            strategy,
            ..Written::default()
        };
        let key = place.root.key_of(&place.tenant);
        let item =
            understudy_memory::DeploymentItem::written(&written, &catalogue, &key, place.now);
        let item = item.unwrap();
        let id = item.id.clone();
        store.propose(item, &HashingEmbedder, &place.by()).unwrap();
        store.validate(&id, &place.by()).unwrap();
        id
    };
    let doomed = "be unusually polite and mention the deadline twice.";
    let stays = "check the region of the warehouse before anything else.";
    let (doomed_id, stays_id) = (write(doomed), write(stays));
    let (first, _) =
        store.release(&releases, "hashing@1", &Choice::default(), &place.by()).unwrap();
    store.considered("r", &[doomed_id.clone(), stays_id.clone()], &[], place.now).unwrap();
    assert!(files(place.directory.path()).iter().any(|path| holds(path, doomed)));

    let replaced = place.root.forget_item(&place.tenant, &doomed_id, &place.by()).unwrap().unwrap();
    assert_ne!(replaced, first);
    for path in files(place.directory.path()) {
        assert!(!holds(&path, doomed), "{}", path.display());
    }
    assert!(files(place.directory.path()).iter().any(|path| holds(path, stays)));
    let serving = store.releases().unwrap()[0].unwrap();
    assert_eq!(serving, replaced);
    let left: Vec<_> = releases.read(&serving).unwrap().items.into_iter().map(|i| i.id).collect();
    assert_eq!(left, std::slice::from_ref(&stays_id));
    assert!(releases.read(&first).is_err());
    assert!(store.get(&doomed_id, place.now).is_err() && store.get(&stays_id, place.now).is_ok());
    // And nothing else can be deleted or changed, whoever opens the file.
    drop(store);
}
