//! A run that was killed goes on where it was.

use std::collections::BTreeMap;

use understudy_ident::Digest;

use super::*;
use crate::{cache::Cache, write_recorded};

#[derive(Debug, Default)]
struct InMemory(BTreeMap<Digest, String>);

impl Cache for InMemory {
    fn get(&self, key: &Digest) -> Option<String> {
        self.0.get(key).cloned()
    }

    fn put(&mut self, key: &Digest, text: &str) {
        self.0.insert(*key, text.to_owned());
    }
}

/// Answers as [`Scripted`] does, but says how long it took, so that runs can be compared.
fn timed(limit: usize) -> Scripted {
    Scripted::new(move |nth, _| {
        if nth < limit { answer(1) } else { Reaction::Refuse(InferenceError::ShuttingDown) }
    })
}

fn identities() -> Vec<Option<Digest>> {
    vec![Some(Digest::of(b"base"))]
}

fn resumed(
    backend: &Scripted,
    suite: &Suite,
    cache: &mut InMemory,
    subjects: &[Option<Digest>],
) -> Result<(SubjectRun, Vec<usize>), EvaluationError> {
    let mut kept = Vec::new();
    let mut note = |now: Progress<'_>| kept.push(now.kept);
    let runs =
        resume(backend, suite, (&base(), &as_written), FOUR, Kept { cache, subjects }, &mut note)?;
    Ok((runs.into_iter().next().unwrap(), kept))
}

fn asked(backend: &Scripted) -> usize {
    backend.submissions.load(Ordering::SeqCst)
}

#[test]
fn a_killed_run_asks_only_for_what_is_missing() {
    let (suite, mut cache) = (suite(20), InMemory::default());
    let dying = timed(9);
    let error = resumed(&dying, &suite, &mut cache, &identities()).unwrap_err();
    assert!(matches!(error, EvaluationError::Backend { .. }));
    let before = cache.0.len();
    assert!((1..=9).contains(&before), "{before} answers were kept");

    let alive = timed(usize::MAX);
    let (run, kept) = resumed(&alive, &suite, &mut cache, &identities()).unwrap();
    assert_eq!(asked(&alive), 20 - before);
    assert_eq!(kept.first(), Some(&before));
    for (case, result) in suite.cases.iter().zip(&run.results) {
        assert_eq!((&result.id, &result.output), (&case.id, &case.expected));
    }

    // Once all is there, nobody is asked, and the bytes are the same.
    let (again, _) = resumed(&timed(0), &suite, &mut cache, &identities()).unwrap();
    assert_eq!(again, run);
    assert_eq!(write_recorded(&again), write_recorded(&run));
}

#[test]
fn another_case_subject_or_sampling_is_asked_anew() {
    let (mut suite, mut cache) = (suite(6), InMemory::default());
    resumed(&timed(usize::MAX), &suite, &mut cache, &identities()).unwrap();
    let count = |suite: &Suite, cache: &mut InMemory, subjects: &[Option<Digest>]| {
        let backend = timed(usize::MAX);
        resumed(&backend, suite, cache, subjects).unwrap();
        asked(&backend)
    };
    suite.cases[2].prompt = vec![Message::user("7")];
    assert_eq!(count(&suite, &mut cache, &identities()), 1);
    assert_eq!(count(&suite, &mut cache, &[Some(Digest::of(b"other"))]), 6);
    assert_eq!(count(&suite, &mut cache, &[None]), 6, "what has no name is not kept");
    assert_eq!(count(&suite, &mut cache, &[None]), 6);
    let backend = timed(usize::MAX);
    let longer = RunOptions { max_new_tokens: 99, ..FOUR };
    let kept = Kept { cache: &mut cache, subjects: &identities() };
    resume(&backend, &suite, (&base(), &as_written), longer, kept, &mut |_| {}).unwrap();
    assert_eq!(asked(&backend), 6);
}

#[test]
fn a_failed_answer_is_asked_for_again() {
    let (suite, mut cache) = (suite(4), InMemory::default());
    let unlucky = Scripted::new(|_, question| match question {
        "1" => Reaction::Fail(InferenceError::Failed("out of luck".to_owned())),
        _ => answer(1),
    });
    let (run, _) = resumed(&unlucky, &suite, &mut cache, &identities()).unwrap();
    assert!(run.results[1].error.is_some());
    let alive = timed(usize::MAX);
    let (run, _) = resumed(&alive, &suite, &mut cache, &identities()).unwrap();
    assert_eq!((asked(&alive), run.results[1].error.as_ref()), (1, None));
}

/// Measured beside another subject, a latency says nothing about the two of now.
#[test]
fn a_latency_from_other_company_is_not_shown() {
    let (suite, mut cache) = (suite(3), InMemory::default());
    let (run, _) = resumed(&timed(usize::MAX), &suite, &mut cache, &identities()).unwrap();
    assert!(run.results.iter().all(|result| result.latency_ms > 0.0));
    let both = [Some(Digest::of(b"base")), Some(Digest::of(b"new"))];
    let mut subjects = base();
    subjects.push(Subject { name: "new".to_owned(), adapter: None });
    let (backend, kept) = (timed(usize::MAX), Kept { cache: &mut cache, subjects: &both });
    let runs = resume(&backend, &suite, (&subjects, &as_written), FOUR, kept, &mut |_| {}).unwrap();
    assert_eq!(asked(&backend), 3, "only the new one is asked");
    assert!(runs[0].results.iter().all(|result| result.latency_ms == 0.0));
    assert!(runs[1].results.iter().all(|result| result.latency_ms > 0.0));
}

#[test]
fn what_cannot_be_read_back_is_asked_for_again() {
    let (suite, mut cache) = (suite(3), InMemory::default());
    resumed(&timed(usize::MAX), &suite, &mut cache, &identities()).unwrap();
    cache.0.values_mut().for_each(|text| text.truncate(text.len() / 2));
    let alive = timed(usize::MAX);
    resumed(&alive, &suite, &mut cache, &identities()).unwrap();
    assert_eq!(asked(&alive), 3);
}

#[test]
fn a_killed_attempt_asks_only_for_what_is_missing_and_every_attempt_has_its_own_draw() {
    let (suite, mut cache) = (suite(6), InMemory::default());
    let repeats = Repeats { each: 3, temperature: 0.8, seed: 17 };
    let mut all = |backend: &Scripted, repeats| {
        let kept = Kept { cache: &mut cache, subjects: &identities() };
        let mut last = (0, 0);
        let mut note = |now: Progress<'_>| last = (now.done, now.total);
        let runs =
            attempt(backend, &suite, (&base(), &as_written), (FOUR, repeats), kept, &mut note);
        (runs.map(|mut runs| runs.remove(0)), last)
    };
    assert!(all(&timed(10), repeats).0.is_err());
    let alive = timed(usize::MAX);
    let (run, last) = all(&alive, repeats);
    let run = run.unwrap();
    assert_eq!((run.more.len(), last), (2, (18, 18)));
    assert_eq!(run.conditions.unwrap().temperature, f64::from(0.8_f32));
    let first = asked(&alive);
    assert!((8..=17).contains(&first), "{first} were asked after ten at most were kept");
    all(&alive, repeats).0.unwrap();
    assert_eq!(asked(&alive), first, "nothing was missing");
    all(&alive, Repeats { seed: 18, ..repeats }).0.unwrap();
    assert_eq!(asked(&alive), first + 18, "another seed draws others");
}
