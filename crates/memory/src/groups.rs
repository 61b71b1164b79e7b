//! Attempts at one request, scored beside each other, as what a model can be trained on: the same
//! groups, and the same advantage, that lessons are learnt from.
//!
//! Nothing private comes in on the way. No run was shown a lesson, of everybody or of a user; kinds of
//! task that teach no lessons give no groups; a problem is named by a keyed hash of its request. What
//! a request itself says is whose it was, and every step names them: redaction and erasure find it
//! as they find the request.

use std::collections::BTreeMap;

use understudy_ident::{OutcomeId, StepId, TaskName, Timestamp, TrajectoryId};
use understudy_trajectory::{
    Details, JudgedStep, Outcome, Side, Signal, Source, Step, Target, Trajectory,
};

use crate::{Episode, Keyed, Made, Said, Scoring, Transcript, score::Score};

/// What a problem's name begins with, and who scored the attempts at it.
const SCORER: &str = "memory";

/// Runs of one request of which some won and some lost.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    pub task: Keyed,
    pub runs: Vec<ScoredRun>,
}

/// One of them. Its advantage is that of its reward among the group's, as GRPO computes it.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredRun {
    pub source: TrajectoryId,
    pub reward: f64,
    pub side: Side,
}

impl Group {
    /// `None` where there is no contrast to learn from.
    pub(crate) fn of(runs: &[&Episode], scores: &[Score], scoring: &Scoring) -> Option<Self> {
        let scored = runs.iter().zip(scores).filter_map(|(run, score)| {
            let (source, side) = (run.source.clone(), score.side(scoring));
            Some(ScoredRun { source, reward: score.reward?, side })
        });
        let runs_of_it: Vec<ScoredRun> = scored.collect();
        let any = |side| runs_of_it.iter().any(|run| run.side == side);
        let contrast = any(Side::Winner) && any(Side::Loser);
        contrast.then(|| Self { task: runs[0].task, runs: runs_of_it })
    }

    fn problem(&self) -> String {
        format!("{SCORER} {}", self.task)
    }
}

/// Whether a trajectory is an attempt that was made to learn from, as [`records`] writes them:
/// nobody asked for it, so it says nothing of what users come with.
pub fn was_attempted(trajectory: &Trajectory) -> bool {
    let mut outcomes = trajectory.steps.iter().flat_map(|judged| &judged.outcomes);
    outcomes.any(|outcome| {
        let problem = outcome.attempt().map(|(problem, _)| problem);
        problem.is_some_and(|name| name.split(' ').next() == Some(SCORER))
    })
}

/// The runs of the groups as a journal would hold them, oldest first: the steps of a run, and with
/// the last one how well all of it did. Runs that no model made are left out, and so are those of
/// no task.
pub fn records(groups: &[Group], made: &Made) -> Vec<JudgedStep> {
    let scored: BTreeMap<&TrajectoryId, (&Group, &ScoredRun)> = groups
        .iter()
        .flat_map(|group| group.runs.iter().map(move |run| (&run.source, (group, run))))
        .collect();
    let of_run = |told: &Transcript| {
        let (group, run) = scored.get(&told.source)?;
        let task: TaskName = told.agent.as_deref()?.parse().ok()?;
        Some(judged(told, &task, made.said.get(&told.source)?, (group, run)))
    };
    made.transcripts.iter().filter_map(of_run).flatten().collect()
}

fn judged(
    told: &Transcript,
    task: &TaskName,
    said: &Said,
    (group, run): (&Group, &ScoredRun),
) -> Vec<JudgedStep> {
    // Another model's run of the same request and seed is another run.
    let name = format!("{} {}", told.source, told.run.config);
    let tenant = task.tenant();
    let mut steps: Vec<JudgedStep> = steps(told, task, said, &name)
        .map(|step| JudgedStep { step: step.within(tenant.as_ref()), outcomes: Vec::new() })
        .collect();
    if let Some(last) = steps.last_mut() {
        let outcome = Outcome {
            id: OutcomeId::derived(&name),
            target: Target::Trajectory(last.step.trajectory.to_string()),
            signal: Signal::Verifier { name: SCORER.to_owned(), score: run.reward },
            source: Source::Automated,
            at: last.step.at,
            note: Some(Outcome::note_of_problem(&group.problem())),
            details: Some(Box::new(Details {
                label: Some(run.side.as_str().to_owned()),
                ..Details::default()
            })),
        };
        last.outcomes.push(outcome.within(tenant.as_ref()));
    }
    steps
}

fn steps<'a>(
    told: &'a Transcript,
    task: &'a TaskName,
    said: &'a Said,
    name: &'a str,
) -> impl Iterator<Item = Step> + 'a {
    said.replies.iter().enumerate().map(move |(nth, reply)| {
        let own = format!("{name} {nth}");
        // A millisecond apart, so that they stay in their order.
        let at = Timestamp::from_millisecond(told.at.as_millisecond() + nth as i64);
        Step {
            id: StepId::derived(&own),
            trajectory: TrajectoryId::derived(name),
            task: task.clone(),
            session: None,
            subject: told.subject.clone(),
            metadata: BTreeMap::new(),
            response_id: format!("attempt-{}", StepId::derived(&own)),
            at: at.unwrap_or(told.at),
            prompt: reply.prompt.clone(),
            tools: said.tools.clone(),
            reply: reply.message.clone(),
            finish_reason: reply.finish_reason,
            assignment: None,
            served: reply.served.clone(),
            usage: reply.usage,
            timing: reply.timing,
            tokens: reply.tokens.clone(),
            error: None,
        }
    })
}
