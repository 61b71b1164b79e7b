//! Recorded replies to one prompt into a group: what a policy gradient can learn from without
//! sampling anew.
//!
//! Steps are in one group when they were sent the exact same prompt ids, be it that a reply was
//! asked for again or that several arms answered; replies with equal text are samples all the same.

use std::{collections::BTreeMap, sync::Arc};

use understudy_ident::Digest;
use understudy_manifest::{LoggedAttempt, Origin};
use understudy_message::Message;
use understudy_trajectory::{Outcome, Signal};

use crate::{
    DatasetError,
    attempt::{Attempt, Sampler},
    candidate::{Candidate, Kept},
    key::Key,
    ledger::Tally,
    rewarding::Rewarding,
    row::{Lesson, Row},
    rules::names,
    selection::Selected,
};

/// A group on its way to a file.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) prompt_ids: Vec<u32>,
    pub(crate) attempts: Vec<LoggedAttempt>,
    /// The replies as text: ids cannot be masked, so nothing in them may need it.
    pub(crate) replies: Vec<Message>,
    /// Spellings of the prompt that have the same ids as the row's own.
    pub(crate) other_prompts: Vec<Arc<[Message]>>,
}

/// Makes the groups of all candidates, by the age of what was said last. Without a shared prompt
/// there is no stage, so a version that cannot have groups is what it was before there were any.
///
/// `take` is given each group as it is made: together they may be most of a version.
pub(crate) fn make(
    selected: &Selected,
    rewarding: &Rewarding,
    mut take: impl FnMut(Row) -> Result<(), DatasetError>,
) -> Result<Tally, DatasetError> {
    let mut tally = Tally::default();
    let kept = kept(selected)?;
    let mut members: BTreeMap<Digest, Vec<usize>> = BTreeMap::new();
    for (nth, fact) in selected.facts.iter().enumerate() {
        let Some(prompt) = fact.attempt else { continue };
        if fact.is_contradictory() {
            tally.add("review");
        } else {
            members.entry(prompt).or_default().push(nth);
        }
    }
    for (prompt, ids) in &selected.shared {
        let mut group = Vec::new();
        for nth in members.remove(prompt).unwrap_or_default() {
            group.extend(member(selected, nth, &kept, rewarding)?);
        }
        let group = like(group, &mut tally);
        if let Some(refused) = refusal(&group) {
            tally.add(refused);
            continue;
        }
        tally.add_many("attempts", group.len() as u64);
        let unknown = group.iter().filter(|member| member.attempt.log_probs.is_empty());
        tally.add_many("attempts_without_logprobs", unknown.count() as u64);
        let prompt_ids: Vec<u32> = selected.spill().read_value(*ids)?;
        if let Some(row) = row(prompt_ids, &group) {
            tally.add("groups");
            take(row)?;
        }
    }
    Ok(tally)
}

/// A step as an attempt of its group, in which members are oldest first.
struct Member {
    nth: usize,
    candidate: Candidate,
    attempt: Attempt,
    /// `None` is no opinion.
    reward: Option<f64>,
}

/// What says of a reply that it was used in place of another to the same prompt, by the prompt and
/// the reply.
type UsedInstead = BTreeMap<(Digest, Key), Vec<Outcome>>;

fn member(
    selected: &Selected,
    nth: usize,
    kept: &UsedInstead,
    rewarding: &Rewarding,
) -> Result<Option<Member>, DatasetError> {
    let mut candidate = selected.candidate(nth)?;
    let Some(attempt) = candidate.attempt.take() else { return Ok(None) };
    let name = (attempt.prompt, selected.facts[nth].response);
    let reward = reward(&candidate, kept.get(&name).map_or(&[], Vec::as_slice), rewarding);
    Ok(Some(Member { nth, candidate, attempt, reward }))
}

fn kept(selected: &Selected) -> Result<UsedInstead, DatasetError> {
    let mut kept = UsedInstead::new();
    for (nth, fact) in selected.facts.iter().enumerate() {
        let (Some(prompt), Some(named)) = (fact.attempt, fact.kept) else { continue };
        if fact.is_contradictory() || named == fact.response {
            continue;
        }
        let said = selected.candidate(nth)?.outcomes.into_iter().rev();
        let last = said.into_iter().find(|said| matches!(said.signal, Signal::Regenerate { .. }));
        kept.entry((prompt, named)).or_default().extend(last);
    }
    Ok(kept)
}

/// The reward policy's, but for two outcomes: a reply that was used in the end is no worse for
/// having been compared with another, and as good as an accepted one although nobody said so of it.
fn reward(candidate: &Candidate, kept: &[Outcome], rewarding: &Rewarding) -> Option<f64> {
    let own = Kept::Named(&candidate.response_id);
    let says = |outcome: &&Outcome| Kept::after(&outcome.signal) != Some(own);
    let mut outcomes: Vec<Outcome> = candidate.outcomes.iter().filter(says).cloned().collect();
    let used = |outcome: &Outcome| Outcome { signal: Signal::Accept, ..outcome.clone() };
    outcomes.extend(kept.iter().map(used));
    let reward = rewarding.reward(&candidate.reply.text(), &outcomes)?;
    Some(reward.value).filter(|value| value.is_finite())
}

/// The members whose ids and probabilities can be compared: of those with most rewards, and among
/// equals with the newest reply.
fn like(mut members: Vec<Member>, tally: &mut Tally) -> Vec<Member> {
    let mut samplers: BTreeMap<&Sampler, (usize, usize)> = BTreeMap::new();
    for member in &members {
        let (rewards, newest) = samplers.entry(&member.attempt.sampler).or_default();
        *rewards += usize::from(member.reward.is_some());
        *newest = member.nth;
    }
    let most = samplers.into_iter().max_by_key(|(_, rank)| *rank);
    let Some(sampler) = most.map(|(sampler, _)| sampler.clone()) else { return members };
    members.retain(|member| {
        let own = &member.attempt.sampler;
        if own.model != sampler.model {
            tally.add("other_model");
        } else if *own != sampler {
            tally.add("other_temperature");
        }
        *own == sampler
    });
    members
}

/// Why there is nothing to compare.
fn refusal(members: &[Member]) -> Option<&'static str> {
    let rewards: Vec<f64> = members.iter().filter_map(|member| member.reward).collect();
    if members.len() < 2 {
        Some("too_few_attempts")
    } else if rewards.len() < 2 {
        Some("too_few_rewards")
    } else if rewards.iter().all(|reward| *reward == rewards[0]) {
        // Every advantage would be zero.
        Some("no_difference")
    } else {
        None
    }
}

/// A group is as new as the newest reply that was judged, because that made it what it is.
fn row(prompt_ids: Vec<u32>, members: &[Member]) -> Option<Row> {
    let oldest = members.first()?;
    let newest = members.iter().rfind(|member| member.reward.is_some())?;
    let prompt: Arc<[Message]> = newest.candidate.prompt.clone().into();
    let mut other_prompts: Vec<Arc<[Message]>> = Vec::new();
    for Member { candidate, .. } in members {
        let is_known = |prompt: &[Message]| *prompt == *candidate.prompt;
        if !is_known(&prompt) && !other_prompts.iter().any(|prompt| is_known(prompt)) {
            other_prompts.push(candidate.prompt.clone().into());
        }
    }
    let logged = |member: &Member| LoggedAttempt {
        completion_ids: member.attempt.completion_ids.clone(),
        sampling_logprobs: member.attempt.log_probs.clone(),
        truncated: member.attempt.truncated,
        reward: member.reward,
    };
    let group = Group {
        prompt_ids,
        attempts: members.iter().map(logged).collect(),
        replies: members.iter().map(|member| member.candidate.reply.clone()).collect(),
        other_prompts,
    };
    Some(Row {
        prompt,
        tools: newest.candidate.tools.clone().into(),
        lesson: Lesson::Group(Box::new(group)),
        origin: Origin {
            // The oldest, so that an attempt that comes later does not rename the group.
            trajectory: oldest.candidate.trajectory.to_string(),
            steps: members.iter().map(|member| member.candidate.id.to_string()).collect(),
            because: names(members.iter().flat_map(|member| &member.candidate.outcomes)),
        },
        candidate: newest.nth,
        others: members.iter().map(|m| m.nth).filter(|&nth| nth != newest.nth).collect(),
    })
}
