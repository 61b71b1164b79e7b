//! Forgetting a subject: nothing of it is left in any file, and everybody else's is untouched.

use std::fs;

use super::*;
use crate::RawBody;

const SECRET: &str = "Rosalind-Franklin-Photo-51";

/// A step of a subject in which everything a person might say is there.
fn own(subject: &str, session: &str, n: i64) -> Step {
    let mut step = step(session, n);
    step.subject = Some(subject.to_owned());
    // Random enough that compression leaves the words as they are.
    step.prompt = vec![Message::user(format!("{SECRET} asks {n}"))];
    step.reply = Message::assistant(format!("told {SECRET} {n}"));
    step
}

fn edited(name: &str, target: Target, text: &str) -> Outcome {
    let signal = Signal::Edit { text: text.to_owned() };
    Outcome { signal, note: Some(SECRET.to_owned()), ..outcome(name, target, 5_000_000) }
}

fn response(session: &str, n: i64) -> Target {
    Target::Response(format!("chatcmpl-{session}-{n}"))
}

/// Whether some bytes are in any file of the directory.
fn is_somewhere(home: &Home, what: &str) -> bool {
    let contains = |bytes: &[u8]| bytes.windows(what.len()).any(|part| part == what.as_bytes());
    let files = fs::read_dir(home.directory.path()).unwrap();
    files.map(|file| fs::read(file.unwrap().path()).unwrap()).any(|bytes| contains(&bytes))
}

fn populated(home: &Home) -> Journal {
    let journal = home.open();
    let rosalind = (0..5).map(|n| own("rosalind", "r", n));
    let maurice = (0..5).map(|n| own("maurice", "m", n));
    record(&journal, rosalind.chain(maurice).map(Entry::from));
    record(&journal, (0..3).map(|n| step("nobody", n).into()));
    record(
        &journal,
        [
            edited("of r", response("r", 1), SECRET).into(),
            edited("of m", response("m", 1), "better").into(),
            edited("session r", Target::Session("r".to_owned()), SECRET).into(),
            edited("early", response("later", 0), "early").into(),
        ],
    );
    journal
}

#[test]
fn no_byte_of_an_erased_subject_is_left_and_nobody_else_is_touched() {
    let home = Home::new();
    let journal = populated(&home);
    let others = |journal: &Journal| -> Vec<Trajectory> {
        let own = TrajectoryId::derived("r");
        everything(journal).into_iter().filter(|trajectory| trajectory.id != own).collect()
    };
    let (before, counts) = (others(&journal), journal.counts().unwrap());
    assert_eq!(journal.holdings("rosalind").unwrap().steps.len(), 5);

    let erasure = journal.erase("rosalind", &[]).unwrap();
    assert_eq!((erasure.steps.len(), erasure.outcomes), (5, 2));
    assert!(erasure.steps.contains(StepId::derived("r 3").as_str()));
    assert_eq!(everything(&journal), before);
    assert_eq!(before.len(), 2);
    let left = journal.holdings("rosalind").unwrap();
    let nothing = crate::Holdings { subject: erasure.subject, ..crate::Holdings::default() };
    assert_eq!(left, nothing);
    let after = journal.counts().unwrap();
    assert_eq!((after.steps, after.outcomes), (counts.steps - 5, counts.outcomes - 2));
    assert_eq!((after.erased, after.unreadable), (7, 0));
    assert_eq!(after.records, counts.records, "records stay");
    assert_eq!(journal.follow(0, 100).unwrap().len() as u64, counts.records - 7);
    assert_eq!(journal.step_by_response("chatcmpl-r-1").unwrap(), None);

    // What was derived is derived again without it, by another process as well.
    journal.rebuild().unwrap();
    assert_eq!(everything(&journal), before);
    journal.close();
    let journal = home.open();
    assert_eq!(everything(&journal), before);
    assert_eq!(journal.counts().unwrap(), after);
}

/// Looked for in the files as they lie there while the journal is open.
#[test]
fn what_lies_on_the_disk_cannot_be_read_without_its_key() {
    let home = Home::new();
    let journal = home.open();
    record(&journal, [own("rosalind", "r", 1).into(), step("n", 1).into()]);
    let mut raw = home.raw();
    let bodies: Vec<Vec<u8>> = {
        let transaction = raw.transaction().unwrap();
        let mut query = transaction.prepare("SELECT body FROM records ORDER BY seq").unwrap();
        query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let unpacked = |body: &[u8]| zstd::stream::decode_all(body).ok();
    assert_eq!(unpacked(&bodies[0]), None);
    assert!(unpacked(&bodies[1]).is_some(), "what is about nobody is not sealed");
    assert!(!is_somewhere(&home, "rosalind"));
    assert_eq!(everything(&journal).len(), 2);

    let key: Vec<u8> = raw.query_row("SELECT bytes FROM keys", [], |row| row.get(0)).unwrap();
    let has_key = || {
        let files = fs::read_dir(home.directory.path()).unwrap();
        let mut bytes = files.map(|file| fs::read(file.unwrap().path()).unwrap());
        bytes.any(|bytes| bytes.windows(32).any(|part| part == key))
    };
    drop(raw);
    assert!(has_key(), "it must be where this test would find it");
    journal.erase("rosalind", &[]).unwrap();
    assert!(!has_key(), "neither in the database nor in its log");
    assert!(!is_somewhere(&home, "chatcmpl-r-1"), "nor the names it was found by");
}

#[test]
fn a_step_that_comes_again_stays_forgotten_and_a_new_one_is_taken() {
    let home = Home::new();
    let journal = populated(&home);
    journal.erase("rosalind", &[]).unwrap();
    let again = journal.append_step(own("rosalind", "r", 1)).unwrap().wait().unwrap();
    assert!(again.duplicate);
    assert_eq!(journal.holdings("rosalind").unwrap().steps.len(), 0);
    record(&journal, [own("rosalind", "r", 77).into()]);
    assert_eq!(journal.holdings("rosalind").unwrap().steps.len(), 1);
    // The second erasure knows of the first.
    assert_eq!(journal.erase("rosalind", &[]).unwrap().steps.len(), 6);
    assert_eq!(journal.erase("nobody we know", &[]).unwrap().steps.len(), 0);
}

#[test]
fn superseded_accounts_and_raw_bodies_go_as_well() {
    let home = Home::new();
    let journal = home.open();
    let told = |n: i64, reply: &str| {
        let mut step = own("rosalind", "r", n);
        step.reply = Message::assistant(reply);
        Told { origin: "mapper@1".to_owned(), entry: step.into() }
    };
    for reply in ["first account", "second account"] {
        journal.append_told(told(1, reply)).unwrap().wait().unwrap();
    }
    let body = |text: &str| RawBody {
        task: "triage".parse().unwrap(),
        payload: "otlp-traces".to_owned(),
        content_type: "application/json".to_owned(),
        body: text.as_bytes().to_vec(),
    };
    let first = journal.append_body(&body("hers")).unwrap().wait().unwrap().seq;
    journal.append_body(&body("his")).unwrap().wait().unwrap();
    let erasure = journal.erase("rosalind", &[first]).unwrap();
    assert_eq!((erasure.steps.len(), erasure.bodies), (1, 1));
    let bodies = journal.bodies(0, 10).unwrap();
    assert_eq!(bodies.iter().map(|body| body.raw.is_some()).collect::<Vec<_>>(), [false, true]);
    assert_eq!(journal.counts().unwrap().erased, 2);
}

#[test]
fn a_changed_body_a_moved_body_and_a_changed_key_are_noticed() {
    for change in [
        "UPDATE records SET body = substr(body, 1, length(body) - 1) WHERE seq = 1",
        "UPDATE records SET body = (SELECT body FROM records WHERE seq = 2) WHERE seq = 1",
        "UPDATE keys SET bytes = randomblob(32)",
        "UPDATE records SET body = x'01' WHERE seq = 1",
    ] {
        let home = Home::new();
        let journal = home.open();
        record(&journal, [own("a", "s", 1).into(), own("a", "s", 2).into()]);
        let raw = home.raw();
        raw.execute_batch("DROP TRIGGER records_are_final").unwrap();
        raw.execute_batch(change).unwrap();
        let read = journal.trajectories(&Query::default());
        assert!(matches!(read, Err(JournalError::Unreadable { .. })), "{change}: {read:?}");
    }
}

#[test]
fn records_may_be_emptied_only_by_an_erasure_and_never_changed() {
    let home = Home::new();
    let journal = home.open();
    record(&journal, [step("s", 1).into()]);
    let raw = home.raw();
    for change in ["body = x''", "body = x'00'", "kind = 'outcome'"] {
        let refused = raw.execute(&format!("UPDATE records SET {change} WHERE seq = 1"), []);
        assert!(refused.unwrap_err().to_string().contains("never rewritten"), "{change}");
    }
    assert!(raw.execute("DELETE FROM erasures", []).is_ok(), "there are none");
}

/// Records from before there were keys: what is a subject's is emptied.
#[test]
fn a_record_that_was_never_sealed_is_emptied() {
    let home = Home::new();
    let journal = populated(&home);
    let raw = home.raw();
    raw.execute_batch("DROP TRIGGER records_are_final").unwrap();
    let plain = serde_json::to_vec(&own("rosalind", "r", 1)).unwrap();
    let packed = crate::record::compress(&plain).unwrap();
    raw.execute("UPDATE records SET body = ?1, key = NULL WHERE seq = 2", [packed]).unwrap();
    assert_eq!(everything(&journal).len(), 3);
    journal.erase("rosalind", &[]).unwrap();
    let left: Vec<u8> =
        raw.query_row("SELECT body FROM records WHERE seq = 2", [], |row| row.get(0)).unwrap();
    assert_eq!(left, b"");
    assert_eq!(journal.counts().unwrap().unreadable, 0);
}

#[test]
fn media_are_kept_once_for_whom_they_are_of_and_go_with_them() {
    let home = Home::new();
    let journal = home.open();
    let secret = SECRET.as_bytes().repeat(3);
    let [own, shared] = [&secret[..], b"a logo that everybody is shown"]
        .map(|bytes| (understudy_ident::Digest::of(bytes), bytes.to_vec()));
    let rows = || -> u64 {
        home.raw().query_row("SELECT count(*) FROM media", [], |row| row.get(0)).unwrap()
    };
    for _ in 0..3 {
        journal.keep_media(Some("rosalind"), vec![own.clone(), shared.clone()]).unwrap();
        journal.keep_media(None, vec![shared.clone()]).unwrap();
    }
    assert_eq!(rows(), 3, "each once, for each whom it is of");
    assert_eq!(journal.media(&own.0).unwrap(), Some(own.1.clone()));
    assert_eq!(journal.media(&understudy_ident::Digest::of(b"none")).unwrap(), None);
    assert!(!is_somewhere(&home, SECRET), "it lies on the disk unsealed");

    assert_eq!(journal.erase("rosalind", &[]).unwrap().media, 2);
    assert_eq!((rows(), journal.media(&own.0).unwrap()), (1, None));
    assert_eq!(journal.media(&shared.0).unwrap(), Some(shared.1), "others are shown it as well");
    home.raw().execute("UPDATE media SET body = x'00'", []).unwrap();
    assert!(matches!(journal.media(&shared.0), Err(JournalError::Unreadable { .. })));
}
