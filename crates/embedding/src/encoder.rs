//! From texts to vectors.

use std::{fs, path::Path};

use rayon::prelude::*;
use understudy_ident::Digest;
use understudy_inference::{Embedder, InferenceError};

use crate::{
    bert::Bert,
    config::{Config, check_pooling},
    error::{EmbeddingError, Result},
    tokens::Tokens,
};

/// Tokens of one pass: enough to keep the cores busy, few enough for their caches' sake.
const TOKENS_PER_PASS: usize = 2048;

/// A loaded model; see the crate's documentation for what its vectors are.
#[derive(Debug)]
pub struct SentenceEncoder {
    name: String,
    hidden: usize,
    tokens: Tokens,
    bert: Bert,
}

impl SentenceEncoder {
    /// From a directory as Hugging Face lays it out: `config.json`, `tokenizer.json`,
    /// `model.safetensors`, and `1_Pooling/config.json` if there is one.
    pub fn load(directory: &Path) -> Result<Self> {
        let at = |name: &str| directory.join(name);
        let read = |name: &str| {
            let path = at(name);
            fs::read(&path).map_err(|source| EmbeddingError::Read { path, source })
        };
        let unsuitable = |name: &str| {
            let path = at(name);
            move |why| EmbeddingError::Unsuitable { path, why }
        };
        let (config_json, tokenizer_json) = (read("config.json")?, read("tokenizer.json")?);
        let weights = read("model.safetensors")?;
        let pooling = "1_Pooling/config.json";
        if at(pooling).is_file() {
            check_pooling(&read(pooling)?).map_err(unsuitable(pooling))?;
        }
        let config = Config::parse(&config_json).map_err(unsuitable("config.json"))?;
        let tokens = Tokens::parse(&tokenizer_json, config.positions)
            .map_err(unsuitable("tokenizer.json"))?;
        if tokens.vocabulary() > config.vocabulary {
            let why = format!(
                "it has {} tokens, and the model {}",
                tokens.vocabulary(),
                config.vocabulary
            );
            return Err(unsuitable("tokenizer.json")(why));
        }
        let digest = Digest::of_parts([&config_json[..], &tokenizer_json, &weights]);
        Ok(Self {
            name: format!("bert-{}x{}@{}", config.layers, config.hidden, digest.short()),
            hidden: config.hidden,
            tokens,
            bert: Bert::load(&at("model.safetensors"), &weights, &config)?,
        })
    }

    /// One vector a text, in order, each of unit length.
    pub fn encode(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        let ids = match texts {
            [one] => vec![self.tokens.ids(one)],
            _ => texts.par_iter().map(|text| self.tokens.ids(text)).collect(),
        };
        let ids: Vec<Vec<u32>> =
            ids.into_iter().collect::<Result<_, String>>().map_err(EmbeddingError::Tokens)?;
        let mut vectors = Vec::with_capacity(ids.len());
        let mut rest = &ids[..];
        while !rest.is_empty() {
            let (pass, later) = rest.split_at(fitting(rest));
            let rows = self.bert.forward(pass);
            let mut rows = &rows[..];
            for sentence in pass {
                let (mine, others) = rows.split_at(sentence.len() * self.hidden);
                vectors.push(pool(mine, self.hidden));
                rows = others;
            }
            rest = later;
        }
        Ok(vectors)
    }
}

impl Embedder for SentenceEncoder {
    fn name(&self) -> &str {
        &self.name
    }

    fn dimensions(&self) -> usize {
        self.hidden
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, InferenceError> {
        self.encode(texts).map_err(|error| InferenceError::Failed(chain(&error)))
    }
}

/// An error with what caused it, for the trait's error has one text.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", chain(cause)),
        None => error.to_string(),
    }
}

/// How many of these sentences, at least one, make a pass.
fn fitting(sentences: &[Vec<u32>]) -> usize {
    let mut tokens = 0;
    let fits = |sentence: &&Vec<u32>| {
        tokens += sentence.len();
        tokens <= TOKENS_PER_PASS
    };
    sentences.iter().take_while(fits).count().max(1)
}

/// The mean over the rows, at unit length. Source: Reimers and Gurevych, "Sentence-BERT" (2019).
fn pool(rows: &[f32], width: usize) -> Vec<f32> {
    let mut sum = vec![0.0_f32; width];
    for row in rows.chunks_exact(width) {
        for (sum, x) in sum.iter_mut().zip(row) {
            *sum += x;
        }
    }
    // The mean and the sum have the same direction.
    let length = sum.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt().max(1e-12);
    for x in &mut sum {
        *x = (f64::from(*x) / length) as f32;
    }
    sum
}
