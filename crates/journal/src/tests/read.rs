//! Following, choosing, and what cannot be read.

use std::sync::Arc;

use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use understudy_ident::{ManualClock, Timestamp};
use understudy_trajectory::{Step, Target};

use super::{Home, about_response, everything, outcome, record, step};
use crate::{Arrival, Config, Entry, JournalError, Listed, Listing, Query};

#[test]
fn whoever_follows_meets_every_record_once_and_every_link_as_it_was() {
    let home = Home::new();
    let journal = home.open();
    let early = about_response("a", 1);
    let session = outcome("session", Target::Session("a".to_owned()), 9000);
    record(&journal, [early.clone().into(), step("a", 1).into(), session.clone().into()]);
    // Takes the session's outcome over, but not what was seen before it came.
    record(&journal, [step("a", 2).into()]);

    let arrivals = journal.follow(0, 2).unwrap();
    assert_eq!(arrivals.iter().map(|arrival| arrival.seq).collect::<Vec<_>>(), [1, 2]);
    let rest = journal.follow(2, 100).unwrap();
    assert_eq!(rest.iter().map(|arrival| arrival.seq).collect::<Vec<_>>(), [3, 4]);
    assert!(journal.follow(4, 100).unwrap().is_empty());

    let judged = |arrival: &Arrival| journal.judged_at(arrival).unwrap();
    assert_eq!(arrivals[0].entry, Entry::Outcome(early.clone()));
    assert_eq!(judged(&arrivals[0]), None);
    assert_eq!(judged(&arrivals[1]).unwrap().outcomes, std::slice::from_ref(&early));
    let then = judged(&rest[0]).unwrap();
    assert_eq!((then.step.id, then.outcomes), (step("a", 1).id, vec![early, session.clone()]));
    assert_eq!(judged(&rest[1]).unwrap().outcomes, std::slice::from_ref(&session));
    assert_eq!(journal.judged(&session).unwrap().unwrap().step.id, step("a", 2).id);
}

#[test]
fn a_step_is_found_by_its_reply() {
    let home = Home::new();
    let journal = home.open();
    record(&journal, [step("a", 1).into(), step("a", 2).into(), about_response("a", 2).into()]);
    let found = journal.step_by_response("chatcmpl-a-2").unwrap().unwrap();
    assert_eq!((&found.step.id, found.outcomes.len()), (&step("a", 2).id, 1));
    assert_eq!(journal.judged_step(&step("a", 2)).unwrap(), found);
    assert_eq!(journal.step_by_response("chatcmpl-a-3").unwrap(), None);
}

#[test]
fn a_record_tells_when_it_was_received_whatever_it_says_of_itself() {
    let home = Home::new();
    let clock = ManualClock::default();
    clock.advance_ms(100_000);
    let journal = home.open_with(Config { clock: Arc::new(clock.clone()), ..Config::default() });
    record(&journal, [step("a", 1).into()]);
    clock.advance_ms(60_000);
    record(&journal, [about_response("a", 1).into()]);
    let seconds = |seq| journal.received_at(seq).unwrap().map(Timestamp::as_second);
    assert_eq!([0, 1, 2, 3].map(seconds), [None, Some(100), Some(160), None]);
}

#[test]
fn the_newest_steps_of_a_task_are_those_it_served_itself_since_then() {
    let home = Home::new();
    let journal = home.open();
    let other = Step { task: "other".parse().unwrap(), ..step("other", 8) };
    let steps = [step("a", 1), step("a", 5), other, step("b", 6), step("c", 7)];
    record(&journal, steps.map(Entry::from));
    let newest = |since: i64, limit| {
        let since = Timestamp::from_second(since).unwrap();
        let found = journal.newest_served(&step("a", 1).task, since, limit).unwrap();
        found.into_iter().map(|step| step.at.as_second()).collect::<Vec<_>>()
    };
    assert_eq!(newest(5, 10), [7, 6, 5]);
    assert_eq!(newest(5, 2), [7, 6]);
    assert!(newest(8, 10).is_empty());
}

#[test]
fn since_keeps_whole_trajectories_that_were_still_going() {
    let home = Home::new();
    let journal = home.open();
    let steps = [step("old", 1), step("old", 2), step("new", 1), step("new", 9)];
    record(&journal, steps.map(Entry::from));
    let since = Some(Timestamp::from_second(9).unwrap());
    let read = journal.trajectories(&Query { since, ..Query::default() }).unwrap();
    assert_eq!(read.len(), 1);
    assert_eq!((read[0].steps.len(), &read[0].id), (2, &step("new", 1).trajectory));
}

#[test]
fn a_scan_pages_through_everything_and_stands_still() {
    let home = Home::new();
    let journal = home.open();
    let mut sessions: Vec<String> = (0..700).map(|n| format!("session {n}")).collect();
    sessions.shuffle(&mut StdRng::seed_from_u64(7));
    record(&journal, sessions.iter().map(|session| step(session, 1).into()));
    let mut scan = journal.scan(&Query::default()).unwrap();
    let mut seen = vec![scan.next().unwrap().unwrap().id];
    record(&journal, (700..900).map(|n| step(&format!("session {n}"), 1).into()));
    assert_eq!(scan.until_seq(), 700);
    seen.extend(scan.map(|trajectory| trajectory.unwrap().id));
    let mut wanted: Vec<_> = sessions.iter().map(|session| step(session, 1).trajectory).collect();
    wanted.sort();
    assert_eq!(seen, wanted);
    let later = Query { until_seq: Some(901), ..Query::default() };
    let refused = journal.scan(&later).unwrap_err();
    assert!(matches!(refused, JournalError::Beyond { until: 901, last: 900 }), "{refused}");
}

#[test]
fn what_this_version_cannot_read_is_counted_and_hides_nothing_else() {
    let home = Home::new();
    record(&home.open(), [step("a", 1).into()]);
    let raw = home.raw();
    raw.execute("INSERT INTO records VALUES (2, 'span', 0, x'00', NULL)", []).unwrap();
    raw.execute(
        "INSERT INTO records SELECT 3, kind, 0, x'28b52ffd', NULL FROM records WHERE seq = 1",
        [],
    )
    .unwrap();
    let journal = home.open();
    record(&journal, [about_response("a", 1).into()]);
    let counts = journal.counts().unwrap();
    assert_eq!((counts.records, counts.steps, counts.outcomes, counts.unreadable), (4, 1, 1, 2));
    assert_eq!(everything(&journal)[0].steps[0].outcomes.len(), 1);
    let followed: Vec<u64> = journal.follow(0, 2).unwrap().iter().map(|a| a.seq).collect();
    assert_eq!(followed, [1, 4]);
}

#[test]
fn a_body_that_was_damaged_is_refused_by_number_not_misread() {
    let home = Home::new();
    let journal = home.open();
    record(&journal, [step("a", 1).into(), step("b", 1).into()]);
    let raw = home.raw();
    raw.execute_batch("DROP TRIGGER records_are_final").unwrap();
    let body: Vec<u8> =
        raw.query_row("SELECT body FROM records WHERE seq = 2", [], |row| row.get(0)).unwrap();
    let before = journal.step_by_response("chatcmpl-b-1").unwrap();
    let mut refused = 0;
    for position in 0..body.len() {
        let mut damaged = body.clone();
        damaged[position] ^= 0x10;
        raw.execute("UPDATE records SET body = ?1 WHERE seq = 2", [damaged]).unwrap();
        match journal.step_by_response("chatcmpl-b-1") {
            // Some bits of the frame's head mean nothing.
            Ok(found) => assert_eq!(found, before, "byte {position}"),
            Err(JournalError::Unreadable { seq: 2, .. }) => refused += 1,
            Err(other) => panic!("byte {position}: {other}"),
        }
    }
    assert!(refused >= body.len() - 4, "{refused} of {}", body.len());
    journal.rebuild().unwrap();
    assert_eq!(journal.counts().unwrap().unreadable, 1);
    assert_eq!(everything(&journal).len(), 1);
}

#[test]
fn a_listing_pages_through_what_is_one_tenants() {
    let home = Home::new();
    let journal = home.open();
    let of = |task: &str, session: &str, n: i64, subject: Option<&str>| {
        let mut step = step(session, n);
        step.task = task.parse().unwrap();
        step.subject = subject.map(str::to_owned);
        Entry::from(step)
    };
    record(
        &journal,
        [
            of("triage", "a", 2, Some("ann")),
            of("triage", "a", 1, Some("ann")),
            of("triage", "b", 3, Some("ann")),
            of("sorting", "b", 4, None),
            of("acme.triage", "c", 5, Some("ann")),
        ],
    );
    let list = |listing: Listing| journal.list(&Listing { limit: 9, ..listing }).unwrap();
    let sessions = |listed: Vec<Listed>| {
        let mut sessions: Vec<String> = listed.into_iter().filter_map(|one| one.session).collect();
        sessions.sort();
        sessions
    };
    assert_eq!(sessions(list(Listing::default())), ["a", "b"]);
    let acme = Listing { tenant: Some("acme".to_owned()), ..Listing::default() };
    assert_eq!(sessions(list(acme)), ["c"]);
    let sorting = Listing { task: Some("sorting".parse().unwrap()), ..Listing::default() };
    assert_eq!(sessions(list(sorting)), ["b"]);
    // One in which somebody else spoke is not one person's.
    let ann = Listing { subject: Some("ann".to_owned()), ..Listing::default() };
    assert_eq!(sessions(list(ann.clone())), ["a"]);

    let all = list(Listing::default());
    let a = all.iter().find(|one| one.session.as_deref() == Some("a")).unwrap();
    assert_eq!((a.steps, a.first_at, a.last_at), (2, step("a", 1).at, step("a", 2).at));
    let page = |after| journal.list(&Listing { after, limit: 1, ..Listing::default() }).unwrap();
    assert_eq!(page(None), all[..1]);
    assert_eq!(page(Some(all[0].id.clone())), all[1..]);
    assert_eq!(page(Some(all[1].id.clone())), []);

    let read = journal.trajectory(&a.id).unwrap().unwrap();
    assert_eq!((read.id, read.steps.len()), (a.id.clone(), 2));
    journal.erase("ann", &[]).unwrap();
    assert_eq!(journal.trajectory(&a.id).unwrap(), None);
    assert_eq!(list(ann), []);
}
