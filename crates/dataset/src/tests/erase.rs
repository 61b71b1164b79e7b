use std::{collections::BTreeSet, fs};

use crate::{erase, list};

use super::*;

/// Steps of two subjects, of which one says something that is easy to look for.
fn two_people() -> Vec<JudgedStep> {
    let step = |nth: usize| {
        let (who, what) =
            if nth.is_multiple_of(3) { ("hers", "zebrafish") } else { ("his", "ordinary") };
        let name = format!("{who} {nth}");
        let asked = format!("{what} question {nth}");
        let signal = if nth.is_multiple_of(2) {
            Signal::Accept
        } else {
            edit(&format!("{what} edit {nth}"))
        };
        let mut judged = with(step(&name, &name, &asked, &format!("{what} reply {nth}")), signal);
        judged.step.subject = Some(who.to_owned());
        judged
    };
    (0..30).map(step).collect()
}

fn hers() -> BTreeSet<String> {
    let of = |judged: &JudgedStep| judged.step.subject.as_deref() == Some("hers");
    two_people().iter().filter(|judged| of(judged)).map(|one| one.step.id.to_string()).collect()
}

/// Every byte below a directory.
fn everything_in(root: &Path) -> String {
    let mut all = String::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                all.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    all
}

#[test]
fn a_version_without_the_subject_takes_the_place_of_the_one_with_it() {
    let root = tempfile::tempdir().unwrap();
    let frozen =
        try_build(&Data::default(), &[], two_people()).unwrap().freeze(root.path()).unwrap();
    let without: Vec<JudgedStep> =
        two_people().into_iter().filter(|one| !hers().contains(one.step.id.as_str())).collect();
    let other = try_build(&all_train(), &[], without).unwrap().freeze(root.path()).unwrap();
    assert!(everything_in(root.path()).contains("zebrafish"));
    let his = |row: &understudy_manifest::SftExample| !hers().contains(&row.origin.steps[0]);
    let before = [Split::Train, Split::Dev]
        .map(|split| frozen.sft(split).unwrap().iter().filter(|row| his(row)).count());

    let erased = erase(root.path(), &hers(), "e1").unwrap();
    let [one] = &erased[..] else { panic!("{erased:?}") };
    assert_eq!((&one.version, one.rows), (frozen.version(), 20));
    let successor = one.successor.clone().unwrap();
    assert!(!everything_in(root.path()).contains("zebrafish"));
    let mut listed = vec![other.version().clone(), successor.clone()];
    listed.sort();
    assert_eq!(list(root.path()).unwrap(), listed);
    assert_eq!(FrozenDataset::find(root.path(), other.version()).unwrap(), other, "is untouched");

    let gone = FrozenDataset::find(root.path(), frozen.version()).unwrap_err();
    assert!(matches!(&gone, DatasetError::Erased { .. }), "{gone}");
    assert!(gone.to_string().contains(&successor.to_string()), "{gone}");
    let successor = FrozenDataset::find(root.path(), &successor).unwrap();
    let stage = successor.manifest().stages.last().unwrap();
    assert_eq!((stage.stage.as_str(), stage.rows_in - stage.rows_out), ("erase", 20));
    assert!(successor.manifest().sources.iter().any(|s| s.contains(&frozen.version().to_string())));
    // What is left stays in the split it was in.
    let left = [Split::Train, Split::Dev].map(|split| successor.sft(split).unwrap());
    assert_eq!(left.map(|rows| rows.len()), before);
}

#[test]
fn an_erasure_that_was_interrupted_is_finished() {
    let root = tempfile::tempdir().unwrap();
    let frozen =
        try_build(&Data::default(), &[], two_people()).unwrap().freeze(root.path()).unwrap();
    let rows = fs::read(frozen.dir().join("sft.train.jsonl")).unwrap();
    let first = erase(root.path(), &hers(), "e1").unwrap();
    // As if it had died between the tombstone and the rows.
    fs::write(frozen.dir().join("sft.train.jsonl"), rows).unwrap();
    assert_eq!(erase(root.path(), &hers(), "e1").unwrap(), first);
    assert!(!everything_in(root.path()).contains("zebrafish"));
    assert_eq!(erase(root.path(), &hers(), "e2").unwrap(), [], "there is nothing left to erase");
}

#[test]
fn a_version_of_one_subject_alone_has_no_successor() {
    let root = tempfile::tempdir().unwrap();
    let steps = two_people().into_iter().filter(|one| hers().contains(one.step.id.as_str()));
    try_build(&all_train(), &[], steps).unwrap().freeze(root.path()).unwrap();
    let erased = erase(root.path(), &hers(), "e1").unwrap();
    assert_eq!((erased.len(), &erased[0].successor), (1, &None));
    assert_eq!(list(root.path()).unwrap(), []);
}
