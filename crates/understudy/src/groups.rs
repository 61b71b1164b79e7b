//! Logged groups of a dataset, as the trainer takes them.

use anyhow::Result;
use understudy_dataset::FrozenDataset;
use understudy_manifest::{GroupExample, Split};
use understudy_trainer::{Attempt, Call, Group};

/// Every group of the train split.
pub(crate) fn logged(dataset: &FrozenDataset) -> Result<Vec<Group>> {
    Ok(dataset.groups(Split::Train)?.into_iter().map(group).collect())
}

fn group(example: GroupExample) -> Group {
    let attempts = example.attempts.into_iter().map(|attempt| {
        let call = Call {
            prompt_ids: example.prompt_ids.clone(),
            completion_ids: attempt.completion_ids,
            log_probs: attempt.sampling_logprobs,
            // A constrained reply is not of the recorded distribution, and in no group.
            forced: Vec::new(),
            truncated: attempt.truncated,
        };
        Attempt {
            calls: vec![call],
            reward: attempt.reward,
            components: vec![("outcome".to_owned(), attempt.reward)],
            ..Attempt::default()
        }
    });
    Group { attempts: attempts.collect() }
}
