//! The trivial baselines: answer with the reply of the most similar training example, or with the
//! most common reply of all.
//!
//! Beside a trained model this shows how much of a task is mere look-up. Similarity is the cosine of
//! TF-IDF vectors over the words and word pairs of the last user message: a word is a lower-cased
//! run of letters and digits; weight = count · (ln((1 + N) / (1 + df)) + 1). Among equally similar
//! examples the earliest answers, and so does the very first where no word is shared.

use std::collections::BTreeMap;

use understudy_manifest::{SftExample, Suite};
use understudy_message::{Message, Role};

use crate::run::{CaseResult, SubjectRun};

/// Labelled examples, indexed by their words.
#[derive(Debug, Clone, Default)]
pub struct NearestExample {
    replies: Vec<String>,
    /// Per word or word pair: its inverse document frequency, and its normalised weight in each
    /// example that has it.
    index: BTreeMap<String, Posting>,
}

#[derive(Debug, Clone, Default)]
struct Posting {
    inverse_frequency: f64,
    weights: Vec<(usize, f64)>,
}

impl NearestExample {
    /// How these baselines are called in reports.
    pub const NAME: &'static str = "nearest example";
    pub const COMMON: &'static str = "most common reply";
    pub(crate) const NAMES: [&'static str; 2] = [Self::COMMON, Self::NAME];

    /// Learns by heart.
    pub fn fit(examples: &[SftExample]) -> Self {
        let counts: Vec<_> =
            examples.iter().map(|example| count_terms(last_user_text(&example.prompt))).collect();
        let mut index: BTreeMap<String, Posting> = BTreeMap::new();
        for (example, counts) in counts.iter().enumerate() {
            for (term, count) in counts {
                index.entry(term.clone()).or_default().weights.push((example, *count));
            }
        }
        for posting in index.values_mut() {
            let having = posting.weights.len() as f64;
            posting.inverse_frequency = ((1.0 + examples.len() as f64) / (1.0 + having)).ln() + 1.0;
            posting.weights.iter_mut().for_each(|(_, w)| *w *= posting.inverse_frequency);
        }
        let mut squares = vec![0.0; examples.len()];
        for (example, weight) in index.values().flat_map(|posting| &posting.weights) {
            squares[*example] += weight * weight;
        }
        for (example, weight) in index.values_mut().flat_map(|posting| &mut posting.weights) {
            *weight /= squares[*example].sqrt();
        }
        let reply = |example: &SftExample| example.completion.iter().map(Message::text).collect();
        Self { replies: examples.iter().map(reply).collect(), index }
    }

    /// The reply of the nearest example; none if there are no examples.
    pub fn answer(&self, question: &str) -> Option<&str> {
        // The question's own length scales all cosines alike, so it is left out.
        let mut cosines = vec![0.0; self.replies.len()];
        for (term, count) in count_terms(question) {
            if let Some(posting) = self.index.get(&term) {
                for (example, weight) in &posting.weights {
                    cosines[*example] += count * posting.inverse_frequency * weight;
                }
            }
        }
        let nearest = cosines
            .iter()
            .enumerate()
            .reduce(|best, next| if next.1 > best.1 { next } else { best })?;
        self.replies.get(nearest.0).map(String::as_str)
    }

    /// The reply that most examples have, among equally common ones the first; none if there are no
    /// examples.
    pub fn common(&self) -> Option<&str> {
        let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for (first, reply) in self.replies.iter().enumerate() {
            counts.entry(reply).or_insert((0, first)).0 += 1;
        }
        let most =
            counts.into_iter().max_by_key(|(_, (count, first))| (*count, usize::MAX - first));
        most.map(|(reply, _)| reply)
    }

    /// Both baselines on a whole suite, as subjects beside the models.
    pub fn both(&self, suite: &Suite) -> Vec<SubjectRun> {
        let common = Self::answering(Self::COMMON, suite, |_| self.common());
        vec![common, self.run(suite)]
    }

    /// Answers a whole suite, as a subject beside the models.
    pub fn run(&self, suite: &Suite) -> SubjectRun {
        Self::answering(Self::NAME, suite, |question| self.answer(question))
    }

    fn answering<'a>(
        name: &str,
        suite: &Suite,
        answer: impl Fn(&str) -> Option<&'a str>,
    ) -> SubjectRun {
        let results = suite.cases.iter().map(|case| {
            let answer = answer(&last_user_text(&case.prompt));
            CaseResult {
                id: case.id.clone(),
                output: answer.unwrap_or_default().to_owned(),
                // A look-up takes no time worth reporting, and reports are the same every time.
                latency_ms: 0.0,
                error: answer.is_none().then(|| "there are no training examples".to_owned()),
                ..CaseResult::default()
            }
        });
        SubjectRun { subject: name.to_owned(), results: results.collect(), ..SubjectRun::default() }
    }
}

fn last_user_text(prompt: &[Message]) -> String {
    prompt.iter().rfind(|message| message.role == Role::User).map(Message::text).unwrap_or_default()
}

/// Words and neighbouring word pairs with their counts.
fn count_terms(text: impl AsRef<str>) -> BTreeMap<String, f64> {
    let text = text.as_ref().to_lowercase();
    let words: Vec<&str> =
        text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let pairs = words.windows(2).map(|pair| pair.join(" "));
    let mut counts = BTreeMap::new();
    for term in words.iter().map(|word| (*word).to_owned()).chain(pairs) {
        *counts.entry(term).or_default() += 1.0;
    }
    counts
}

#[cfg(test)]
mod tests {
    use understudy_manifest::Origin;

    use super::*;

    fn example(question: &str, reply: &str) -> SftExample {
        SftExample {
            prompt: vec![Message::system("be brief"), Message::user(question)],
            completion: vec![Message::assistant(reply)],
            tools: Vec::new(),
            origin: Origin { trajectory: String::new(), steps: vec![], because: vec![] },
        }
    }

    fn fitted() -> NearestExample {
        NearestExample::fit(&[
            example("my invoice is wrong", "billing"),
            example("I cannot log in to my account", "access"),
            example("the parcel is late, where is my parcel", "delivery"),
        ])
    }

    #[test]
    fn the_most_similar_example_answers() {
        let nearest = fitted();
        assert_eq!(nearest.answer("why is this INVOICE so high?"), Some("billing"));
        assert_eq!(nearest.answer("log-in fails"), Some("access"));
        assert_eq!(nearest.answer("Where is it?"), Some("delivery"));
    }

    #[test]
    fn a_rare_word_outweighs_a_common_one() {
        let nearest = NearestExample::fit(&[
            example("please please please help", "common"),
            example("please refund", "refund"),
            example("please call", "call"),
        ]);
        assert_eq!(nearest.answer("please please help me with a refund"), Some("common"));
        assert_eq!(nearest.answer("refund please"), Some("refund"));
    }

    #[test]
    fn the_most_common_reply_answers_everything_alike() {
        let replies = ["b", "a", "a", "b", "c"];
        let nearest = NearestExample::fit(&replies.map(|reply| example("a question", reply)));
        assert_eq!(nearest.common(), Some("b"), "the first of the most common ones");
        assert_eq!(NearestExample::default().common(), None);
        let suite = Suite {
            name: "quiz".parse().unwrap(),
            tier: understudy_manifest::Tier::Dev,
            scorers: Vec::new(),
            rubrics: Vec::new(),
            cases: vec![understudy_manifest::Case::default(); 2],
        };
        let both = nearest.both(&suite);
        assert_eq!([&both[0].subject, &both[1].subject], NearestExample::NAMES);
        assert!(both[0].results.iter().all(|result| result.output == "b"));
    }

    #[test]
    fn ties_and_strangers_get_the_earliest_example() {
        let twice = [example("same words", "first"), example("same words", "second")];
        assert_eq!(NearestExample::fit(&twice).answer("same words"), Some("first"));
        assert_eq!(fitted().answer("zzz"), Some("billing"));
        assert_eq!(NearestExample::default().answer("anything"), None);
    }
}
