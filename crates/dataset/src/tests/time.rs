//! The newest steps are held out, and nothing of what they belong to is trained on.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

fn told(draft: &Draft, steps: &[JudgedStep]) -> BTreeMap<&'static str, Vec<Step>> {
    let by_id: BTreeMap<String, &Step> =
        steps.iter().map(|judged| (judged.step.id.to_string(), &judged.step)).collect();
    let mut sides: BTreeMap<&str, Vec<Step>> = BTreeMap::new();
    for file in &draft.manifest().files {
        let split = if file.path.contains(".train.") { "train" } else { "dev" };
        for line in draft.file(&file.path).unwrap().unwrap().lines() {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            for id in row["origin"]["steps"].as_array().unwrap() {
                let step = by_id[id.as_str().unwrap()];
                sides.entry(split).or_default().push(step.clone());
            }
        }
    }
    sides
}

#[test]
fn train_has_nothing_newer_than_the_cut_and_shares_nothing_with_dev() {
    for seed in 0..5 {
        let steps = traffic(seed, 300);
        let data =
            Data { holdout: 0.1, holdout_newest: 0.25, prompts: seed % 2 == 0, ..Data::default() };
        let draft = try_build(&data, &[], steps.clone()).unwrap();
        let cut = draft.manifest().cut.unwrap();
        let sides = told(&draft, &steps);
        assert!(sides["train"].iter().all(|step| step.at < cut));
        assert!(sides["dev"].iter().any(|step| step.at >= cut));
        assert!(sides["dev"].iter().any(|step| step.at < cut), "a share of the older as well");
        let sessions = |side: &str| -> BTreeSet<String> {
            sides[side].iter().filter_map(|step| step.session.clone()).collect()
        };
        let subjects = |side: &str| -> BTreeSet<String> {
            sides[side].iter().filter_map(|step| step.subject.clone()).collect()
        };
        assert!(sessions("train").is_disjoint(&sessions("dev")));
        assert!(subjects("train").is_disjoint(&subjects("dev")));
        let leakage = draft.manifest().leakage.as_ref().unwrap();
        assert_eq!(leakage["rows_newer_than_the_cut"], 0);
        assert!(leakage.values().all(|count| *count == 0), "{leakage:?}");
        assert!(count(&draft, "split", "newer_than_the_cut") > 0);
    }
}

/// Ten steps a second apart: one subject throughout, and from the sixth on another one.
fn two_subjects() -> Vec<JudgedStep> {
    let step_of = |nth: i64| {
        let name = format!("step {nth}");
        let mut judged =
            with(step(&name, &name, &format!("prompt {nth}"), "reply"), Signal::Accept);
        let newcomer = nth >= 6 && nth % 2 == 0;
        judged.step.subject = Some(if newcomer { "new" } else { "old" }.to_owned());
        later(judged, nth * 1000)
    };
    (0..10).map(step_of).collect()
}

#[test]
fn whoever_began_before_the_cut_is_trained_on_up_to_it() {
    let data = Data { holdout_newest: 0.4, ..all_train() };
    let steps = two_subjects();
    let draft = try_build(&data, &[], steps.clone()).unwrap();
    assert_eq!(draft.manifest().cut, Some(at(7000)));
    let rows = |path: &str| draft.manifest().rows(path);
    assert_eq!((rows("sft.train.jsonl"), rows("sft.dev.jsonl")), (6, 2));
    // Steps 7 and 9, an example and a label each.
    assert_eq!(count(&draft, "split", "newer_than_the_cut"), 4);
    let (_root, frozen) = freeze(&draft);
    let card = std::fs::read_to_string(frozen.dir().join("README.md")).unwrap();
    assert!(card.contains("components that began at 1970-01-01T00:00:07Z or later"), "{card}");
    // The order they come in makes no difference.
    let again = try_build(&data, &[], steps.into_iter().rev()).unwrap();
    assert_eq!(again.version(), draft.version());
}

#[test]
fn a_row_that_is_too_new_says_so() {
    let data = Data { holdout_newest: 0.4, ..all_train() };
    let (task, now) = (task(), at(86_400_000));
    let request = Request { task: &task, data: &data, seed: 17, sources: &[], suites: &[], now };
    let builder = crate::Builder::new(request, &std::env::temp_dir()).unwrap();
    let mut builder = builder.following("chatcmpl-step 9");
    for trajectory in trajectories(two_subjects()) {
        builder.add(trajectory).unwrap();
    }
    let last = builder.explain().unwrap().pop().unwrap();
    assert_eq!(last.stage, "split");
    assert!(last.what.starts_with("labels: left out: it is among the newest"), "{}", last.what);
}

#[test]
fn where_everything_began_among_the_newest_there_is_no_version() {
    let steps = (0..4).map(|nth| {
        let name = format!("step {nth}");
        with(step(&name, &name, &format!("prompt {nth}"), "reply"), Signal::Accept)
    });
    let data = Data { holdout_newest: 0.5, ..all_train() };
    let error = try_build(&data, &[], steps).unwrap_err();
    assert!(matches!(error, DatasetError::NothingBefore { .. }), "{error}");
    assert!(error.to_string().contains("holdout_newest"), "{error}");
}
