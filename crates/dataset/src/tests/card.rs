//! What the card of a version says.

use std::fs;

use understudy_manifest::CardSettings;

use super::*;

fn card(data: &Data, steps: impl IntoIterator<Item = JudgedStep>) -> String {
    let (_root, frozen) = freeze(&try_build(data, &[], steps).unwrap());
    fs::read_to_string(frozen.dir().join("README.md")).unwrap()
}

fn front(card: &str) -> &str {
    card.strip_prefix("---\n").unwrap().split_once("\n---\n").unwrap().0
}

/// Three replies, two of one person's.
fn three() -> Vec<JudgedStep> {
    let signals = [Signal::Accept, Signal::Accept, Signal::Abandon];
    let of = |(nth, signal): (usize, Signal)| {
        let name = format!("step {nth}");
        let mut judged =
            later(with(step(&name, &name, &name, "reply"), signal), 60_000 * nth as i64);
        judged.step.subject = (nth < 2).then(|| "ada".to_owned());
        judged
    };
    let silent = step("silent", "silent", "and this", "reply");
    signals.into_iter().enumerate().map(of).chain([silent]).collect()
}

#[test]
fn the_front_matter_has_what_the_hub_reads() {
    let data = Data {
        card: CardSettings {
            license: Some("cc-by-4.0".to_owned()),
            language: vec!["en".to_owned(), "no".to_owned()],
            ..CardSettings::default()
        },
        ..all_train()
    };
    let (_root, frozen) = freeze(&try_build(&data, &[], three()).unwrap());
    let card = fs::read_to_string(frozen.dir().join("README.md")).unwrap();
    let bytes = |path: &str| fs::metadata(frozen.dir().join(path)).unwrap().len();
    let (sft, labels) = (bytes("sft.train.jsonl"), bytes("labels.train.jsonl"));
    let expected = format!(
        "license: \"cc-by-4.0\"\nlanguage:\n- \"en\"\n- \"no\"\nsize_categories:\n- n<1K\n\
         configs:\n\
         - config_name: sft\n  data_files:\n  - split: train\n    path: sft.train.jsonl\n\
         - config_name: labels\n  data_files:\n  - split: train\n    path: labels.train.jsonl\n\
         dataset_info:\n\
         - config_name: sft\n  splits:\n  - name: train\n    num_bytes: {sft}\n    num_examples: 2\n  \
         download_size: {sft}\n  dataset_size: {sft}\n\
         - config_name: labels\n  splits:\n  - name: train\n    num_bytes: {labels}\n    \
         num_examples: 3\n  download_size: {labels}\n  dataset_size: {labels}"
    );
    assert_eq!(front(&card), expected);
}

#[test]
fn what_nobody_stated_is_not_made_up() {
    let card = card(&all_train(), three());
    assert!(!front(&card).contains("license") && !front(&card).contains("language"), "{card}");
    assert!(
        card.contains("## Licence\n\nNot stated.") && card.contains("## Consent\n\nNot stated.")
    );
    assert!(card.contains("- Beyond what is counted here, none was stated."), "{card}");
    assert!(card.contains("## Erasures\n\nNone."), "{card}");
}

#[test]
fn a_card_tells_sources_time_consent_and_in_what_the_rows_are_one_sided() {
    let data = Data {
        card: CardSettings {
            consent: Some("terms of use of 2026, section 4".to_owned()),
            biases: vec!["Only customers of one country.".to_owned()],
            ..CardSettings::default()
        },
        ..all_train()
    };
    let card = card(&data, three());
    for said in [
        "## Sources\n\n- journal up to 7\n",
        "From 1970-01-01T00:00:01Z to 1970-01-01T00:02:01Z: 3 steps of 3 trajectories.",
        "## Consent\n\nterms of use of 2026, section 4\n",
        "of 1 of 4 steps nothing was",
        "- Subjects: 1, of whom the one with most makes 66.7 % of the steps; 33.3 % name none.",
        "- Models that answered: 1, of which the one with most makes 100.0 % of the steps.",
        "- Labels: 2 wanted, 1 not.",
        "- Only customers of one country.",
        "## Lineage\n\n- Reward policy: `default@1`\n- Seed: 17\n",
    ] {
        assert!(card.contains(said), "{said:?} is not in {card}");
    }
    let sections: Vec<&str> = card.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let expected = "Sources|Time span|Licence|Consent|Rows|Filters|Personal data|Splits and leakage|\
                    Known biases|Lineage|Erasures";
    assert_eq!(sections.join("|"), expected);
}

#[test]
fn what_a_client_excludes_is_left_out_and_counted() {
    let mut steps = three();
    for (nth, said) in [(0, "no"), (1, "yes")] {
        steps[nth].step.metadata = [("training".to_owned(), said.to_owned())].into();
    }
    let exclude = [("training".to_owned(), "no".to_owned())].into();
    let data = Data { exclude, ..all_train() };
    let draft = try_build(&data, &[], steps).unwrap();
    assert_eq!(count(&draft, "select", "excluded"), 1);
    assert_eq!(draft.manifest().rows("sft.train.jsonl"), 1);
    let (_root, frozen) = freeze(&draft);
    let card = fs::read_to_string(frozen.dir().join("README.md")).unwrap();
    assert!(card.contains("Left out: 1 steps whose clients said `training = no`"), "{card}");
}

#[test]
fn a_card_tells_of_erasures_and_keeps_its_sources() {
    let root = tempfile::tempdir().unwrap();
    try_build(&all_train(), &[], three()).unwrap().freeze(root.path()).unwrap();
    let gone = [StepId::derived("step 0").to_string()].into();
    let erased = crate::erase(root.path(), &gone, "e1").unwrap();
    let successor = erased[0].successor.clone().unwrap();
    let successor = FrozenDataset::find(root.path(), &successor).unwrap();
    let card = fs::read_to_string(successor.dir().join("README.md")).unwrap();
    assert!(card.contains("- A subject was erased, with 2 of 5 rows."), "{card}");
    assert!(card.contains("without an erased subject\n- journal up to 7\n"), "{card}");
}
