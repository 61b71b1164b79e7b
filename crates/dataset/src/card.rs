//! The README of a version, for people and for the Hugging Face viewer. It follows from the
//! manifest alone and is no part of the version's digest.

use std::fmt::Write as _;

use understudy_manifest::{Balanced, DatasetManifest, Split};
use understudy_redact::{CUES, Cues, MEASURED_ON, Measured, Policy};
use understudy_trajectory::{Calibration, RewardPolicy, SignalWeight};

use crate::{
    accounts,
    draft::{EXTENSION, file_name},
    mask::{NOT_ON_RECORD, ON_RECORD},
    row::RowKind,
};

/// `extension` is what the files of rows end in: an export's differ from the version's own.
pub(crate) fn render(manifest: &DatasetManifest, extension: &str) -> String {
    let mut card = String::new();
    // Writing to a string cannot fail.
    let _ = write_card(&mut card, manifest, extension);
    card
}

fn write_card(card: &mut String, manifest: &DatasetManifest, extension: &str) -> std::fmt::Result {
    write_viewer_config(card, manifest, extension)?;
    writeln!(card, "# {}\n", manifest.task)?;
    writeln!(
        card,
        "Version `{}`. Generated; what counts is `manifest.json`.\n",
        manifest.version()
    )?;
    let list =
        |items: Vec<String>| if items.is_empty() { "none".to_owned() } else { items.join(", ") };
    if !manifest.sources.is_empty() {
        writeln!(card, "- Sources: {}", list(manifest.sources.clone()))?;
    }
    writeln!(card, "- Reward policy: `{}`", manifest.reward_policy)?;
    writeln!(card, "- Redaction: `{}`. {}", manifest.redaction, redaction_note(manifest))?;
    let masked = manifest.redacted.iter().map(|(kind, count)| format!("{count} {kind}"));
    writeln!(card, "- Masked: {}", list(masked.collect()))?;
    let suites = manifest.decontaminated_against.iter().map(|suite| format!("`{}`", suite.short()));
    writeln!(card, "- Held-out suites kept out: {}", list(suites.collect()))?;
    writeln!(
        card,
        "- Dev split: a share of {} of the components that share no trajectory, session, subject, \
         prompt or near-duplicate",
        manifest.holdout
    )?;
    if let Some(cut) = manifest.cut {
        writeln!(
            card,
            "- Newest steps: components that began at {cut} or later are in the dev split, and nothing \
             in train is as new"
        )?;
    }
    let leakage = manifest.leakage.iter().flatten().map(|(what, count)| format!("{count} {what}"));
    writeln!(card, "- In both splits: {}\n", list(leakage.collect()))?;

    if let Some(slot) = &manifest.memory {
        let rows = slot.rows.iter().map(|(what, count)| format!("{what} {count}"));
        let (rows, release) = (list(rows.collect()), slot.release.short());
        writeln!(
            card,
            "- Lessons of memory release `{release}` in a share of {}: {rows}\n",
            slot.share
        )?;
    }
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
    write_balance(card, manifest)?;
    write_recall(card, manifest)?;
    write_calibration(card, manifest)
}

fn redaction_note(manifest: &DatasetManifest) -> String {
    let mut by = manifest.redaction.split('+');
    if by.next() == Some("off") {
        return "Nothing was masked.".to_owned();
    }
    let (on_record, found): (Vec<&str>, Vec<&str>) = by.partition(|by| *by == accounts::ID);
    let mut said = match found.first() {
        Some(&CUES) => "Patterns, and names, places and organisations by what stands around them: \
             what nothing around it gives away is not masked, nor are dates of birth."
            .to_owned(),
        Some(names) => format!(
            "Patterns, and the names, places and organisations that `{names}` found, whose recall \
             was not measured here; dates of birth are not recognised."
        ),
        None => "Patterns only: names, addresses and dates of birth are not recognised.".to_owned(),
    };
    if !on_record.is_empty() {
        let count = |reason: &str| {
            let stages = manifest.stages.iter().filter(|stage| stage.stage == "redact");
            stages.filter_map(|stage| stage.reasons.get(reason)).sum::<u64>()
        };
        let (with, without) = (count(ON_RECORD), count(NOT_ON_RECORD));
        let _ = write!(
            said,
            " Names on record were masked in the trajectories of whom they are ({with} of {} had \
             any), as they are spelt there, in capitals, and by single names of a person.",
            with + without
        );
    }
    said
}

fn write_balance(card: &mut String, manifest: &DatasetManifest) -> std::fmt::Result {
    if manifest.balance.is_empty() {
        return Ok(());
    }
    writeln!(
        card,
        "\nSteps of the commonest prompt, answer, tool or model, and labels of the commoner kind for \
         each of the rarer (0 where there is none), before and after each cap:\n"
    )?;
    writeln!(card, "| cap | most | before | after | rows left out |")?;
    writeln!(card, "| --- | ---: | ---: | ---: | ---: |")?;
    for (setting, Balanced { most, before, after, rows }) in &manifest.balance {
        writeln!(card, "| `{setting}` | {most} | {before:.3} | {after:.3} | {rows} |")?;
    }
    Ok(())
}

/// How much of each kind the policy found where it was measured, next to how often it masked it
/// here: what was missed can only be guessed from the two together.
fn write_recall(card: &mut String, manifest: &DatasetManifest) -> std::fmt::Result {
    let mut by = manifest.redaction.split('+');
    let Some(policy) = by.next().and_then(Policy::named) else { return Ok(()) };
    let Some(patterns) = policy.overall() else { return Ok(()) };
    let cues = by.any(|by| by == CUES);
    let measured = policy.measured().iter().chain(if cues { Cues::measured() } else { &[] });
    writeln!(card, "\nRedaction as measured on {MEASURED_ON}:\n")?;
    writeln!(card, "| kind | labelled | recall | precision | masked here |")?;
    writeln!(card, "| --- | ---: | ---: | ---: | ---: |")?;
    for Measured { kind, labelled, recall, precision } in measured {
        let kind = kind.as_str();
        let masked = manifest.redacted.get(kind).copied().unwrap_or(0);
        writeln!(card, "| {kind} | {labelled} | {recall:.3} | {precision:.3} | {masked} |")?;
    }
    let overall = Cues::overall();
    writeln!(
        card,
        "\nOf all {} labelled spans, dates, ages and titles among them, patterns find {:.3} (precision \
         {:.3}){} {:.3} ({:.3}).",
        patterns.labelled,
        patterns.recall,
        patterns.precision,
        if cues {
            ", and with the cues for names, which were chosen with these sentences read,"
        } else {
            "; with `redact = \"names\"` it is"
        },
        overall.recall,
        overall.precision
    )
}

/// How far behaviour can be believed: whoever trains on labels that nobody said should know.
fn write_calibration(card: &mut String, manifest: &DatasetManifest) -> std::fmt::Result {
    let read =
        |value: &serde_json::Value| serde_json::from_value::<Calibration>(value.clone()).ok();
    let Some(found) = manifest.calibration.as_ref().and_then(read) else { return Ok(()) };
    writeln!(
        card,
        "\nBehaviour against what people said, on {} replies where both are known ({} wanted): \
         AUC {:.3}, Brier {:.3}, expected calibration error {:.3}, each for one half by what was \
         fitted on the other. {}\n",
        found.overlaps,
        found.wanted,
        found.auc,
        found.brier,
        found.ece,
        use_of(&found, &manifest.reward_policy)
    )?;
    writeln!(card, "| signal | seen | log-likelihood ratio | 95 % interval | weight |")?;
    writeln!(card, "| --- | ---: | ---: | --- | ---: |")?;
    for (name, SignalWeight { seen, llr, low, high, weight }) in &found.signals {
        writeln!(card, "| {name} | {seen} | {llr:.2} | {low:.2} to {high:.2} | {weight:.2} |")?;
    }
    Ok(())
}

/// Whether rewards rest on it.
fn use_of(found: &Calibration, policy: &str) -> String {
    match RewardPolicy::named(policy) {
        Some(RewardPolicy::CalibratedV1) if found.strength() > 0.0 => format!(
            "Rewards count behaviour by it, with a weight of {:.2} beside what people said.",
            found.strength()
        ),
        Some(RewardPolicy::CalibratedV1) => {
            "It does not tell enough: rewards leave behaviour out.".to_owned()
        }
        Some(RewardPolicy::DefaultV1) | None => "Told, and not used by this policy.".to_owned(),
    }
}

fn write_viewer_config(
    card: &mut String,
    manifest: &DatasetManifest,
    extension: &str,
) -> std::fmt::Result {
    let own_extension = format!(".{EXTENSION}");
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
            let path = path.strip_suffix(&own_extension).unwrap_or(&path);
            writeln!(card, "  - split: {name}\n    path: {path}.{extension}")?;
        }
    }
    writeln!(card, "---\n")
}
