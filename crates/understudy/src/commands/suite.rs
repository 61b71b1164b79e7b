//! `understudy suite`: held-out cases.

mod case;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use serde_json::json;
use understudy_dataset::{Contamination, FrozenDataset, SuiteFingerprints, SuiteMeanings, list};
use understudy_evaluation::{Agreement, SubjectRun, agreement, read_recorded, write_recorded};
use understudy_ident::{AdapterVersion, DatasetVersion, Digest};
use understudy_inference::Embedder;
use understudy_ingest::{
    Beside, Foreign, ForeignSuite, RowMapping, Take, foreign_suite, inspect_log,
};
use understudy_manifest::{
    Consultations, EvalReport, Gate, Scorer, Suite, Tier, canonical_json, digest_json,
};
use understudy_registry::Registry;
use understudy_storage::atomic;

use super::{Exit, import};
use crate::{
    cli::{RowArgs, SuiteCommand, SuiteImportArgs},
    config::Config,
    meaning,
    output::Out,
    paths::DataDir,
};

/// Beside the suites.
const CONSULTATIONS: &str = "consultations.json";

pub(crate) fn run(command: SuiteCommand, config: &Config, out: Out) -> Result<Exit> {
    match command {
        SuiteCommand::Import(args) => import(&args, config, out)?,
        SuiteCommand::AddCase(args) => return case::add(&args, config, out),
        SuiteCommand::List => {
            let suites = all(&config.data)?;
            for suite in &suites {
                out.say(line(suite));
            }
            out.value(&suites.iter().map(describe).collect::<Vec<_>>())?;
        }
        SuiteCommand::Show { name } => {
            let suite = read(&config.data, &name)?;
            let decisions = consultations(&config.data)?.of(suite.digest());
            let mut value = describe(&suite);
            value["decisions"] = json!(decisions);
            out.either(format!("{}  {decisions} decisions", line(&suite)), &value)?;
        }
    }
    Ok(Exit::Ok)
}

fn import(args: &SuiteImportArgs, config: &Config, out: Out) -> Result<()> {
    let text = text(args)?;
    let tier = match args.tier.as_str() {
        "dev" => Tier::Dev,
        "gate" => Tier::Gate,
        "sealed" => Tier::Sealed,
        other => bail!("unknown tier `{other}`: use dev, gate or sealed"),
    };
    let (suite, notes) = match &args.format {
        Some(format) => foreign(args, format, &text, tier)?,
        None => (of_rows(args, &text, tier)?, Vec::new()),
    };
    understudy_evaluation::check(&suite)?;
    let suite = known(&config.data, suite)?;
    let mut findings = findings(config, &suite, args.by_meaning)?;
    save(&config.data, &suite)?;
    findings.extend(notes);
    out.say(line(&suite));
    for finding in &findings {
        out.say(format!("warning: {finding}"));
    }
    let mut value = describe(&suite);
    value["findings"] = json!(findings);
    out.value(&value)
}

/// The file as a text; an archive is unpacked.
fn text(args: &SuiteImportArgs) -> Result<String> {
    let whole = args.format.as_deref().is_some_and(|format| {
        let whole = [Foreign::Inspect, Foreign::Promptfoo, Foreign::PromptfooResults];
        Foreign::parse(format).is_some_and(|format| whole.contains(&format))
    });
    if !whole {
        return import::rows(&args.file, args.rows.sample);
    }
    if args.rows.sample.is_some() {
        bail!("--sample needs one row a line, but {} is one document", args.file.display());
    }
    let attempt = || format!("failed to read {}", args.file.display());
    let bytes = fs::read(&args.file).with_context(attempt)?;
    inspect_log(&bytes).with_context(attempt)
}

fn of_rows(args: &SuiteImportArgs, text: &str, tier: Tier) -> Result<Suite> {
    let scorer = |name: &String| {
        Scorer::parse(name)
            .with_context(|| format!("unknown scorer `{name}`: use {}", Scorer::WORDS))
    };
    let scorers = args.scorers.iter().map(scorer).collect::<Result<Vec<_>>>()?;
    let (mapping, name) = (mapping(&args.rows), args.name.parse()?);
    let limit = args.rows.limit;
    understudy_ingest::suite(text, mapping.as_ref(), &name, tier, &scorers, limit)
        .with_context(|| format!("failed to make a suite of {}", args.file.display()))
}

/// The suite, and what a reader should know of how it came about.
fn foreign(
    args: &SuiteImportArgs,
    format: &str,
    text: &str,
    tier: Tier,
) -> Result<(Suite, Vec<String>)> {
    let format = Foreign::parse(format)
        .with_context(|| format!("unknown format `{format}`: use {}", Foreign::WORDS))?;
    let read = |path: &PathBuf| {
        fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
    };
    let file = |path: &Option<PathBuf>| path.as_ref().map(read).transpose();
    let (truths, registry) = (file(&args.truths)?, file(&args.registry)?);
    let tests = file(&args.tests)?;
    let beside = Beside {
        truths: truths.as_deref(),
        registry: registry.as_deref(),
        eval: args.eval.as_deref(),
        tests: tests.as_deref(),
        take: match (args.last_reply, args.recorded_scores) {
            (true, _) => Take::LastReply,
            (_, true) => Take::Scores,
            _ => Take::Reply,
        },
    };
    let (name, limit) = (args.name.parse()?, args.rows.limit);
    let mut found = foreign_suite(format, (text, beside), &name, tier, limit)
        .with_context(|| format!("failed to make a suite of {}", args.file.display()))?;
    if let Some(path) = &args.answers {
        if found.answers.is_empty() {
            bail!("{} brings no answers; leave --answers out", args.file.display());
        }
        let lines: Vec<String> = found.answers.iter().map(canonical_json).collect();
        atomic::write(path, lines.join("\n").as_bytes())?;
    }
    found.notes.extend(differing(&found)?);
    Ok((found.suite, found.notes))
}

/// Where the other program judged these answers otherwise than the scorers that stand for its own.
fn differing(found: &ForeignSuite) -> Result<Option<String>> {
    let has_scores = found.answers.iter().any(|answer| !answer.scores.is_empty());
    if !has_scores || found.suite.scorers != [Scorer::Checks] {
        return Ok(None);
    }
    let lines: Vec<String> = found.answers.iter().map(canonical_json).collect();
    let run = read_recorded("the log", &found.suite, &lines.join("\n"))?;
    let Agreement { same, of, first } = agreement(&found.suite, &run, None)?;
    Ok(first.map(|(id, ours, theirs)| {
        format!(
            "our scorers agree with the recorded scores on {same} of {of} answers; the first on which \
             they do not is `{id}`, with {ours:.2} instead of {theirs:.2}"
        )
    }))
}

/// The suite of that name, if it has the same cases from another run of the other program.
fn known(data: &DataDir, suite: Suite) -> Result<Suite> {
    if !file(data, suite.name.as_str()).is_file() {
        return Ok(suite);
    }
    let kept = read(data, suite.name.as_str())?;
    let content = |suite: &Suite| {
        let mut suite = suite.clone();
        suite.cases.iter_mut().for_each(|case| case.provenance = None);
        suite.digest()
    };
    Ok(if content(&kept) == content(&suite) { kept } else { suite })
}

/// What makes the new cases worth less than they seem: repetitions among themselves, and rows and
/// adapters that have seen them.
fn findings(config: &Config, suite: &Suite, by_meaning: bool) -> Result<Vec<String>> {
    let embedder = by_meaning.then(|| sentence_model(config)).transpose()?;
    let repeats = SuiteFingerprints::repeats_within(suite);
    let mut findings: Vec<String> = repeats
        .first()
        .map(|(id, how)| {
            let count = repeats.len();
            format!("cases that repeat an earlier one: {count}, the first is `{id}` ({how})")
        })
        .into_iter()
        .collect();
    let prints = SuiteFingerprints::of(suite);
    let meanings =
        embedder.as_deref().map(|embedder| SuiteMeanings::of(suite, embedder)).transpose()?;
    let adapters = adapters(config)?;
    for version in list(&config.data.datasets())? {
        let found = FrozenDataset::find(&config.data.datasets(), &version)?
            .contamination(&prints, meanings.as_ref())?;
        let trained: Vec<&AdapterVersion> = adapters
            .iter()
            .filter(|(_, dataset)| *dataset == version)
            .map(|(adapter, _)| adapter)
            .collect();
        findings.extend(seen(&found, &trained));
    }
    Ok(findings)
}

/// What is known of a frozen version that may hold cases, and what is not.
fn seen(found: &Contamination, trained: &[&AdapterVersion]) -> Vec<String> {
    let Contamination { version, rows, reasons, unread } = found;
    let names: Vec<String> = trained.iter().map(ToString::to_string).collect();
    let who = if names.is_empty() { "no adapter".to_owned() } else { names.join(", ") };
    let how: Vec<&str> = reasons.keys().copied().collect();
    let repeated = (*rows > 0).then(|| {
        let how = how.join(", ");
        format!(
            "{rows} rows of {version} repeat a case ({how}); trained on it, so contaminated: {who}"
        )
    });
    let unread = (*unread > 0).then(|| {
        format!(
            "{unread} rows of {version} hold token ids only and could not be compared; trained on \
             it, so perhaps contaminated: {who}"
        )
    });
    repeated.into_iter().chain(unread).collect()
}

/// Spelling would not find other words for the same.
fn sentence_model(config: &Config) -> Result<Arc<dyn Embedder>> {
    meaning::sentences(config)?.with_context(|| {
        format!(
            "--by-meaning needs a sentence model; run `understudy model pull {}`",
            meaning::MODEL
        )
    })
}

/// Every registered adapter with the dataset it was trained on.
fn adapters(config: &Config) -> Result<Vec<(AdapterVersion, DatasetVersion)>> {
    if !config.data.registry().exists() {
        return Ok(Vec::new());
    }
    let registry = Registry::open(&config.data.registry(), &config.data.adapters())?;
    let mut adapters = Vec::new();
    for task in registry.tasks()? {
        for adapter in registry.versions(&task)? {
            if let Some(lineage) = adapter.record.lineage.adapter() {
                adapters.push((adapter.record.version.clone(), lineage.dataset.version.clone()));
            }
        }
    }
    Ok(adapters)
}

/// Counts a decision on a suite that decides about releases, and returns the how-manieth on these
/// very cases it is; nothing for a suite that anybody may look at as often as they like. Whoever asks
/// the same of the same answers again is told the same number.
pub(crate) fn consult(
    data: &DataDir,
    (suite, gate): (&Suite, &Gate),
    runs: &[&SubjectRun],
    report: &EvalReport,
) -> Result<Option<u64>> {
    if suite.tier == Tier::Dev {
        return Ok(None);
    }
    let answers: Vec<_> = runs
        .iter()
        .map(|run| (&run.subject, &run.generation, Digest::of(write_recorded(run).as_bytes())))
        .collect();
    let evidence = digest_json(&(gate, report.seed, &report.judge, answers));
    count(data, suite.digest(), evidence).map(Some)
}

/// Whoever decides at the same time, such as a run beside `understudy eval`, is counted too.
fn count(data: &DataDir, suite: Digest, evidence: Digest) -> Result<u64> {
    let path = data.suites().join(CONSULTATIONS);
    atomic::update(&path, |before| {
        let mut counted = counted(&path, before.as_deref())?;
        let times = counted.count(suite, evidence);
        Ok((serde_json::to_vec(&counted)?, times))
    })
}

fn consultations(data: &DataDir) -> Result<Consultations> {
    let path = data.suites().join(CONSULTATIONS);
    let content = if path.is_file() { Some(fs::read(&path)?) } else { None };
    counted(&path, content.as_deref())
}

fn counted(path: &Path, content: Option<&[u8]>) -> Result<Consultations> {
    let Some(content) = content else { return Ok(Consultations::default()) };
    serde_json::from_slice(content)
        .with_context(|| format!("failed to understand {}", path.display()))
}

/// The mapping that row flags describe, if they describe one.
pub(crate) fn mapping(rows: &RowArgs) -> Option<RowMapping> {
    let input = rows.input.clone()?;
    Some(RowMapping { input, output: rows.output.clone(), system: rows.system.clone() })
}

/// Keeps a suite. A suite is fixed: another content needs another name.
pub(crate) fn save(data: &DataDir, suite: &Suite) -> Result<()> {
    let path = file(data, suite.name.as_str());
    if path.is_file() {
        if read(data, suite.name.as_str())?.digest() == suite.digest() {
            return Ok(());
        }
        bail!(
            "suite `{}` exists with other cases; a suite is fixed, so use another name",
            suite.name
        );
    }
    atomic::create_dir(&data.suites())?;
    Ok(atomic::write(&path, suite.to_text().as_bytes())?)
}

pub(crate) fn read(data: &DataDir, name: &str) -> Result<Suite> {
    let path = file(data, name);
    let text = fs::read_to_string(&path).with_context(|| {
        format!("no suite `{name}` at {}; see `understudy suite import --help`", path.display())
    })?;
    Suite::parse(&text).with_context(|| format!("failed to understand {}", path.display()))
}

/// The suite of a recipe's gate, which must be one that nobody tunes on.
pub(crate) fn deciding(data: &DataDir, gate: &Gate) -> Result<Suite> {
    let suite = read(data, gate.suite.as_str())?;
    if suite.tier == Tier::Dev {
        bail!(
            "the gate's suite `{0}` is a dev suite, which anybody may tune on, so a pass on it admits \
             nothing; import its cases under another name with --tier gate or --tier sealed, and \
             name that in the recipe's [gate]",
            suite.name
        );
    }
    Ok(suite)
}

/// Every suite, by name: what datasets are kept clear of.
pub(crate) fn all(data: &DataDir) -> Result<Vec<Suite>> {
    let Ok(entries) = fs::read_dir(data.suites()) else { return Ok(Vec::new()) };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".jsonl").map(str::to_owned))
        .collect();
    names.sort();
    names.iter().map(|name| read(data, name)).collect()
}

fn file(data: &DataDir, name: &str) -> PathBuf {
    data.suites().join(format!("{name}.jsonl"))
}

fn line(suite: &Suite) -> String {
    let scorers: Vec<String> = suite.scorers.iter().map(Scorer::name).collect();
    let tier = format!("{:?}", suite.tier).to_lowercase();
    format!(
        "{:<20} {tier:<7} {:>5} cases  {}  {}",
        suite.name,
        suite.cases.len(),
        suite.digest().short(),
        scorers.join(", ")
    )
}

fn describe(suite: &Suite) -> serde_json::Value {
    json!({
        "name": suite.name, "tier": suite.tier, "cases": suite.cases.len(),
        "digest": suite.digest(), "scorers": suite.scorers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_could_not_be_compared_are_told() {
        let version: DatasetVersion = format!("triage@{}", Digest::of(b"rows")).parse().unwrap();
        let adapter: AdapterVersion = "triage@1".parse().unwrap();
        let mut found =
            Contamination { version, rows: 0, reasons: [("exact", 2)].into(), unread: 0 };
        assert!(seen(&found, &[]).is_empty());
        found.unread = 7;
        let told = seen(&found, &[&adapter]);
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("7 rows") && told[0].ends_with("contaminated: triage@1"));
        found.rows = 2;
        assert_eq!(seen(&found, &[]).len(), 2);
    }
}
