//! Releases over HTTP: started, steered, looked at and taken back.

use serde_json::{Value, json};
use understudy_access::Role as Keys;
use understudy_canary::{CanaryError, Controller, Note, Parts, PolicyDefaults};
use understudy_ident::SystemClock;
use understudy_manifest::{AdapterManifest, EvalReport};
use understudy_registry::{
    Change, Harm, InUse, PauseReason, ReleaseState, Role, Target as Serving,
};
use understudy_router::Target;

use super::{CHAT, Reply, Server, auth, chat, read, start, with};

const RECIPE: &str = "schema = 1\ntask = \"triage\"\nbase = \"mock\"\n[[train]]\nmethod = \"sft\"\n\
                      [gate]\nsuite = \"triage\"\n[release]\nsteps = [50, 100]\n\
                      min_outcomes_per_step = 4\ntap = 0.0\n";

fn change() -> Change<'static> {
    Change::new("ada", "for the test", &SystemClock)
}

fn lineage() -> AdapterManifest {
    serde_json::from_value(json!({
        "schema": 1, "task": "triage", "base": "mock", "base_digest": "b",
        "tokenizer_digest": "t", "template_digest": "c", "recipe_digest": "0".repeat(64),
        "dataset": {"version": format!("triage@{}", "0".repeat(64)), "sft_rows": 1, "pair_rows": 0},
        "parent": null, "stages": [], "code_version": "0", "device": "cpu", "threads": 1,
        "run": null,
    }))
    .unwrap()
}

fn passing(generation: &str) -> EvalReport {
    serde_json::from_value(json!({
        "schema": EvalReport::SCHEMA, "suite": "triage", "suite_digest": "0".repeat(64),
        "cases": 200, "seed": 17,
        "subjects": [{
            "name": "candidate", "generation": generation, "scores": {}, "latency_ms_p50": 10.0,
            "latency_ms_p95": 20.0, "prompt_tokens": 1, "completion_tokens": 1, "errors": 0
        }],
        "comparisons": [{
            "scorer": "exact", "baseline": "base", "candidate": "candidate", "difference": 0.7,
            "low": 0.6, "high": 0.8, "wins": 150, "losses": 1, "ties": 49, "mcnemar_p": null,
            "minimum_detectable": 0.08, "verdict": "better"
        }],
        "decision": {"passed": true, "checks": []},
    }))
    .unwrap()
}

/// What a person holds: a server, who they are to it, and the controller beside it.
struct Desk<'a> {
    server: &'a Server,
    bearer: Option<String>,
}

impl<'a> Desk<'a> {
    fn at(server: &'a Server) -> Self {
        Self { server, bearer: None }
    }

    /// Registers the next version of the task, with a report that passes if it is to.
    fn register(&self, note: &str, passes: bool) -> String {
        let directory = self.server.directory.path().join(format!("trained {note}"));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("adapter_config.json"), "{}").unwrap();
        let header = json!({"__metadata__": {"note": note}}).to_string();
        let weights = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
        std::fs::write(directory.join("adapter_model.safetensors"), weights).unwrap();
        let registry = &self.server.gateway.registry;
        let task = "triage".parse().unwrap();
        let record = registry.register(&task, &directory, &lineage(), change()).unwrap().record;
        if passes {
            let report = passing(&record.generation.to_hex());
            registry.attach_report(&record.version, &report, change()).unwrap();
        }
        record.version.to_string()
    }

    fn tick(&self) {
        self.look().unwrap();
    }

    /// One look of the controller.
    fn look(&self) -> Result<Vec<Note>, CanaryError> {
        let gateway = &self.server.gateway;
        let mut controller = Controller::new(Parts {
            registry: std::sync::Arc::clone(&gateway.registry),
            journal: self.server.journal.clone(),
            routes: std::sync::Arc::clone(&self.server.routes),
            student: std::sync::Arc::clone(&gateway.student),
            clock: std::sync::Arc::new(SystemClock),
            tasks: Vec::new(),
            first: Serving::Base,
            lessons: None,
        });
        controller.tick()
    }

    /// What is said of an adapter, and whether all are as they should be.
    fn adapter(&self, alias: &str) -> (Value, bool) {
        let list = self.get("/v1/lora_adapters");
        let mut rows = list["data"].as_array().unwrap().iter();
        let row = rows.find(|row| row["alias"] == alias).cloned().unwrap_or_default();
        (row, list["in_sync"].as_bool().unwrap())
    }

    fn post(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> Reply {
        let mut all = headers.to_vec();
        all.extend(self.bearer.as_deref().map(|bearer| ("authorization", bearer)));
        self.server.post_with(path, body, &all)
    }

    fn get(&self, path: &str) -> Value {
        let mut request = self.server.agent.get(self.server.url(path));
        if let Some(bearer) = &self.bearer {
            request = request.header("authorization", bearer);
        }
        let reply = read(request.call().unwrap());
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        reply.json()
    }

    fn start(&self, candidate: &str, headers: &[(&str, &str)]) -> Reply {
        self.post(
            "/api/v1/releases",
            &said(json!({"candidate": candidate, "recipe": RECIPE})),
            headers,
        )
    }

    /// A release on its ramp, and its path.
    fn ramping(&self, candidate: &str) -> String {
        let started = self.start(candidate, &[]);
        assert_eq!(started.status, 201, "{}", started.text);
        self.tick();
        started.header("location").unwrap().to_owned()
    }

    /// The same with the reason of a test.
    fn act(&self, path: &str, verb: &str, headers: &[(&str, &str)]) -> Reply {
        self.post(&format!("{path}/{verb}"), &said(json!({})), headers)
    }
}

fn said(more: Value) -> Value {
    with(json!({"owner": "ada", "reason": "as the test wants it"}), more)
}

fn refused(reply: &Reply, status: u16, reason: &str) {
    let error = &reply.json()["error"];
    assert_eq!((reply.status, &error["reason"]), (status, &json!(reason)), "{}", reply.text);
}

#[test]
fn a_release_is_started_once_however_often_its_command_arrives() {
    let server = start();
    let desk = Desk::at(&server);
    let candidate = desk.register("one", true);
    let key = [("idempotency-key", "start-1")];
    let first = desk.start(&candidate, &key);
    assert_eq!((first.status, first.header("etag")), (201, Some("\"1\"")), "{}", first.text);
    let again = desk.start(&candidate, &key);
    assert_eq!(again.json()["id"], first.json()["id"]);
    let path = first.header("location").unwrap().to_owned();
    refused(&desk.act(&path, "pause", &key), 422, "idempotency_key_reused");
    let other = desk.register("two", true);
    refused(&desk.start(&other, &[]), 409, "release_open");
    desk.tick();
    let shown = desk.get(&path);
    assert_eq!(
        (&shown["release"]["state"], &shown["release"]["revision"]),
        (&json!("ramping"), &json!(2))
    );
    let superseding = said(json!({"candidate": other, "recipe": RECIPE, "supersede": true}));
    assert_eq!(desk.post("/api/v1/releases", &superseding, &[]).status, 201);
    let all = desk.get("/api/v1/releases?task=triage");
    let states: Vec<&Value> =
        all["releases"].as_array().unwrap().iter().map(|one| &one["state"]).collect();
    assert_eq!(states, ["superseded", "staging"]);
    let audit = server.gateway.registry.audit(None).unwrap();
    let started = audit.iter().find(|entry| entry.action == "release.start").unwrap();
    assert_eq!((started.actor.as_str(), started.request.as_deref()), ("ada", Some("start-1")));
    server.gateway.registry.verify_audit(None).unwrap();
}

#[test]
fn a_release_starts_from_the_deployment_s_defaults() {
    let server = start();
    let defaults = PolicyDefaults { error_slo: 0.015, ..PolicyDefaults::default() };
    server.gateway.release_under(defaults);
    let desk = Desk::at(&server);
    let started = desk.start(&desk.register("one", true), &[]).json();
    let policy = &started["policy"]["policy"];
    assert_eq!((&policy["error_slo"], &policy["safety_slo"]), (&json!(0.015), &json!(0.005)));
    assert_eq!(policy["min_outcomes_per_step"], 4, "the recipe says so");
}

#[test]
fn adapters_are_shown_as_they_are_beside_what_the_registry_wants() {
    let server = start();
    let desk = Desk::at(&server);
    let candidate = desk.register("one", true);
    assert_eq!(desk.adapter(&candidate), (Value::Null, true), "it is only registered");
    let started = desk.start(&candidate, &[]);
    let path = started.header("location").unwrap().to_owned();
    let (row, in_sync) = desk.adapter(&candidate);
    assert_eq!(
        (&row["state"], &row["in_sync"], in_sync),
        (&json!("missing"), &json!(false), false)
    );
    assert_eq!(row["desired"]["role"], "canary");
    assert_eq!(row["desired"]["release"], started.json()["id"]);

    desk.tick();
    let (row, in_sync) = desk.adapter(&candidate);
    assert_eq!((&row["state"], &row["routed"]), (&json!("resident"), &json!("canary")), "{row}");
    assert_eq!((&row["desired"]["generation"], in_sync), (&row["generation"], true), "{row}");

    let promoted = desk.act(&path, "promote", &[("if-match", "*")]);
    assert_eq!(promoted.status, 200, "{}", promoted.text);
    desk.tick();
    let (row, _) = desk.adapter(&candidate);
    assert_eq!((&row["desired"]["role"], &row["routed"]), (&json!("stable"), &json!("stable")));

    // It leaves memory by another hand, and its files are not what they were.
    server.gateway.student.unload_adapter(&candidate).unwrap();
    let directory = server.gateway.registry.directory(&candidate.parse().unwrap());
    std::fs::remove_file(directory.join("adapter_model.safetensors")).unwrap();
    desk.look().unwrap_err();
    let (row, in_sync) = desk.adapter(&candidate);
    assert_eq!((&row["state"], &row["in_sync"], in_sync), (&json!("failed"), &json!(false), false));
    assert!(row["why"].as_str().unwrap().contains("adapter_model.safetensors"), "{row}");

    // An adapter of somebody's own is wanted by nobody, and disturbs nothing.
    server.load("own", "own");
    let (row, _) = desk.adapter("own");
    assert_eq!((&row["state"], &row["desired"]), (&json!("resident"), &Value::Null), "{row}");
}

#[test]
fn exposure_is_added_at_the_revision_it_was_decided_at() {
    let server = start();
    let desk = Desk::at(&server);
    let path = desk.ramping(&desk.register("one", true));
    refused(&desk.act(&path, "promote", &[]), 428, "if_match_required");
    refused(&desk.act(&path, "promote", &[("if-match", "\"1\"")]), 412, "stale_revision");
    refused(&desk.act(&path, "pause", &[("if-match", "\"1\"")]), 412, "stale_revision");
    assert_eq!(desk.act(&path, "promote", &[("if-match", "soon")]).status, 400);
    let paused = desk.act(&path, "pause", &[]);
    assert_eq!((paused.status, paused.header("etag")), (200, Some("\"3\"")), "{}", paused.text);
    assert_eq!(desk.act(&path, "resume", &[("if-match", "\"3\"")]).status, 200);
    let promoted = desk.act(&path, "promote", &[("if-match", "*")]);
    assert_eq!(promoted.json()["state"], "promoted", "{}", promoted.text);
    let channel = desk.get("/api/v1/channels/triage");
    assert_eq!((&channel["stable"], &channel["open"]), (&json!("triage@1"), &Value::Null));
    refused(&desk.act(&path, "resume", &[("if-match", "*")]), 409, "invalid_transition");
    let told = desk.act(&path, "resume", &[("if-match", "*")]);
    assert!(told.text.contains("what can be done now: roll back"), "{}", told.text);
    let undone = desk.post("/api/v1/channels/triage/undo", &said(json!({})), &[]);
    assert_eq!(undone.json()["stable"], "base", "{}", undone.text);
    let history = desk.get("/api/v1/channels/triage/history");
    assert_eq!(history["moves"].as_array().unwrap().len(), 2);
    assert_eq!(history["releases"][0]["candidate"], "triage@1");
}

#[test]
fn a_freeze_stops_what_adds_exposure_and_nothing_else() {
    let server = start();
    let desk = Desk::at(&server);
    let path = desk.ramping(&desk.register("one", true));
    server.gateway.registry.freeze(None, None, None, change()).unwrap();
    let promote = [("if-match", "*")];
    refused(&desk.act(&path, "promote", &promote), 423, "frozen");
    assert_eq!(desk.get("/api/v1/channels/triage")["freezes"].as_array().unwrap().len(), 1);
    let thin = said(json!({"force": true, "reason": "hurry"}));
    refused(&desk.post(&format!("{path}/promote"), &thin, &promote), 422, "unsaid");
    let forced = json!({"force": true, "reason": "the fix for incident 4711 cannot wait"});
    let promoted = desk.post(&format!("{path}/promote"), &said(forced), &promote);
    assert_eq!(promoted.json()["state"], "promoted", "{}", promoted.text);
    let back = desk.act(&path, "rollback", &[]);
    assert_eq!(back.json()["state"], "rolled_back", "{}", back.text);
    let needless = said(json!({"force": true}));
    assert_eq!(desk.post(&format!("{path}/abort"), &needless, &[]).status, 400);
}

#[test]
fn what_a_candidate_lacks_is_said_and_wrong_rules_are_refused() {
    let server = start();
    let desk = Desk::at(&server);
    let candidate = desk.register("one", false);
    let lacking = desk.start(&candidate, &[]);
    refused(&lacking, 422, "not_admitted");
    assert!(lacking.text.contains("passing report"), "{}", lacking.text);
    let start = |more: Value| {
        let whole = with(json!({"candidate": candidate, "recipe": RECIPE}), more);
        desk.post("/api/v1/releases", &said(whole), &[])
    };
    let other = RECIPE.replace("\"triage\"", "\"other\"");
    refused(&start(json!({"recipe": other})), 422, "wrong_rules");
    let wrong = start(json!({"recipe": RECIPE.replace("[50, 100]", "[50, 5]")}));
    assert_eq!((wrong.status, &wrong.json()["error"]["param"]), (400, &json!("recipe")));
    assert_eq!(start(json!({"steps": [1]})).status, 400, "an unknown field is not ignored");
    assert_eq!(start(json!({"owner": null})).status, 400, "somebody answers for it");
    refused(&start(json!({"candidate": "triage@9"})), 404, "unknown");
    assert_eq!(desk.start(&candidate, &[("if-match", "*")]).status, 400);
    assert_eq!(server.get("/api/v1/releases/rel_none").status, 404);
}

#[test]
fn evidence_is_shown_as_the_controller_reads_it() {
    let server = start();
    let desk = Desk::at(&server);
    let path = desk.ramping(&desk.register("one", true));
    let none = desk.get(&format!("{path}/evidence"));
    assert_eq!(none["live"]["canary"]["units"], 0);
    for n in 0..12 {
        let ask = with(chat("hi"), json!({"model": "triage"}));
        let session = format!("visitor-{n}");
        let reply = server.post_with(CHAT, &ask, &[("x-session-id", &session)]).json();
        let event = json!({"response_id": reply["id"], "signal": "accept"});
        assert_eq!(server.post("/v1/feedback", &event).status, 202);
    }
    let shown = desk.get(&format!("{path}/evidence"));
    let units = |arm: &str| shown["live"][arm]["rewarded"].as_u64().unwrap();
    assert_eq!(units("canary") + units("baseline"), 12, "{shown}");
    assert!(shown["live"]["judgement"]["reasons"].as_array().unwrap().len() > 5, "{shown}");
    let decisions = shown["decisions"].as_array().unwrap();
    let actions: Vec<&str> = decisions.iter().map(|one| one["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["release.start", "release.stage"]);
    desk.act(&path, "rollback", &[]);
    let closed = desk.get(&format!("{path}/evidence"));
    assert_eq!((&closed["live"], &closed["state"]), (&Value::Null, &json!("rolled_back")));
}

#[test]
fn who_follows_the_routes_is_shown_with_what_they_acknowledged() {
    let server = start();
    let desk = Desk::at(&server);
    let path = desk.ramping(&desk.register("one", true));
    let told = server.get("/api/v1/watch?node=two&wait_ms=0").json();
    let servers = desk.get(&path)["servers"].clone();
    assert_eq!(
        (&servers["acknowledged"], &servers["nodes"][0]["node"]),
        (&json!(0), &json!("two"))
    );
    let asking_on = format!(
        "/api/v1/watch?node=two&wait_ms=0&epoch={}&since={}",
        told["epoch"].as_str().unwrap(),
        told["sequence"]
    );
    server.get(&asking_on);
    assert_eq!(desk.get("/api/v1/channels/triage")["servers"]["acknowledged"], 1);
}

#[test]
fn a_candidate_waits_for_the_servers_that_follow_to_acknowledge_it() {
    let server = start();
    let desk = Desk::at(&server);
    server.get("/api/v1/watch?node=two&wait_ms=0");
    let path = desk.ramping(&desk.register("one", true));
    let state = || desk.get(&path)["release"]["state"].clone();
    assert_eq!(state(), "staging");
    let told = server.get("/api/v1/watch?node=two&wait_ms=0").json();
    assert_eq!(told["table"]["adapters"][0]["version"], "triage@1", "{told}");
    assert_eq!(told["table"]["tasks"]["triage"]["route"]["canary"]["share"], 0.0, "{told}");
    desk.tick();
    assert_eq!(state(), "staging", "it was told, and has not acknowledged");
    let (epoch, sequence) = (told["epoch"].as_str().unwrap(), &told["sequence"]);
    server.get(&format!("/api/v1/watch?node=two&wait_ms=0&epoch={epoch}&since={sequence}"));
    desk.tick();
    assert_eq!(state(), "ramping");
}

#[test]
fn a_key_acts_in_its_owner_s_name_and_by_its_owner_s_roles() {
    let guarded = auth::guarded();
    let desk = Desk::at(&guarded);
    let candidate = desk.register("one", true);
    let registry = &guarded.gateway.registry;
    registry.grant("grace", Role::ReleaseManager, true, change()).unwrap();
    registry
        .grant("ada", Role::Engineer, true, Change::new("grace", "hired", &SystemClock))
        .unwrap();
    let with_key = |owner: &str, role: Keys| {
        let key = guarded.key_for(owner, role.scopes(false));
        Desk { server: &guarded, bearer: Some(format!("Bearer {}", key.expose())) }
    };
    let (ada, grace) = (with_key("ada", Keys::Engineer), with_key("grace", Keys::ReleaseManager));
    let body = json!({"candidate": candidate, "recipe": RECIPE, "reason": "learned new forms"});
    refused(&ada.post("/api/v1/releases", &body, &[]), 403, "not_permitted");
    let as_grace = with(body.clone(), json!({"owner": "grace"}));
    let pretended = ada.post("/api/v1/releases", &as_grace, &[]);
    assert!(
        pretended.status == 403 && pretended.text.contains("cannot act as"),
        "{}",
        pretended.text
    );
    let started = grace.post("/api/v1/releases", &body, &[]);
    assert_eq!((started.status, &started.json()["owner"]), (201, &json!("grace")));
    let path = started.header("location").unwrap().to_owned();
    // Taking off needs no role, only a key that is for releases at all.
    let watcher = with_key("eve", Keys::Monitor);
    refused(&watcher.act(&path, "abort", &[]), 403, "missing_scope");
    let back = ada.post(&format!("{path}/abort"), &json!({"reason": "wrong totals"}), &[]);
    assert_eq!((back.status, &back.json()["changed_by"]), (200, &json!("ada")), "{}", back.text);
}

impl Desk<'_> {
    /// A version that was released and promoted.
    fn promoted(&self, note: &str) -> String {
        let version = self.register(note, true);
        let path = self.ramping(&version);
        let promoted = self.act(&path, "promote", &[("if-match", "*")]);
        assert_eq!(promoted.status, 200, "{}", promoted.text);
        self.tick();
        version
    }

    fn revoke(&self, version: &str) {
        let (harm, with_rollback) = (Harm::Safety, InUse::RollBack);
        let registry = &self.server.gateway.registry;
        registry.revoke(&version.parse().unwrap(), harm, with_rollback, change()).unwrap();
    }

    /// Who answers the task now.
    fn answers(&self) -> String {
        let reply = self.server.post(CHAT, &with(chat("hi"), json!({"model": "triage"})));
        assert_eq!(reply.status, 200, "{}", reply.text);
        let adapter = reply.header("x-understudy-adapter").unwrap_or("base ");
        adapter.split(' ').next().unwrap().to_owned()
    }
}

#[test]
fn what_was_revoked_answers_nobody_by_any_name() {
    let server = start();
    let desk = Desk::at(&server);
    let (one, two) = (desk.promoted("one"), desk.promoted("two"));
    assert_eq!(desk.answers(), two);
    let loras = server.directory.path().join("loras");
    std::fs::create_dir_all(&loras).unwrap();
    let copy = loras.join("copy");
    std::fs::rename(server.directory.path().join("trained two"), &copy).unwrap();
    let load = |name: &str| {
        server.post("/v1/load_lora_adapter", &json!({"lora_name": name, "lora_path": copy}))
    };
    assert_eq!(load("alias").status, 200);
    let generation = server.gateway.registry.get(&two.parse().unwrap()).unwrap().record.generation;
    let by_digest = json!({"model": "triage", "adapter": {"generation": generation.to_hex()}});
    let names = [json!({"model": two}), json!({"model": "alias"}), by_digest];
    for name in &names {
        let reply = server.post(CHAT, &with(chat("hi"), name.clone()));
        assert_eq!(reply.status, 200, "{name}: {}", reply.text);
    }

    desk.revoke(&two);
    desk.tick();
    assert_eq!(desk.answers(), one);
    for name in &names {
        let reply = server.post(CHAT, &with(chat("hi"), name.clone()));
        assert_eq!(reply.status, 404, "{name}: {}", reply.text);
    }
    let held = server.gateway.student.adapters();
    assert_eq!(held.iter().map(|info| info.alias.as_str()).collect::<Vec<_>>(), [one.as_str()]);
    refused(&load("another"), 403, "version_revoked");
    // Nor is it released again.
    assert_ne!(desk.start(&two, &[]).status, 201);
    desk.revoke(&one);
    desk.tick();
    assert_eq!(desk.answers(), "base");
}

#[test]
fn what_was_revoked_and_is_held_still_is_refused_all_the_same() {
    let server = start();
    server.load("triage@1", "one");
    let generation = server.gateway.student.adapters()[0].generation.clone();
    let stable = Target::Adapter { version: "triage@1".to_owned(), generation: generation.clone() };
    server.route("triage", stable);
    server.routes.revoke([generation].into());
    for model in ["triage", "triage@1"] {
        let reply = server.post(CHAT, &with(chat("hi"), json!({"model": model})));
        refused(&reply, 404, "version_revoked");
    }
}

#[test]
fn a_rollback_leads_past_every_version_that_may_serve_no_more() {
    let server = start();
    let desk = Desk::at(&server);
    let versions = ["one", "two", "three", "four"].map(|note| desk.promoted(note));
    let [one, two, three, four] = versions;
    let registry = &server.gateway.registry;
    desk.revoke(&three);
    std::fs::remove_dir_all(registry.directory(&two.parse().unwrap())).unwrap();
    assert_eq!(desk.answers(), four);
    desk.post("/api/v1/channels/triage/undo", &said(json!({})), &[]);
    desk.tick();
    assert_eq!(desk.answers(), one);
}

#[test]
fn who_rewards_one_arm_alone_or_one_session_a_hundred_times_promotes_nothing() {
    let guarded = auth::guarded();
    let desk = Desk::at(&guarded);
    guarded.route("triage", Target::Base);
    let started = {
        let release = desk.register("one", true).parse().unwrap();
        let recipe = understudy_manifest::Recipe::parse("recipe", RECIPE).unwrap();
        let opening = understudy_canary::Opening {
            candidate: &release,
            recipe: &recipe,
            forced: None,
            supersede: false,
            first: Serving::Base,
            defaults: &PolicyDefaults::default(),
        };
        let student = || Ok::<_, CanaryError>(&*guarded.gateway.student);
        understudy_canary::open(&guarded.gateway.registry, student, opening, change()).unwrap()
    };
    desk.tick();
    let key = guarded.key_for("shop", Keys::Application.scopes(false));
    let shop = Desk { server: &guarded, bearer: Some(format!("Bearer {}", key.expose())) };
    let ask = |session: &str| {
        let body = with(chat("hi"), json!({"model": "triage"}));
        let reply = shop.post(CHAT, &body, &[("x-session-id", session)]);
        assert_eq!(reply.status, 200, "{}", reply.text);
        (reply.header("x-understudy-arm").unwrap().to_owned(), reply.json()["id"].clone())
    };
    let likes = |nth: usize, id: &Value| {
        let event = json!({"id": format!("out_{nth}"), "response_id": id, "signal": "accept"});
        assert_eq!(shop.post("/v1/feedback", &event, &[]).status, 202);
    };
    let examined = || {
        let registry = &guarded.gateway.registry;
        let release = registry.release(&started.id).unwrap();
        let mut examiner = understudy_canary::Examiner::default();
        (release.clone(), examiner.examine(registry, &guarded.journal, &release).unwrap())
    };
    // One session, liked as often as its user may like anything: one unit.
    let loyal = (0..).map(|n| format!("loyal-{n}"));
    let (_, id) = loyal.map(|name| ask(&name)).find(|(arm, _)| arm == "canary").unwrap();
    (0..40).for_each(|nth| likes(nth, &id));
    assert_eq!(examined().1.unwrap().canary.rewarded, 1);
    // Every session of the candidate is liked, and none of the others: the comparison is void.
    for nth in 100..400 {
        let (arm, id) = ask(&format!("visitor-{nth}"));
        if arm == "canary" {
            likes(nth, &id);
        }
        if nth % 40 == 0 {
            desk.tick();
            if examined().0.state != ReleaseState::Ramping {
                break;
            }
        }
    }
    let release = examined().0;
    assert_eq!(release.paused_because, Some(PauseReason::Invalid), "{}", release.changed_because);
    assert_eq!(guarded.gateway.registry.stable(&"triage".parse().unwrap()).unwrap(), None);
}
