//! Lessons that take the place of others, and lessons that are kept apart.

use super::*;
use crate::Shelf;

/// A lesson about handing something over, by a job, so alike to others of its kind that they are
/// taken for one.
fn handing(place: &Place, when: &str) -> DeploymentItem {
    let mut item = place.learnt("prefer `a.find`.", "a.find", 3);
    let key = place.root.key_of(&place.tenant);
    let written = Written {
        tools: &["a.find"],
        situation: when,
        strategy: "prefer `a.find`.",
        prefer: &["a.find"],
        ..Written::default()
    };
    let other = DeploymentItem::written(&written, &place.catalogue, &key, place.now).unwrap();
    item.situation = other.situation;
    item
}

fn sources(store: &DeploymentStore, names: &[&str]) -> Vec<Keyed> {
    let mut named: Vec<Keyed> = names.iter().map(|name| store.key().name("source", name)).collect();
    named.sort_unstable();
    named
}

const LATE: &str = "When an order that was sent to a customer in the current region is late";
const LOST: &str = "When an order that was sent to a customer in the current region is lost";

#[test]
fn what_a_person_keeps_apart_is_never_merged_and_later_evidence_goes_to_the_closer_one() {
    let place = place();
    let store = place.store();
    let propose = |item: DeploymentItem| store.propose(item, &HashingEmbedder, &place.by());
    let late = handing(&place, LATE);
    let first = late.id.clone();
    propose(late).unwrap();
    let taken = propose(handing(&place, LOST)).unwrap();
    assert_eq!(taken, Proposed::Merged { into: first.clone() }, "the words are that much alike");
    let lost = handing(&place, LOST);
    let second = lost.id.clone();
    let apart = std::slice::from_ref(&first);
    let kept = store.propose_apart(lost, apart, &HashingEmbedder, &place.by()).unwrap();
    assert_eq!(kept, Proposed::New { id: second.clone() });
    for (one, other) in [(&first, &second), (&second, &first)] {
        assert!(store.get(one, place.now).unwrap().kept_apart_from.contains(other));
    }
    // A job learns both again: each time it is the one that it says, whichever is older.
    assert_eq!(propose(handing(&place, LOST)).unwrap(), Proposed::Merged { into: second.clone() });
    assert_eq!(propose(handing(&place, LATE)).unwrap(), Proposed::Merged { into: first.clone() });
    // One that was rejected does not swallow what the other one is told.
    store.retire(&second, &By::new("ada", "beside the point", place.now).unwrap()).unwrap();
    assert_eq!(propose(handing(&place, LATE)).unwrap(), Proposed::Merged { into: first.clone() });
    assert!(
        matches!(propose(handing(&place, LOST)).unwrap(), Proposed::Settled { by, .. } if by == second)
    );
    let both = [first.clone(), second.clone()].map(|id| store.get(&id, place.now).unwrap().item);
    let joined = place.item("prefer `a.find`.", &["a.find"], &[]).in_place_of(&both);
    let refused = propose(joined).unwrap_err();
    assert!(refused.to_string().contains("keeps these two apart"), "{refused}");
    let unknown = [MemoryId::generate()];
    let before = store.all(place.now).unwrap().len();
    let item = place.item("prefer `b.list`.", &["b.list"], &[]);
    assert!(store.propose_apart(item, &unknown, &HashingEmbedder, &place.by()).is_err());
    assert_eq!(store.all(place.now).unwrap().len(), before, "and nothing was half done");
}

#[test]
fn a_joined_lesson_takes_the_place_of_its_parts_as_soon_as_it_is_released() {
    let place = place();
    let store = place.store();
    let releases = place.root.releases(&place.tenant);
    let active = |mut item: DeploymentItem, names: &[&str]| {
        item.provenance.sources = sources(&store, names);
        place.active(&store, item)
    };
    let one = active(place.item("prefer `a.find`.", &["a.find"], &[]), &["r1", "r2"]);
    let two = active(place.item("prefer `a.get`.", &["a.get"], &[]), &["r2", "r3"]);
    let before = store.releases().unwrap()[0].unwrap();
    let parts = [&one, &two].map(|id| store.get(id, place.now).unwrap().item);
    // It says the opposite of one of them, which is no conflict: that one goes.
    let item = place.item("avoid `a.find`, prefer `a.get`.", &["a.get"], &["a.find"]);
    let item = item.in_place_of(&parts);
    assert_eq!(item.provenance.sources, sources(&store, &["r1", "r2", "r3"]));
    assert_eq!(item.evidence.episodes, 3, "a run that taught both counts once");
    let joined = item.id.clone();
    let proposed = store.propose(item, &HashingEmbedder, &place.by()).unwrap();
    assert_eq!(proposed, Proposed::New { id: joined.clone() });
    store.validate(&joined, &place.by()).unwrap();
    let kept = |id: &MemoryId| store.get(id, place.now).unwrap();
    assert!(kept(&one).superseded_by.is_empty(), "until it is released, they serve");
    let (digest, diff) =
        store.release(&releases, "hashing@1", &Choice::default(), &place.by()).unwrap();
    assert_eq!(diff.added, std::slice::from_ref(&joined));
    assert_eq!(diff.removed.len(), 2);
    let served = |digest: &Digest| releases.read(digest).unwrap().items.len();
    assert_eq!(served(&digest), 1);
    for id in [&one, &two] {
        assert_eq!(kept(id).superseded_by.iter().collect::<Vec<_>>(), [&joined]);
    }
    assert_eq!(place.store().get(&one, place.now).unwrap(), kept(&one), "a restart sees the same");
    // A roll-back serves them again at once, because they were never taken out.
    store.roll_back(&releases, Some(&before), &place.by()).unwrap();
    assert_eq!((served(&before), kept(&one).status), (2, Status::Active));
    store.roll_back(&releases, Some(&digest), &place.by()).unwrap();
    // A job that learns one of them anew is told what has become of it.
    let again =
        store.propose(place.learnt("prefer `a.get`.", "a.get", 3), &HashingEmbedder, &place.by());
    assert!(matches!(again.unwrap(), Proposed::Settled { by, .. } if by == joined));
    // What comes to harm gives the place back; what stays leaves them to be retired in time.
    store.suspend(&joined, &place.by()).unwrap();
    let (next, _) =
        store.next_release(&releases, "hashing@1", &Choice::default(), &place.by()).unwrap();
    assert_eq!(next.items.iter().map(|item| &item.id).collect::<Vec<_>>(), [&one, &two]);
    store.restore(&joined, &place.by()).unwrap();
    store.release(&releases, "hashing@1", &Choice::default(), &place.by()).unwrap();
    store.considered("r", std::slice::from_ref(&joined), &[], place.days_later(80)).unwrap();
    let swept = store.sweep(&place.catalogue, place.days_later(91)).unwrap();
    assert!(swept.iter().all(|done| done.reason.contains("taken its place")), "{swept:?}");
    assert_eq!(swept.len(), 2);
    let later = By::new("ada", "weekly", place.days_later(92)).unwrap();
    let again =
        store.propose(place.learnt("prefer `a.get`.", "a.get", 3), &HashingEmbedder, &later);
    assert!(matches!(again.unwrap(), Proposed::Settled { .. }), "nor is it learnt anew then");
}

#[test]
fn a_split_lesson_gives_way_to_parts_that_stay_apart() {
    let place = place();
    let store = place.store();
    let releases = place.root.releases(&place.tenant);
    let mut learnt = handing(&place, "When an order is late or lost");
    learnt.provenance.sources = sources(&store, &["r1", "r2", "r3", "r4", "r5"]);
    let whole = place.active(&store, learnt);
    let of_whole = [store.get(&whole, place.now).unwrap().item];
    let part = |when: &str| {
        let item = handing(&place, when);
        let item = DeploymentItem { id: MemoryId::generate(), ..item }.in_place_of(&of_whole);
        let id = item.id.clone();
        let became = store.propose(item, &HashingEmbedder, &place.by()).unwrap();
        assert_eq!(became, Proposed::New { id: id.clone() }, "{when}");
        id
    };
    let (late, lost) = (part(LATE), part(LOST));
    assert!(store.get(&late, place.now).unwrap().kept_apart_from.contains(&lost));
    for id in [&late, &lost] {
        store.validate(id, &place.by()).unwrap();
    }
    let (digest, _) =
        store.release(&releases, "hashing@1", &Choice::default(), &place.by()).unwrap();
    let mut served: Vec<MemoryId> =
        releases.read(&digest).unwrap().items.into_iter().map(|item| item.id).collect();
    served.sort_unstable();
    let mut parts = vec![late.clone(), lost];
    parts.sort_unstable();
    assert_eq!(served, parts);
    // Nobody who holds only the lessons, as a user's own shelf does, finds it beside its parts.
    let kept = store.all(place.now).unwrap();
    assert_eq!((kept.len(), Shelf::by_words(&kept, &place.catalogue).len()), (3, 2));
    store.retire(&late, &place.by()).unwrap();
    assert_eq!(store.get(&whole, place.now).unwrap().superseded_by.len(), 1, "the other still is");
}
