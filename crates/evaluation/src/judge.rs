//! A model that says which of two answers is better.
//!
//! Each pair is put to it twice, the second time in the other order, because judges prefer what
//! stands in certain places: an answer wins only if it wins in both. A judge that says two different
//! things, or nothing that can be read, is undecided. Every reply is kept by a digest of judge and
//! question, so that no judgement is paid for twice.
//!
//! What it says is advisory until it was shown to agree with people ([`calibrate`]): then, and only
//! then, it may take part in a gate ([`add_judge`]).

mod calibration;
mod prompt;
mod rubric;
mod verdict;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::json;
use understudy_ident::Digest;
use understudy_inference::{Backend, Chat, GenerateRequest, InferenceError, Prompt, Sampling};
use understudy_manifest::{Tally, digest_json};
use understudy_message::Message;

use crate::{
    EvaluationError,
    cache::Cache,
    run::{
        Job, concerns_every_request,
        flight::{Flight, Landing},
    },
};

pub use calibration::{Checked, Label, calibrate, read_checked, read_labels};
pub use rubric::{
    Rulings, STATEMENTS, add_rulings, asks_judge, assess, calibrate_statements, judge_decides,
};
pub(crate) use verdict::shortcoming;
pub use verdict::{JudgeRole, JudgedRun, add_judge, judge_runs};

/// What a good answer is, where nobody says it better.
pub const RUBRIC: &str = "The better answer does what the user asked for, is correct, and leaves \
    nothing out that matters. Length, style and politeness do not count by themselves.";

/// After so many failures and not one reply, the endpoint is not worth asking further.
const FIRST_FAILURES: usize = 3;

/// Enough for a reason of a few sentences and the verdict.
const REPLY_TOKENS: u32 = 400;

/// Who is asked, and by what measure.
#[derive(Debug, Clone, Copy)]
pub struct Judge<'a> {
    pub backend: &'a dyn Backend,
    /// As its provider calls it.
    pub model: &'a str,
    /// Where it is: two providers may mean different weights by one name.
    pub place: &'a str,
    pub rubric: &'a str,
    /// Questions in flight.
    pub concurrency: usize,
}

/// Two answers to one prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Contest {
    pub prompt: Vec<Message>,
    /// The answer somebody expects, where there is one.
    pub expected: Option<String>,
    pub a: String,
    pub b: String,
}

/// The better of two answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pick {
    A,
    B,
    Tie,
}

impl Pick {
    /// The same answer where the two stand in the other order.
    fn swapped(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
            Self::Tie => Self::Tie,
        }
    }
}

/// What became of one pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ballot {
    /// With `a` shown first; none where nothing could be read.
    pub forth: Option<Pick>,
    /// With `b` shown first, in the names of the contest all the same.
    pub back: Option<Pick>,
    /// What it said in both orders; null where it is undecided.
    pub winner: Option<Pick>,
    /// Why it could not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// False where the two are the same text, which needs no judge.
    pub asked: bool,
}

/// All ballots, in the order of the contests, and what they took.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judgement {
    pub ballots: Vec<Ballot>,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
}

/// One reply as it is kept.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reply {
    text: String,
    prompt_tokens: u32,
    completion_tokens: u32,
}

impl Judge<'_> {
    /// What its judgements are kept under and its calibration is about: model, place, rubric, and
    /// the words of the question.
    pub fn digest(&self) -> Digest {
        let Self { model, place, rubric, .. } = self;
        digest_json(&json!({
            "model": model, "place": place, "rubric": rubric, "prompt": prompt::VERSION,
            "tokens": REPLY_TOKENS,
        }))
    }

    /// Puts every pair in both orders. `progress` is told how many of `2 · contests` replies are
    /// there. A reply that fails leaves its pair without a winner; an endpoint that refuses every
    /// request ends the whole, and what it said before is kept.
    pub fn judge(
        &self,
        contests: &[Contest],
        cache: &mut dyn Cache,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Judgement, EvaluationError> {
        let differ = |contest: &&Contest| contest.a.trim() != contest.b.trim();
        let both = |contest| [false, true].map(|back| prompt::messages(self.rubric, contest, back));
        let questions: Vec<Vec<Message>> = contests.iter().filter(differ).flat_map(both).collect();
        let (same, total) = (2 * contests.len() - questions.len(), 2 * contests.len());
        let mut told = |done: usize, _: usize| progress(done + same, total);
        let mut replies = self.ask(&questions, cache, &mut told)?.into_iter();
        let of_contest = |contest: &Contest| {
            let asked = differ(&contest);
            [(); 2].map(|()| if asked { replies.next() } else { None })
        };
        Ok(Judgement::of(contests.iter().map(of_contest).collect()))
    }

    /// Puts questions, each once ever, and returns the replies in their order.
    fn ask(
        &self,
        questions: &[Vec<Message>],
        cache: &mut dyn Cache,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Vec<Result<Reply, String>>, EvaluationError> {
        if self.concurrency == 0 {
            return Err(EvaluationError::NoConcurrency { subject: self.model.to_owned() });
        }
        let total = questions.len();
        let keys: Vec<Digest> = questions.iter().map(|messages| self.key(messages)).collect();
        let recall = |key: &Digest| -> Option<Result<Reply, String>> {
            Some(Ok(serde_json::from_str(&cache.get(key)?).ok()?))
        };
        let mut replies: Vec<Option<Result<Reply, String>>> = keys.iter().map(recall).collect();
        let open = replies.iter().enumerate().filter(|(_, reply)| reply.is_none());
        let mut queue: VecDeque<Job> = open.map(|(case, _)| Job { subject: 0, case }).collect();
        let mut done = total - queue.len();
        progress(done, total);
        let mut flight = Flight::new(self.backend);
        let (mut replied, mut failed) = (0, 0);
        while done < total {
            while flight.len() < self.concurrency
                && let Some(job) = queue.pop_front()
            {
                if !flight.launch(job, request(&questions[job.case])) {
                    queue.push_front(job);
                    break;
                }
            }
            let landing = flight.land();
            let at = landing.job.case;
            let reply = self.read(landing)?;
            match &reply {
                Ok(_) => replied += 1,
                Err(_) => failed += 1,
            }
            if let (0, Err(why)) = (replied, &reply)
                && failed >= FIRST_FAILURES
            {
                let (model, why) = (self.model.to_owned(), why.clone());
                return Err(EvaluationError::JudgeFails { model, why });
            }
            if let Ok(reply) = &reply {
                cache.put(&keys[at], &understudy_manifest::canonical_json(reply));
            }
            replies[at] = Some(reply);
            done += 1;
            progress(done, total);
        }
        Ok(replies.into_iter().flatten().collect())
    }

    fn key(&self, messages: &[Message]) -> Digest {
        digest_json(&json!({"judge": self.digest(), "messages": messages}))
    }

    fn read(&self, landing: Landing) -> Result<Result<Reply, String>, EvaluationError> {
        match landing.outcome {
            Ok(completion) => Ok(Ok(Reply {
                text: completion.text,
                prompt_tokens: completion.usage.prompt_tokens,
                completion_tokens: completion.usage.completion_tokens,
            })),
            Err(source) if concerns_every_question(&source) => {
                Err(EvaluationError::Judge { model: self.model.to_owned(), source })
            }
            Err(error) => Ok(Err(error.to_string())),
        }
    }
}

fn request(messages: &[Message]) -> GenerateRequest {
    let chat = Chat::new(messages.to_vec());
    GenerateRequest::new(Prompt::Chat(Box::new(chat)), Sampling::greedy(REPLY_TOKENS))
}

impl Judgement {
    fn of(replies: Vec<[Option<Result<Reply, String>>; 2]>) -> Self {
        let mut judgement = Self::default();
        for [forth, back] in replies {
            let (Some(forth), Some(back)) = (forth, back) else {
                let tie = Some(Pick::Tie);
                let same = Ballot { forth: tie, back: tie, winner: tie, error: None, asked: false };
                judgement.ballots.push(same);
                continue;
            };
            for reply in [&forth, &back].into_iter().flatten() {
                judgement.prompt_tokens += u64::from(reply.prompt_tokens);
                judgement.completion_tokens += u64::from(reply.completion_tokens);
            }
            let pick = |reply: &Result<Reply, String>| {
                reply.as_ref().ok().and_then(|reply| prompt::verdict(&reply.text))
            };
            let error = [&forth, &back].into_iter().find_map(|reply| reply.as_ref().err().cloned());
            let (forth, back) = (pick(&forth), pick(&back).map(Pick::swapped));
            let winner = forth.filter(|_| forth == back);
            judgement.ballots.push(Ballot { forth, back, winner, error, asked: true });
        }
        judgement
    }

    /// Pairs it was asked about, without an error, and did not decide.
    pub fn undecided(&self) -> u64 {
        let undecided = |b: &&Ballot| b.error.is_none() && b.winner.is_none();
        self.ballots.iter().filter(undecided).count() as u64
    }

    pub fn errors(&self) -> u64 {
        self.ballots.iter().filter(|ballot| ballot.error.is_some()).count() as u64
    }

    /// Of the pairs judged readably in both orders, those judged differently.
    pub fn flips(&self) -> Tally {
        let both = self.ballots.iter().filter(|b| b.asked).filter_map(|b| b.forth.zip(b.back));
        let different: Vec<bool> = both.map(|(forth, back)| forth != back).collect();
        tally(&different)
    }

    /// Of the times one of two was preferred, those it was the one shown first. A half is fair.
    pub fn first_preferred(&self) -> Tally {
        let asked = self.ballots.iter().filter(|ballot| ballot.asked);
        let first: Vec<bool> = asked
            .flat_map(|b| [b.forth.map(|pick| (pick, Pick::A)), b.back.map(|pick| (pick, Pick::B))])
            .flatten()
            .filter(|(pick, _)| *pick != Pick::Tie)
            .map(|(pick, first)| pick == first)
            .collect();
        tally(&first)
    }
}

/// Whether an error says nothing about the question at hand. A request that is refused as invalid may
/// be too long for this model, or have words in it that its provider does not pass on.
fn concerns_every_question(error: &InferenceError) -> bool {
    !matches!(error, InferenceError::Invalid { .. }) && concerns_every_request(error)
}

fn tally(met: &[bool]) -> Tally {
    Tally { met: met.iter().filter(|met| **met).count() as u64, of: met.len() as u64 }
}

#[cfg(test)]
mod tests;
