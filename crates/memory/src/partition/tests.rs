mod relations;
mod sealed;

use std::fs;

use tempfile::TempDir;
use understudy_inference::HashingEmbedder;

use super::*;
use crate::{
    Access, Catalogue, Choice, DeploymentItem, Distiller, Kind, MemoryRoot, Proposed, TenantId,
    ToolSchema, Written,
};

struct Place {
    directory: TempDir,
    root: MemoryRoot,
    tenant: TenantId,
    catalogue: Catalogue,
    now: Timestamp,
}

fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let root = MemoryRoot::open(directory.path(), Settings::default()).unwrap();
    let tool = |name: &str| ToolSchema {
        name: name.to_owned(),
        description: String::new(),
        access: Access::Read,
        target: None,
        target_argument: None,
        arguments: Vec::new(),
    };
    let catalogue = Catalogue {
        tools: vec![tool("a.find"), tool("a.get"), tool("b.list")],
        ..Catalogue::default()
    };
    let now = Timestamp::from_second(1_900_000_000).unwrap();
    Place { directory, root, tenant: "acme".parse().unwrap(), catalogue, now }
}

impl Place {
    fn store(&self) -> DeploymentStore {
        self.root.deployment(&self.tenant).unwrap()
    }

    fn by(&self) -> By {
        By::new("ada", "a test", self.now).unwrap()
    }

    fn days_later(&self, days: i64) -> Timestamp {
        Timestamp::from_second(self.now.as_second() + days * 86_400).unwrap()
    }

    fn item(&self, strategy: &str, prefer: &[&str], avoid: &[&str]) -> DeploymentItem {
        let tools: Vec<&str> = prefer.iter().chain(avoid).copied().collect();
        let written = Written {
            tools: &tools,
            situation: "When a task needs records",
            strategy,
            prefer,
            avoid,
            ..Written::default()
        };
        let key = self.root.key_of(&self.tenant);
        DeploymentItem::written(&written, &self.catalogue, &key, self.now).unwrap()
    }

    /// The same as runs of so many users teach it.
    fn learnt(&self, strategy: &str, tool: &str, users: u64) -> DeploymentItem {
        let mut item = self.item(strategy, &[tool], &[]);
        item.provenance.distiller = Distiller::Template;
        (item.evidence.users, item.evidence.episodes) = (users, 40);
        item
    }

    fn active(&self, store: &DeploymentStore, item: DeploymentItem) -> MemoryId {
        let id = item.id.clone();
        store.propose(item, &HashingEmbedder, &self.by()).unwrap();
        store.validate(&id, &self.by()).unwrap();
        let releases = self.root.releases(&self.tenant);
        store.release(&releases, "hashing@1", &Choice::default(), &self.by()).unwrap();
        id
    }
}

#[test]
fn the_log_cannot_be_rewritten_by_whoever_opens_the_file() {
    let place = place();
    let store = place.store();
    place.active(&store, place.item("prefer `a.find`.", &["a.find"], &[]));
    let other = Connection::open(store.path()).unwrap();
    for statement in [
        "UPDATE operations SET actor = 'mallory'",
        "DELETE FROM operations",
        "UPDATE pointers SET release = NULL",
        "DELETE FROM pointers",
    ] {
        assert!(other.execute(statement, []).is_err(), "{statement}");
    }
}

#[test]
fn two_handles_and_a_restart_see_one_state() {
    let place = place();
    let (one, two) = (place.store(), place.store());
    let id = place.active(&one, place.item("prefer `a.find`.", &["a.find"], &[]));
    assert_eq!(two.get(&id, place.now).unwrap().status, Status::Active);
    two.considered("r1", std::slice::from_ref(&id), &[], place.now).unwrap();
    one.outcome("r1", true, place.now).unwrap();
    let expected = one.get(&id, place.now).unwrap();
    assert!((expected.counters.success_with - 1.0).abs() < 1e-9);
    assert_eq!(two.get(&id, place.now).unwrap(), expected);
    assert_eq!(place.store().get(&id, place.now).unwrap(), expected);
    let operations: Vec<&str> =
        two.history(Some(&id)).unwrap().iter().map(|entry| entry.operation.name()).collect();
    assert_eq!(operations, ["add", "validate", "activate"]);
}

#[test]
fn only_outcomes_of_considered_requests_move_counters_and_each_once() {
    let place = place();
    let store = place.store();
    let id = place.active(&store, place.item("prefer `a.find`.", &["a.find"], &[]));
    let outcomes = |store: &DeploymentStore| store.get(&id, place.now).unwrap().effect.outcomes;
    store.outcome("never seen", false, place.now).unwrap();
    store.cited("never seen", std::slice::from_ref(&id), place.now).unwrap();
    assert_eq!((outcomes(&store), store.get(&id, place.now).unwrap().counters.cited), (0.0, 1));
    store.considered("r", &[], std::slice::from_ref(&id), place.now).unwrap();
    store.outcome("r", true, place.now).unwrap();
    store.outcome("r", false, place.now).unwrap();
    let counters = store.get(&id, place.now).unwrap().counters;
    assert_eq!((counters.success_control, counters.fail_control), (1.0, 0.0));
    // And as much in a month as in the file: half.
    let later = store.get(&id, place.days_later(30)).unwrap().counters;
    assert!((later.success_control - 0.5).abs() < 1e-9);
}

#[test]
fn a_lesson_learnt_from_too_few_people_is_not_fit_for_release() {
    let place = place();
    let store = place.store();
    let mut item = place.learnt("prefer `a.find`.", "a.find", 2);
    let id = item.id.clone();
    store.propose(item.clone(), &HashingEmbedder, &place.by()).unwrap();
    let refused = store.validate(&id, &place.by()).unwrap_err();
    assert!(refused.to_string().contains("points at nobody"), "{refused}");
    // The same lesson from more people is merged into it, and is.
    (item.id, item.evidence.users) = (MemoryId::generate(), 3);
    item.provenance.sources = (0..6).map(|n| store.key().name("source", &n.to_string())).collect();
    let merged = store.propose(item, &HashingEmbedder, &place.by()).unwrap();
    assert_eq!(merged, Proposed::Merged { into: id.clone() });
    store.validate(&id, &place.by()).unwrap();
    let kept = store.get(&id, place.now).unwrap();
    assert_eq!((kept.item.rev, kept.item.evidence.episodes), (2, 6));
}

#[test]
fn taking_a_lesson_out_and_bringing_it_back_is_no_way_around_the_crowd() {
    let place = place();
    let store = place.store();
    let item = place.learnt("prefer `a.find`.", "a.find", 2);
    let id = item.id.clone();
    store.propose(item, &HashingEmbedder, &place.by()).unwrap();
    store.suspend(&id, &place.by()).unwrap();
    let refused = store.restore(&id, &place.by()).unwrap_err();
    assert!(refused.to_string().contains("points at nobody"), "{refused}");
    assert_eq!(store.get(&id, place.now).unwrap().status, Status::Suspended);
}

#[test]
fn what_an_operator_wrote_stays_theirs_when_runs_teach_it_too() {
    let place = place();
    let store = place.store();
    let written = place.item("prefer `a.find`.", &["a.find"], &[]);
    let id = written.id.clone();
    store.propose(written.clone(), &HashingEmbedder, &place.by()).unwrap();
    let mut learnt = DeploymentItem { id: MemoryId::generate(), ..written };
    learnt.provenance.distiller = Distiller::Template;
    learnt.evidence.users = 1;
    let merged = store.propose(learnt, &HashingEmbedder, &place.by()).unwrap();
    assert_eq!(merged, Proposed::Merged { into: id.clone() });
    store.validate(&id, &place.by()).unwrap();
}

#[test]
fn a_lesson_that_is_asked_for_by_name_and_cannot_be_released_is_named() {
    let place = place();
    let store = place.store();
    let item = place.item("prefer `a.find`.", &["a.find"], &[]);
    let id = item.id.clone();
    store.propose(item, &HashingEmbedder, &place.by()).unwrap();
    let releases = place.root.releases(&place.tenant);
    let choice = Choice { only: vec![id.clone()], ..Choice::default() };
    let refused = store.release(&releases, "hashing@1", &choice, &place.by()).unwrap_err();
    assert!(
        matches!(
            &refused,
            MemoryError::WrongStatus { op: "release", status: Status::Proposed, .. }
        ),
        "{refused}"
    );
    store.validate(&id, &place.by()).unwrap();
    let (digest, _) = store.release(&releases, "hashing@1", &choice, &place.by()).unwrap();
    let short = |text: &str| releases.find(text).unwrap_err().to_string();
    assert!(short("zzzz").contains("there is no memory release zzzz"), "{}", short("zzzz"));
    assert!(short(&digest.to_hex()[..3]).contains("at least 4"), "{}", short("abc"));
    assert_eq!(releases.find(&digest.to_hex()[..4]).unwrap(), digest);
}

#[test]
fn what_was_taken_out_for_what_it_is_does_not_come_back_by_itself() {
    let place = place();
    let store = place.store();
    let learnt = |strategy: &str, tool: &str| place.learnt(strategy, tool, 3);
    let rejected = learnt("prefer `a.find`.", "a.find");
    let by = rejected.id.clone();
    store.propose(rejected, &HashingEmbedder, &place.by()).unwrap();
    store.retire(&by, &By::new("ada", "it is beside the point", place.now).unwrap()).unwrap();
    let again = store.propose(learnt("prefer `a.find`.", "a.find"), &HashingEmbedder, &place.by());
    let reason = "it is beside the point".to_owned();
    assert_eq!(again.unwrap(), Proposed::Settled { by, reason });
    assert_eq!(store.all(place.now).unwrap().len(), 1);
    // In a person's own words it may.
    let said = store.propose(
        place.item("prefer `a.find`.", &["a.find"], &[]),
        &HashingEmbedder,
        &place.by(),
    );
    assert!(matches!(said, Ok(Proposed::New { .. })), "{said:?}");
    // And what nobody needed for long may be needed again.
    let idle = place.active(&store, learnt("prefer `b.list`.", "b.list"));
    let later = place.days_later(91);
    assert!(store.sweep(&place.catalogue, later).unwrap().iter().any(|done| done.item == idle));
    let again = store.propose(learnt("prefer `b.list`.", "b.list"), &HashingEmbedder, &place.by());
    assert!(matches!(again, Ok(Proposed::New { .. })), "{again:?}");
}

#[test]
fn opposites_wait_for_a_person() {
    let place = place();
    let store = place.store();
    let first = place.active(&store, place.item("prefer `a.find`.", &["a.find"], &[]));
    let opposite = place.item("avoid `a.find`.", &[], &["a.find"]);
    let second = opposite.id.clone();
    let proposed = store.propose(opposite, &HashingEmbedder, &place.by()).unwrap();
    assert_eq!(proposed, Proposed::Conflicting { id: second.clone(), with: first.clone() });
    assert_eq!(store.get(&first, place.now).unwrap().status, Status::Suspended);
    assert!(store.validate(&second, &place.by()).is_err());
    let refused = store.restore(&first, &place.by()).unwrap_err();
    assert!(refused.to_string().contains("retire one of the two"), "{refused}");
    store.retire(&first, &place.by()).unwrap();
    store.validate(&second, &place.by()).unwrap();
    assert!(matches!(
        store.restore(&first, &place.by()),
        Err(MemoryError::WrongStatus { op: "restore", status: Status::Retired, .. })
    ));
}

#[test]
fn time_retires_the_unused_and_suspends_what_its_tools_left_behind() {
    let place = place();
    let store = place.store();
    let idle = place.active(&store, place.item("prefer `a.find`.", &["a.find"], &[]));
    let used = place.active(&store, place.item("prefer `b.list`.", &["b.list"], &[]));
    assert_eq!(store.sweep(&place.catalogue, place.days_later(89)).unwrap(), []);
    store.considered("r", std::slice::from_ref(&used), &[], place.days_later(80)).unwrap();
    let swept = store.sweep(&place.catalogue, place.days_later(91)).unwrap();
    assert_eq!(
        swept.iter().map(|c| (&c.item, c.status)).collect::<Vec<_>>(),
        [(&idle, Status::Retired)]
    );
    let mut changed = place.catalogue.clone();
    "lists, paginated".clone_into(&mut changed.tools[2].description);
    let swept = store.sweep(&changed, place.days_later(92)).unwrap();
    assert_eq!(
        swept.iter().map(|c| (&c.item, c.status)).collect::<Vec<_>>(),
        [(&used, Status::Suspended)]
    );
    store.restore(&used, &place.by()).unwrap();
    assert_eq!(store.get(&used, place.now).unwrap().status, Status::Validated);
}

#[test]
fn lessons_whose_traces_are_gone_wait_for_a_person() {
    let place = place();
    let store = place.store();
    let source = understudy_ident::TrajectoryId::derived("run 1");
    let mut item = place.item("prefer `a.find`.", &["a.find"], &[]);
    item.provenance.sources = vec![store.key().name("source", source.as_str())];
    let taught = place.active(&store, item);
    let other = place.active(&store, place.item("prefer `b.list`.", &["b.list"], &[]));
    let gone = |name: &str| {
        let sources = [understudy_ident::TrajectoryId::derived(name)];
        store.suspend_taught_by(&sources, &place.by()).unwrap()
    };
    assert!(gone("run 2").is_empty());
    assert_eq!(gone("run 1"), std::slice::from_ref(&taught));
    assert!(gone("run 1").is_empty(), "it is out already");
    assert_eq!(store.get(&taught, place.now).unwrap().status, Status::Suspended);
    assert_eq!(store.get(&other, place.now).unwrap().status, Status::Active);
}

#[test]
fn over_a_cap_the_least_useful_is_proposed_for_retirement_and_nothing_more_is_released() {
    let place = place();
    let with_cap = |per_pattern: usize| {
        let mut settings = Settings::default();
        (settings.caps.per_pattern, settings.caps.per_release) = (per_pattern, 9);
        let root = MemoryRoot::open(place.directory.path(), settings).unwrap();
        root.deployment(&place.tenant).unwrap()
    };
    let store = with_cap(3);
    let releases = place.root.releases(&place.tenant);
    let names = ["a.find", "a.get", "b.list"];
    let ids = names
        .map(|name| place.active(&store, place.item(&format!("prefer `{name}`."), &[name], &[])));
    for request in ["1", "2", "3"] {
        store.considered(request, &ids[1..], &[], place.now).unwrap();
        store.outcome(request, true, place.now).unwrap();
    }
    assert!(store.surplus(place.now).unwrap().is_empty());
    let another = place.item("avoid `a.find` and `b.list`.", &[], &["b.list"]);
    let id = another.id.clone();
    store.retire(&ids[2], &place.by()).unwrap();
    store.propose(another, &HashingEmbedder, &place.by()).unwrap();
    store.validate(&id, &place.by()).unwrap();
    let store = with_cap(2);
    let choice = Choice::default();
    let release = || store.release(&releases, "hashing@1", &choice, &place.by());
    let refused = release().unwrap_err();
    assert!(
        matches!(&refused, MemoryError::Full { count: 3, limit: 2, least: Some(least), .. }
            if *least == ids[0]),
        "{refused}"
    );
    // Lowering a cap takes nothing out, and what is over it waits for a person.
    let store = with_cap(1);
    let status = |id: &MemoryId| store.get(id, place.now).unwrap().status;
    assert_eq!(store.surplus(place.now).unwrap().into_iter().collect::<Vec<_>>(), ids[..1]);
    assert_eq!(store.sweep(&place.catalogue, place.now).unwrap(), []);
    assert_eq!([&ids[0], &ids[1]].map(status), [Status::Active; 2]);
    store.retire(&id, &place.by()).unwrap();
    store.release(&releases, "hashing@1", &choice, &place.by()).unwrap();
    assert_eq!([&ids[0], &ids[1]].map(status), [Status::Active; 2], "nothing was added to them");
    store.retire(&ids[0], &place.by()).unwrap();
    assert!(store.surplus(place.now).unwrap().is_empty());
}

#[test]
fn a_users_expired_lessons_make_room_for_others() {
    let place = place();
    let mut settings = Settings::default();
    (settings.caps.per_user, settings.caps.user_days) = (2, 30);
    let root = MemoryRoot::open(place.directory.path(), settings).unwrap();
    let user = crate::Principal::authenticated(place.tenant.clone(), "ada@example.org").unwrap();
    let store = root.user(&user).unwrap();
    for (strategy, day) in [("prefer short letters.", 0), ("avoid long words.", 20)] {
        let written = Written { situation: "When writing", strategy, ..Written::default() };
        let by = By::new("ada", "a test", place.days_later(day)).unwrap();
        let item =
            crate::UserItem::written(&written, &place.catalogue, store.key(), by.at).unwrap();
        let id = item.id.clone();
        assert!(store.has_room(by.at).unwrap());
        store.propose(item, &HashingEmbedder, &by).unwrap();
        store.confirm(&id, &by).unwrap();
    }
    assert!(!store.has_room(place.days_later(29)).unwrap());
    assert!(store.has_room(place.days_later(31)).unwrap(), "the first one has expired");
    let second = store.all(place.now).unwrap().remove(1).item.id;
    store.retire(&second, &place.by()).unwrap();
    assert!(store.has_room(place.days_later(29)).unwrap(), "and a retired one takes no place");
}

#[test]
fn a_release_is_its_content_small_and_checked_when_it_is_read() {
    let place = place();
    let store = place.store();
    let releases = place.root.releases(&place.tenant);
    for (n, kind) in [Kind::Strategy; 6].into_iter().enumerate() {
        let words = ["first", "second", "third", "fourth", "last", "next"];
        let mut item = place.item(&format!("prefer the {} record.", words[n]), &[], &[]);
        item.kind = kind;
        let id = item.id.clone();
        store.propose(item, &HashingEmbedder, &place.by()).unwrap();
        store.validate(&id, &place.by()).unwrap();
    }
    let choice = Choice::default();
    let refused = store.release(&releases, "hashing@1", &choice, &place.by()).unwrap_err();
    assert!(matches!(refused, MemoryError::TooMuchAtOnce { changed: 6, limit: 5 }), "{refused}");
    let ids: Vec<MemoryId> = store.all(place.now).unwrap().into_iter().map(|k| k.item.id).collect();
    let choice = Choice { only: ids[..2].to_vec(), core: ids[1..2].to_vec() };
    let (digest, diff) = store.release(&releases, "hashing@1", &choice, &place.by()).unwrap();
    assert_eq!((diff.added.len(), diff.removed.len()), (2, 0));
    let release = releases.read(&digest).unwrap();
    assert_eq!(releases.cut(&release, place.days_later(1)).unwrap(), digest);
    assert_eq!(releases.find(&digest.to_hex()[..8]).unwrap(), digest);
    let path = releases.directory(&digest).join("items.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("prefer", "avoids")).unwrap();
    assert!(matches!(releases.read(&digest), Err(MemoryError::Damaged { .. })));
    assert!(store.roll_back(&releases, Some(&digest), &place.by()).is_err());
    assert!(By::new("ada", " ", place.now).is_err());
}

#[test]
fn a_candidate_shows_what_waits_for_it_and_leaves_it_suspended_when_taken_off() {
    let place = place();
    let mut settings = Settings::default();
    settings.retrieval.threshold = 0.0;
    let root = MemoryRoot::open(place.directory.path(), settings).unwrap();
    let (store, releases) = (root.deployment(&place.tenant).unwrap(), root.releases(&place.tenant));
    let stays = place.active(&store, place.item("prefer `a.find`.", &["a.find"], &[]));
    let serving = store.releases().unwrap()[0];
    let tried = place.item("avoid `b.list`.", &[], &["b.list"]);
    let id = tried.id.clone();
    store.propose(tried, &HashingEmbedder, &place.by()).unwrap();
    store.validate(&id, &place.by()).unwrap();
    let choice = Choice::default();
    let (next, _) = store.next_release(&releases, "hashing@1", &choice, &place.by()).unwrap();
    let candidate = releases.cut(&next, place.now).unwrap();
    let shown = |trial: bool| {
        let shelf =
            crate::Shelf::of_release(candidate, &next, Some(&HashingEmbedder), &place.catalogue);
        let shelf = if trial { shelf.unwrap().on_trial() } else { shelf.unwrap() };
        let kept = store.all(place.now).unwrap();
        let settings = &store.settings().counters;
        let library = crate::Library {
            deployment: &shelf,
            user: None,
            standings: &crate::Standings::of(&kept, settings, place.now),
            embedder: Some(&HashingEmbedder),
            intents: None,
            settings: &store.settings().retrieval,
            counters: &CounterSettings { control_share: 0.0, ..settings.clone() },
            key: store.key(),
        };
        let query = crate::Query {
            goal: "a task needs records",
            tools: vec!["a.find", "a.get", "b.list"],
            session: "s",
            ..crate::Query::default()
        };
        let room = crate::Room { tokens: 500, count: &crate::estimated_tokens };
        library.retrieve(&query, room, place.now).unwrap().shown_ids()
    };
    assert!(shown(true).contains(&id), "on trial it is shown, and to every session that tries it");
    assert!(!shown(false).contains(&id), "and nowhere else");

    let manifest = next.registered(&place.tenant);
    assert_eq!((manifest.release, manifest.lessons.len()), (candidate, 2));
    let text = serde_json::to_string(&manifest).unwrap();
    assert!(!text.contains("b.list") && !text.contains("records"), "{text}");

    assert_eq!(
        store.condemn(&releases, &candidate, &place.by()).unwrap(),
        std::slice::from_ref(&id)
    );
    assert_eq!(store.get(&id, place.now).unwrap().status, Status::Suspended);
    assert_eq!(store.get(&stays, place.now).unwrap().status, Status::Active);
    assert_eq!(store.releases().unwrap()[0], serving, "the pointer never moved");
    // Promoted after all, it is active; serving what serves is no second row.
    store.restore(&id, &place.by()).unwrap();
    store.serve(&releases, Some(&candidate), &place.by()).unwrap();
    assert_eq!(store.get(&id, place.now).unwrap().status, Status::Active);
    let rows = store.releases().unwrap().len();
    store.serve(&releases, Some(&candidate), &place.by()).unwrap();
    assert_eq!(store.releases().unwrap().len(), rows);
}

#[test]
fn a_lesson_on_trial_that_does_harm_is_retired_there() {
    let place = place();
    let store = place.store();
    let item = place.item("prefer `a.find`.", &["a.find"], &[]);
    let id = item.id.clone();
    store.propose(item, &HashingEmbedder, &place.by()).unwrap();
    store.validate(&id, &place.by()).unwrap();
    for n in 0..40 {
        let (with, without) = (format!("w{n}"), format!("o{n}"));
        store.considered(&with, std::slice::from_ref(&id), &[], place.now).unwrap();
        store.considered(&without, &[], std::slice::from_ref(&id), place.now).unwrap();
        store.outcome(&with, false, place.now).unwrap();
        store.outcome(&without, true, place.now).unwrap();
    }
    assert_eq!(store.get(&id, place.now).unwrap().status, Status::Retired);
}

#[test]
fn weights_that_know_a_lesson_have_it_proposed_for_retirement() {
    let place = place();
    let store = place.store();
    let written = place.item("prefer `a.find`.", &["a.find"], &[]);
    let catalogue = Catalogue { agents: vec!["desk".to_owned()], ..place.catalogue.clone() };
    let agent = crate::Declared::find(&catalogue, "desk");
    let [known, needed] = ["prefer `a.find`.", "prefer `a.get`."].map(|_| agent.clone());
    let known = place.active(&store, DeploymentItem { agent: known, ..written });
    let other = place.item("prefer `a.get` first.", &["a.get"], &[]);
    let needed = place.active(&store, DeploymentItem { agent: needed, ..other });
    // Under the old weights both were worth a lot; what was counted then says nothing of the new.
    let mut n = 0;
    let mut outcome = |id: &MemoryId, shown: bool, success: bool| {
        n += 1;
        let (request, ids) = (format!("r{n}"), std::slice::from_ref(id));
        let (with, without) = if shown { (ids, &[][..]) } else { (&[][..], ids) };
        store.considered(&request, with, without, place.now).unwrap();
        store.outcome(&request, success, place.now).unwrap();
    };
    for id in [&known, &needed] {
        for _ in 0..30 {
            outcome(id, true, true);
            outcome(id, false, false);
        }
    }
    let of = |agent: &str| store.rescore(agent, ("desk@2", place.now), place.now).unwrap();
    assert!(of("browser").is_empty(), "another agent's weights change nothing");
    assert_eq!(of("desk").len(), 2);
    let kept = |id: &MemoryId| store.get(id, place.now).unwrap();
    assert!(!kept(&known).has_graduated(), "nothing was measured yet");
    for at in 0..80 {
        // The new weights succeed nine times of ten, with the first lesson or without.
        outcome(&known, at % 2 == 0, at % 20 > 1);
        outcome(&needed, at % 2 == 0, at % 2 == 0);
    }
    assert!(!kept(&known).has_graduated(), "40 of 50 on each side are not enough");
    for at in 0..40 {
        outcome(&known, at % 2 == 0, at % 20 > 1);
        outcome(&needed, at % 2 == 0, at % 2 == 0);
    }
    let (gone, still) = (kept(&known), kept(&needed));
    assert!(gone.has_graduated() && gone.status == Status::Active, "a person retires it: {gone:?}");
    assert!(gone.effect.helps(), "over all weights together it helped");
    assert!(!still.has_graduated() && still.rescored.unwrap().effect.helps());
    let operations = store.history(Some(&known)).unwrap();
    let last = operations.last().unwrap();
    assert_eq!((last.operation.name(), last.reason.as_str()), ("rescore", "desk@2 was promoted"));
}

#[test]
fn whoever_asks_for_help_cannot_move_what_a_lesson_is_worth() {
    let place = place();
    let store = place.store();
    let id = place.active(&store, place.item("prefer `a.find`.", &["a.find"], &[]));
    let before = store.get(&id, place.now).unwrap();
    let never = store.healed(&id, false, place.now).unwrap_err();
    assert!(matches!(never, MemoryError::NotOffered { .. }), "{never}");
    for _ in 0..60 {
        store.offered(std::slice::from_ref(&id), place.now).unwrap();
        store.healed(&id, false, place.now).unwrap();
        assert!(store.healed(&id, false, place.now).is_err(), "each offer's outcome counts once");
    }
    // Requests without it all succeed: sixty failures with it would have retired it.
    for n in 0..60 {
        let request = format!("r{n}");
        store.considered(&request, &[], std::slice::from_ref(&id), place.now).unwrap();
        store.outcome(&request, true, place.now).unwrap();
    }
    let after = store.get(&id, place.now).unwrap();
    assert_eq!((after.status, after.counters.fail_with), (Status::Active, 0.0));
    assert_eq!((after.counters.heal_failed, before.counters.heal_failed), (60.0, 0.0));
    assert_eq!(place.store().get(&id, place.now).unwrap(), after, "a restart sees the same");
    assert!(matches!(
        store.healed(&MemoryId::generate(), true, place.now),
        Err(MemoryError::Unknown { .. })
    ));
}

#[test]
fn a_file_from_before_heals_were_kept_apart_goes_on_being_read() {
    let place = place();
    let store = place.store();
    let id = place.active(&store, place.item("prefer `a.find`.", &["a.find"], &[]));
    store.considered("r", std::slice::from_ref(&id), &[], place.now).unwrap();
    store.outcome("r", true, place.now).unwrap();
    let (path, expected) = (store.path().to_owned(), store.get(&id, place.now).unwrap());
    drop(store);
    let old = Connection::open(&path).unwrap();
    old.execute_batch(
        "CREATE TABLE old (seq INTEGER PRIMARY KEY, at TEXT NOT NULL, request TEXT NOT NULL, \
         kind TEXT NOT NULL CHECK (kind IN ('shown', 'withheld', 'cited', 'success', 'failure')), \
         item TEXT) STRICT; INSERT INTO old SELECT * FROM events; DROP TABLE events; \
         ALTER TABLE old RENAME TO events; PRAGMA user_version = 2;",
    )
    .unwrap();
    drop(old);
    let store = place.store();
    assert_eq!(store.get(&id, place.now).unwrap(), expected);
    store.offered(std::slice::from_ref(&id), place.now).unwrap();
    store.healed(&id, true, place.now).unwrap();
    assert!(store.get(&id, place.now).unwrap().counters.heal_worked > 0.9);
    let other = Connection::open(&path).unwrap();
    assert!(other.execute("DELETE FROM events", []).is_err(), "and nobody rewrites them");
}
