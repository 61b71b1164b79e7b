//! Recorded replies to one prompt into a group: what a policy gradient can learn from without
//! sampling anew.
//!
//! Steps are in one group when they were sent the exact same prompt ids, be it that a reply was
//! asked for again or that several arms answered; replies with equal text are samples all the same.

use std::{collections::BTreeMap, sync::Arc};

use understudy_ident::Digest;
use understudy_manifest::{LoggedAttempt, Origin};
use understudy_message::Message;
use understudy_trajectory::{Outcome, RewardPolicy, Signal};

use crate::{
    attempt::{Attempt, Sampler},
    candidate::{Candidate, Kept, Selected},
    ledger::{Ledger, Tally},
    row::{Lesson, Row},
    rules::names,
};

/// A group on its way to a file.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) prompt_ids: Arc<[u32]>,
    pub(crate) attempts: Vec<LoggedAttempt>,
    /// The replies as text: ids cannot be masked, so nothing in them may need it.
    pub(crate) replies: Vec<Message>,
    /// Spellings of the prompt that have the same ids as the row's own.
    pub(crate) other_prompts: Vec<Arc<[Message]>>,
}

/// Appends the groups of all candidates, by the age of what was said last. Without a shared prompt
/// there is no stage, so a version that cannot have groups is what it was before there were any.
pub(crate) fn append(
    rows: &mut Vec<Row>,
    selected: &Selected,
    policy: RewardPolicy,
    ledger: &mut Ledger,
) {
    if selected.shared.is_empty() {
        return;
    }
    let mut tally = Tally::default();
    let kept = kept(&selected.candidates);
    let mut members: BTreeMap<Digest, Vec<Member<'_>>> = BTreeMap::new();
    for (nth, candidate) in selected.candidates.iter().enumerate() {
        let Some(attempt) = &candidate.attempt else { continue };
        if candidate.is_contradictory() {
            tally.add("review");
            continue;
        }
        let name = (attempt.prompt, candidate.response_id.as_str());
        let reward = reward(candidate, kept.get(&name).map_or(&[], Vec::as_slice), policy);
        let member = Member { nth, candidate, attempt, reward };
        members.entry(attempt.prompt).or_default().push(member);
    }
    let before = rows.len();
    for (prompt, prompt_ids) in &selected.shared {
        let members = like(members.remove(prompt).unwrap_or_default(), &mut tally);
        if let Some(refused) = refusal(&members) {
            tally.add(refused);
            continue;
        }
        tally.add_many("attempts", members.len() as u64);
        let unknown = members.iter().filter(|member| member.attempt.log_probs.is_empty());
        tally.add_many("attempts_without_logprobs", unknown.count() as u64);
        rows.extend(row(prompt_ids, &members));
    }
    rows[before..].sort_by_key(|row| row.candidate);
    tally.add_many("groups", (rows.len() - before) as u64);
    ledger.close("group", before, rows.len(), tally);
}

/// A step as an attempt of its group, in which members are oldest first.
struct Member<'a> {
    nth: usize,
    candidate: &'a Candidate,
    attempt: &'a Attempt,
    /// `None` is no opinion.
    reward: Option<f64>,
}

/// What says of a reply that it was used in place of another to the same prompt, by the prompt and
/// the reply.
fn kept(candidates: &[Candidate]) -> BTreeMap<(Digest, &str), Vec<&Outcome>> {
    let mut kept: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for candidate in candidates.iter().filter(|candidate| !candidate.is_contradictory()) {
        let Some(attempt) = &candidate.attempt else { continue };
        let last = candidate.outcomes.iter().rev().find_map(|outcome| match &outcome.signal {
            Signal::Regenerate { kept } => Some((outcome, kept.as_deref())),
            _ => None,
        });
        let Some((outcome, Some(named))) = last else { continue };
        if named != candidate.response_id {
            kept.entry((attempt.prompt, named)).or_default().push(outcome);
        }
    }
    kept
}

/// The reward policy's, but for two outcomes: a reply that was used in the end is no worse for
/// having been compared with another, and as good as an accepted one although nobody said so of it.
fn reward(candidate: &Candidate, kept: &[&Outcome], policy: RewardPolicy) -> Option<f64> {
    let own = Kept::Named(&candidate.response_id);
    let says = |outcome: &&Outcome| Kept::after(&outcome.signal) != Some(own);
    let mut outcomes: Vec<Outcome> = candidate.outcomes.iter().filter(says).cloned().collect();
    let used = |outcome: &&Outcome| Outcome { signal: Signal::Accept, ..(*outcome).clone() };
    outcomes.extend(kept.iter().map(used));
    let reward = policy.reward(&candidate.reply.text(), &outcomes)?;
    Some(reward.value).filter(|value| value.is_finite())
}

/// The members whose ids and probabilities can be compared: of those with most rewards, and among
/// equals with the newest reply.
fn like<'a>(mut members: Vec<Member<'a>>, tally: &mut Tally) -> Vec<Member<'a>> {
    let mut samplers: BTreeMap<&Sampler, (usize, usize)> = BTreeMap::new();
    for member in &members {
        let (rewards, newest) = samplers.entry(&member.attempt.sampler).or_default();
        *rewards += usize::from(member.reward.is_some());
        *newest = member.nth;
    }
    let most = samplers.into_iter().max_by_key(|(_, rank)| *rank);
    let Some(sampler) = most.map(|(sampler, _)| sampler.clone()) else { return members };
    members.retain(|member| {
        let own = &*member.attempt.sampler;
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
fn refusal(members: &[Member<'_>]) -> Option<&'static str> {
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
fn row(prompt_ids: &Arc<[u32]>, members: &[Member<'_>]) -> Option<Row> {
    let oldest = members.first()?;
    let newest = members.iter().rfind(|member| member.reward.is_some())?;
    let prompt = newest.candidate.prompt.clone();
    let mut other_prompts: Vec<Arc<[Message]>> = Vec::new();
    for Member { candidate, .. } in members {
        if candidate.prompt != prompt && !other_prompts.contains(&candidate.prompt) {
            other_prompts.push(candidate.prompt.clone());
        }
    }
    let logged = |member: &Member<'_>| LoggedAttempt {
        completion_ids: member.attempt.completion_ids.clone(),
        sampling_logprobs: member.attempt.log_probs.clone(),
        truncated: member.attempt.truncated,
        reward: member.reward,
    };
    let group = Group {
        prompt_ids: prompt_ids.clone(),
        attempts: members.iter().map(logged).collect(),
        replies: members.iter().map(|member| member.candidate.reply.clone()).collect(),
        other_prompts,
    };
    Some(Row {
        prompt,
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
