//! Whether a candidate may be released: its report, and whether a report is one that decides.

use anyhow::{Context, Result, ensure};
use understudy_dataset::FrozenDataset;
use understudy_evaluation::{
    Evidence, Kept, NearestExample, RunOptions, Subject, SubjectRun, add_untouched_by_memory,
    add_with_memory, assemble, computable, judge_decides, resume,
};
use understudy_ident::{AdapterVersion, Digest};
use understudy_manifest::{Case, EvalReport, Gate, Recipe, RequiredVerdict, Split, Suite};
use understudy_registry::{ReportRecord, Target};

use super::Stages;
use crate::{
    commands::{eval::Shown, memory::Remembering, suite},
    kept::{KeptLog, identity},
    meaning,
};

/// Cases in flight during an evaluation, which the engine decodes as one batch.
const CONCURRENCY: usize = 16;

/// A version's newest report must be about the cases that the recipe's gate is about. One without
/// any report is refused by the registry, which says what else is missing.
pub(super) fn about_gate(
    recipe: &Recipe,
    version: &AdapterVersion,
    reports: &[ReportRecord],
) -> Result<()> {
    let (Some(gate), Some(newest)) = (&recipe.gate, reports.last()) else { return Ok(()) };
    ensure!(
        newest.report.suite == gate.suite.as_str(),
        "cannot release {version}: its newest report is on suite `{}`, and the recipe's gate is \
         about `{}`; evaluate it on that one",
        newest.report.suite,
        gate.suite
    );
    Ok(())
}

/// Who is asked, and with which lessons at hand.
struct Asked {
    subject: Subject,
    generation: String,
    lessons: Option<Digest>,
}

impl Asked {
    fn with(&self, release: Digest) -> Self {
        let name = format!("{} with memory {}", self.subject.name, release.short());
        Self {
            subject: Subject { name, ..self.subject.clone() },
            generation: self.generation.clone(),
            lessons: Some(release),
        }
    }
}

impl Stages<'_> {
    /// Holds a version against what serves, as the recipe's gate says: without lessons, and where a
    /// memory release serves, with its lessons as well.
    pub(super) fn report(
        &self,
        recipe: &Recipe,
        gate: &Gate,
        version: &AdapterVersion,
    ) -> Result<EvalReport> {
        let suite = suite::deciding(&self.stores.data, gate)?;
        // Found now, not after the minutes that answering takes.
        computable(&suite, gate, &version.to_string(), None)?;
        ensure!(
            !judge_decides(&suite, gate),
            "the first scorer of suite `{}` asks a judge, which a run does not do by itself: name \
             another one as `scorer` under [gate], or decide with `understudy eval`",
            suite.name
        );
        let stable = self.stores.registry.stable(&recipe.task)?;
        let baseline = stable.as_ref().and_then(Target::adapter);
        let asked = [self.asked(recipe, baseline)?, self.asked(recipe, Some(version))?];
        let lessons = Remembering::serving(&self.stores.data.memory(), self.embedder.clone())?;
        let runs = self.runs(recipe, (&suite, gate), asked, lessons.as_ref())?;
        let others = self.others(version, &suite, gate)?;
        let scorers = understudy_evaluation::scorers(&suite, gate);
        let embedder = meaning::wanted(self.embedder.as_deref(), &suite, &scorers)?;
        let report = |gate: &Gate, runs: &[SubjectRun], others: &[SubjectRun]| {
            let [baseline, candidate] = [&runs[0], &runs[1]];
            let evidence = Evidence {
                baseline,
                candidate,
                others,
                embedder: embedder.as_deref(),
                assessor: None,
            };
            assemble(&suite, gate, evidence, recipe.seed)
        };
        let mut found = report(gate, &runs[..2], &others)?;
        if runs.len() > 2 {
            let no_loss = Gate { verdict: RequiredVerdict::NonInferior, ..gate.clone() };
            add_with_memory(&mut found, report(&no_loss, &runs[2..], &[])?);
        } else if lessons.is_some() {
            add_untouched_by_memory(&mut found);
        }
        let runs: Vec<&SubjectRun> = runs.iter().collect();
        found.consultation = suite::consult(&self.stores.data, (&suite, gate), &runs, &found)?;
        Ok(found)
    }

    /// What baseline and candidate say, and, where any case has a lesson, what both say with it.
    /// Answers that are kept are not asked for again.
    fn runs(
        &self,
        recipe: &Recipe,
        (suite, gate): (&Suite, &Gate),
        asked: [Asked; 2],
        lessons: Option<&Remembering>,
    ) -> Result<Vec<SubjectRun>> {
        let (engine, weights) = self.answering(recipe)?;
        let mut cache = KeptLog::open(&self.stores.data.answers())?;
        let shown = lessons.map(|lessons| {
            let agent = (lessons, recipe.task.as_str());
            Shown::of(agent, suite, &**engine, (*weights, &mut cache))
        });
        let shown = shown.transpose()?.filter(|shown| shown.used.cases > 0);
        let mut asked = Vec::from(asked);
        if let Some(shown) = &shown {
            let with: Vec<Asked> =
                asked.iter().map(|asked| asked.with(shown.used.release)).collect();
            asked.extend(with);
        }
        let subjects: Vec<Subject> = asked.iter().map(|asked| asked.subject.clone()).collect();
        let identities: Vec<_> = asked
            .iter()
            .map(|asked| identity(*weights, &asked.generation, asked.lessons))
            .collect();
        let prompt_of = |subject: usize, case: &Case| match &shown {
            Some(shown) if asked[subject].lessons.is_some() => shown.prompt(case),
            _ => case.prompt.clone(),
        };
        let bar = self.out.bar((subjects.len() * suite.cases.len()) as u64, "evaluation");
        let mut runs = resume(
            &**engine,
            suite,
            (&subjects, &prompt_of),
            RunOptions { max_new_tokens: gate.max_new_tokens, concurrency: CONCURRENCY },
            Kept { cache: &mut cache, subjects: &identities },
            &mut |progress| bar.set_position(progress.done as u64),
        )?;
        bar.finish_and_clear();
        for (run, asked) in runs.iter_mut().zip(&asked) {
            gate.prices.into_iter().for_each(|prices| run.price(prices));
            let conditions = run.conditions.get_or_insert_default();
            (conditions.weights, conditions.device) = (*weights, Some(self.device.clone()));
            conditions.memory =
                shown.as_ref().filter(|_| asked.lessons.is_some()).map(|shown| shown.used.clone());
        }
        Ok(runs)
    }

    /// A version, or the base, loaded and as it was written.
    fn asked(&self, recipe: &Recipe, version: Option<&AdapterVersion>) -> Result<Asked> {
        let name = version.map_or_else(|| "base".to_owned(), ToString::to_string);
        let generation = version.map(|version| self.load(recipe, version)).transpose()?;
        let adapter = version.map(ToString::to_string);
        let subject = Subject { name, adapter };
        Ok(Asked { subject, generation: generation.unwrap_or_default(), lessons: None })
    }

    /// What is shown beside the two: the nearest example of the training rows, and the teacher.
    fn others(
        &self,
        version: &AdapterVersion,
        suite: &Suite,
        gate: &Gate,
    ) -> Result<Vec<SubjectRun>> {
        let record = self.stores.registry.get(version)?.record;
        let lineage =
            record.lineage.adapter().context("a memory release was trained on nothing")?;
        let dataset = FrozenDataset::find(&self.stores.data.datasets(), &lineage.dataset.version)?;
        let mut others = NearestExample::fit(&dataset.sft(Split::Train)?).both(suite);
        if let Some(teacher) = (self.make_teacher)()? {
            let subject = Subject { name: "teacher".to_owned(), adapter: None };
            let options =
                RunOptions { max_new_tokens: gate.max_new_tokens.max(256), concurrency: 4 };
            others.extend(understudy_evaluation::run(
                &*teacher,
                suite,
                &[subject],
                options,
                &mut |_| {},
            )?);
        }
        Ok(others)
    }
}

#[cfg(test)]
mod tests {
    use understudy_ident::Digest;

    use super::*;

    fn recipe(gate: &str) -> Recipe {
        let text = format!(
            "schema = 1\ntask = \"triage\"\nbase = \"tiny\"\n[[train]]\nmethod = \"sft\"\n{gate}"
        );
        Recipe::parse("triage.toml", &text).unwrap()
    }

    fn report(suite: &str) -> ReportRecord {
        serde_json::from_value(serde_json::json!({
            "version": "triage@1", "digest": Digest::of(b"report"), "owner": "ada",
            "reason": "test", "attached_at": "2026-11-01T12:00:00Z",
            "report": {
                "schema": EvalReport::SCHEMA, "suite": suite, "suite_digest": Digest::of(b"suite"),
                "cases": 1, "seed": 17, "subjects": [], "comparisons": [],
                "decision": {"passed": true, "checks": []},
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_report_on_another_suite_opens_no_release() {
        let version: AdapterVersion = "triage@1".parse().unwrap();
        let gated = recipe("[gate]\nsuite = \"triage\"\n");
        assert!(about_gate(&gated, &version, &[report("easy"), report("triage")]).is_ok());
        let why = about_gate(&gated, &version, &[report("triage"), report("easy")]).unwrap_err();
        assert!(why.to_string().contains("on suite `easy`"), "{why}");
        assert!(about_gate(&gated, &version, &[]).is_ok(), "the registry refuses that itself");
        assert!(about_gate(&recipe(""), &version, &[report("easy")]).is_ok());
    }
}
