//! What `tests/golden/make_variants_golden.py` wrote.

use std::{collections::BTreeMap, fs};

use serde::Deserialize;
use serde_json::Value;
use understudy_manifest::{Objective, TrainStage};
use understudy_message::Message;

use super::{digest::Digest, folder};
use crate::{
    rows::{Advantage, Example, Kind, Known, Row},
    tests::fixtures::stage,
};

/// The variants of one method, all over the same rows.
#[derive(Deserialize)]
pub(super) struct Fixture {
    examples: Vec<WrittenExample>,
    /// By family.
    known: BTreeMap<String, Recorded>,
    pub cases: Vec<Case>,
}

/// One variant on one family.
#[derive(Deserialize)]
pub(super) struct Case {
    pub name: String,
    pub family: String,
    /// As in a recipe.
    settings: Value,
    /// What of the optional data the loss was given.
    #[serde(default)]
    given: Vec<String>,
    /// How many micro-batches the loss was computed over, if that matters to it.
    pub micro_batches: Option<usize>,
    pub loss: f64,
    pub grad_norm: f64,
    pub tensors: BTreeMap<String, Moved>,
}

/// A tensor of the adapter: its gradient, and what the step added to it.
#[derive(Deserialize)]
pub(super) struct Moved {
    pub gradient: Digest,
    pub movement: Digest,
}

#[derive(Deserialize)]
struct WrittenExample {
    rows: Vec<WrittenRow>,
    messages: Option<Conversation>,
    wanted: Option<bool>,
    weight: Option<f64>,
}

#[derive(Deserialize)]
pub(super) struct Conversation {
    pub prompt: Vec<Message>,
    pub completion: Vec<Message>,
}

#[derive(Deserialize)]
struct WrittenRow {
    prompt: Vec<u32>,
    /// Said by the model, heard by it, said, and so on.
    turns: Vec<Vec<u32>>,
    advantage: Option<f64>,
    token_advantages: Option<Vec<f64>>,
}

/// Log-probabilities of every trained token, row by row.
#[derive(Deserialize)]
pub(super) struct Recorded {
    pub reference: Vec<Vec<f32>>,
    #[serde(default)]
    old: Vec<Vec<f32>>,
    #[serde(default)]
    sampler: Vec<Vec<f32>>,
}

impl Fixture {
    pub(super) fn load(method: &str) -> Self {
        let path = folder().join(format!("trainer/variants/{method}.json"));
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    }

    pub(super) fn known(&self, case: &Case) -> Option<&Recorded> {
        self.known.get(&case.family)
    }

    /// The conversations of the examples that were made from one, with their place.
    pub(super) fn conversations(&self) -> impl Iterator<Item = (usize, &Conversation)> {
        let written = self.examples.iter().enumerate();
        written.filter_map(|(nth, example)| Some((nth, example.messages.as_ref()?)))
    }

    /// The examples as a case's loss was given them, but for the reference.
    pub(super) fn examples(&self, case: &Case) -> Vec<Example> {
        let objective = case.stage().objective;
        let mut examples: Vec<Example> =
            self.examples.iter().map(|example| example.example(&objective, case)).collect();
        if let Some(known) = self.known(case) {
            let rows = examples.iter_mut().flat_map(|example| &mut example.rows);
            for (nth, row) in rows.enumerate() {
                let of = |all: &[Vec<f32>]| all.get(nth).cloned().unwrap_or_default();
                let old = if case.has("old") { of(&known.old) } else { Vec::new() };
                row.known = Known { sampler: of(&known.sampler), old, ..Known::default() };
            }
        }
        examples
    }
}

impl Case {
    /// The settings as a recipe's table, which must be one that a recipe may have.
    pub(super) fn stage(&self) -> TrainStage {
        let stage = stage(self.settings.clone());
        stage.objective.check().unwrap();
        stage
    }

    pub(super) fn has(&self, what: &str) -> bool {
        self.given.iter().any(|given| given == what)
    }
}

impl WrittenExample {
    fn example(&self, objective: &Objective, case: &Case) -> Example {
        let kind = match objective {
            Objective::Sft { .. } => Kind::Imitate,
            Objective::Dpo(_) => Kind::Prefer,
            Objective::Kto(_) => {
                let weight = if case.has("weights") { self.weight.unwrap() } else { 1.0 };
                Kind::Judge { wanted: self.wanted.unwrap(), weight }
            }
            Objective::Grpo(_) => {
                let by_token = case.has("token_advantages");
                let advantages = self.rows.iter().map(|row| row.advantage(by_token)).collect();
                Kind::Compare { advantages }
            }
        };
        Example { rows: self.rows.iter().map(WrittenRow::row).collect(), kind }
    }
}

impl WrittenRow {
    fn row(&self) -> Row {
        let mut row = Row::new(&self.prompt, &self.turns[0]);
        for pair in self.turns[1..].chunks(2) {
            row.hear(&pair[0]);
            row.say(&pair[1]);
        }
        row
    }

    fn advantage(&self, by_token: bool) -> Advantage {
        if by_token {
            Advantage::Tokens(self.token_advantages.clone().unwrap())
        } else {
            Advantage::Row(self.advantage.unwrap())
        }
    }
}
