//! Two tenants on one server that try to find each other.

mod cache;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use understudy_access::{Key, NewKey, Scope};
use understudy_capture::{Capture, Levels};
use understudy_inference::Backend;
use understudy_journal::Query;
use understudy_router::{Route, Target};
use understudy_teacher::{Accounts, Limits, Metered, MicroUsd, Price};
use understudy_trajectory::{Outcome, Signal, Step};

use super::{Guarded, HERE, guarded, guarded_on, new_key};
use crate::tests::{
    CHAT, Reply, Settings, chat,
    taps::{self, Teacher},
    with,
};

/// Both have a task of the same name, and the operator has one as well.
fn town() -> (Guarded, [Key; 3]) {
    let server = guarded();
    for task in ["triage", "acme.triage", "bolt.triage"] {
        server.routes.publish(task.parse().unwrap(), Route::to(Target::Base), None);
    }
    server.routes.publish("acme.secret-plan".parse().unwrap(), Route::to(Target::Base), None);
    let ours = server.key(&[
        Scope::Infer,
        Scope::Feedback,
        Scope::Telemetry,
        Scope::Read,
        Scope::AdapterWrite,
    ]);
    let keys = [server.key_of("acme"), server.key_of("bolt"), ours];
    (server, keys)
}

impl Guarded {
    fn say(&self, key: &Key, more: Value) -> Reply {
        let body = with(chat("hi"), with(json!({"model": "triage", "session_id": "s1"}), more));
        let reply = self.post_as(key, CHAT, &body);
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply
    }

    fn told(&self, task: &str) -> Vec<(Step, Vec<Outcome>)> {
        let query = Query { task: Some(task.parse().unwrap()), ..Query::default() };
        let found = self.journal.trajectories(&query).unwrap();
        let steps = found.into_iter().flat_map(|trajectory| trajectory.steps);
        steps.map(|judged| (judged.step, judged.outcomes)).collect()
    }

    fn accept(&self, key: &Key, target: Value) -> (u16, Value) {
        let reply = self.post_as(key, "/v1/feedback", &with(json!({"signal": "accept"}), target));
        (reply.status, reply.json()["results"][0]["state"].clone())
    }
}

#[test]
fn the_same_names_are_different_things() {
    let (server, [acme, bolt, ours]) = town();
    let header = json!({});
    let replies = [&acme, &bolt, &ours].map(|key| server.say(key, header.clone()));
    for (task, tenant) in
        [("acme.triage", Some("acme")), ("bolt.triage", Some("bolt")), ("triage", None)]
    {
        let told = server.told(task);
        let [(step, _)] = &told[..] else { panic!("{task}: {told:?}") };
        assert_eq!((step.id.tenant(), step.trajectory.tenant()), (tenant, tenant));
        assert_eq!(step.session.as_deref(), Some("s1"));
    }
    let trajectories = replies.map(|r| r.header("x-understudy-trajectory").unwrap().to_owned());
    assert!(trajectories.iter().all(|id| trajectories.iter().filter(|o| *o == id).count() == 1));
    // Going on under the id that was told goes on in the same trajectory.
    let again = [
        ("authorization", format!("Bearer {}", acme.expose())),
        ("x-understudy-trajectory", trajectories[0].clone()),
    ];
    let again: Vec<_> = again.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let body = with(chat("more"), json!({"model": "triage"}));
    let reply = server.post_with(CHAT, &body, &again);
    assert_eq!(reply.header("x-understudy-trajectory"), Some(trajectories[0].as_str()));
    // And under another tenant's it does not.
    let stolen = [
        ("authorization", format!("Bearer {}", bolt.expose())),
        ("x-understudy-trajectory", trajectories[0].clone()),
    ];
    let stolen: Vec<_> = stolen.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let reply = server.post_with(CHAT, &body, &stolen);
    assert_ne!(reply.header("x-understudy-trajectory"), Some(trajectories[0].as_str()));
}

#[test]
fn nobody_asks_or_sees_what_is_another_s() {
    let (server, [acme, bolt, ours]) = town();
    let path = server.adapter_files("of-acme", "weights of acme");
    let load = json!({"lora_name": "sql@1", "lora_path": path});
    assert_eq!(server.post_as(&acme, "/v1/load_lora_adapter", &load).status, 200);
    for (key, others) in [
        (&bolt, ["acme.triage", "acme.secret-plan", "secret-plan", "acme.sql@1", "sql@1"]),
        (&ours, ["acme.triage", "acme.secret-plan", "secret-plan", "acme.sql@1", "bolt.triage"]),
    ] {
        for model in others {
            let reply = server.post_as(key, CHAT, &with(chat("hi"), json!({"model": model})));
            assert_eq!(reply.status, 404, "{model}: {}", reply.text);
            let known = reply.text.replace(&format!("`{model}`"), "");
            assert!(!known.contains("acme") && !known.contains("secret"), "{}", reply.text);
            let by_name = json!({"model": "triage", "adapter": model});
            assert_eq!(
                server.post_as(key, CHAT, &with(chat("hi"), by_name)).status,
                404,
                "{model}"
            );
        }
        for path in ["/v1/models", "/v1/lora_adapters", "/weight_info", "/api/v1/tasks"] {
            let reply = server.get_as(key, path);
            assert_eq!(reply.status, 200, "{path}");
            assert!(
                !reply.text.contains("acme") && !reply.text.contains("secret"),
                "{path}: {}",
                reply.text
            );
        }
        assert_eq!(server.get_as(key, "/v1/models/acme.sql@1").status, 404);
    }
    // A digest is no permission either.
    let adapters = server.get_as(&acme, "/v1/lora_adapters").json();
    let digest = adapters["data"][0]["generation"].as_str().unwrap();
    let by_digest = json!({"model": "triage", "adapter": {"generation": digest}});
    assert_eq!(server.post_as(&acme, CHAT, &with(chat("hi"), by_digest.clone())).status, 200);
    for key in [&bolt, &ours] {
        let reply = server.post_as(key, CHAT, &with(chat("hi"), by_digest.clone()));
        assert_eq!(reply.status, 404, "{}", reply.text);
    }
    // Its owner calls it by its own name.
    let models = server.get_as(&acme, "/v1/models").text;
    assert!(models.contains("\"secret-plan\"") && models.contains("\"sql@1\""), "{models}");
    assert!(!models.contains("bolt"), "{models}");
    // And what is about everybody is for no tenant.
    for path in ["/metrics", "/load", "/api/v1/journal", "/api/v1/audit", "/is_paused"] {
        assert_eq!(server.get_as(&acme, path).status, 403, "{path}");
    }
    assert_eq!(server.post_as(&acme, "/pause", &json!({})).status, 403);
}

#[test]
fn nobody_reads_what_was_said_to_another() {
    let (server, [acme, bolt, ours]) = town();
    let reader = |tenant: Option<&str>, user: Option<&str>| {
        let key = NewKey {
            tenant: tenant.map(|name| name.parse().unwrap()),
            user: user.map(str::to_owned),
            ..new_key([Scope::TrajectoryRead].into_iter().collect())
        };
        server.keys.create(key).unwrap().0
    };
    let said = |key: &Key, user: &str| {
        let own = json!({"user": user, "session_id": format!("session of {user}")});
        let reply = server.say(key, own);
        reply.header("x-understudy-trajectory").unwrap().to_owned()
    };
    let of_acme = [said(&acme, "ann"), said(&acme, "bob")];
    let (of_bolt, of_ours) = (said(&bolt, "ann"), said(&ours, "ann"));
    let read = |key: &Key, id: &str| server.get_as(key, &format!("/api/v1/trajectories/{id}"));
    let listed = |key: &Key| -> Vec<String> {
        let reply = server.get_as(key, "/api/v1/trajectories").json();
        let rows = reply["trajectories"].as_array().unwrap();
        rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    };
    let everything = [&of_acme[0], &of_acme[1], &of_bolt, &of_ours];
    for (key, own) in [
        (reader(Some("acme"), None), vec![&of_acme[0], &of_acme[1]]),
        (reader(Some("bolt"), None), vec![&of_bolt]),
        (reader(None, None), vec![&of_ours]),
        (reader(Some("acme"), Some("bob")), vec![&of_acme[1]]),
        (reader(Some("acme"), Some("cleo")), vec![]),
    ] {
        let mut expected: Vec<String> = own.iter().map(|id| (*id).clone()).collect();
        expected.sort();
        assert_eq!(listed(&key), expected);
        for id in everything {
            let reply = read(&key, id);
            if own.contains(&id) {
                assert_eq!(reply.status, 200, "{}", reply.text);
                assert_eq!(reply.json()["steps"][0]["step"]["task"], "triage");
            } else {
                assert_eq!(reply.status, 404, "{}", reply.text);
                let nothing = read(&key, "traj_nothing").text.replace("traj_nothing", id);
                assert_eq!(reply.text, nothing, "as if it were not there");
            }
        }
        // The full name of a task leads to nobody else's either.
        let by_task = server.get_as(&key, "/api/v1/trajectories?task=acme.triage").json();
        let rows = by_task["trajectories"].as_array().cloned().unwrap_or_default();
        assert!(rows.iter().all(|row| expected.iter().any(|id| row["id"] == json!(id))));
    }
    // Whoever may look at models may not read what was said.
    assert_eq!(read(&acme, &of_acme[0]).status, 403);
    assert_eq!(read(&ours, &of_ours).status, 403);
}

#[test]
fn nobody_loads_or_unloads_what_is_another_s() {
    let (server, [acme, bolt, ours]) = town();
    let path = server.adapter_files("mine", "weights");
    let load = |key: &Key, name: &str| {
        let body = json!({"lora_name": name, "lora_path": path, "load_inplace": true});
        server.post_as(key, "/v1/load_lora_adapter", &body).status
    };
    assert_eq!(
        (load(&acme, "style"), load(&bolt, "acme.style"), load(&ours, "acme.style")),
        (200, 400, 400)
    );
    let unload = |key: &Key, name: &str| {
        server.post_as(key, "/v1/unload_lora_adapter", &json!({"lora_name": name})).status
    };
    assert_eq!((unload(&bolt, "style"), unload(&bolt, "acme.style")), (404, 400));
    let rollback = json!({"lora_name": "style"});
    assert_eq!(server.post_as(&bolt, "/v1/rollback_lora_adapter", &rollback).status, 404);
    assert_eq!(unload(&acme, "style"), 200);
}

#[test]
fn nobody_judges_another_s_replies() {
    let (server, [acme, bolt, ours]) = town();
    let reply = server.say(&acme, json!({}));
    let step = server.told("acme.triage")[0].0.id.to_string();
    let trajectory = reply.header("x-understudy-trajectory").unwrap();
    let response = reply.json()["id"].clone();
    for key in [&bolt, &ours] {
        for target in [
            json!({"response_id": response}),
            json!({"step_id": step}),
            json!({"trajectory_id": trajectory}),
            json!({"session_id": "s1"}),
        ] {
            assert_eq!(server.accept(key, target.clone()), (202, json!("pending")), "{target}");
        }
    }
    assert_eq!(server.told("acme.triage")[0].1, []);
    assert_eq!(server.accept(&acme, json!({"response_id": response})), (202, json!("linked")));
    assert_eq!(server.accept(&acme, json!({"trajectory_id": trajectory})), (202, json!("linked")));
    assert_eq!(server.accept(&acme, json!({"session_id": "s1"})), (202, json!("linked")));
    assert_eq!(server.told("acme.triage")[0].1.len(), 3);
    // What waits, and what was said, is told to who said it.
    let waits = |key: &Key| server.get_as(key, "/v1/pending").json()["waiting"].clone();
    assert_eq!((waits(&acme), waits(&bolt), waits(&ours)), (json!(0), json!(4), json!(4)));
    let path = format!("/v1/feedback?response_id={}", response.as_str().unwrap());
    let said = |key: &Key| server.get_as(key, &path).json()["feedback"].as_array().unwrap().len();
    assert_eq!((said(&acme), said(&bolt), said(&ours)), (1, 1, 1));
}

#[test]
fn nobody_takes_back_or_forestalls_another_s_verdict() {
    let (server, [acme, bolt, ours]) = town();
    let response = server.say(&acme, json!({})).json()["id"].clone();
    // The same id from three tenants is three outcomes.
    let event = json!({"response_id": response, "id": "verdict-1"});
    for key in [&bolt, &ours] {
        assert_eq!(server.accept(key, event.clone()), (202, json!("pending")));
    }
    assert_eq!(server.accept(&acme, event.clone()), (202, json!("linked")));
    let id = server.told("acme.triage")[0].1[0].id.to_string();
    for key in [&bolt, &ours] {
        for name in ["verdict-1", &id] {
            assert_eq!(server.delete_as(key, &format!("/v1/feedback/{name}")).status, 200);
        }
        let instead = json!({"response_id": "other", "supersedes": id});
        assert_eq!(server.accept(key, instead).0, 202);
    }
    assert_eq!(server.told("acme.triage")[0].1.len(), 1, "the verdict stands");
    assert_eq!(server.delete_as(&acme, "/v1/feedback/verdict-1").status, 200);
    assert_eq!(server.told("acme.triage")[0].1, []);
}

#[test]
fn a_token_speaks_for_its_own_tenant() {
    let (server, [acme, _, ours]) = town();
    let (reply, other) = (server.say(&acme, json!({})), server.say(&ours, json!({})));
    let token = |reply: &Reply| reply.header("x-feedback-token").unwrap().to_owned();
    let sign = |reply: &Reply, token: &str| {
        let event = json!({"response_id": reply.json()["id"], "signal": "accept"});
        let reply = server.post_with("/v1/feedback/signed", &event, &[("x-feedback-token", token)]);
        (reply.status, reply.json()["results"][0]["state"].clone())
    };
    assert_eq!(sign(&reply, &token(&reply)), (202, json!("linked")));
    assert_eq!(server.told("acme.triage")[0].1.len(), 1);
    let bare = token(&reply).trim_end_matches(".acme").to_owned();
    for forged in
        [bare.clone(), format!("{bare}.bolt"), format!("{}.acme", token(&other)), token(&other)]
    {
        assert_eq!(sign(&reply, &forged).0, 400, "{forged}");
    }
    // Two tenants' tokens in one request are refused together.
    let events = json!([
        {"response_id": reply.json()["id"], "signal": "accept", "token": token(&reply)},
        {"response_id": other.json()["id"], "signal": "accept", "token": token(&other)},
    ]);
    assert_eq!(server.post("/v1/feedback/signed", &events).status, 400);
}

/// One call, told by telemetry.
fn trace(session: &str, said: &str) -> Value {
    let attribute = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    json!({"resourceSpans": [{"scopeSpans": [{"spans": [{
        "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331",
        "name": "chat gpt", "kind": 3,
        "startTimeUnixNano": "1700000000000000000", "endTimeUnixNano": "1700000001000000000",
        "attributes": [
            attribute("gen_ai.operation.name", "chat"),
            attribute("gen_ai.request.model", "gpt"),
            attribute("gen_ai.conversation.id", session),
            attribute("gen_ai.response.id", "chatcmpl-of-others"),
            attribute("gen_ai.input.messages", &json!([{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]).to_string()),
            attribute("gen_ai.output.messages", &json!([{"role": "assistant", "parts": [{"type": "text", "content": said}], "finish_reason": "stop"}]).to_string()),
        ],
    }]}]}]})
}

#[test]
fn nobody_s_telemetry_takes_the_place_of_another_s() {
    let (server, [acme, bolt, ours]) = town();
    // Trace and span are whatever the sender says.
    for (key, said) in [(&acme, "of acme"), (&bolt, "of bolt"), (&ours, "ours")] {
        let reply = server.post_as(key, "/v1/traces", &trace("s1", said));
        assert_eq!(reply.status, 200, "{}", reply.text);
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    let tasks =
        [("acme.telemetry", "of acme"), ("bolt.telemetry", "of bolt"), ("telemetry", "ours")];
    while tasks.iter().any(|(task, _)| server.told(task).is_empty()) {
        assert!(Instant::now() < deadline, "{:?}", server.journal.counts());
        std::thread::sleep(Duration::from_millis(20));
    }
    for (task, said) in tasks {
        let told = server.told(task);
        let [(step, _)] = &told[..] else { panic!("{task}: {told:?}") };
        assert_eq!(step.reply.content, understudy_message::Message::assistant(said).content);
    }
    // The response id that all of them name is everybody's own.
    let target = json!({"response_id": "chatcmpl-of-others"});
    assert_eq!(server.accept(&bolt, target), (202, json!("linked")));
    assert_eq!(server.told("bolt.telemetry")[0].1.len(), 1);
    assert_eq!(
        (server.told("acme.telemetry")[0].1.len(), server.told("telemetry")[0].1.len()),
        (0, 0)
    );
    // Nor may telemetry be counted to a task of somebody else's.
    let header = format!("Bearer {}", bolt.expose());
    let headers = [("authorization", header.as_str()), ("x-understudy-task", "acme.triage")];
    assert_eq!(server.post_with("/v1/traces", &trace("s1", "x"), &headers).status, 400);
}

#[test]
fn telemetry_that_names_another_s_reply_is_its_sender_s_own() {
    let (server, [acme, bolt, _]) = town();
    let reply = server.say(&acme, json!({"session_id": "acme-only"}));
    let response = reply.json()["id"].as_str().unwrap().to_owned();
    // What our own server recorded stands for a span that names it, for its tenant alone.
    let body: Value = trace("probe", "of the sender")
        .to_string()
        .replace("chatcmpl-of-others", &response)
        .parse()
        .unwrap();
    for key in [&acme, &bolt] {
        assert_eq!(server.post_as(key, "/v1/traces", &body).status, 200);
    }
    let read = || server.journal.reading().unwrap().map_or(0, |reading| reading.body);
    let deadline = Instant::now() + Duration::from_secs(20);
    while read() < 2 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(server.told("acme.telemetry"), []);
    let told = server.told("bolt.telemetry");
    let [(step, _)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(step.reply.content, understudy_message::Message::assistant("of the sender").content);
    assert_eq!(server.told("acme.triage").len(), 1);
}

#[test]
fn a_tenant_s_draft_is_judged_by_what_took_its_place() {
    let teacher = Some(taps::teacher(Ok("certainly")));
    let server = guarded_on(HERE.parse().unwrap(), Settings { teacher, ..Settings::default() });
    let route = taps::escalating(taps::refusing());
    server.routes.publish("acme.triage".parse().unwrap(), route, None);
    let body = with(chat("I can't help with that"), json!({"model": "triage"}));
    let reply = server.post_as(&server.key_of("acme"), CHAT, &body);
    assert_eq!(reply.header("x-understudy-escalation"), Some("answered"), "{}", reply.text);
    let judged = |(_, outcomes): &(Step, Vec<Outcome>)| {
        outcomes.iter().any(|one| matches!(one.signal, Signal::Regenerate { kept: Some(_) }))
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while !server.told("acme.triage").iter().any(judged) {
        assert!(Instant::now() < deadline, "{:?}", server.told("acme.triage"));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_tenant_s_words_are_kept_at_its_own_level() {
    let (server, [acme, bolt, ours]) = town();
    let levels = [("acme", Capture::Metadata), ("bolt", Capture::None)];
    let levels = levels.map(|(tenant, level)| (tenant.parse().unwrap(), level));
    server.gateway.capture_at(Levels::new(Capture::Full, levels.into()));
    let said = |key: &Key, word: &str| {
        let body = with(chat(word), json!({"model": "triage"}));
        let reply = server.post_as(key, CHAT, &body);
        assert_eq!(reply.status, 200, "{}", reply.text);
        let flag = json!({"response_id": reply.json()["id"], "signal": "flag", "reason": word});
        let flagged = server.post_as(key, "/v1/feedback", &flag).status;
        let told = server.post_as(key, "/v1/traces", &trace(word, word));
        (flagged, told.status, told.json()["partialSuccess"]["rejectedSpans"].clone())
    };
    assert_eq!(said(&acme, "quokka"), (202, 200, json!("1")));
    let (flagged, told, _) = said(&bolt, "wombat");
    assert_eq!((flagged, told), (403, 403));
    let (flagged, told, rejected) = said(&ours, "numbat");
    assert_eq!((flagged, told), (202, 200));
    assert!(rejected.is_null(), "{rejected}");
    let entries = format!("{:?}", server.journal.follow(0, 100).unwrap());
    assert!(entries.contains("numbat") && !entries.contains("quokka"), "{entries}");
    assert!(!entries.contains("wombat"), "{entries}");
    assert_eq!(server.told("acme.triage").len(), 1, "what happened is kept");
    assert_eq!(server.told("bolt.triage"), []);
}

#[test]
fn whatever_a_tenant_asks_is_the_tenant_s() {
    let (server, [acme, _, ours]) = town();
    // The operator has a task that is called like the base.
    server.routes.publish("mock".parse().unwrap(), Route::to(Target::Base), None);
    let path = server.adapter_files("of-acme", "weights of acme");
    for name in ["sql@1", "mock", "style"] {
        let load = json!({"lora_name": name, "lora_path": path, "load_inplace": true});
        let reply = server.post_as(&acme, "/v1/load_lora_adapter", &load);
        assert!([200, 400].contains(&reply.status), "{name}: {}", reply.text);
    }
    let adapters = [None, Some("sql@1"), Some("style"), Some("acme.style")];
    let mut asked = 0;
    for model in ["mock", "triage", "acme.triage", "sql@1", "acme.sql@1", "style", "secret-plan"] {
        for adapter in adapters {
            let mut body = with(chat("hi"), json!({"model": model}));
            if let Some(adapter) = adapter {
                body["adapter"] = json!(adapter);
            }
            let reply = server.post_as(&acme, CHAT, &body);
            assert_eq!(reply.status, 200, "{model} {adapter:?}: {}", reply.text);
            asked += 1;
        }
    }
    let steps = server.steps();
    assert_eq!(steps.len(), asked);
    for step in steps {
        let tenant = step.task.tenant().map(|tenant| tenant.to_string());
        assert_eq!(tenant.as_deref(), Some("acme"), "{}", step.task);
    }
    // The operator's own is still there.
    assert_eq!(server.post_as(&ours, CHAT, &chat("hi")).status, 200);
    assert_eq!(server.told("mock").len(), 1);
}

#[test]
fn nobody_spends_the_teacher_s_money_of_another() {
    let frontier = Teacher { says: Ok("rich"), delay: Duration::ZERO };
    let dollar = MicroUsd::from_usd(1);
    let price = Price { input_per_million: dollar, output_per_million: dollar };
    // A question reserves less than thirty millionths and costs fifteen.
    let limits = Limits {
        per_day: dollar,
        per_tenant: Some(MicroUsd::new(40)),
        tenants: [("bolt".to_owned(), MicroUsd::new(1_000))].into(),
    };
    let clock = Arc::new(understudy_ident::SystemClock);
    let metered = Metered::new(Arc::new(frontier), price, Accounts::new(limits), clock);
    let teacher: Arc<dyn Backend> = Arc::new(metered);
    let settings = Settings { teacher: Some(teacher), ..Settings::default() };
    let server = guarded_on(HERE.parse().unwrap(), settings);
    for task in ["acme.triage", "bolt.triage"] {
        server.routes.publish(task.parse().unwrap(), Route::to(Target::Teacher), None);
    }
    let (acme, bolt) = (server.key_of("acme"), server.key_of("bolt"));
    let ask = |key: &Key| {
        let body = with(chat("hi"), json!({"model": "triage", "max_tokens": 8}));
        server.post_as(key, CHAT, &body)
    };
    assert_eq!(ask(&acme).status, 200);
    let refused = std::iter::repeat_with(|| ask(&acme)).take(5).find(|reply| reply.status != 200);
    let refused = refused.expect("forty millionths are soon spent");
    assert_eq!(
        (refused.status, &refused.json()["error"]["reason"]),
        (429, &json!("budget_exhausted"))
    );
    assert!(refused.text.contains("budget of acme"), "{}", refused.text);
    for _ in 0..5 {
        let reply = ask(&bolt);
        assert_eq!(reply.status, 200, "bolt has its own: {}", reply.text);
    }
}
