//! Finished rows: the line lies in a file, and what the last stages decide by stays in memory.

use std::sync::Arc;

use understudy_ident::Digest;
use understudy_manifest::canonical_json;
use understudy_message::Message;
use understudy_redact::without_numbers;

use crate::{
    DatasetError, SuiteFingerprints, fingerprint,
    key::Key,
    minhash::{Side, Sketch},
    row::{Row, RowKind, last_turn},
    spill::{Place, Spill},
};

/// A row as its file will have it.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) kind: RowKind,
    /// Of its line.
    pub(crate) place: Place,
    /// Equal for rows that teach the same.
    pub(crate) content: Key,
    /// Position of the judged step among the candidates.
    pub(crate) candidate: usize,
    /// What a label says.
    pub(crate) label: Option<bool>,
    /// What it teaches to say,
    pub(crate) answer: Option<Key>,
    /// and the tools to call with it.
    pub(crate) tools: Box<[Key]>,
    /// What near-duplicates are known by; groups, which are samples, are none.
    pub(crate) sketch: Option<Box<Sketch>>,
    pub(crate) others: Vec<usize>,
    /// What was asked, in every spelling that the row stands for.
    pub(crate) prompts: Vec<Key>,
    /// How it repeats a held-out case.
    pub(crate) repeats: Option<&'static str>,
    /// Which suite holds it word by word.
    pub(crate) leaks: Option<Digest>,
    /// Of its trajectory, in [0, 1).
    pub(crate) draw: f64,
}

impl Written {
    pub(crate) fn is_from(&self, candidate: usize) -> bool {
        self.candidate == candidate || self.others.contains(&candidate)
    }

    pub(crate) fn is_prompt(&self) -> bool {
        self.kind == RowKind::Prompts
    }

    /// The candidates it was made of.
    pub(crate) fn steps(&self) -> impl Iterator<Item = usize> {
        [self.candidate].into_iter().chain(self.others.iter().copied())
    }
}

/// Writes rows, after they were masked.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    pub(crate) spill: Arc<Spill>,
    pub(crate) suites: &'a [SuiteFingerprints],
    pub(crate) seed: u64,
}

/// What follows from a prompt, which the rows of one step share.
#[derive(Debug)]
struct Asked {
    keys: Vec<Key>,
    repeats: Option<&'static str>,
    leaks: Option<Digest>,
}

impl Writer<'_> {
    /// Writes rows that have their prompts in common. `asked` is the first of them as it is compared
    /// with suites and with other rows, where that is not how it is written.
    pub(crate) fn write(
        &self,
        rows: &[Row],
        asked: Option<&Row>,
    ) -> Result<Vec<Written>, DatasetError> {
        let Some(first) = rows.first() else { return Ok(Vec::new()) };
        let asked = self.asked(asked.unwrap_or(first));
        let mut sketches = Sketches { turn: Side::of(&last_turn(&first.prompt)), answer: None };
        let write = |row: &Row| {
            Ok(Written {
                kind: row.kind(),
                place: self.spill.push(row.to_line().as_bytes())?,
                content: row.content_digest().into(),
                candidate: row.candidate,
                label: row.label(),
                answer: row.answer(),
                tools: row.calls(),
                sketch: sketches.of(row).map(Box::new),
                others: row.others.clone(),
                prompts: asked.keys.clone(),
                repeats: asked.repeats,
                leaks: asked.leaks,
                draw: draw(self.seed, &row.origin.trajectory),
            })
        };
        rows.iter().map(write).collect()
    }

    fn asked(&self, row: &Row) -> Asked {
        // Of nothing to look it up in, nothing needs to be known.
        let looked_up = row.prompts().filter(|_| !self.suites.is_empty());
        let asked: Vec<fingerprint::Asked> = looked_up.map(fingerprint::Asked::of).collect();
        let find =
            |suite: &SuiteFingerprints| asked.iter().find_map(|asked| suite.find_asked(asked));
        let holds =
            |suite: &&SuiteFingerprints| asked.iter().any(|asked| suite.holds_exactly(asked));
        Asked {
            keys: row.prompts().map(prompt_key).collect(),
            repeats: self.suites.iter().find_map(find),
            leaks: self.suites.iter().find(holds).map(SuiteFingerprints::suite),
        }
    }
}

/// The sketches of rows with their prompt in common, of which most have their answer in common too.
struct Sketches {
    turn: Side,
    answer: Option<(String, Side)>,
}

impl Sketches {
    fn of(&mut self, row: &Row) -> Option<Sketch> {
        let (answer, rejected) = row.answers()?;
        let known = self.answer.take().filter(|(text, _)| *text == answer);
        let (_, side) = self.answer.insert(known.unwrap_or_else(|| {
            let side = Side::of(&answer);
            (answer, side)
        }));
        let rejected = rejected.as_deref().map(Side::of);
        Some(Sketch::of(&self.turn, side, rejected.as_ref()))
    }
}

fn prompt_key(prompt: &[Message]) -> Key {
    Key::of("prompt", &without_numbers(&canonical_json(prompt)))
}

fn draw(seed: u64, trajectory: &str) -> f64 {
    let unit = trajectory.as_bytes();
    let digest = Digest::of_parts([b"understudy split".as_slice(), &seed.to_le_bytes(), unit]);
    let [a, b, c, d, e, f, g, h, ..] = *digest.as_bytes();
    // Of 2^64, like every other draw of the project.
    u64::from_le_bytes([a, b, c, d, e, f, g, h]) as f64 / 2f64.powi(64)
}
