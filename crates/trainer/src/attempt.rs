//! Attempts at a prompt as the sampler recorded them, and the rows they become.
//!
//! Only the sampler's own ids are trained on. Text is never tokenised again: decoding and encoding
//! is not the identity, and a log-probability means nothing for other ids.

use std::fmt;

use understudy_model::Lora;

use crate::rows::Row;

/// One model call: what was read, what was said, and how likely it was.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Call {
    /// The ids sent to the model.
    pub prompt_ids: Vec<u32>,
    /// The ids sampled, the stop token included when it was sampled.
    pub completion_ids: Vec<u32>,
    /// log μ of every sampled id under the distribution it was drawn from; empty when nobody
    /// recorded it, and then the call can't train by policy gradient.
    pub log_probs: Vec<f32>,
    /// Places in the completion of tokens that had to follow. They were not chosen, so there is
    /// nothing to learn from them: they are read like a tool's answer.
    pub forced: Vec<usize>,
    /// The completion ended because it ran out of room.
    pub truncated: bool,
}

/// One attempt at a prompt: a reply, or a whole episode of calls with tool results in between.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Attempt {
    pub calls: Vec<Call>,
    /// `None` is no opinion, never zero.
    pub reward: Option<f64>,
    /// The reward's parts by name.
    pub components: Vec<(String, Option<f64>)>,
    /// For credit by turn: the reward of every call, when the environment gives one.
    pub call_rewards: Option<Vec<f64>>,
    /// What was around the model failed, not the model: neither trained nor in the baseline.
    pub failed: bool,
    /// What was said, for the log.
    pub text: String,
}

/// Attempts that share the exact prompt ids and the state of their environment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Group {
    pub attempts: Vec<Attempt>,
}

impl Group {
    /// Whether every attempt has the sampler's own log-probabilities.
    pub fn is_recorded(&self) -> bool {
        let calls = || self.attempts.iter().flat_map(|attempt| &attempt.calls);
        calls().all(|call| call.log_probs.len() == call.completion_ids.len())
    }

    /// Whether every attempt began with the same prompt ids, which is what makes it a group.
    pub fn shares_prompt(&self) -> bool {
        let mut firsts = self.attempts.iter().filter_map(|attempt| attempt.calls.first());
        let Some(first) = firsts.next() else { return false };
        firsts.all(|call| call.prompt_ids == first.prompt_ids)
    }
}

/// Where fresh attempts come from. The adapter being trained is handed over for every step, so
/// what is sampled is on-policy.
pub trait Rollouts: fmt::Debug {
    /// How many prompts there are to choose from.
    fn prompts(&self) -> usize;

    /// One group for each of these prompts, in order. Equal arguments give equal groups.
    fn groups(
        &mut self,
        policy: &Lora,
        prompts: &[usize],
        seed: u64,
    ) -> Result<Vec<Group>, RolloutError>;
}

/// Sampling or scoring could not go on.
#[derive(Debug, thiserror::Error)]
#[error("could not sample attempts: {0}")]
pub struct RolloutError(pub String);

/// How a trajectory's calls became rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Merged {
    /// Calls whose prompt began with everything before them, and which extended their row.
    pub clean: u64,
    /// Calls whose prompt did not, and which began a new row.
    pub fork: u64,
}

/// A row and, for each of its calls in order, which call it was and how many tokens it said.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MergedRow {
    pub row: Row,
    pub calls: Vec<(usize, usize)>,
}

/// Merges calls into as few rows as possible without changing an id. `None` when a call's
/// log-probabilities do not match its ids or are no numbers, or it said nothing after something.
pub(crate) fn merge(calls: &[Call], merged: &mut Merged) -> Option<Vec<MergedRow>> {
    let mut rows: Vec<MergedRow> = Vec::new();
    for (index, call) in calls.iter().enumerate() {
        let Call { prompt_ids, completion_ids, log_probs, forced, .. } = call;
        let recorded = log_probs.len() == completion_ids.len();
        let unknown = calls.iter().all(|call| call.log_probs.is_empty());
        let usable = !prompt_ids.is_empty()
            && completion_ids.len() > forced.len()
            && (recorded || unknown)
            && log_probs.iter().all(|lp| lp.is_finite());
        if !usable {
            return None;
        }
        let said = (index, completion_ids.len() - forced.len());
        let chosen = (0_usize..).zip(log_probs).filter(|(place, _)| !forced.contains(place));
        let chosen = chosen.map(|(_, log_prob)| *log_prob);
        match rows.last_mut() {
            Some(last) if prompt_ids.starts_with(last.row.ids()) => {
                merged.clean += 1;
                last.row.hear(&prompt_ids[last.row.ids().len()..]);
                last.row.say(completion_ids);
                last.row.take_back(completion_ids.len(), forced);
                last.row.known.sampler.extend(chosen);
                last.calls.push(said);
            }
            before => {
                merged.fork += u64::from(before.is_some());
                let mut row = Row::new(prompt_ids, completion_ids);
                row.take_back(completion_ids.len(), forced);
                row.known.sampler.extend(chosen);
                rows.push(MergedRow { row, calls: vec![said] });
            }
        }
    }
    Some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(prompt_ids: &[u32], completion_ids: &[u32]) -> Call {
        Call {
            prompt_ids: prompt_ids.to_vec(),
            completion_ids: completion_ids.to_vec(),
            log_probs: completion_ids.iter().map(|id| -(*id as f32)).collect(),
            forced: Vec::new(),
            truncated: false,
        }
    }

    #[test]
    fn a_call_that_continues_everything_before_it_extends_the_row() {
        let calls = [call(&[1, 2], &[3, 4]), call(&[1, 2, 3, 4, 90, 91], &[5])];
        let mut merged = Merged::default();
        let rows = merge(&calls, &mut merged).unwrap();
        assert_eq!((rows.len(), merged), (1, Merged { clean: 1, fork: 0 }));
        let row = &rows[0].row;
        assert_eq!(row.ids(), [1, 2, 3, 4, 90, 91, 5]);
        assert_eq!(row.said(), [3, 4, 5]);
        assert_eq!(row.known.sampler, [-3.0, -4.0, -5.0]);
        assert_eq!(rows[0].calls, [(0, 2), (1, 1)]);
    }

    #[test]
    fn a_call_whose_history_was_rewritten_is_a_row_of_its_own_and_counted() {
        let calls = [call(&[1, 2], &[3, 4]), call(&[1, 2, 3, 90], &[5]), call(&[7], &[8])];
        let mut merged = Merged::default();
        let rows = merge(&calls, &mut merged).unwrap();
        assert_eq!((rows.len(), merged.clean, merged.fork), (3, 0, 2));
        assert_eq!(rows[1].row.said(), [5]);
    }

    #[test]
    fn tokens_that_had_to_follow_are_read_and_not_trained() {
        let calls = [
            Call { forced: vec![0, 2], ..call(&[1, 2], &[3, 4, 5]) },
            Call { forced: vec![1], ..call(&[1, 2, 3, 4, 5, 90], &[6, 7]) },
        ];
        let rows = merge(&calls, &mut Merged::default()).unwrap();
        let row = &rows[0].row;
        assert_eq!(row.ids(), [1, 2, 3, 4, 5, 90, 6, 7]);
        assert_eq!((row.said(), &row.known.sampler[..]), (vec![4, 6], &[-4.0, -6.0][..]));
        assert_eq!(rows[0].calls, [(0, 1), (1, 1)]);
        let nothing = Call { forced: vec![0, 1], ..call(&[1], &[2, 3]) };
        assert!(merge(&[nothing], &mut Merged::default()).is_none());
    }

    #[test]
    fn ids_without_their_log_probabilities_are_not_usable() {
        let mut short = call(&[1], &[2, 3]);
        short.log_probs.pop();
        assert!(merge(&[short], &mut Merged::default()).is_none());
        let mut nan = call(&[1], &[2]);
        nan.log_probs[0] = f32::NAN;
        assert!(merge(&[nan], &mut Merged::default()).is_none());
        // Recorded for one call of two is recorded for none.
        let mixed = [call(&[1], &[2]), Call { log_probs: Vec::new(), ..call(&[1, 2, 3], &[4]) }];
        assert!(merge(&mixed, &mut Merged::default()).is_none());
        let unknown = Call { log_probs: Vec::new(), ..call(&[1], &[2]) };
        assert!(merge(&[unknown], &mut Merged::default()).unwrap()[0].row.known.sampler.is_empty());
        assert!(merge(&[call(&[1], &[])], &mut Merged::default()).is_none());
    }
}
