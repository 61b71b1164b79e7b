use understudy_ident::DatasetVersion;

use super::*;
use crate::{Missing, provenance};

#[test]
fn the_statement_names_everything_the_version_was_made_from() {
    let it = Fixture::new();
    let adapter = it.register("one");
    let directory = it.registry.directory(&adapter.record.version);
    let statement = provenance(&adapter, &directory).unwrap();
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    assert_eq!(statement["subject"][0]["name"], "adapter_config.json");
    // `printf '{"r":16}' | sha256sum`
    let sha256 = "c566c7c9b6b1ec989e019a9287955d15fded76c15f333431cc3b83d6e78ebfc4";
    assert_eq!(statement["subject"][0]["digest"]["sha256"], sha256);
    let build = &statement["predicate"]["buildDefinition"];
    let recipe = Digest::of(b"recipe").to_hex();
    assert_eq!(build["externalParameters"]["recipe"]["blake3"], recipe);
    let names: Vec<&str> = build["resolvedDependencies"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|dependency| dependency["name"].as_str())
        .collect();
    let dataset = format!("support-triage@{}", Digest::of(b"data"));
    assert_eq!(names, ["tiny", "tokenizer", "chat template", dataset.as_str()]);
}

#[test]
fn withdrawn_data_blocks_the_start_and_the_promotion_of_whatever_was_trained_on_it() {
    let it = Fixture::new();
    let parent = it.judged("parent", true);
    let generation = it.registry.get(&parent).unwrap().record.generation;
    // Trained on other data, but from the parent.
    let child_data: DatasetVersion =
        format!("support-triage@{}", Digest::of(b"clean data")).parse().unwrap();
    let mut lineage = AdapterManifest { parent: Some(generation), ..lineage() };
    lineage.dataset.version = child_data.clone();
    let directory = it.trained("child");
    let child = it.registry.register(&task(), &directory, &lineage, it.change()).unwrap();
    let generation = child.record.generation.to_hex();
    let child = child.record.version;
    it.registry.attach_report(&child, &report(&generation, true), it.change()).unwrap();
    let release = it.start(&child, Target::Teacher);

    // Withdrawn as well, and nobody was trained on it: it concerns none of them.
    let other = format!("support-triage@{}", Digest::of(b"other data")).parse().unwrap();
    assert_eq!(it.registry.withdraw_data(&other, it.change()).unwrap(), []);
    let withdrawn = super::lineage().dataset.version;
    let change = Change::new("ada", "a user asked for erasure", &it.clock);
    let both = [parent.clone(), child.clone()];
    assert_eq!(it.registry.withdraw_data(&withdrawn, change).unwrap(), both);
    assert_eq!(it.registry.withdraw_data(&other, it.change()).unwrap(), []);
    assert_eq!(it.registry.trained_on(&child_data).unwrap(), std::slice::from_ref(&child));
    assert_eq!(it.registry.tainted(&child).unwrap().unwrap().dataset, withdrawn);
    let entries = it.actions().len();
    it.registry.withdraw_data(&withdrawn, change).unwrap();
    assert_eq!(it.actions().len(), entries, "withdrawing twice changes nothing");

    let error = it.registry.promote(&release.id, 2, it.change()).unwrap_err();
    let RegistryError::NotAdmitted { missing, .. } = error else { panic!("{error}") };
    let reason = "a user asked for erasure".to_owned();
    assert_eq!(missing, [Missing::CleanData { dataset: withdrawn.to_string(), reason }]);
    it.registry.abort(&release.id, it.change()).unwrap();
    let mut start = it.start_of(&parent, Target::Teacher);
    start.forced = Some(gate_override());
    let error = it.registry.start_release(start, it.change()).unwrap_err();
    assert!(error.to_string().contains("was withdrawn"), "{error}");
    it.registry.verify_audit(None).unwrap();
}
