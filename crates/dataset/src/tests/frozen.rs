use std::{fs, path::Path};

use crate::list;

use super::*;

fn draft(sessions: usize) -> Draft {
    try_build(&Data::default(), &[], traffic(7, sessions)).unwrap()
}

#[test]
fn a_frozen_version_reads_back_as_it_was_drafted() {
    let draft = draft(100);
    let (root, frozen) = freeze(&draft);
    let version = draft.version();
    assert_eq!(frozen.manifest(), draft.manifest());
    assert_eq!(frozen.version(), &version);
    assert_eq!(frozen.dir(), root.path().join("support-triage").join(version.digest.to_hex()));
    assert_eq!(FrozenDataset::find(root.path(), &version).unwrap(), frozen);
    assert_eq!(list(root.path()).unwrap(), [version]);
    let rows = frozen.sft(Split::Train).unwrap().len() as u64;
    assert!(rows > 10);
    assert_eq!(rows, frozen.manifest().rows("sft.train.jsonl"));
    assert_eq!(
        frozen.pairs(Split::Dev).unwrap().len() as u64,
        frozen.manifest().rows("pairs.dev.jsonl")
    );
    assert_eq!(
        frozen.labels(Split::Train).unwrap().len() as u64,
        frozen.manifest().rows("labels.train.jsonl")
    );
    let card = fs::read_to_string(frozen.dir().join("README.md")).unwrap();
    for stage in &frozen.manifest().stages {
        assert!(
            card.contains(&format!("| {} | {} | {} |", stage.stage, stage.rows_in, stage.rows_out))
        );
    }
}

#[test]
fn rows_in_and_out_add_up_from_stage_to_stage() {
    let draft = draft(100);
    let names: Vec<&str> = draft.manifest().stages.iter().map(|s| s.stage.as_str()).collect();
    let expected = [
        "select",
        "filter",
        "join",
        "build",
        "redact",
        "dedupe",
        "decontaminate",
        "limit",
        "split",
    ];
    assert_eq!(names, expected);
    for pair in draft.manifest().stages.windows(2) {
        assert_eq!(pair[0].rows_out, pair[1].rows_in, "{} to {}", pair[0].stage, pair[1].stage);
    }
    let rows: u64 = draft.manifest().files.iter().map(|file| file.rows).sum();
    assert_eq!(rows, draft.manifest().stages.last().unwrap().rows_out);
}

#[test]
fn freezing_again_changes_nothing() {
    let draft = draft(50);
    let (root, frozen) = freeze(&draft);
    let stamp = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    let manifest = frozen.dir().join("manifest.json");
    let before = stamp(&manifest);
    assert_eq!(draft.freeze(root.path()).unwrap(), frozen);
    assert_eq!(stamp(&manifest), before);
    let left: Vec<_> = fs::read_dir(root.path().join("support-triage")).unwrap().collect();
    assert_eq!(left.len(), 1, "no temporary directory stays behind");
}

#[test]
fn any_changed_byte_is_noticed() {
    let draft = draft(50);
    for name in ["manifest.json", "sft.train.jsonl", "pairs.train.jsonl", "labels.dev.jsonl"] {
        let (root, frozen) = freeze(&draft);
        let path = frozen.dir().join(name);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        let error = FrozenDataset::open(frozen.dir()).unwrap_err();
        assert!(matches!(error, DatasetError::Changed { .. }), "{name}: {error}");
        // Neither a build of the same version nor a reader that is open already lets it pass.
        assert!(draft.freeze(root.path()).is_err());
        if name == "sft.train.jsonl" {
            assert!(frozen.sft(Split::Train).is_err());
        }
    }
}

#[test]
fn a_missing_file_a_renamed_directory_and_a_stranger_are_refused() {
    let draft = draft(50);
    let (root, frozen) = freeze(&draft);
    let renamed = frozen.dir().with_file_name("0".repeat(64));
    fs::rename(frozen.dir(), &renamed).unwrap();
    assert!(matches!(FrozenDataset::open(&renamed), Err(DatasetError::Changed { .. })));
    fs::rename(&renamed, frozen.dir()).unwrap();
    fs::remove_file(frozen.dir().join("sft.dev.jsonl")).unwrap();
    assert!(matches!(FrozenDataset::open(frozen.dir()), Err(DatasetError::Io { .. })));
    assert!(FrozenDataset::open(root.path()).is_err());
    assert_eq!(list(&root.path().join("nowhere")).unwrap(), []);
}

#[test]
fn a_diff_counts_rows_and_names_changed_settings() {
    let root = tempfile::tempdir().unwrap();
    let steps = traffic(8, 60);
    let small = try_build(&Data::default(), &[], steps[..60].to_vec()).unwrap();
    let data = Data { holdout: 0.0, ..Data::default() };
    let large = try_build(&data, &[], steps).unwrap();
    let small = small.freeze(root.path()).unwrap();
    let large = large.freeze(root.path()).unwrap();

    let diff = small.diff(&large).unwrap();
    let file = |path: &str| diff.files.iter().find(|file| file.path == path).unwrap();
    let dev = file("sft.dev.jsonl");
    assert_eq!((dev.kept, dev.added), (0, 0));
    assert_eq!(dev.removed, small.manifest().rows("sft.dev.jsonl"));
    let train = file("sft.train.jsonl");
    assert_eq!(train.kept + train.added, large.manifest().rows("sft.train.jsonl"));
    let names: Vec<&str> = diff.settings.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["holdout"]);

    let nothing = small.diff(&small).unwrap();
    assert!(nothing.is_empty() && nothing.settings.is_empty());
    assert!(nothing.files.iter().all(|file| file.added + file.removed == 0));
}

#[test]
fn a_diff_names_settings_that_only_one_version_has_and_the_counts_that_follow() {
    let root = tempfile::tempdir().unwrap();
    let steps = traffic(8, 60);
    let before = try_build(&Data::default(), &[], steps.clone()).unwrap();
    let data =
        Data { prompts: true, max_per_model: Some(40), holdout_newest: 0.3, ..Data::default() };
    let after = try_build(&data, &[], steps).unwrap();
    let (before, after) = (before.freeze(root.path()).unwrap(), after.freeze(root.path()).unwrap());
    let diff = before.diff(&after).unwrap();
    let names: Vec<&str> = diff.settings.iter().map(|s| s.name.as_str()).collect();
    let expected = ["cut", "data.holdout_newest", "data.max_per_model", "data.prompts"];
    assert_eq!(names, expected);
    let asked = diff.files.iter().find(|file| file.path == "prompts.train.jsonl").unwrap();
    assert_eq!((asked.kept, asked.removed), (0, 0));
    assert_eq!(asked.added, after.manifest().rows("prompts.train.jsonl"));
    let count = |stage: &str, reason: &str| {
        let found = diff.counts.iter().find(|one| one.stage == stage && one.reason == reason);
        found.map(|one| (one.before, one.after))
    };
    let over = after.manifest().balance["max_per_model"].rows;
    assert!(over > 0);
    assert_eq!(count("balance", "over_the_cap_of_a_model"), Some((0, over)));
    assert!(count("split", "newer_than_the_cut").is_some_and(|(none, some)| none == 0 && some > 0));
    assert_eq!(count("select", "other_task"), None, "what is the same is not told");
    assert_eq!(before.diff(&before).unwrap().counts, []);
}
