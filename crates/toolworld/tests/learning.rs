//! What lessons learnt from traces are worth, in a world where only trying teaches.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

use std::path::Path;

use tempfile::TempDir;
use understudy_ident::{Digest, Timestamp};
use understudy_inference::HashingEmbedder;
use understudy_memory::{
    Agreement, By, Catalogue, Choice, DeploymentItem, Episode, Job as LearnJob, Kind, LearnReport,
    MemoryRoot, NoVerifier, Proposed, Settings, Status, TenantId, Verifier, Written,
};
use understudy_toolworld::{Agent, DeskVerifier, Rate, Request, Service, catalogue, observe};

const SEED: u64 = 17;

struct World {
    _directory: TempDir,
    root: MemoryRoot,
    tenant: TenantId,
    catalogue: Catalogue,
    now: Timestamp,
}

fn world(settings: Settings) -> World {
    world_of(settings, SEED as u8)
}

/// One whose key, and with it whom a lesson is withheld from, is not drawn anew with every run.
fn world_of(settings: Settings, key: u8) -> World {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("key"), [key; 32]).unwrap();
    let root = MemoryRoot::open(directory.path(), settings).unwrap();
    let now = Timestamp::from_second(1_900_000_000).unwrap();
    let tenant = "acme".parse().unwrap();
    World { _directory: directory, root, tenant, catalogue: catalogue(), now }
}

impl World {
    fn by(&self) -> By {
        By::new("ada", "a test", self.now).unwrap()
    }

    fn learn(&self, episodes: &[Episode]) -> LearnReport {
        self.learn_with(episodes, &mut NoVerifier)
    }

    fn learn_with(&self, episodes: &[Episode], verifier: &mut dyn Verifier) -> LearnReport {
        let settings = Settings::default();
        let key = self.root.key_of(&self.tenant);
        let job = LearnJob {
            catalogue: &self.catalogue,
            key: &key,
            settings: &settings,
            embedder: &HashingEmbedder,
            teacher: None,
            now: self.now,
        };
        job.learn(episodes, verifier).unwrap()
    }

    /// Proposes, reviews and releases, at most five at a time.
    fn release(&self, items: Vec<DeploymentItem>) -> Digest {
        let store = self.root.deployment(&self.tenant).unwrap();
        let releases = self.root.releases(&self.tenant);
        let mut last = None;
        for some in items.chunks(5) {
            for item in some {
                let proposed = store.propose(item.clone(), &HashingEmbedder, &self.by()).unwrap();
                let Proposed::New { id } = proposed else { panic!("{proposed:?}") };
                store.validate(&id, &self.by()).unwrap();
            }
            let cut =
                store.release(&releases, "hashing@1", &Choice::default(), &self.by()).unwrap();
            last = Some(cut.0);
        }
        last.unwrap()
    }

    fn rate(&self, from: u64, count: u64) -> Rate {
        let store = self.root.deployment(&self.tenant).unwrap();
        let releases = self.root.releases(&self.tenant);
        let mut service = Service::start(&self.catalogue, &store, &releases, self.now).unwrap();
        let outcomes: Vec<bool> = (from..from + count)
            .map(|n| service.serve(&Request::draw(SEED, n), SEED).unwrap().0.success)
            .collect();
        Rate::of(&outcomes)
    }
}

/// Sessions are not withheld from, so that the whole effect shows.
fn no_control() -> Settings {
    let mut settings = Settings::default();
    settings.counters.control_share = 0.0;
    settings.counters.probation_share = 0.0;
    settings
}

#[test]
fn lessons_from_traces_alone_lift_success_by_thirty_points_and_rollback_takes_it_back() {
    let world = world(no_control());
    let key = world.root.key_of(&world.tenant);
    let before = world.rate(10_000, 200);
    let episodes = observe(SEED, 200, &world.catalogue, &key, world.now);
    let report = world.learn(&episodes);
    assert!(report.learned >= 4, "{report:#?}");
    world.release(report.proposals);
    let after = world.rate(10_000, 200);
    assert!(
        after.interval[0] > before.interval[1] && after.rate >= before.rate + 0.3,
        "before {before:?}, after {after:?}"
    );
    let store = world.root.deployment(&world.tenant).unwrap();
    let releases = world.root.releases(&world.tenant);
    let began = std::time::Instant::now();
    store.withdraw(&world.by()).unwrap();
    assert!(began.elapsed().as_secs() < 1);
    assert_eq!(world.rate(10_000, 200), before);
    // And forth again.
    let served = store.roll_back(&releases, None, &world.by()).unwrap();
    assert!(served.is_some() && world.rate(10_000, 200).rate >= before.rate + 0.3);
}

#[test]
fn the_same_traces_teach_the_same_lessons() {
    let world = world(Settings::default());
    let key = world.root.key_of(&world.tenant);
    let episodes = observe(SEED, 120, &world.catalogue, &key, world.now);
    let texts = |report: LearnReport| -> Vec<String> {
        report.proposals.iter().map(|item| item.strategy.text.as_str().to_owned()).collect()
    };
    assert_eq!(texts(world.learn(&episodes)), texts(world.learn(&episodes)));
    // And learning them again proposes nothing new.
    let store = world.root.deployment(&world.tenant).unwrap();
    let propose = |report: LearnReport| -> Vec<Proposed> {
        let propose = |item| store.propose(item, &HashingEmbedder, &world.by()).unwrap();
        report.proposals.into_iter().map(propose).collect()
    };
    let first = propose(world.learn(&episodes));
    let again = propose(world.learn(&episodes));
    assert!(first.iter().all(|p| matches!(p, Proposed::New { .. })), "{first:?}");
    assert!(again.iter().all(|p| matches!(p, Proposed::Merged { .. })), "{again:?}");
    assert_eq!(store.all(world.now).unwrap().len(), first.len());
}

#[test]
fn a_teacher_and_students_teach_from_repeated_requests() {
    let world = world(Settings::default());
    let key = world.root.key_of(&world.tenant);
    let mut episodes = Vec::new();
    let student = Agent { part: understudy_memory::Part::Student, ..Agent::student() };
    for n in 0..48 {
        let request = Request::draw(SEED, n);
        let mut run = |agent: &Agent, seed| {
            let mut transcript = agent.play(&request, None, seed, world.now).transcript;
            // Nobody said how good it was: agreement has to find out.
            transcript.reward = None;
            episodes.push(Episode::read(&transcript, &world.catalogue, &key));
        };
        run(&Agent::teacher(), 0);
        (1..=4).for_each(|seed| run(&student, seed));
    }
    // Students mostly fail where their teacher does not: two camps, and nobody to believe.
    let report = world.learn(&episodes);
    let unsettled = report.no_learning["runs disagree and nothing settled it"];
    assert!(unsettled > 10, "{report:#?}");
    let before = report.learned;
    // Somebody who can look settles it.
    let report = world.learn_with(&episodes, &mut DeskVerifier::new(SEED, 48));
    assert!(
        !report.no_learning.contains_key("runs disagree and nothing settled it"),
        "{report:#?}"
    );
    assert!(report.learned > before, "{before} {report:#?}");
    assert!(report.proposals.iter().all(|item| item.evidence.agreement == Agreement::Verified));
    let found =
        |what: &str| report.proposals.iter().any(|item| item.strategy.text.as_str().contains(what));
    assert!(found("refunds.quote") || found("addresses.validate"), "{report:#?}");
}

#[test]
fn a_harmful_lesson_is_found_by_its_counters_and_taken_out_within_forty_requests() {
    let mut took: Vec<u64> = (0..20).map(requests_until_a_harmful_lesson_is_taken_out).collect();
    took.sort_unstable();
    // Whom it is withheld from is drawn by a key, and one draw of a hundred is unlucky.
    assert!(took[18] <= 40 && took[10] <= 20, "{took:?}");
}

/// How many requests met the lesson before, in a world with this key.
fn requests_until_a_harmful_lesson_is_taken_out(key: u8) -> u64 {
    let world = world_of(Settings::default(), key);
    let key = world.root.key_of(&world.tenant);
    let helpful = Written {
        intent: Some("refund-order"),
        agent: Some("desk"),
        tools: &["refunds.quote", "refunds.create"],
        situation: "When a task needs `refunds.create`",
        strategy: "prefer calling `refunds.quote` first.",
        prefer: &["refunds.quote"],
        ..Written::default()
    };
    let harmful = Written {
        tools: &["orders.cancel", "refunds.create"],
        strategy: "prefer calling `orders.cancel` first.",
        prefer: &["orders.cancel"],
        ..helpful
    };
    let write = |written: &Written<'_>| {
        DeploymentItem::written(written, &world.catalogue, &key, world.now).unwrap()
    };
    let (good, bad) = (write(&helpful), write(&harmful));
    let (good_id, bad_id) = (good.id.clone(), bad.id.clone());
    world.release(vec![good, bad]);
    let store = world.root.deployment(&world.tenant).unwrap();
    let releases = world.root.releases(&world.tenant);
    let mut service = Service::start(&world.catalogue, &store, &releases, world.now).unwrap();
    let mut considered = 0;
    let mut taken_out = None;
    for n in 0..2_000 {
        let request = Request::draw(99, n);
        let (_, retrieved, consequences) = service.serve(&request, 99).unwrap();
        let met = retrieved.shown.iter().any(|shown| shown.id == bad_id)
            || retrieved.withheld.contains(&bad_id);
        considered += u64::from(met);
        if consequences.iter().any(|consequence| consequence.item == bad_id) {
            taken_out = Some(considered);
            break;
        }
    }
    let kept = store.get(&bad_id, world.now).unwrap();
    assert!(matches!(kept.status, Status::Retired | Status::Suspended), "{:?}", kept.status);
    assert_eq!(store.get(&good_id, world.now).unwrap().status, Status::Active);
    // Nobody is shown it any more, although the release still has it.
    for n in 2_000..2_100 {
        let shown = service.retrieve(&Request::draw(99, n)).unwrap();
        assert!(!shown.shown_ids().contains(&bad_id) && !shown.withheld.contains(&bad_id));
    }
    taken_out.expect("the harmful lesson was never found")
}

#[test]
fn a_harmless_lesson_is_seldom_taken_out() {
    let mut taken_out = 0;
    for seed in 0..10 {
        let world = world_of(Settings::default(), seed);
        let key = world.root.key_of(&world.tenant);
        let written = Written {
            intent: Some("track-parcel"),
            agent: Some("desk"),
            kind: Kind::Strategy,
            tools: &["shipments.track"],
            situation: "When an order is tracked",
            strategy: "be brief and polite.",
            ..Written::default()
        };
        let item = DeploymentItem::written(&written, &world.catalogue, &key, world.now).unwrap();
        let id = item.id.clone();
        world.release(vec![item]);
        let store = world.root.deployment(&world.tenant).unwrap();
        let releases = world.root.releases(&world.tenant);
        let mut service = Service::start(&world.catalogue, &store, &releases, world.now).unwrap();
        for n in 0..160 {
            service.serve(&Request::draw(1_000 + u64::from(seed), n), u64::from(seed)).unwrap();
        }
        let kept = store.get(&id, world.now).unwrap();
        let met = kept.counters.injected + kept.counters.withheld;
        assert!(met > 20 || kept.status != Status::Active, "{kept:?}");
        taken_out += u32::from(kept.status != Status::Active);
    }
    assert!(taken_out <= 3, "{taken_out} of 10");
}

#[test]
fn nothing_is_learnt_from_too_little() {
    let world = world(Settings::default());
    let key = world.root.key_of(&world.tenant);
    let report = world.learn(&observe(SEED, 6, &world.catalogue, &key, world.now));
    assert_eq!(report.learned, 0);
    assert!(report.verdict.starts_with("nothing was learnt: "), "{}", report.verdict);
    assert_eq!(world.learn(&[]).verdict, "nothing was learnt: there are no episodes");
    assert!(Path::new(world.root.deployment(&world.tenant).unwrap().path()).is_file());
}

/// As it comes: five percent of sessions go without, and a new lesson is withheld from half.
#[test]
fn under_the_usual_control_shares_a_good_lesson_is_shown_to_be_one() {
    let world = world(Settings::default());
    let key = world.root.key_of(&world.tenant);
    let written = Written {
        intent: Some("refund-order"),
        agent: Some("desk"),
        tools: &["refunds.quote", "refunds.create"],
        situation: "When a task needs `refunds.create`",
        strategy: "prefer calling `refunds.quote` first.",
        prefer: &["refunds.quote"],
        ..Written::default()
    };
    let item = DeploymentItem::written(&written, &world.catalogue, &key, world.now).unwrap();
    let id = item.id.clone();
    world.release(vec![item]);
    world.rate(20_000, 1_600);
    let store = world.root.deployment(&world.tenant).unwrap();
    let kept = store.get(&id, world.now).unwrap();
    assert_eq!(kept.status, Status::Active);
    assert!(kept.counters.withheld >= 20 && kept.counters.injected > 2 * 20, "{:?}", kept.counters);
    assert!(kept.effect.helps() && kept.effect.lower > 0.0, "{:?}", kept.effect);
}
