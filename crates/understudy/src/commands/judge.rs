//! `understudy judge`: a model that compares answers, and how far it agrees with people.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context, Result, bail, ensure};
use understudy_evaluation::{
    Judge, JudgeRole, JudgedRun, Judgement, RUBRIC, Rulings, STATEMENTS, SubjectRun, add_judge,
    add_rulings, asks_judge, assess, calibrate, calibrate_statements, judge_runs, read_checked,
    read_labels,
};
use understudy_ident::Digest;
use understudy_inference::Backend;
use understudy_manifest::{Calibration, EvalReport, Gate, Suite};
use understudy_storage::atomic;

use super::Exit;
use crate::{
    cli::{CalibrateArgs, JudgeArgs, JudgeCommand},
    config::{Config, TeacherSettings},
    kept::KeptLog,
    output::Out,
    paths::DataDir,
    wiring,
};

/// Questions in flight: providers limit how many there may be.
const CONCURRENCY: usize = 8;

pub(crate) fn run(command: JudgeCommand, config: &Config, out: Out) -> Result<Exit> {
    match command {
        JudgeCommand::Calibrate(args) => hold(&args, config, out),
        JudgeCommand::List => {
            let found = calibrations(&config.data)?;
            for calibration in &found {
                out.say(line(calibration));
            }
            out.value(&found)?;
            Ok(Exit::Ok)
        }
    }
}

/// A judge that is ready to be asked, with what it said before.
pub(crate) struct Bench<'a> {
    data: &'a DataDir,
    settings: &'a TeacherSettings,
    backend: Arc<dyn Backend>,
    rubric: String,
    kept: KeptLog,
    role: JudgeRole,
}

impl<'a> Bench<'a> {
    /// The judge that an evaluation asks for, if it asks for one. One that is to decide must have
    /// been calibrated.
    pub(crate) fn of(args: &JudgeArgs, config: &'a Config) -> Result<Option<Self>> {
        if !args.judge {
            return Ok(None);
        }
        let role = if args.judge_decides { JudgeRole::Decides } else { JudgeRole::Witness };
        let bench = Self::open(args.rubric.as_deref(), config, role)?;
        let suffices = bench.calibration()?.is_some_and(|calibration| calibration.suffices());
        if role == JudgeRole::Decides && !suffices {
            bail!(
                "cannot let {} decide: with this rubric nobody has shown that it agrees with \
                 people; run `understudy judge calibrate` on at least {} labelled pairs",
                bench.settings.model,
                Calibration::LABELS_MIN
            );
        }
        Ok(Some(bench))
    }

    fn open(rubric: Option<&Path>, config: &'a Config, role: JudgeRole) -> Result<Self> {
        let (backend, settings) = wiring::judge(config)?;
        let rubric = match rubric {
            Some(path) => fs::read_to_string(path)
                .with_context(|| format!("failed to read the rubric {}", path.display()))?,
            None => RUBRIC.to_owned(),
        };
        ensure!(!rubric.trim().is_empty(), "the rubric is empty: say what a good answer is");
        let kept = KeptLog::open(&config.data.judgements())?;
        Ok(Self { data: &config.data, settings, backend, rubric, kept, role })
    }

    fn judge(&self) -> Judge<'_> {
        judge(&self.backend, self.settings, &self.rubric)
    }

    fn calibration(&self) -> Result<Option<Calibration>> {
        let path = self.data.calibration(self.judge().digest());
        if path.is_file() { read(&path).map(Some) } else { Ok(None) }
    }

    /// A model prefers its own words, so it does not judge a subject that it answers for.
    pub(crate) fn refuse_own(&self, models: &[String]) -> Result<()> {
        refuse_own(&self.settings.model, models)
    }

    /// What the reader has to know where the judge also taught.
    pub(crate) fn note(&self, teacher: Option<&TeacherSettings>) -> Option<String> {
        let judge = &self.settings.model;
        teacher.filter(|teacher| is_same_model(&teacher.model, judge)).map(|teacher| {
            format!(
                "the judge {judge} is the teacher {} as well, whose words a student learns to \
                 imitate; another judge would be more independent",
                teacher.model
            )
        })
    }

    /// Asks about every case and adds what comes of it to the report.
    pub(crate) fn hear(
        &mut self,
        report: &mut EvalReport,
        (suite, gate): (&Suite, &Gate),
        runs: (&SubjectRun, &SubjectRun),
        out: Out,
    ) -> Result<()> {
        let calibration = self.calibration()?;
        let bar = out.bar(2 * suite.cases.len() as u64, "judge");
        let judge = judge(&self.backend, self.settings, &self.rubric);
        let judgement = judge_runs(&judge, suite, runs, &mut self.kept, &mut |done, total| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        })?;
        bar.finish_and_clear();
        let judged = JudgedRun { cost: cost(self.settings, &judgement), judgement, calibration };
        Ok(add_judge(report, suite, gate, &judge, (judged, self.role))?)
    }
}

/// A judge of single answers, for suites with rubrics.
pub(crate) struct Statements<'a> {
    data: &'a DataDir,
    settings: &'a TeacherSettings,
    backend: Arc<dyn Backend>,
}

impl<'a> Statements<'a> {
    /// The configured judge, where a suite has a scorer that asks one.
    pub(crate) fn of((suite, gate): (&Suite, &Gate), config: &'a Config) -> Result<Option<Self>> {
        if !asks_judge(suite, gate) {
            return Ok(None);
        }
        Self::open(config).map(Some).with_context(|| {
            format!("suite `{}` has the scorer `judge`, which asks a model", suite.name)
        })
    }

    fn open(config: &'a Config) -> Result<Self> {
        let (backend, settings) = wiring::judge(config)?;
        Ok(Self { data: &config.data, settings, backend })
    }

    fn judge(&self) -> Judge<'_> {
        judge(&self.backend, self.settings, STATEMENTS)
    }

    pub(crate) fn refuse_own(&self, models: &[String]) -> Result<()> {
        refuse_own(&self.settings.model, models)
    }

    /// Asks everything that the scorers want to know of these runs; what was asked before is kept.
    pub(crate) fn hear(
        &mut self,
        of: (&Suite, &Gate),
        runs: &[&SubjectRun],
        out: Out,
    ) -> Result<Rulings> {
        let mut kept = KeptLog::open(&self.data.judgements())?;
        let bar = out.bar(0, "rubrics");
        let rulings = assess(&self.judge(), of, runs, &mut kept, &mut |done, total| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        })?;
        bar.finish_and_clear();
        Ok(rulings)
    }

    pub(crate) fn tell(
        &self,
        report: &mut EvalReport,
        of: (&Suite, &Gate),
        rulings: &Rulings,
    ) -> Result<()> {
        let judge = self.judge();
        let path = self.data.calibration(judge.digest());
        let calibration = if path.is_file() { Some(read(&path)?) } else { None };
        add_rulings(report, of, &judge, (rulings, calibration.as_ref()));
        Ok(())
    }
}

fn refuse_own(judge: &str, models: &[String]) -> Result<()> {
    match models.iter().find(|model| is_same_model(model, judge)) {
        Some(model) => bail!(
            "cannot let `{judge}` judge answers of `{model}`, which is the same model; name \
             another one under [judge]"
        ),
        None => Ok(()),
    }
}

/// Whether two names are of one model: in a directory, of an organisation, as a file, in any case.
fn is_same_model(one: &str, other: &str) -> bool {
    let bare = |name: &str| {
        let last = name.trim_end_matches('/').rsplit('/').next().unwrap_or(name).to_lowercase();
        last.strip_suffix(".gguf").map(str::to_owned).unwrap_or(last)
    };
    bare(one) == bare(other)
}

fn judge<'a>(
    backend: &'a Arc<dyn Backend>,
    settings: &'a TeacherSettings,
    rubric: &'a str,
) -> Judge<'a> {
    let TeacherSettings { model, url, .. } = settings;
    Judge { backend: &**backend, model, place: url, rubric, concurrency: CONCURRENCY }
}

/// In millionths of a dollar, rounded up; none where there are no prices. A dollar for a million
/// tokens is a millionth for one.
fn cost(settings: &TeacherSettings, judgement: &Judgement) -> Option<u64> {
    let (input, output) = (settings.input_usd_per_million?, settings.output_usd_per_million?);
    let spent =
        judgement.prompt_tokens as f64 * input + judgement.completion_tokens as f64 * output;
    Some(spent.ceil() as u64)
}

fn hold(args: &CalibrateArgs, config: &Config, out: Out) -> Result<Exit> {
    let text = fs::read_to_string(&args.labels)
        .with_context(|| format!("failed to read {}", args.labels.display()))?;
    if labels_statements(&text) {
        return hold_statements(args, &text, config, out);
    }
    let labels = read_labels(&text)?;
    ensure!(!labels.is_empty(), "{} has no labelled pair", args.labels.display());
    let mut bench = Bench::open(args.rubric.as_deref(), config, JudgeRole::Witness)?;
    let contests: Vec<_> = labels.iter().map(|label| label.contest.clone()).collect();
    let bar = out.bar(2 * contests.len() as u64, "judge");
    let judge = judge(&bench.backend, bench.settings, &bench.rubric);
    let judgement = judge.judge(&contests, &mut bench.kept, &mut |done, _| {
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    if let Some(why) = judgement.ballots.iter().find_map(|ballot| ballot.error.as_ref()) {
        let failed = judgement.errors();
        bail!(
            "the judge failed on {failed} of {} pairs, first with: {why}; run this again, what it \
               said is kept",
            labels.len()
        );
    }
    let labelled = Digest::of(text.as_bytes());
    let found = calibrate(judge.digest(), labelled, &labels, &judgement)?;
    atomic::write(&config.data.calibration(found.judge), &serde_json::to_vec_pretty(&found)?)?;
    out.either(line(&found), &found)?;
    Ok(if found.suffices() { Exit::Ok } else { Exit::No })
}

/// Whether a file of labels is about statements; pairs have no `holds`.
fn labels_statements(text: &str) -> bool {
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    serde_json::from_str::<serde_json::Value>(first).is_ok_and(|line| line.get("holds").is_some())
}

fn hold_statements(args: &CalibrateArgs, text: &str, config: &Config, out: Out) -> Result<Exit> {
    ensure!(
        args.rubric.is_none(),
        "--rubric is about pairs, and {} labels statements, which are asked in words of their own; \
         leave it out",
        args.labels.display()
    );
    let labels = read_checked(text)?;
    let statements = Statements::open(config)?;
    let mut kept = KeptLog::open(&config.data.judgements())?;
    let bar = out.bar(labels.len() as u64, "judge");
    let (judge, labelled) = (statements.judge(), Digest::of(text.as_bytes()));
    let found = calibrate_statements(&judge, labelled, &labels, &mut kept, &mut |done, _| {
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    atomic::write(&config.data.calibration(found.judge), &serde_json::to_vec_pretty(&found)?)?;
    out.either(line(&found), &found)?;
    Ok(if found.suffices() { Exit::Ok } else { Exit::No })
}

fn line(found: &Calibration) -> String {
    let Calibration { labels, agreement, kappa, undecided, flips, first_preferred, .. } = found;
    let length = found
        .length_correlation
        .map_or_else(String::new, |r| format!(", correlation with length {r:+.2}"));
    let worth = if found.suffices() { "may decide" } else { "advisory" };
    format!(
        "judge {} ({worth}): {labels} labels, agreement {agreement:.3}, kappa {kappa:.3}, undecided \
         on {undecided}, other answer in the other order {} of {} times, first shown preferred {} \
         of {}{length}; to decide it needs {} labels and kappa {:.1}",
        found.judge.short(),
        flips.met,
        flips.of,
        first_preferred.met,
        first_preferred.of,
        Calibration::LABELS_MIN,
        Calibration::KAPPA_MIN,
    )
}

fn calibrations(data: &DataDir) -> Result<Vec<Calibration>> {
    let Ok(entries) = fs::read_dir(data.judges()) else { return Ok(Vec::new()) };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Result<Calibration> {
    serde_json::from_slice(&fs::read(path)?)
        .with_context(|| format!("failed to understand {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::is_same_model;

    #[test]
    fn a_model_is_known_by_any_of_its_names() {
        for name in [
            "SmolLM2-135M-Instruct",
            "models/smollm2-135m-instruct.gguf",
            "hf/SmolLM2-135M-instruct/",
        ] {
            assert!(is_same_model(name, "HuggingFaceTB/SmolLM2-135M-Instruct"), "{name}");
        }
        assert!(!is_same_model("smollm2-135m-instruct", "smollm2-360m-instruct"));
    }
}
