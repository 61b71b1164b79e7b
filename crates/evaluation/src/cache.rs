//! Answers that were given before, so that a run which was killed asks only what is missing.
//!
//! An answer is kept under a digest of everything it depends on: the content of the subject, the
//! case, and the sampling. Nothing is ever out of date, then; it is only no longer asked for. Keeping
//! is done by the caller, because this crate does no IO.
//!
//! A latency is an exception: it depends on who else was asked. An answer that was given beside
//! other subjects than now comes back without one, so that no gate compares the machine's moods of
//! two days. Failed answers are not kept, since asking again may mend them.

use serde::{Deserialize, Serialize};
use serde_json::json;
use understudy_ident::Digest;
use understudy_inference::{Sampling, Usage};
use understudy_manifest::{Case, digest_json};
use understudy_message::ToolCall;

use crate::run::CaseResult;

/// Where texts are kept by digest. One that cannot be kept costs only asking again, so `put` has no
/// error; who keeps them says so to people.
pub trait Cache {
    fn get(&self, key: &Digest) -> Option<String>;
    fn put(&mut self, key: &Digest, text: &str);
}

/// Keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCache;

impl Cache for NoCache {
    fn get(&self, _: &Digest) -> Option<String> {
        None
    }

    fn put(&mut self, _: &Digest, _: &str) {}
}

/// The answers of some subjects, kept.
pub struct Kept<'a> {
    pub cache: &'a mut dyn Cache,
    /// What each subject is, by content: weights, adapter, precision, device, program. One without
    /// is always asked.
    pub subjects: &'a [Option<Digest>],
}

impl std::fmt::Debug for Kept<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("subjects", &self.subjects).finish_non_exhaustive()
    }
}

/// One kept answer. Unknown fields are of another version, and then nothing was kept.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    output: String,
    calls: Vec<ToolCall>,
    latency_ms: f64,
    usage: [u32; 3],
    generation: Option<String>,
    /// All subjects that were asked in turn.
    beside: Digest,
}

impl Kept<'_> {
    /// The result for a case, with the generation that answered, if it was kept.
    pub(crate) fn find(
        &self,
        subject: usize,
        case: &Case,
        sampling: &Sampling,
    ) -> Option<(CaseResult, Option<String>)> {
        let text = self.cache.get(&self.key(subject, case, sampling)?)?;
        let entry: Entry = serde_json::from_str(&text).ok()?;
        let [prompt_tokens, completion_tokens, cached_tokens] = entry.usage;
        let result = CaseResult {
            id: case.id.clone(),
            output: entry.output,
            calls: entry.calls,
            latency_ms: if entry.beside == self.beside() { entry.latency_ms } else { 0.0 },
            usage: Usage { prompt_tokens, completion_tokens, cached_tokens },
            ..CaseResult::default()
        };
        Some((result, entry.generation))
    }

    pub(crate) fn keep(
        &mut self,
        subject: usize,
        case: &Case,
        sampling: &Sampling,
        (result, generation): (&CaseResult, Option<&String>),
    ) {
        let Some(key) = self.key(subject, case, sampling).filter(|_| result.error.is_none()) else {
            return;
        };
        let Usage { prompt_tokens, completion_tokens, cached_tokens } = result.usage;
        let entry = Entry {
            output: result.output.clone(),
            calls: result.calls.clone(),
            latency_ms: result.latency_ms,
            usage: [prompt_tokens, completion_tokens, cached_tokens],
            generation: generation.cloned(),
            beside: self.beside(),
        };
        self.cache.put(&key, &understudy_manifest::canonical_json(&entry));
    }

    fn key(&self, subject: usize, case: &Case, sampling: &Sampling) -> Option<Digest> {
        let subject = (*self.subjects.get(subject)?)?;
        let case = case.digest();
        Some(digest_json(&json!({"subject": subject, "case": case, "sampling": sampling})))
    }

    fn beside(&self) -> Digest {
        digest_json(self.subjects)
    }
}
