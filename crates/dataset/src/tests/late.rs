//! What comes after a version was cut, and belongs before it.

use std::fs;

use super::*;
use crate::{Beside, Builder};

/// Ten accepted replies, and one of which something is said or not.
fn steps(is_said: bool) -> Vec<JudgedStep> {
    let mut steps: Vec<JudgedStep> = (0..11)
        .map(|nth| {
            let name = format!("step {nth}");
            later(with(step(&name, &name, &name, "reply"), Signal::Accept), nth)
        })
        .collect();
    if !is_said {
        steps[3].outcomes.clear();
    }
    steps
}

fn built(is_said: bool, late: &[&str]) -> Draft {
    let (task, data, now) = (task(), all_train(), at(86_400_000));
    let sources = [format!("journal up to {}", if is_said { 22 } else { 21 })];
    let request =
        Request { task: &task, data: &data, seed: 17, sources: &sources, suites: &[], now };
    let late = late.iter().map(|name| StepId::derived(name)).collect();
    let mut builder = Builder::new(request, &std::env::temp_dir()).unwrap().late(late);
    for trajectory in trajectories(steps(is_said)) {
        builder.add(trajectory).unwrap();
    }
    builder.finish().unwrap()
}

#[test]
fn what_came_late_is_marked_in_the_next_version_and_the_one_before_stays_what_it_was() {
    let root = tempfile::tempdir().unwrap();
    let first = built(false, &[]).freeze(root.path()).unwrap();
    let files = |frozen: &FrozenDataset| -> Vec<(std::ffi::OsString, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(frozen.dir())
            .unwrap()
            .map(|file| file.unwrap().path())
            .map(|path| (path.file_name().unwrap().to_owned(), fs::read(&path).unwrap()))
            .collect();
        files.sort();
        files
    };
    let before = files(&first);
    let next = built(true, &["step 3", "of another task"]).freeze(root.path()).unwrap();
    assert_eq!(files(&first), before);
    assert_ne!(next.version(), first.version());
    assert_eq!(first.beside().unwrap().late, [].into());
    let late = Beside::of(root.path(), next.version()).unwrap().late;
    assert_eq!(late, [StepId::derived("step 3")].into(), "only what rows were made of");
    let card = fs::read_to_string(next.dir().join("README.md")).unwrap();
    assert!(card.contains("\n1 of them are late: an earlier version"), "{card}");
}

#[test]
fn being_late_changes_no_digest_and_goes_with_the_step() {
    let (on_time, late) = (built(true, &[]), built(true, &["step 3", "step 4"]));
    assert_eq!(on_time.version(), late.version());
    let root = tempfile::tempdir().unwrap();
    late.freeze(root.path()).unwrap();
    let gone = [StepId::derived("step 4").to_string()].into();
    let erased = crate::erase(root.path(), &gone, "e1").unwrap();
    let successor = erased[0].successor.clone().unwrap();
    let late = Beside::of(root.path(), &successor).unwrap().late;
    assert_eq!(late, [StepId::derived("step 3")].into());
}
