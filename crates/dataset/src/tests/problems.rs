//! Attempts at one problem into pairs.

use std::collections::{BTreeMap, BTreeSet};

use understudy_ingest::{Format, Group, read};
use understudy_manifest::PairExample;
use understudy_trajectory::{Details, Side};

use super::*;

/// A trajectory that attempts a problem, with what it says in turn; the score is said of its end.
fn attempt(problem: &str, name: &str, replies: &[&str], score: f64) -> Trajectory {
    let step = |(nth, reply): (usize, &&str)| {
        let own = format!("{name} {nth}");
        let prompt = format!("{problem}, as {name} asks in turn {nth}");
        later(step(name, &own, &prompt, reply), nth as i64)
    };
    let mut steps: Vec<JudgedStep> = replies.iter().enumerate().map(step).collect();
    let last = steps.pop().unwrap();
    let mut last = with(last, Signal::Verifier { name: "checks".to_owned(), score });
    last.outcomes[0].source = Source::Automated;
    last.outcomes[0].note = Some(Outcome::note_of_problem(problem));
    steps.push(last);
    Trajectory { id: steps[0].step.trajectory.clone(), steps }
}

fn built_of(trajectories: Vec<Trajectory>, data: &Data) -> Draft {
    let task = task();
    let now = at(86_400_000);
    let request = Request { task: &task, data, seed: 17, sources: &[], suites: &[], now };
    build(request, trajectories).unwrap()
}

fn pairs(draft: &Draft) -> Vec<PairExample> {
    let (_root, frozen) = freeze(draft);
    [Split::Train, Split::Dev].into_iter().flat_map(|split| frozen.pairs(split).unwrap()).collect()
}

#[test]
fn the_better_attempt_is_preferred_from_where_the_two_part() {
    let draft = built_of(
        vec![
            attempt(
                "lost parcel",
                "good",
                &["Which one?", "It is on its way", "Anything else?"],
                1.0,
            ),
            attempt("lost parcel", "half", &["Which one?", "No idea", "Anything else?"], 0.5),
            attempt("lost parcel", "bad", &["Go away"], 0.0),
            attempt("refund", "alone", &["Which one?"], 1.0),
        ],
        &all_train(),
    );
    for (reason, expected) in
        [("problems", 2), ("problems_of_unequal_attempts", 1), ("attempts", 4), ("pairs", 3)]
    {
        assert_eq!((reason, count(&draft, "compare", reason)), (reason, expected));
    }
    let found: BTreeSet<(String, String, String)> = pairs(&draft)
        .iter()
        .map(|row| {
            assert_eq!(row.origin.because, ["attempts"]);
            (row.prompt[1].text(), row.chosen[0].text(), row.rejected[0].text())
        })
        .collect();
    let pair = |prompt: &str, chosen: &str, rejected: &str| {
        let prompt = format!("lost parcel, as {prompt}");
        (prompt, chosen.to_owned(), rejected.to_owned())
    };
    let expected = [
        pair("good asks in turn 0", "Which one?", "Go away"),
        pair("good asks in turn 1", "It is on its way", "No idea"),
        pair("half asks in turn 0", "Which one?", "Go away"),
    ];
    assert_eq!(found, expected.into());
    let margins: BTreeSet<String> =
        pairs(&draft).iter().map(|row| row.margin.unwrap().to_string()).collect();
    assert_eq!(margins, ["0.5", "1"].map(str::to_owned).into());
    // Every step of an attempt did as well as the whole.
    assert_eq!(draft.manifest().rows("sft.train.jsonl"), 4);
    assert_eq!(count(&draft, "build", "labels"), 5, "and half a point is no opinion");
}

#[test]
fn where_attempts_are_labelled_only_winners_are_preferred_and_only_to_losers() {
    let labelled = |name: &str, score: f64, side: Side| {
        let mut attempt = attempt("lost parcel", name, &[name], score);
        let outcome = &mut attempt.steps[0].outcomes[0];
        let label = Some(side.as_str().to_owned());
        outcome.details = Some(Box::new(Details { label, ..Details::default() }));
        attempt
    };
    let attempts = vec![
        labelled("quick and right", 0.95, Side::Winner),
        labelled("slow and right", 0.8, Side::Neither),
        labelled("nearly", 0.5, Side::Neither),
        labelled("wrong", 0.1, Side::Loser),
        // Whoever says of another one's attempts who won knows nothing of this one.
        attempt("lost parcel", "unlabelled", &["unlabelled"], 0.0),
    ];
    let found = pairs(&built_of(attempts, &all_train()));
    let [pair] = &found[..] else { panic!("{found:?}") };
    let said = (pair.chosen[0].text(), pair.rejected[0].text());
    assert_eq!(said, ("quick and right".to_owned(), "wrong".to_owned()));
}

#[test]
fn attempts_at_one_problem_are_on_one_side() {
    let attempts = (0..60).map(|nth| {
        let (problem, name) = (format!("problem {}", nth / 3), format!("trial {nth}"));
        let reply = format!("reply {nth}");
        attempt(&problem, &name, &[&reply], f64::from(nth % 3) / 2.0)
    });
    let data = Data { holdout: 0.5, ..all_train() };
    let draft = built_of(attempts.collect(), &data);
    assert_eq!(count(&draft, "compare", "pairs"), 60);
    assert_eq!(count(&draft, "split", "components"), 20);
    assert_eq!(draft.manifest().leakage.as_ref().unwrap()["problems"], 0);
}

/// The trials of tau-bench as a journal gives them back: what is said of a trajectory is linked to
/// its last step.
fn recorded(text: &str) -> (Vec<Trajectory>, Vec<Group>) {
    let imported = read(Format::TauBench, &task(), text, None, None, at(0)).unwrap();
    assert!(imported.rejected.is_empty());
    let mut trajectories: BTreeMap<TrajectoryId, Vec<JudgedStep>> = BTreeMap::new();
    for step in imported.steps {
        let steps = trajectories.entry(step.trajectory.clone()).or_default();
        steps.push(JudgedStep { step, outcomes: Vec::new() });
    }
    for outcome in imported.outcomes {
        let Target::Trajectory(id) = &outcome.target else { panic!("{outcome:?}") };
        let steps = trajectories.get_mut(&id.parse().unwrap()).unwrap();
        steps.last_mut().unwrap().outcomes.push(outcome);
    }
    let whole = trajectories.into_iter().map(|(id, steps)| Trajectory { id, steps });
    (whole.collect(), imported.groups)
}

#[test]
fn tau_bench_gives_a_pair_of_every_two_unequal_trials() {
    let Some(text) = public_data("tau-bench/gpt-4o-airline.json") else { return };
    let (trajectories, groups) = recorded(&text);
    assert_eq!((trajectories.len(), groups.len()), (200, 50));
    assert_eq!(groups.iter().filter(|group| group.is_mixed()).count(), 26);
    let trial_of: BTreeMap<String, String> = trajectories
        .iter()
        .flat_map(|one| one.steps.iter().map(|it| (it.step.id.to_string(), one.id.to_string())))
        .collect();
    let problem_of: BTreeMap<String, &str> = groups
        .iter()
        .flat_map(|group| group.attempts.iter().map(|it| (it.trajectory.to_string(), &*group.name)))
        .collect();
    let data = Data { min_verified: 0, ..Data::default() };
    let draft = built_of(trajectories, &data);
    for (reason, expected) in
        [("problems", 50), ("problems_of_unequal_attempts", 26), ("attempts", 200), ("pairs", 88)]
    {
        assert_eq!((reason, count(&draft, "compare", reason)), (reason, expected));
    }
    let (_root, frozen) = freeze(&draft);
    let mut trials: [BTreeSet<&str>; 2] = [BTreeSet::new(), BTreeSet::new()];
    let mut problems: [BTreeSet<&str>; 2] = [BTreeSet::new(), BTreeSet::new()];
    for (nth, split) in [Split::Train, Split::Dev].into_iter().enumerate() {
        let sft = frozen.sft(split).unwrap().into_iter().map(|row| row.origin);
        let labels = frozen.labels(split).unwrap().into_iter().map(|row| row.origin);
        let pairs = frozen.pairs(split).unwrap().into_iter().map(|row| row.origin);
        for step in sft.chain(labels).chain(pairs).flat_map(|origin| origin.steps) {
            trials[nth].insert(&trial_of[&step]);
            problems[nth].insert(problem_of[&trial_of[&step]]);
        }
    }
    assert!(trials[0].is_disjoint(&trials[1]) && problems[0].is_disjoint(&problems[1]));
    assert!(trials.iter().all(|side| side.len() > 10), "{trials:?}");
    let leakage = draft.manifest().leakage.as_ref().unwrap();
    assert!(leakage.values().all(|count| *count == 0), "{leakage:?}");
}
