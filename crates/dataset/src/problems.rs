//! Attempts at one problem, as benchmarks record them: whole trajectories with a score each.
//!
//! Of two attempts, the one with the higher score is preferred from where they part: at the first
//! reply that calls other tools, or says something else where no call differs. Whoever was asked was
//! asked in words of that attempt, so the prompt is the better one's. Where attempts are labelled, a
//! winner is preferred to a loser and nothing else is preferred to anything.

use std::collections::BTreeMap;

use understudy_manifest::Origin;
use understudy_message::Message;
use understudy_trajectory::{JudgedStep, Outcome, Side};

use crate::{
    DatasetError,
    candidate::{Candidate, Scored},
    key::Key,
    ledger::Tally,
    row::{Lesson, Row},
    rules::refusal,
    selection::Selected,
};

/// Has every step of an attempt say how well the whole did, as its last one does.
pub(crate) fn broadcast(mut steps: Vec<JudgedStep>) -> Vec<JudgedStep> {
    let told = steps.iter().flat_map(|judged| &judged.outcomes);
    let attempts: Vec<Outcome> = told.filter(|said| said.attempt().is_some()).cloned().collect();
    for judged in &mut steps {
        for outcome in &attempts {
            if judged.outcomes.iter().all(|own| own.id != outcome.id) {
                judged.outcomes.push(outcome.clone());
            }
        }
    }
    steps
}

/// One attempt: how well it did, and its replies with their places among the candidates.
struct Attempt {
    scored: Scored,
    replies: Vec<(usize, Message)>,
}

impl Attempt {
    fn beats(&self, other: &Self) -> bool {
        let (one, other) = (self.scored, other.scored);
        let contrast = match (one.side, other.side) {
            (None, None) => true,
            sides => sides == (Some(Side::Winner), Some(Side::Loser)),
        };
        contrast && one.score > other.score
    }
}

/// Makes a pair of every two attempts at a problem of which one beats the other. Where nobody says
/// what was attempted there is no stage.
pub(crate) fn pairs(
    selected: &Selected,
    mut take: impl FnMut(Row) -> Result<(), DatasetError>,
) -> Result<Option<Tally>, DatasetError> {
    let mut problems: BTreeMap<Key, BTreeMap<Key, (Scored, Vec<usize>)>> = BTreeMap::new();
    for (nth, fact) in selected.whole().filter(|(_, fact)| refusal(fact).is_none()) {
        let Some((problem, scored)) = fact.problem else { continue };
        let attempts = problems.entry(problem).or_default();
        attempts.entry(fact.trajectory).or_insert((scored, Vec::new())).1.push(nth);
    }
    if problems.is_empty() {
        return Ok(None);
    }
    let mut tally = Tally::default();
    tally.add_many("problems", problems.len() as u64);
    for attempts in problems.into_values() {
        let attempts = attempts.into_values().map(|(scored, steps)| read(selected, scored, &steps));
        let attempts: Vec<Attempt> = attempts.collect::<Result<_, _>>()?;
        tally.add_many("attempts", attempts.len() as u64);
        let mixed = attempts.iter().any(|one| one.scored.score != attempts[0].scored.score);
        tally.add_many("problems_of_unequal_attempts", u64::from(mixed));
        for better in &attempts {
            for worse in attempts.iter().filter(|worse| better.beats(worse)) {
                match parting(better, worse) {
                    Some((one, other)) => {
                        take(row(selected, (better, worse), (one, other))?)?;
                        tally.add("pairs");
                    }
                    None => tally.add("never_part"),
                }
            }
        }
    }
    Ok(Some(tally))
}

fn read(selected: &Selected, scored: Scored, steps: &[usize]) -> Result<Attempt, DatasetError> {
    let reply = |&nth: &usize| Ok((nth, selected.candidate(nth)?.reply));
    let replies = steps.iter().map(reply).collect::<Result<_, DatasetError>>()?;
    Ok(Attempt { scored, replies })
}

/// The replies in which two attempts part.
fn parting(better: &Attempt, worse: &Attempt) -> Option<(usize, usize)> {
    let replies = || better.replies.iter().zip(&worse.replies);
    let calls = |reply: &Message| -> Vec<(String, String)> {
        let calls = reply.tool_calls.iter().map(|call| &call.function);
        calls.map(|function| (function.name.clone(), function.arguments.clone())).collect()
    };
    let acts = replies().find(|(one, other)| calls(&one.1) != calls(&other.1));
    let says = || replies().find(|(one, other)| one.1.text() != other.1.text());
    acts.or_else(says).map(|(one, other)| (one.0, other.0))
}

fn row(
    selected: &Selected,
    (better, worse): (&Attempt, &Attempt),
    (one, other): (usize, usize),
) -> Result<Row, DatasetError> {
    let Candidate { id, trajectory, prompt, tools, reply, .. } = selected.candidate(one)?;
    let rejected = selected.candidate(other)?;
    let steps = vec![id.to_string(), rejected.id.to_string()];
    let because = vec!["attempts".to_owned()];
    let margin = Some((better.scored.score - worse.scored.score).min(1.0));
    Ok(Row {
        prompt: prompt.into(),
        tools: tools.into(),
        lesson: Lesson::Pair { chosen: reply, rejected: rejected.reply, margin },
        origin: Origin { trajectory: trajectory.to_string(), steps, because },
        candidate: one,
        others: vec![other],
    })
}
