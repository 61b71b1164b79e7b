//! All answers of a subject under all scorers of a report.

use understudy_inference::Embedder;
use understudy_manifest::{Case, Scorer, Suite};
use understudy_scorer::{Answer, Grader, Measured, Outcome, similarity};

use crate::{
    EvaluationError,
    run::{CaseResult, SubjectRun},
};

/// The graders of every case, by scorer.
#[derive(Debug)]
pub(crate) struct Graders(Vec<Vec<Grader>>);

/// What the scorers say of one subject: by scorer, then by case.
#[derive(Debug)]
pub(crate) struct Graded<'a> {
    pub run: &'a SubjectRun,
    pub outcomes: Vec<Vec<Outcome>>,
}

impl Graders {
    /// Reads what all cases expect, before anything is generated.
    pub(crate) fn new(suite: &Suite, scorers: &[Scorer]) -> Result<Self, EvaluationError> {
        let read = |scorer: &Scorer, case: &Case| {
            Grader::new(scorer, case).map_err(|source| EvaluationError::Expected {
                suite: suite.name.to_string(),
                case: case.id.clone(),
                scorer: scorer.name(),
                source,
            })
        };
        let of_scorer = |scorer| suite.cases.iter().map(|case| read(scorer, case)).collect();
        scorers.iter().map(of_scorer).collect::<Result<_, _>>().map(Self)
    }

    /// Grades answers that stand in the order of the cases.
    pub(crate) fn grade<'a>(
        &self,
        run: &'a SubjectRun,
        embedder: Option<&dyn Embedder>,
    ) -> Graded<'a> {
        let through = embedder.map(Through);
        let embedder = through.as_ref().map(|it| it as &dyn similarity::Embedder);
        let one = |(grader, result): (&Grader, &CaseResult)| match result.error {
            None => grader.score(&answer(result), embedder),
            Some(_) => grader.unanswered().into(),
        };
        let of_scorer = |graders: &Vec<Grader>| graders.iter().zip(&run.results).map(one).collect();
        Graded { run, outcomes: self.0.iter().map(of_scorer).collect() }
    }
}

/// An embedder in the scorers' words.
#[derive(Debug)]
struct Through<'a>(&'a dyn Embedder);

impl similarity::Embedder for Through<'_> {
    fn id(&self) -> &str {
        self.0.name()
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, String> {
        self.0.embed(texts).map_err(|error| error.to_string())
    }
}

/// Whether every case can be judged: finds an expected answer that its scorers cannot read.
pub fn check(suite: &Suite) -> Result<(), EvaluationError> {
    Graders::new(suite, &suite.scorers).map(drop)
}

/// The mean of a subject's scores per case, those without one left out; 0 where there is none.
pub fn mean_score(
    suite: &Suite,
    scorer: &Scorer,
    run: &SubjectRun,
    embedder: Option<&dyn Embedder>,
) -> Result<f64, EvaluationError> {
    let graders = Graders::new(suite, std::slice::from_ref(scorer))?;
    let graded = graders.grade(run, embedder);
    let values: Vec<f64> =
        graded.outcomes.iter().flatten().filter_map(|o| o.score().map(|s| s.value)).collect();
    Ok(values.iter().sum::<f64>() / values.len().max(1) as f64)
}

pub(crate) fn answer(result: &CaseResult) -> Answer<'_> {
    Answer {
        text: &result.output,
        calls: &result.calls,
        steps: &[],
        state: None,
        measured: Measured {
            latency_ms: (result.latency_ms > 0.0).then_some(result.latency_ms),
            completion_tokens: Some(result.usage.completion_tokens).filter(|count| *count > 0),
            cost: None,
        },
    }
}
