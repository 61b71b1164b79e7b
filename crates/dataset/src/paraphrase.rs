//! Copies of held-out cases in other words, which no comparison of words finds.

use understudy_inference::{Embedder, InferenceError};
use understudy_manifest::Suite;
use understudy_message::Message;

use crate::fingerprint::{masked, user_texts};

/// Texts whose vectors are this close say the same. Source: the usual bound for duplicates among
/// sentence vectors, as SemDeDup uses it (Abbas et al., 2023).
const SAME: f32 = 0.95;

/// Texts of one call to the embedder.
const AT_ONCE: usize = 256;

/// The cases of one suite by their meaning: what is given away of them is where they lie.
///
/// A case is known as [`SuiteFingerprints`](crate::SuiteFingerprints) know it: by its last user text
/// and by all of them together, as they are and as redaction leaves them.
#[derive(Debug)]
pub struct SuiteMeanings<'a> {
    embedder: &'a dyn Embedder,
    vectors: Vec<Vec<f32>>,
}

impl<'a> SuiteMeanings<'a> {
    pub fn of(suite: &Suite, embedder: &'a dyn Embedder) -> Result<Self, InferenceError> {
        let mut texts: Vec<String> = Vec::new();
        for case in &suite.cases {
            let plain = user_texts(&case.prompt);
            let masked = masked(&plain);
            for said in [plain, masked] {
                texts.extend(forms(&said));
            }
        }
        texts.sort_unstable();
        texts.dedup();
        Ok(Self { embedder, vectors: vectors(embedder, &texts)? })
    }

    /// How many of these prompts say what a case says.
    pub fn count<'p>(
        &self,
        prompts: impl IntoIterator<Item = &'p [Message]>,
    ) -> Result<u64, InferenceError> {
        let (mut texts, mut ends): (Vec<String>, Vec<usize>) = (Vec::new(), Vec::new());
        for prompt in prompts {
            texts.extend(forms(&user_texts(prompt)));
            ends.push(texts.len());
        }
        let vectors = vectors(self.embedder, &texts)?;
        let says_a_case = |vector: &Vec<f32>| self.vectors.iter().any(|case| near(case, vector));
        let mut first = 0;
        let mut found = 0;
        for end in ends {
            found += u64::from(vectors[first..end].iter().any(says_a_case));
            first = end;
        }
        Ok(found)
    }
}

/// The last text, and all together if there are several.
fn forms(texts: &[String]) -> Vec<String> {
    let together = (texts.len() > 1).then(|| texts.join("\n"));
    texts.last().cloned().into_iter().chain(together).collect()
}

fn vectors(embedder: &dyn Embedder, texts: &[String]) -> Result<Vec<Vec<f32>>, InferenceError> {
    let mut vectors = Vec::with_capacity(texts.len());
    for part in texts.chunks(AT_ONCE) {
        let part: Vec<&str> = part.iter().map(String::as_str).collect();
        vectors.extend(embedder.embed(&part)?);
    }
    Ok(vectors)
}

/// Vectors of an embedder have unit length: their product is the cosine.
fn near(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>() >= SAME
}
