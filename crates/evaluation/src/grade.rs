//! All answers of a subject under all scorers of a report.

use understudy_inference::Embedder;
use understudy_manifest::{Case, Gate, Scorer, Suite};
use understudy_scorer::{
    Aids, Answer, Grader, Measured, Outcome, Score, rubric::Assessor, similarity,
};

use crate::{
    EvaluationError,
    report::scorers,
    run::{CaseResult, SubjectRun},
};

/// The graders of every case, by scorer.
#[derive(Debug)]
pub(crate) struct Graders(Vec<Vec<Grader>>);

/// What the scorers say of one subject: by scorer, then by case.
#[derive(Debug)]
pub(crate) struct Graded<'a> {
    pub run: &'a SubjectRun,
    /// Means over the attempts, where there were several.
    pub outcomes: Vec<Vec<Outcome>>,
    /// By case: the attempts with a full score under the first scorer.
    pub passes: Vec<u64>,
}

impl Graders {
    /// Reads what all cases expect, before anything is generated.
    pub(crate) fn new(suite: &Suite, scorers: &[Scorer]) -> Result<Self, EvaluationError> {
        let read = |scorer: &Scorer, case: &Case| {
            Grader::with_rubrics(scorer, case, &suite.rubrics).map_err(|source| {
                EvaluationError::Expected {
                    suite: suite.name.to_string(),
                    case: case.id.clone(),
                    scorer: scorer.name(),
                    source,
                }
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
        assessor: Option<&dyn Assessor>,
    ) -> Graded<'a> {
        let through = embedder.map(Through);
        let embedder = through.as_ref().map(|it| it as &dyn similarity::Embedder);
        let aids = Aids { embedder, assessor };
        let one = |(grader, result): (&Grader, &CaseResult)| match result.error {
            None if result.absent => Outcome::unscored("no answer was recorded"),
            None => grader.score_with(&answer(result), aids),
            Some(_) => grader.unanswered().into(),
        };
        let attempt = |results: &Vec<CaseResult>| -> Vec<Vec<Outcome>> {
            let of_scorer = |graders: &Vec<Grader>| graders.iter().zip(results).map(one).collect();
            self.0.iter().map(of_scorer).collect()
        };
        let attempts: Vec<Vec<Vec<Outcome>>> = run.attempts().map(attempt).collect();
        let is_full = |outcome: &Outcome| outcome.score().is_some_and(|score| score.is_full());
        let passes = |case: usize| {
            let primary = attempts.iter().filter_map(|attempt| attempt.first()?.get(case));
            primary.filter(|outcome| is_full(outcome)).count() as u64
        };
        Graded {
            run,
            passes: (0..run.results.len()).map(passes).collect(),
            outcomes: together(attempts),
        }
    }
}

/// One outcome per scorer and case: the only attempt's, or the mean of all that have a score.
fn together(mut attempts: Vec<Vec<Vec<Outcome>>>) -> Vec<Vec<Outcome>> {
    if attempts.len() == 1 {
        return attempts.remove(0);
    }
    let one = |scorer: usize, case: usize| {
        let all: Vec<&Outcome> = attempts.iter().map(|attempt| &attempt[scorer][case]).collect();
        let scores: Vec<Score> = all.iter().filter_map(|outcome| outcome.score()).collect();
        if scores.is_empty() {
            return all[0].clone();
        }
        let mean =
            |part: fn(&Score) -> f64| scores.iter().map(part).sum::<f64>() / scores.len() as f64;
        let (value, hits) = (mean(|score| score.value), mean(|score| score.hits));
        Outcome::Scored(Score { value, hits, possible: mean(|score| score.possible) })
    };
    let of_scorer = |(scorer, cases): (usize, &Vec<Outcome>)| {
        (0..cases.len()).map(|case| one(scorer, case)).collect()
    };
    attempts
        .first()
        .map_or_else(Vec::new, |first| first.iter().enumerate().map(of_scorer).collect())
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

/// Whether the scorers that need more than a reply can have it: of a subject that is asked here,
/// nothing but replies and tokens is known; of answers from elsewhere, what was recorded.
pub fn computable(
    suite: &Suite,
    gate: &Gate,
    subject: &str,
    recorded: Option<&SubjectRun>,
) -> Result<(), EvaluationError> {
    let own = scorers(suite, gate);
    let checks = suite.cases.iter().flat_map(|case| case.checks.iter().map(|check| &check.scorer));
    let has = |holds: &dyn Fn(&CaseResult) -> bool| {
        recorded.is_some_and(|run| run.attempts().flatten().any(holds))
    };
    let has_state = has(&|result| result.state.is_some());
    let has_score = |name: &String| has(&|result| result.scores.contains_key(name));
    let has_cost = gate.prices.is_some() || has(&|result| result.cost.is_some());
    for scorer in own.iter().chain(checks) {
        let lacks = match scorer {
            Scorer::State if !has_state => "the final state; record answers with `state`",
            Scorer::Recorded(name) if !has_score(name) => {
                "the score that another program gave; record answers with `scores`"
            }
            Scorer::Cost(_) if !has_cost => {
                "prices of tokens, as [gate.prices] or --input-usd-per-million and \
                 --output-usd-per-million, or answers recorded with `cost`"
            }
            _ => continue,
        };
        let (suite, subject) = (suite.name.to_string(), subject.to_owned());
        return Err(EvaluationError::Uncomputable { suite, scorer: scorer.name(), subject, lacks });
    }
    Ok(())
}

/// What the suite's first scorer gives one answer to one of its cases; none where it cannot tell.
pub fn score_of(
    suite: &Suite,
    case: &Case,
    result: &CaseResult,
    embedder: Option<&dyn Embedder>,
) -> Result<Option<f64>, EvaluationError> {
    let one = Suite { cases: vec![case.clone()], ..suite.clone() };
    let graders = Graders::new(&one, &suite.scorers[..1])?;
    let run = SubjectRun { results: vec![result.clone()], ..SubjectRun::default() };
    let graded = graders.grade(&run, embedder, None);
    Ok(graded.outcomes[0][0].score().map(|score| score.value))
}

/// The mean of a subject's scores per case, those without one left out; 0 where there is none.
pub fn mean_score(
    suite: &Suite,
    scorer: &Scorer,
    run: &SubjectRun,
    embedder: Option<&dyn Embedder>,
) -> Result<f64, EvaluationError> {
    if matches!(scorer, Scorer::Judge(_)) {
        let (suite, subject) = (suite.name.to_string(), run.subject.clone());
        let lacks = "a judge, whom only `understudy eval` asks; name another scorer";
        return Err(EvaluationError::Uncomputable { suite, scorer: scorer.name(), subject, lacks });
    }
    let graders = Graders::new(suite, std::slice::from_ref(scorer))?;
    let graded = graders.grade(run, embedder, None);
    let values: Vec<f64> =
        graded.outcomes.iter().flatten().filter_map(|o| o.score().map(|s| s.value)).collect();
    Ok(values.iter().sum::<f64>() / values.len().max(1) as f64)
}

pub(crate) fn answer(result: &CaseResult) -> Answer<'_> {
    Answer {
        text: &result.output,
        calls: &result.calls,
        steps: &result.steps,
        state: result.state.as_ref(),
        scores: Some(&result.scores),
        measured: Measured {
            latency_ms: (result.latency_ms > 0.0).then_some(result.latency_ms),
            completion_tokens: Some(result.usage.completion_tokens).filter(|count| *count > 0),
            cost: result.cost,
        },
    }
}
