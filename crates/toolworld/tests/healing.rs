//! Sites that fail and change, and an agent that asks what helped before.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use understudy_ident::Timestamp;
use understudy_inference::HashingEmbedder;
use understudy_memory::{
    By, Choice, DeploymentStore, HealSource, Library, MemoryRoot, Proposed, Releases, Settings,
    Shelf, Standings, Status, Tried,
};
use understudy_toolworld::{Browser, Draw, Rate, browser_catalogue};

struct Clinic {
    store: DeploymentStore,
    releases: Releases,
    catalogue: understudy_memory::Catalogue,
    now: Timestamp,
    shelf: Shelf,
}

impl Clinic {
    fn open(directory: &std::path::Path) -> Self {
        let mut settings = Settings::default();
        // A library is filled site by site, by people who looked.
        settings.caps.per_release = 64;
        let root = MemoryRoot::open(directory, settings).unwrap();
        let tenant = "acme".parse().unwrap();
        Self {
            store: root.deployment(&tenant).unwrap(),
            releases: root.releases(&tenant),
            catalogue: browser_catalogue(),
            now: Timestamp::from_second(1_900_000_000).unwrap(),
            shelf: Shelf::default(),
        }
    }

    fn by(&self) -> By {
        By::new("ada", "a test", self.now).unwrap()
    }

    fn reply(&self, request: &understudy_memory::HealRequest) -> understudy_memory::HealReply {
        let settings = self.store.settings();
        let kept = self.store.all(self.now).unwrap();
        let standings = Standings::of(&kept, &settings.counters, self.now);
        let library = Library {
            deployment: &self.shelf,
            user: None,
            standings: &standings,
            embedder: Some(&HashingEmbedder),
            intents: None,
            settings: &settings.retrieval,
            counters: &settings.counters,
            key: self.store.key(),
        };
        library.heal(request, self.now).unwrap()
    }

    fn release(&mut self) {
        let (digest, _) = self
            .store
            .release(&self.releases, "hashing@1", &Choice::default(), &self.by())
            .unwrap();
        let release = self.releases.read(&digest).unwrap();
        self.shelf =
            Shelf::of_release(digest, &release, Some(&HashingEmbedder), &self.catalogue).unwrap();
    }

    /// Lets an agent work; whoever gets past a failure writes down how, when `teach`.
    fn day(&mut self, browser: &Browser, name: &str, failures: u64, teach: bool) -> Rate {
        let mut draw = Draw::new(5, name);
        let mut outcomes = Vec::new();
        for _ in 0..failures {
            let met = browser.meet(&mut draw);
            let reply = self.reply(&browser.request(met, Vec::new()));
            let way = browser.follow(&reply, &mut draw);
            let worked = browser.works(met, way);
            outcomes.push(worked);
            if let Some(first) = reply.candidates.first() {
                self.store.offered(&reply.ids(HealSource::Item), self.now).unwrap();
                self.store.healed(&first.id, worked, self.now).unwrap();
            }
            if teach && !worked {
                let truth = browser.truth(met);
                let item = browser
                    .lesson(met, truth, &self.catalogue, self.store.key(), self.now)
                    .unwrap();
                if let Proposed::New { id } =
                    self.store.propose(item, &HashingEmbedder, &self.by()).unwrap()
                {
                    self.store.validate(&id, &self.by()).unwrap();
                }
            }
        }
        Rate::of(&outcomes)
    }
}

#[test]
fn a_library_of_ways_out_grows_helps_and_survives_rebuilt_sites() {
    let directory = tempfile::tempdir().unwrap();
    let mut clinic = Clinic::open(directory.path());
    let mut browser = Browser::new(5);
    let before = clinic.day(&browser, "before", 120, true);
    clinic.release();
    let after = clinic.day(&browser, "after", 120, false);
    assert!(after.rate >= before.rate + 0.3, "{before:?} {after:?}");
    // Four sites are rebuilt: what worked there misleads, and is outranked as its outcomes come in.
    browser.rebuild(4);
    let misled = clinic.day(&browser, "rebuilt", 120, true);
    assert!(misled.rate < after.rate, "{misled:?} {after:?}");
    clinic.release();
    let again = clinic.day(&browser, "again", 200, true);
    clinic.release();
    let recovered = clinic.day(&browser, "recovered", 120, false);
    assert!(recovered.rate > misled.rate, "{misled:?} {again:?} {recovered:?}");
    let kept = clinic.store.all(clinic.now).unwrap();
    assert!(kept.iter().all(|kept| kept.status != Status::Proposed));
}

#[test]
fn what_was_tried_is_not_offered_again_and_two_failures_call_a_person() {
    let directory = tempfile::tempdir().unwrap();
    let mut clinic = Clinic::open(directory.path());
    let browser = Browser::new(5);
    clinic.day(&browser, "fill", 120, true);
    clinic.release();
    let met = browser.meet(&mut Draw::new(5, "one"));
    let mut tried: Vec<Tried> = Vec::new();
    for round in 0..3 {
        let reply = clinic.reply(&browser.request(met, tried.clone()));
        for candidate in &reply.candidates {
            let again = tried
                .iter()
                .any(|t| t.tactic == candidate.tactic && candidate.tool.as_ref() == Some(&t.tool));
            assert!(!again, "{candidate:?}");
            assert!(candidate.tactic != understudy_memory::Tactic::Escalate);
        }
        assert_eq!(reply.escalate, round >= 2 || reply.candidates.is_empty(), "{reply:?}");
        let Some(first) = reply.candidates.first() else { break };
        tried.push(Tried { tactic: first.tactic, tool: first.tool.clone().unwrap() });
    }
    assert!(tried.len() >= 2);
}
