//! The README of a version, for people and for the Hugging Face hub. It follows from the manifest and
//! from what was read, and is no part of the version's digest.

mod front;
mod people;

use std::fmt::{Result, Write as _};

use understudy_manifest::{Balanced, DatasetManifest, FileEntry};
use understudy_redact::{CUES, Cues, MEASURED_ON, Measured, Policy};
use understudy_trajectory::{Calibration, RewardPolicy, SignalWeight};

use crate::{
    Beside, accounts,
    mask::{NOT_ON_RECORD, ON_RECORD},
};

/// `files` is what lies beside the card: an export's files differ from
/// the version's own.
pub(crate) fn render(manifest: &DatasetManifest, beside: &Beside, files: &[FileEntry]) -> String {
    let mut card = String::new();
    // Writing to a string cannot fail.
    let _ = write_card(&mut card, manifest, beside, files);
    card
}

fn write_card(
    card: &mut String,
    manifest: &DatasetManifest,
    beside: &Beside,
    files: &[FileEntry],
) -> Result {
    front::write(card, manifest, files)?;
    writeln!(card, "# {}\n", manifest.task)?;
    writeln!(
        card,
        "Version `{}`. Generated; what counts is `manifest.json`.\n",
        manifest.version()
    )?;
    people::write_origin(card, manifest, beside)?;
    write_files(card, files)?;
    write_stages(card, manifest)?;
    write_balance(card, manifest)?;
    write_redaction(card, manifest)?;
    write_recall(card, manifest)?;
    write_splits(card, manifest)?;
    people::write_biases(card, manifest)?;
    write_calibration(card, manifest)?;
    write_lineage(card, manifest)?;
    people::write_erasures(card, manifest)
}

/// With commas, or that there are none.
fn list(items: impl IntoIterator<Item = String>) -> String {
    let items: Vec<String> = items.into_iter().collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

fn write_files(card: &mut String, files: &[FileEntry]) -> Result {
    writeln!(card, "\n## Rows\n\n| file | rows | bytes | digest |\n| --- | ---: | ---: | --- |")?;
    files.iter().try_for_each(|FileEntry { path, rows, bytes, digest }| {
        writeln!(card, "| {path} | {rows} | {bytes} | `{}` |", digest.short())
    })
}

fn write_stages(card: &mut String, manifest: &DatasetManifest) -> Result {
    writeln!(card, "\n## Filters\n\n| stage | in | out | why |\n| --- | ---: | ---: | --- |")?;
    for stage in &manifest.stages {
        let reasons = stage.reasons.iter().map(|(reason, count)| format!("{reason} {count}"));
        let reasons = reasons.collect::<Vec<_>>().join(", ");
        writeln!(card, "| {} | {} | {} | {reasons} |", stage.stage, stage.rows_in, stage.rows_out)?;
    }
    Ok(())
}

fn write_redaction(card: &mut String, manifest: &DatasetManifest) -> Result {
    writeln!(card, "\n## Personal data\n")?;
    writeln!(card, "- Redaction: `{}`. {}", manifest.redaction, redaction_note(manifest))?;
    let masked = manifest.redacted.iter().map(|(kind, count)| format!("{count} {kind}"));
    writeln!(card, "- Masked: {}", list(masked))
}

fn write_splits(card: &mut String, manifest: &DatasetManifest) -> Result {
    writeln!(card, "\n## Splits and leakage\n")?;
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
    writeln!(card, "- In both splits: {}", list(leakage))?;
    let suites = manifest.decontaminated_against.iter().map(|suite| format!("`{}`", suite.short()));
    writeln!(card, "- Held-out suites kept out: {}", list(suites))
}

/// What has to be the same for the same rows to come out.
fn write_lineage(card: &mut String, manifest: &DatasetManifest) -> Result {
    writeln!(card, "\n## Lineage\n")?;
    writeln!(card, "- Reward policy: `{}`", manifest.reward_policy)?;
    if let Some(seed) = manifest.seed {
        writeln!(card, "- Seed: {seed}")?;
    }
    writeln!(card, "- Settings: `[data]` of the recipe as resolved, in `manifest.json`")?;
    let Some(slot) = &manifest.memory else { return Ok(()) };
    let rows = list(slot.rows.iter().map(|(what, count)| format!("{what} {count}")));
    let release = slot.release.short();
    writeln!(card, "- Lessons of memory release `{release}` in a share of {}: {rows}", slot.share)
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

fn write_balance(card: &mut String, manifest: &DatasetManifest) -> Result {
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
fn write_recall(card: &mut String, manifest: &DatasetManifest) -> Result {
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
fn write_calibration(card: &mut String, manifest: &DatasetManifest) -> Result {
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
