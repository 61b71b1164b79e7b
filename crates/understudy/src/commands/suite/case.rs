//! `understudy suite add-case`: a case from a trajectory that went wrong.

use anyhow::{Context, Result, bail};
use serde_json::json;
use understudy_dataset::SuiteFingerprints;
use understudy_ident::TaskName;
use understudy_ingest::{CaseRequest, FailedCase, case_of_failure};
use understudy_journal::Query;
use understudy_manifest::{Check, Risk, Scorer, Suite, Tier};
use understudy_trajectory::Trajectory;

use super::{all, describe, file, findings, line, read, save};
use crate::{
    cli::AddCaseArgs, commands::Exit, config::Config, output::Out, paths::DataDir, wiring::Stores,
};

/// Shows the case, masked, and with `--approve` makes the version. The suite it is made of stays as
/// it is, so no comparison that is under way changes.
pub(super) fn add(args: &AddCaseArgs, config: &Config, out: Out) -> Result<Exit> {
    let suite = read(&config.data, &args.suite)?;
    let trajectory = trajectory(config, &args.trajectory)?;
    let mut found = case_of_failure(&trajectory, &request(args, &suite)?)?;
    refuse_repetition(&suite, &found)?;
    refuse_unreviewed(args, config, &suite, &found)?;
    let name = name(args, &config.data)?;
    found.case.tags.push(format!("new-in-{name}"));
    found.case.provenance = Some(whence(args, &suite, &found));
    let next = Suite {
        name,
        cases: suite.cases.iter().cloned().chain([found.case.clone()]).collect(),
        ..suite.clone()
    };
    understudy_evaluation::check(&next)?;
    let alone = Suite { cases: vec![found.case.clone()], ..next.clone() };
    // A single case is compared by meaning as well wherever that can be told.
    let by_meaning = crate::meaning::directory(config)?.is_some();
    let findings = findings(config, &alone, by_meaning)?;
    if args.approve {
        save(&config.data, &next)?;
    }
    tell(args, (&suite, &next), &found, &findings, out)?;
    Ok(if args.approve { Exit::Ok } else { Exit::No })
}

fn trajectory(config: &Config, id: &str) -> Result<Trajectory> {
    let stores = Stores::open(&config.data)?;
    for trajectory in stores.journal.scan(&Query::default())? {
        let trajectory = trajectory?;
        if trajectory.id.as_str() == id {
            return Ok(trajectory);
        }
    }
    bail!(
        "the journal has no trajectory `{id}`; a reply names its own in the header \
         x-understudy-trajectory, and `understudy dataset explain RECORD` that of a record"
    )
}

fn request(args: &AddCaseArgs, suite: &Suite) -> Result<CaseRequest> {
    let checks: Vec<Check> = match &args.checks {
        Some(text) => serde_json::from_str(text).context(
            "--checks is no list of checks: write '[{\"scorer\": \"contains\", \"value\": \"…\"}]'",
        )?,
        None => Vec::new(),
    };
    if let Some(other) = suite.scorers.iter().find(|scorer| **scorer != Scorer::Checks)
        && !checks.is_empty()
    {
        bail!(
            "suite `{}` scores with {}, which needs an expected answer and reads no checks; give \
             --expected",
            suite.name,
            other.name()
        );
    }
    let risk = match args.risk.as_str() {
        "normal" => Risk::Normal,
        "edge" => Risk::Edge,
        "known_failure" => Risk::KnownFailure,
        "high_risk" => Risk::HighRisk,
        other => bail!("unknown risk `{other}`: use normal, edge, known_failure or high_risk"),
    };
    Ok(CaseRequest {
        step: args.step.clone(),
        expected: args.expected.clone(),
        checks,
        reason: args.reason.clone(),
        risk,
        tags: args.tags.clone(),
    })
}

fn refuse_repetition(suite: &Suite, found: &FailedCase) -> Result<()> {
    match SuiteFingerprints::of(suite).find(&found.case.prompt) {
        Some(how) => bail!("suite `{}` has this case already ({how})", suite.name),
        None => Ok(()),
    }
}

/// A case of a suite that decides was read by somebody: in a dev suite, where everybody may look, or
/// by a second person. What a sealed suite holds never lay open.
fn refuse_unreviewed(
    args: &AddCaseArgs,
    config: &Config,
    suite: &Suite,
    found: &FailedCase,
) -> Result<()> {
    let reviewed = match &args.reviewed_by {
        Some(reviewer) if *reviewer == args.owner => {
            bail!("{reviewer} cannot review a case of their own; name somebody else")
        }
        Some(_) => true,
        None => false,
    };
    let name = &suite.name;
    match suite.tier {
        _ if reviewed => Ok(()),
        Tier::Dev => Ok(()),
        Tier::Gate => {
            let lies_open = |other: &Suite| {
                let mut ids = other.cases.iter().map(|case| &case.id);
                other.tier == Tier::Dev && ids.any(|id| *id == found.case.id)
            };
            if all(&config.data)?.iter().any(lies_open) {
                return Ok(());
            }
            bail!(
                "suite `{name}` decides about releases, so the case lands in a dev suite first: add \
                 it there, or name who reviewed it with --reviewed-by"
            )
        }
        Tier::Sealed => {
            bail!("suite `{name}` is sealed: name who reviewed the case with --reviewed-by")
        }
    }
}

/// `triage` becomes `triage-v2`, that `triage-v3`, and so on to the first that is free.
fn name(args: &AddCaseArgs, data: &DataDir) -> Result<TaskName> {
    if let Some(name) = &args.name {
        return Ok(name.parse()?);
    }
    let numbered = args.suite.rsplit_once("-v");
    let numbered = numbered.and_then(|(stem, version)| Some((stem, version.parse::<u32>().ok()?)));
    let (stem, last) = numbered.unwrap_or((args.suite.as_str(), 1));
    let names = (last + 1..).map(|version| format!("{stem}-v{version}"));
    let mut free = names.filter(|name| !file(data, name).is_file());
    Ok(free.next().context("no number is free")?.parse()?)
}

fn whence(args: &AddCaseArgs, suite: &Suite, found: &FailedCase) -> String {
    let whence = found.case.provenance.clone().unwrap_or_default();
    let review = args.reviewed_by.as_ref().map(|name| format!(", reviewed by {name}"));
    format!(
        "{whence}, added to {}@{} by {}{}, expectation {}",
        suite.name,
        suite.digest().short(),
        args.owner,
        review.unwrap_or_default(),
        found.expectation,
    )
}

fn tell(
    args: &AddCaseArgs,
    (before, next): (&Suite, &Suite),
    found: &FailedCase,
    findings: &[String],
    out: Out,
) -> Result<()> {
    let FailedCase { case, step, masked, reply, expectation } = found;
    for message in &case.prompt {
        out.say(format!("{}: {}", message.role.as_str(), message.text()));
    }
    out.say(format!("replied: {reply}"));
    let checks: Vec<String> = case.checks.iter().map(|check| check.scorer.name()).collect();
    let wanted = if checks.is_empty() { case.expected.clone() } else { checks.join(", ") };
    out.say(format!("expected ({expectation}): {wanted}"));
    for (kind, count) in masked {
        out.say(format!("masked: {kind} {count} times"));
    }
    for finding in findings {
        out.say(format!("warning: {finding}"));
    }
    if args.approve {
        out.say(line(next));
    } else {
        out.say(format!("nothing was made; with --approve this becomes suite `{}`", next.name));
    }
    let mut value = describe(next);
    value["made"] = json!(args.approve);
    value["parent"] = json!({"name": before.name, "digest": before.digest()});
    value["case"] = json!(case);
    value["step"] = json!(step);
    value["masked"] = json!(masked);
    value["findings"] = json!(findings);
    out.value(&value)
}
