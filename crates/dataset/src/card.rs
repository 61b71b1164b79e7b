//! The README of a version, for people and for the Hugging Face viewer. It follows from the
//! manifest alone and is no part of the version's digest.

use std::fmt::Write as _;

use understudy_manifest::{DatasetManifest, Split};

use crate::{draft::file_name, row::RowKind};

pub(crate) fn render(manifest: &DatasetManifest) -> String {
    let mut card = String::new();
    // Writing to a string cannot fail.
    let _ = write_card(&mut card, manifest);
    card
}

fn write_card(card: &mut String, manifest: &DatasetManifest) -> std::fmt::Result {
    write_viewer_config(card, manifest)?;
    writeln!(card, "# {}\n", manifest.task)?;
    writeln!(
        card,
        "Version `{}`. Generated; what counts is `manifest.json`.\n",
        manifest.version()
    )?;
    let list =
        |items: Vec<String>| if items.is_empty() { "none".to_owned() } else { items.join(", ") };
    writeln!(card, "- Sources: {}", list(manifest.sources.clone()))?;
    writeln!(card, "- Reward policy: `{}`", manifest.reward_policy)?;
    writeln!(card, "- Redaction: `{}`. {}", manifest.redaction, redaction_note(manifest))?;
    let masked = manifest.redacted.iter().map(|(kind, count)| format!("{count} {kind}"));
    writeln!(card, "- Masked: {}", list(masked.collect()))?;
    let suites = manifest.decontaminated_against.iter().map(|suite| format!("`{}`", suite.short()));
    writeln!(card, "- Held-out suites kept out: {}", list(suites.collect()))?;
    writeln!(
        card,
        "- Dev split: a share of {} of the components that share no trajectory, session, subject or prompt\n",
        manifest.holdout
    )?;

    writeln!(card, "| file | rows | bytes | digest |\n| --- | ---: | ---: | --- |")?;
    for file in &manifest.files {
        writeln!(
            card,
            "| {} | {} | {} | `{}` |",
            file.path,
            file.rows,
            file.bytes,
            file.digest.short()
        )?;
    }
    writeln!(card, "\n| stage | in | out | why |\n| --- | ---: | ---: | --- |")?;
    for stage in &manifest.stages {
        let reasons = stage.reasons.iter().map(|(reason, count)| format!("{reason} {count}"));
        let reasons = reasons.collect::<Vec<_>>().join(", ");
        writeln!(card, "| {} | {} | {} | {reasons} |", stage.stage, stage.rows_in, stage.rows_out)?;
    }
    Ok(())
}

fn redaction_note(manifest: &DatasetManifest) -> &'static str {
    if manifest.redaction == "off" {
        "Nothing was masked."
    } else {
        "Patterns only: names, addresses and dates of birth are not recognised."
    }
}

fn write_viewer_config(card: &mut String, manifest: &DatasetManifest) -> std::fmt::Result {
    writeln!(card, "---\nconfigs:")?;
    for kind in RowKind::ALL {
        let files = [(Split::Train, "train"), (Split::Dev, "validation")];
        let files: Vec<_> = files
            .into_iter()
            .map(|(split, name)| (file_name(kind, split), name))
            .filter(|(path, _)| manifest.rows(path) > 0)
            .collect();
        if files.is_empty() {
            continue;
        }
        writeln!(card, "- config_name: {}\n  data_files:", kind.as_str())?;
        for (path, name) in files {
            writeln!(card, "  - split: {name}\n    path: {path}")?;
        }
    }
    writeln!(card, "---\n")
}
