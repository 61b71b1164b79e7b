//! The token ids every side trains on: fixed texts, cut and repeated to fixed lengths.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use understudy_model::BaseModel;

/// Rows of an SFT step and pairs of a DPO step.
pub(super) const BATCH: usize = 8;
/// Tokens of a row, prompt included.
pub(super) const ROW: usize = 256;
/// Of those, the prompt that both sides of a pair share.
const PROMPT: usize = 128;
const GRPO_PROMPTS: usize = 4;
/// Short, so that what we save by reading a prompt once for all of its completions stays modest.
const GRPO_PROMPT: usize = 64;
const COMPLETIONS: usize = 8;
const NEW_TOKENS: usize = 48;

/// What there is to say about a desk, in as many words as eight rows need.
pub(super) const TEXTS: [&str; BATCH] = [
    "The parcel was handed to the carrier on Monday evening, but the tracking page has not moved \
     since then. I have asked the depot to look for it, and they answer within two working days. \
     If they cannot find it we send a second one at no cost, by the faster service.",
    "To reset the device, hold the small button on its back for ten seconds until the light turns \
     amber, let go, and wait for three short blinks. Your settings are kept on the account, so \
     nothing you arranged is lost; only the pairing with the telephone has to be made again.",
    "Our records show two payments for the same invoice, four minutes apart. The second will be \
     returned to the card it came from. Banks take between three and seven days to show it, and \
     we cannot make them hurry, but here is the reference by which they can find the transfer.",
    "The meeting room on the third floor is free between two and four, the one beside the kitchen \
     all afternoon. Both have a screen; only the larger has a camera. Shall I reserve the larger \
     for an hour, invite the five people of the last meeting, and add the agenda they agreed on?",
    "A window seat is still to be had on the early train, which leaves at ten past six and needs \
     one change. The later one is direct and arrives only twenty minutes after it. Both tickets \
     can be returned until the evening before, and a bicycle costs the same on either of them.",
    "The warranty covers the pump and its motor for two years, and the seals for six months. Water \
     that was left in the housing over winter is the usual cause of a crack there, and that is not \
     covered, yet the part alone is cheap and is changed with one screwdriver in half an hour.",
    "Please write the address as it stands on the deed, with the number of the flat behind that of \
     the house. The form refuses a comma there. When it has been accepted you get a letter with a \
     code, which has to be entered within thirty days, or else everything begins once more.",
    "Bread flour takes up more water than plain flour does, so a dough by the same recipe turns out \
     stiffer. Add a spoonful at a time while kneading, and rest it for twenty minutes before you \
     judge it: much of what feels dry at first has simply not been soaked up yet by the grain.",
];

/// What the measuring processes read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Work {
    pub(super) sft: Vec<Vec<u32>>,
    pub(super) dpo: Vec<Pair>,
    /// Prompts.
    pub(super) grpo: Vec<Vec<u32>>,
    /// Of each prompt.
    pub(super) completions: usize,
    pub(super) new_tokens: usize,
    pub(super) rank: usize,
    pub(super) alpha: f64,
    pub(super) learning_rate: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Pair {
    pub(super) prompt: Vec<u32>,
    pub(super) chosen: Vec<u32>,
    pub(super) rejected: Vec<u32>,
}

impl Work {
    pub(super) fn of(base: &BaseModel) -> Result<Self> {
        let most = base.decoder.config().max_positions;
        ensure!(most >= ROW, "the base reads {most} tokens at most, and a row here has {ROW}");
        let texts: Vec<Vec<u32>> =
            TEXTS.iter().map(|text| base.tokenizer.encode(text)).collect::<Result<_, _>>()?;
        ensure!(texts.iter().all(|ids| !ids.is_empty()), "the tokenizer made nothing of a text");
        let ids = |nth: usize, len: usize| -> Vec<u32> {
            texts[nth % BATCH].iter().copied().cycle().take(len).collect()
        };
        let pair = |nth: usize| Pair {
            prompt: ids(nth, PROMPT),
            chosen: ids(nth + 1, ROW - PROMPT),
            rejected: ids(nth + 2, ROW - PROMPT),
        };
        let lora = understudy_manifest::Lora::default();
        Ok(Self {
            sft: (0..BATCH).map(|nth| ids(nth, ROW)).collect(),
            dpo: (0..BATCH).map(pair).collect(),
            grpo: (0..GRPO_PROMPTS).map(|nth| ids(nth, GRPO_PROMPT)).collect(),
            completions: COMPLETIONS,
            new_tokens: NEW_TOKENS,
            rank: lora.rank,
            alpha: lora.alpha,
            // Small enough that no step goes anywhere: only its cost is of interest.
            learning_rate: 1e-5,
        })
    }

    /// Tokens that the completions of one GRPO step have together.
    pub(super) fn sampled_tokens(&self) -> usize {
        self.grpo.len() * self.completions * self.new_tokens
    }
}

#[cfg(test)]
mod tests {
    use understudy_model::{Device, Family, ModelConfig};

    use super::*;

    #[test]
    fn rows_have_their_lengths_and_sides_of_a_pair_differ() {
        let config = ModelConfig { max_positions: ROW, ..ModelConfig::tiny(Family::Llama) };
        let base = BaseModel::random(config, 1, &Device::Cpu).unwrap();
        let work = Work::of(&base).unwrap();
        assert!(work.sft.len() == BATCH && work.sft.iter().all(|row| row.len() == ROW));
        for Pair { prompt, chosen, rejected } in &work.dpo {
            assert_eq!(prompt.len() + chosen.len(), ROW);
            assert_eq!(chosen.len(), rejected.len());
            assert_ne!(chosen, rejected);
        }
        assert_eq!(work.sampled_tokens(), 4 * 8 * 48);
    }
}
