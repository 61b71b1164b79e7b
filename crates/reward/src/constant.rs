//! What an answer earns that does not depend on the question.
//!
//! A model that finds such an answer stops reading its prompt: groups then agree, advantages vanish
//! and training ends there. So it is looked for before the first step.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};
use understudy_manifest::canonical_json;
use understudy_message::Message;

use crate::{Attempt, Rewards, Scored, json};

/// A prompt with the answer it should get.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub prompt: &'a [Message],
    pub expected: &'a Message,
    pub record: &'a Value,
}

/// What constants earn in comparison with the expected answers.
#[derive(Debug, Clone, PartialEq)]
pub struct ConstantAnswers {
    /// The best first.
    pub constants: Vec<ConstantAnswer>,
    /// The mean reward of giving every question its expected answer.
    pub perfect: f64,
    pub questions: usize,
    /// Rewards that were not asked, because thousands of processes or requests are too dear.
    pub not_asked: Vec<String>,
    pub flag: Option<Flag>,
}

/// One answer, given to every question.
#[derive(Debug, Clone, PartialEq)]
pub struct ConstantAnswer {
    /// How it was made: `the commonest answer`.
    pub what: &'static str,
    pub answer: Message,
    /// The mean reward over all questions; having no opinion of it earns nothing.
    pub mean: f64,
    /// `mean / perfect`, 0 where the perfect answers earn nothing.
    pub share: f64,
}

/// A reason to think again before training on these rewards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Flag {
    /// A constant earns at least the threshold's share of what perfect answers earn.
    ConstantEarns { share: f64 },
    /// The expected answers earn nothing, so the rewards can't want them.
    PerfectEarnsNothing,
}

impl Rewards {
    /// From this share on a constant is worth a warning.
    pub const CONSTANT_SHARE: f64 = 0.3;

    /// Gives the same answer to every question of a sample, for several answers: nothing, `{}`, the
    /// commonest expected one, the commonest keys without and with their commonest values, and what
    /// at least half of the expected ones share.
    /// Rewards that run a program or ask a judge are left out, and named.
    pub fn constant_answers(&self, sample: &[Question<'_>], threshold: f64) -> ConstantAnswers {
        let mean = |answer: &dyn Fn(usize) -> Message| {
            let earned = |(nth, question)| self.quick_reward(question, &answer(nth));
            let sum: f64 = sample.iter().enumerate().map(earned).sum();
            sum / (sample.len().max(1) as f64)
        };
        let perfect = mean(&|nth: usize| sample[nth].expected.clone());
        let mut constants: Vec<ConstantAnswer> = candidates(sample)
            .into_iter()
            .map(|(what, answer)| {
                let mean = mean(&|_| answer.clone());
                let share = if perfect > 0.0 { mean / perfect } else { 0.0 };
                ConstantAnswer { what, answer, mean, share }
            })
            .collect();
        constants.sort_by(|a, b| b.mean.total_cmp(&a.mean));
        let best = constants.first().map_or(0.0, |best| best.share);
        let flag = if sample.is_empty() {
            None
        } else if perfect <= 0.0 {
            Some(Flag::PerfectEarnsNothing)
        } else {
            (best >= threshold).then_some(Flag::ConstantEarns { share: best })
        };
        let slow = self.weighted().iter().filter(|(_, reward)| !reward.is_quick());
        let not_asked = slow.map(|(_, reward)| reward.name().to_owned()).collect();
        ConstantAnswers { constants, perfect, questions: sample.len(), not_asked, flag }
    }

    fn quick_reward(&self, question: &Question<'_>, answer: &Message) -> f64 {
        let attempt = Attempt {
            prompt: question.prompt,
            completion: std::slice::from_ref(answer),
            expected: Some(question.expected),
            record: question.record,
            completion_tokens: 0,
        };
        let mut scored = Scored::default();
        for (weight, reward) in self.weighted().iter().filter(|(_, reward)| reward.is_quick()) {
            scored.add(reward.name(), *weight, reward.score(&attempt));
        }
        scored.total.unwrap_or(0.0)
    }
}

fn candidates(sample: &[Question<'_>]) -> Vec<(&'static str, Message)> {
    let mut made =
        vec![("nothing", Message::assistant("")), ("an empty object", Message::assistant("{}"))];
    if let Some((_, commonest)) = commonest(sample.iter().map(|question| question.expected)) {
        made.push(("the commonest answer", commonest.clone()));
    }
    let texts: Vec<String> = sample.iter().map(|question| question.expected.text()).collect();
    let values: Vec<Value> = texts.iter().filter_map(|text| json::parse(text).ok()).collect();
    let values: Vec<&Value> = values.iter().collect();
    let said = |value: &Value| Message::assistant(value.to_string());
    if let Some(typical) = typical(&values, 1).filter(Value::is_object) {
        made.push(("the commonest keys, empty", said(&emptied(&typical))));
        made.push(("the commonest keys and their commonest values", said(&typical)));
    }
    if let Some(agreed) = typical(&values, values.len().div_ceil(2)).filter(Value::is_object) {
        made.push(("what at least half of the answers share", said(&agreed)));
    }
    made
}

/// The value most like all of them: of objects, the keys that at least half of them have, each with
/// a typical value; otherwise the commonest value, if it occurs at least `least` times.
fn typical(values: &[&Value], least: usize) -> Option<Value> {
    let objects: Vec<&Map<String, Value>> =
        values.iter().filter_map(|value| value.as_object()).collect();
    if objects.is_empty() || objects.len() * 2 < values.len() {
        let (count, commonest) = commonest(values.iter().copied())?;
        return (count >= least).then(|| commonest.clone());
    }
    let mut by_key: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for (key, value) in objects.iter().copied().flatten() {
        by_key.entry(key).or_default().push(value);
    }
    let common = by_key.into_iter().filter(|(_, found)| found.len() * 2 >= objects.len());
    let fields = common.filter_map(|(key, found)| Some((key.to_owned(), typical(&found, least)?)));
    Some(Value::Object(fields.collect()))
}

/// The same keys with values of the same kinds that say nothing.
fn emptied(value: &Value) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::Bool(_) => json!(false),
        Value::Number(_) => json!(0),
        Value::String(_) => json!(""),
        Value::Array(_) => json!([]),
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| (key.clone(), emptied(value))).collect()
        }
    }
}

/// The first, in the order of canonical JSON, of those that occur most often, and how often.
fn commonest<'a, T: Serialize + 'a>(all: impl Iterator<Item = &'a T>) -> Option<(usize, &'a T)> {
    let mut counted: BTreeMap<String, (usize, &T)> = BTreeMap::new();
    for value in all {
        counted.entry(canonical_json(value)).or_insert((0, value)).0 += 1;
    }
    counted.into_values().reduce(|a, b| if b.0 > a.0 { b } else { a })
}
