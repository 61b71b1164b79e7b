//! Raw bodies, and accounts of them that a later one takes the place of.

use understudy_ident::Timestamp;
use understudy_trajectory::Step;

use super::{Home, about_response, everything, record, step};
use crate::{Entry, Journal, JournalError, Notes, Query, RawBody, Told};

fn body(text: &str) -> RawBody {
    RawBody {
        task: "triage".parse().unwrap(),
        payload: "otlp-traces".to_owned(),
        content_type: "application/json".to_owned(),
        body: text.as_bytes().to_vec(),
    }
}

fn store(journal: &Journal, text: &str) -> (u64, bool) {
    let appended = journal.append_body(&body(text)).unwrap().wait().unwrap();
    (appended.seq, appended.duplicate)
}

fn tell(journal: &Journal, origin: &str, step: Step) -> Result<(u64, bool), JournalError> {
    let told = Told { origin: origin.to_owned(), entry: Entry::Step(Box::new(step)) };
    let appended = journal.append_told(told)?.wait()?;
    Ok((appended.seq, appended.duplicate))
}

fn reply(text: &str) -> Step {
    Step { reply: understudy_message::Message::assistant(text), ..step("s", 1) }
}

fn replies(journal: &Journal, query: &Query) -> Vec<String> {
    let trajectories = journal.trajectories(query).unwrap();
    let steps = trajectories.into_iter().flat_map(|trajectory| trajectory.steps);
    steps.map(|judged| judged.step.reply.text().clone()).collect()
}

#[test]
fn a_body_is_stored_once_and_outlives_its_journal() {
    let home = Home::new();
    let journal = home.open();
    assert_eq!(store(&journal, "one"), (1, false));
    assert_eq!(store(&journal, "two"), (2, false));
    assert_eq!(store(&journal, "one"), (1, true));
    journal.close();
    let journal = home.open();
    assert_eq!(store(&journal, "two"), (2, true));
    let read = journal.bodies(0, 10).unwrap();
    assert_eq!(read.iter().map(|one| one.seq).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(read[1].raw, Some(body("two")));
    assert_eq!(journal.bodies(1, 10).unwrap(), read[1..]);
    assert_eq!((journal.counts().unwrap().bodies, journal.counts().unwrap().records), (2, 0));
}

#[test]
fn an_expired_body_is_forgotten_but_still_known() {
    let home = Home::new();
    let journal = home.open();
    store(&journal, "one");
    assert_eq!(journal.expire_bodies(Timestamp::MIN).unwrap(), 0);
    assert_eq!(journal.expire_bodies(Timestamp::MAX).unwrap(), 1);
    assert_eq!(journal.bodies(0, 10).unwrap()[0].raw, None);
    assert_eq!(store(&journal, "one"), (1, true));
    for sql in ["DELETE FROM bodies", "UPDATE bodies SET body = x'00'", "UPDATE bodies SET seq = 9"]
    {
        home.raw().execute(sql, []).unwrap_err();
    }
}

#[test]
fn a_later_account_takes_the_place_of_an_earlier_one_and_history_stays() {
    let home = Home::new();
    let journal = home.open();
    assert_eq!(tell(&journal, "mapper@1", reply("half")).unwrap(), (1, false));
    assert_eq!(tell(&journal, "mapper@1", reply("half")).unwrap(), (1, true));
    assert_eq!(tell(&journal, "mapper@1", reply("whole")).unwrap(), (2, false));
    record(&journal, [about_response("s", 1).into()]);
    assert_eq!(replies(&journal, &Query::default()), ["whole"]);
    let before = Query { until_seq: Some(1), ..Query::default() };
    assert_eq!(replies(&journal, &before), ["half"]);
    assert_eq!(journal.told_otherwise("mapper@2").unwrap(), [step("s", 1).id.to_string()]);
    assert!(journal.told_otherwise("mapper@1").unwrap().is_empty());
    let counts = journal.counts().unwrap();
    assert_eq!((counts.steps, counts.superseded, counts.pending_outcomes), (1, 1, 0));

    // Taken back, what was said about it waits again.
    journal.withdraw(step("s", 1).id.as_str()).unwrap().wait().unwrap();
    assert_eq!(everything(&journal), []);
    let counts = journal.counts().unwrap();
    assert_eq!((counts.steps, counts.pending_outcomes, counts.unreadable), (0, 1, 0));
    journal.rebuild().unwrap();
    assert_eq!(journal.counts().unwrap(), counts);
    assert_eq!(replies(&journal, &Query { until_seq: Some(3), ..Query::default() }), ["whole"]);
    tell(&journal, "mapper@1", reply("again")).unwrap();
    assert_eq!(journal.counts().unwrap().pending_outcomes, 0);
}

#[test]
fn telemetry_replaces_nothing_that_we_saw_ourselves() {
    let home = Home::new();
    let journal = home.open();
    record(&journal, [reply("ours").into()]);
    assert_eq!(tell(&journal, "mapper@1", reply("ours")).unwrap(), (1, true));
    assert!(tell(&journal, "mapper@1", reply("theirs")).unwrap_err().is_conflict());
    assert!(journal.withdraw(step("s", 1).id.as_str()).unwrap().wait().unwrap_err().is_conflict());
    assert_eq!(replies(&journal, &Query::default()), ["ours"]);
}

#[test]
fn notes_are_kept_until_other_rules_read() {
    let home = Home::new();
    let journal = home.open();
    assert_eq!(journal.reading().unwrap(), None);
    let name = |text: &str| text.to_owned();
    let notes = Notes {
        mapper: name("mapper@1"),
        told_in: vec![(name("a"), 1), (name("a"), 3), (name("b"), 2)],
        ties: vec![(name("t"), name("a")), (name("t"), name("b")), (name("u"), name("c"))],
        body: Some(3),
    };
    journal.note(notes.clone()).unwrap();
    journal.note(notes).unwrap();
    assert_eq!(journal.bodies_of("a").unwrap(), [1, 3]);
    assert_eq!(journal.tied_to("b").unwrap(), ["a", "b"]);
    assert_eq!(journal.reading().unwrap().unwrap().body, 3);
    journal.note(Notes { mapper: name("mapper@2"), ..Notes::default() }).unwrap();
    assert_eq!(journal.reading().unwrap().unwrap().body, 0);
    assert_eq!(journal.bodies_of("a").unwrap(), [0; 0]);
    assert!(journal.tied_to("b").unwrap().is_empty());
}

#[test]
fn what_was_taken_back_does_not_count_whenever_it_comes() {
    for retracted_first in [false, true] {
        let home = Home::new();
        let journal = home.open();
        let outcome = about_response("s", 1);
        record(&journal, [step("s", 1).into()]);
        let retract = || journal.retract(&outcome.id).unwrap().wait().unwrap().duplicate;
        if retracted_first {
            assert!(!retract());
        }
        record(&journal, [outcome.clone().into()]);
        if !retracted_first {
            assert_eq!(journal.said_of(&outcome.target).unwrap(), std::slice::from_ref(&outcome));
            assert!(!retract());
        }
        assert!(retract(), "once is enough");
        let again = journal.append_outcome(outcome.clone()).unwrap().wait().unwrap();
        assert!(again.duplicate);
        assert_eq!(journal.said_of(&outcome.target).unwrap(), []);
        assert_eq!(everything(&journal)[0].steps[0].outcomes, []);
        let counts = journal.counts().unwrap();
        assert_eq!((counts.outcomes, counts.pending_outcomes, counts.unreadable), (0, 0, 0));
        journal.rebuild().unwrap();
        assert_eq!(journal.counts().unwrap(), counts);
        let before = Query { until_seq: Some(2), ..Query::default() };
        let known = journal.trajectories(&before).unwrap()[0].steps[0].outcomes.len();
        assert_eq!(known, usize::from(!retracted_first));
    }
}

#[test]
fn what_waits_is_listed_and_the_secret_stays() {
    let home = Home::new();
    let journal = home.open();
    record(&journal, [about_response("s", 1).into(), about_response("s", 2).into()]);
    assert_eq!(journal.pending(1).unwrap(), [about_response("s", 1)]);
    record(&journal, [step("s", 1).into()]);
    assert_eq!(journal.pending(9).unwrap(), [about_response("s", 2)]);
    let secret = journal.secret().unwrap();
    journal.close();
    assert_eq!(home.open().secret().unwrap(), secret);
    assert_ne!(Home::new().open().secret().unwrap(), secret);
}

#[test]
fn many_notes_are_several_transactions_and_the_place_is_in_the_last() {
    let rows = |name: &str| (0..3000).map(move |n| (format!("{name} {n}"), n)).collect::<Vec<_>>();
    let ties: Vec<(String, String)> =
        rows("tie").into_iter().map(|(tie, n)| (tie, format!("unit {n}"))).collect();
    let mapper = || "mapper@1".to_owned();
    let notes =
        Notes { mapper: mapper(), told_in: rows("unit"), ties: ties.clone(), body: Some(7) };
    let parts = notes.clone().parts();
    assert!(parts.len() >= 6, "{}", parts.len());
    assert!(parts.iter().all(|part| part.told_in.len() + part.ties.len() <= 1024));
    assert!(parts.iter().rev().skip(1).all(|part| part.body.is_none()));
    let told_in: Vec<_> = parts.iter().flat_map(|part| part.told_in.clone()).collect();
    assert_eq!((told_in, parts.last().unwrap().body), (rows("unit"), Some(7)));
    let of_parts: Vec<_> = parts.iter().flat_map(|part| part.ties.clone()).collect();
    assert_eq!(of_parts, ties);

    let home = Home::new();
    let journal = home.open();
    journal.note(notes).unwrap();
    assert_eq!(journal.reading().unwrap().unwrap().body, 7);
    assert_eq!(journal.bodies_of("unit 2999").unwrap(), [2999]);
    assert_eq!(journal.units_tied_by("tie 2999").unwrap(), ["unit 2999"]);
    // Nothing but the place is a note as well.
    let further = Notes { mapper: mapper(), body: Some(8), ..Notes::default() };
    assert_eq!(further.clone().parts(), std::slice::from_ref(&further));
}

#[test]
fn whoever_waits_for_telemetry_looks_at_none_of_what_there_is() {
    let home = Home::new();
    let journal = home.open();
    assert!(!journal.has_forgotten_bodies().unwrap());
    for sql in [crate::read::TOLD_OTHERWISE, crate::body::ANY_FORGOTTEN] {
        let raw = home.raw();
        let mut plan = raw.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let count = plan.parameter_count();
        let asked = vec!["mapper@1"; count];
        let steps = plan.query_map(rusqlite::params_from_iter(asked), |row| row.get(3)).unwrap();
        let steps: Vec<String> = steps.map(Result::unwrap).collect();
        let is_fine = |step: &str| step.contains("bodies_expired") || step == "SCAN CONSTANT ROW";
        let walks = |step: &&String| step.contains("SCAN") && !is_fine(step);
        assert_eq!(steps.iter().find(walks), None, "{steps:?}");
    }
}
