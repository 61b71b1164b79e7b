//! What a card says of the people whose words are in a version.

use std::fmt::{Result, Write as _};

use understudy_manifest::{CardSettings, DatasetManifest, Population};

use crate::Beside;

/// Where the rows come from, when they were said, and who allowed it.
pub(super) fn write_origin(
    card: &mut String,
    manifest: &DatasetManifest,
    beside: &Beside,
) -> Result {
    writeln!(card, "## Sources\n")?;
    let mut sources = manifest.sources.iter().chain(&beside.sources).peekable();
    if sources.peek().is_none() {
        writeln!(card, "Not on record.")?;
    }
    sources.try_for_each(|source| writeln!(card, "- {source}"))?;
    writeln!(card, "\n## Time span\n")?;
    let when = manifest.population.as_ref().map_or_else(
        || "Not on record.".to_owned(),
        |Population { from, to, steps, trajectories, .. }| {
            format!("From {from} to {to}: {steps} steps of {trajectories} trajectories.")
        },
    );
    writeln!(card, "{when}")?;
    if !beside.late.is_empty() {
        writeln!(
            card,
            "\n{} of them are late: an earlier version covers their time, and they came, or something \
             was said of them, after it was cut.",
            beside.late.len()
        )?;
    }
    let stated = |of: fn(&CardSettings) -> Option<&String>| {
        let said = manifest.data.as_ref().and_then(|data| of(&data.card));
        said.map_or("Not stated.", String::as_str)
    };
    writeln!(card, "\n## Licence\n\n{}", stated(|card| card.license.as_ref()))?;
    writeln!(card, "\n## Consent\n\n{}", stated(|card| card.consent.as_ref()))?;
    write_excluded(card, manifest)
}

fn write_excluded(card: &mut String, manifest: &DatasetManifest) -> Result {
    let exclude = manifest.data.iter().flat_map(|data| &data.exclude);
    let exclude: Vec<String> = exclude.map(|(name, value)| format!("`{name} = {value}`")).collect();
    if exclude.is_empty() {
        return Ok(());
    }
    let select = manifest.stages.iter().find(|stage| stage.stage == "select");
    let steps = select.and_then(|select| select.reasons.get("excluded")).copied().unwrap_or(0);
    writeln!(
        card,
        "\nLeft out: {steps} steps whose clients said {} of their request.",
        exclude.join(" or ")
    )
}

/// In what the rows are one-sided, as far as it was counted or stated.
pub(super) fn write_biases(card: &mut String, manifest: &DatasetManifest) -> Result {
    writeln!(card, "\n## Known biases\n")?;
    let join = manifest.stages.iter().find(|stage| stage.stage == "join");
    if let Some((join, silent)) =
        join.and_then(|join| Some((join, join.reasons.get("no_outcome")?)))
    {
        writeln!(
            card,
            "- Only replies of which something was said teach: of {} of {} steps nothing was, and who \
             says something is not everybody.",
            silent, join.rows_in
        )?;
    }
    if let Some(population) = &manifest.population {
        write_shares(card, population)?;
    }
    let in_bursts = |reason: &str| join.and_then(|join| join.reasons.get(reason)).copied();
    for (reason, whose) in
        [("in_a_burst_of_a_subject", "one subject's"), ("in_a_burst_of_an_arm", "one arm's")]
    {
        if let Some(steps) = in_bursts(reason) {
            writeln!(
                card,
                "- {steps} steps were judged when more was said of {whose} replies than is usual."
            )?;
        }
    }
    let stated = manifest.data.iter().flat_map(|data| &data.card.biases);
    stated.clone().try_for_each(|bias| writeln!(card, "- {bias}"))?;
    if stated.count() == 0 {
        writeln!(card, "- Beyond what is counted here, none was stated.")?;
    }
    Ok(())
}

fn write_shares(card: &mut String, population: &Population) -> Result {
    let share = |part: u64| 100.0 * part as f64 / population.steps.max(1) as f64;
    let Population { subjects, without_subject, models, .. } = population;
    if *subjects == 0 {
        writeln!(card, "- No step names its subject: one person may have said most of it.")?;
    } else {
        writeln!(
            card,
            "- Subjects: {subjects}, of whom the one with most makes {:.1} % of the steps; {:.1} % \
             name none.",
            share(population.most_of_one_subject),
            share(*without_subject)
        )?;
    }
    writeln!(
        card,
        "- Models that answered: {models}, of which the one with most makes {:.1} % of the steps.",
        share(population.most_of_one_model)
    )?;
    let Population { wanted, unwanted, .. } = population;
    if wanted + unwanted > 0 {
        writeln!(card, "- Labels: {wanted} wanted, {unwanted} not.")?;
    }
    Ok(())
}

pub(super) fn write_erasures(card: &mut String, manifest: &DatasetManifest) -> Result {
    writeln!(card, "\n## Erasures\n")?;
    let mut erasures = manifest.stages.iter().filter(|stage| stage.stage == "erase").peekable();
    if erasures.peek().is_none() {
        return writeln!(card, "None.");
    }
    erasures.try_for_each(|stage| {
        let gone = stage.rows_in - stage.rows_out;
        writeln!(card, "- A subject was erased, with {gone} of {} rows.", stage.rows_in)
    })?;
    writeln!(
        card,
        "\nThe time span, the shares and the stages before `erase` are of the version before."
    )
}
