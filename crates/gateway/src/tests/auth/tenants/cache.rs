//! For whom models keep what they have computed, and what teachers are told of that.

use std::sync::{Arc, Mutex};

use serde_json::json;
use understudy_access::{Key, Scope};
use understudy_ident::Timestamp;
use understudy_inference::{
    AdapterInfo, Backend, GenerateRequest, InferenceError, LoadAdapter, LoadedAdapter, MockConfig,
    MockEngine, Prompt, Sink, Stats, Student,
};
use understudy_router::{Route, Target};

use super::super::{HERE, guarded_on};
use crate::tests::Settings;

/// A student that notes for whom cached keys and values would be.
#[derive(Debug)]
struct Spy {
    engine: MockEngine,
    salts: Mutex<Vec<Option<String>>>,
}

impl Backend for Spy {
    fn base(&self) -> &str {
        self.engine.base()
    }

    fn submit(&self, request: GenerateRequest, sink: Sink) -> Result<(), InferenceError> {
        self.salts.lock().unwrap().push(request.admission.cache_salt.clone());
        self.engine.submit(request, sink)
    }
}

impl Student for Spy {
    fn publish_adapter(&self, load: LoadAdapter) -> Result<LoadedAdapter, InferenceError> {
        self.engine.publish_adapter(load)
    }

    fn unload_adapter(&self, alias: &str) -> Result<(), InferenceError> {
        self.engine.unload_adapter(alias)
    }

    fn expire_adapters(
        &self,
        now: Timestamp,
        spared: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<String>, InferenceError> {
        self.engine.expire_adapters(now, spared)
    }

    fn in_flight(&self, alias: &str) -> usize {
        self.engine.in_flight(alias)
    }

    fn rollback_adapter(&self, a: &str, to: Option<&str>) -> Result<AdapterInfo, InferenceError> {
        self.engine.rollback_adapter(a, to)
    }

    fn adapters(&self) -> Vec<AdapterInfo> {
        self.engine.adapters()
    }

    fn tokenize(&self, prompt: &Prompt) -> Result<Vec<u32>, InferenceError> {
        self.engine.tokenize(prompt)
    }

    fn detokenize(&self, ids: &[u32]) -> Result<String, InferenceError> {
        self.engine.detokenize(ids)
    }

    fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        self.engine.token_bytes(id)
    }

    fn context(&self) -> usize {
        self.engine.context()
    }

    fn stats(&self) -> Stats {
        self.engine.stats()
    }

    fn check(&self) -> Result<(), InferenceError> {
        self.engine.check()
    }

    fn pause(&self) {
        self.engine.pause();
    }

    fn resume(&self) {
        self.engine.resume();
    }

    fn is_paused(&self) -> bool {
        self.engine.is_paused()
    }
}

/// A teacher as ours is: it refuses what it cannot honour.
#[derive(Debug)]
struct Strict(MockEngine);

impl Backend for Strict {
    fn base(&self) -> &str {
        self.0.base()
    }

    fn submit(&self, request: GenerateRequest, sink: Sink) -> Result<(), InferenceError> {
        match &request.admission.cache_salt {
            Some(_) => Err(InferenceError::Unsupported("salts at a teacher")),
            None => self.0.submit(request, sink),
        }
    }
}

#[test]
fn a_teacher_answers_tenants_too() {
    let engine = MockEngine::start(MockConfig::default()).unwrap();
    let teacher = Some(Arc::new(Strict(engine)) as Arc<dyn Backend>);
    let server = guarded_on(HERE.parse().unwrap(), Settings { teacher, ..Settings::default() });
    server.routes.publish("acme.triage".parse().unwrap(), Route::to(Target::Teacher), None);
    server.say(&server.key_of("acme"), json!({}));
    assert_eq!(server.told("acme.triage").len(), 1);
}

#[test]
fn nobody_learns_from_the_cache_what_another_asked() {
    let engine = MockEngine::start(MockConfig::default()).unwrap();
    let spy = Arc::new(Spy { engine, salts: Mutex::default() });
    let student = Some(Arc::clone(&spy) as Arc<dyn Student>);
    let server = guarded_on(HERE.parse().unwrap(), Settings { student, ..Settings::default() });
    for task in ["triage", "acme.triage", "bolt.triage"] {
        server.routes.publish(task.parse().unwrap(), Route::to(Target::Base), None);
    }
    let [acme, bolt] = ["acme", "bolt"].map(|tenant| server.key_of(tenant));
    let ours = server.key(&[Scope::Infer]);
    let salt = |key: &Key, own: Option<&str>| {
        let more = own.map_or_else(|| json!({}), |own| json!({"cache_salt": own}));
        server.say(key, more);
        spy.salts.lock().unwrap().pop().unwrap()
    };
    let alone = salt(&acme, None);
    assert_eq!(salt(&acme, None), alone, "a tenant shares with itself");
    assert_ne!(salt(&acme, Some("x")), alone);
    assert_eq!(salt(&ours, None), None);
    let guesses = [None, Some("acme"), Some("of:acme:"), Some("of:acme"), Some("own:"), Some("x")];
    for guess in guesses {
        let theirs = [salt(&bolt, guess), salt(&ours, guess)];
        assert_ne!(theirs[0], theirs[1], "{guess:?}");
        for of_acme in [None, Some("x")] {
            assert!(!theirs.contains(&salt(&acme, of_acme)), "{guess:?}");
        }
    }
}
